"""Every attempt is told before it is made and charged once; retries, fallbacks and deadlines keep to their rules."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from djp.llm.asking import (
    Answered,
    Asker,
    Asking,
    CallFailed,
    CallStarted,
    GaveUp,
    Piece,
    Retries,
    call_bound,
)
from djp.llm.calls import Usage
from djp.llm.fake import FakeProvider
from djp.llm.models import Model
from djp.llm.prices import Price
from djp.llm.provider import ProviderError, Question, Reply
from djp.mesh import telemetry
from djp.mesh.deadline import deadline_scope
from djp.mesh.run_spans import read_spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

RUN = "0b0f1f0e-6f3c-4f5e-9c55-3a9a7f6f2b11"
PRICE = Price(Decimal(1), Decimal("0.5"), Decimal(10))
FIRST, SECOND = Model("one/a", "a", "x", PRICE), Model("two/b", "b", "y", PRICE)
QUESTION = Question("Be brief.", "What is a ledger?", max_tokens=100)
DONE = Reply(Usage(10, 0, 5))
AT_ONCE = Retries(first_wait_s=0)

Told = CallStarted | CallFailed | Piece


def passing(billed: bool = False, retry_after_s: float | None = None) -> ProviderError:
    return ProviderError("busy", passing=True, billed=billed, retry_after_s=retry_after_s)


def final() -> ProviderError:
    return ProviderError("no such model", passing=False, billed=False)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  what it waits for makes no event
        await asyncio.sleep(0)


class Scripted:
    """An asker of two providers whose calls follow one script, a list of steps a call."""

    def __init__(
        self,
        *script: Iterable[str | Reply | ProviderError | asyncio.Event],
        retries: Retries = AT_ONCE,
        max_concurrency: int = 16,
    ) -> None:
        turns = iter(script)
        self.provider = FakeProvider(lambda model, question: next(turns))
        self.asker = Asker(
            {"one": self.provider, "two": self.provider},
            max_concurrency={"one": max_concurrency, "two": max_concurrency},
            retries=retries,
        )
        self.told: list[Told] = []

    async def ask(
        self, models: Sequence[Model] = (FIRST,), question: Question = QUESTION, run_attempt: int = 1
    ) -> Answered | GaveUp:
        asking = Asking(RUN, "DEBATE", "d1", ("d1", 1), run_attempt)
        return await self.asker.ask(models, question, asking, self.told.append)

    def of(self, kind: type[Told]) -> list[Told]:
        return [event for event in self.told if isinstance(event, kind)]


async def test_an_answer_is_told_at_its_bound_and_charged_exactly() -> None:
    one = Scripted(["A book ", "of debts.", DONE])
    answer = await one.ask()
    assert isinstance(answer, Answered)
    assert (answer.text, answer.stop, answer.model) == ("A book of debts.", "end", FIRST)
    started, *pieces = one.told
    assert isinstance(started, CallStarted)
    assert pieces == [Piece(1, "A book "), Piece(1, "of debts.")]
    bound = one.asker.bound([FIRST], QUESTION)
    before, (after,) = started.call, answer.calls
    assert before.usage_unknown
    assert before.cost_nano_usd == before.bound_nano_usd == call_bound(FIRST, QUESTION).nano_usd
    assert before.usage.input_tokens + before.usage.output_tokens == call_bound(FIRST, QUESTION).tokens
    assert (bound.calls, bound.nano_usd) == (4, 4 * before.bound_nano_usd)
    assert after.call_id == before.call_id
    assert (after.usage, after.cost_nano_usd, after.usage_unknown) == (DONE.usage, 10 * 1000 + 5 * 10_000, False)
    assert after.bound_nano_usd == before.bound_nano_usd


async def test_passing_failures_are_tried_again_and_each_attempt_is_charged_for_itself() -> None:
    one = Scripted(["lost", passing(billed=True)], [passing()], ["yes", DONE])
    answer = await one.ask()
    assert isinstance(answer, Answered)
    assert answer.text == "yes"
    billed, refused, last = answer.calls
    assert [call.attempt for call in answer.calls] == [1, 2, 3]
    assert len({call.call_id for call in answer.calls}) == 3
    assert (billed.cost_nano_usd, billed.usage_unknown, billed.error) == (billed.bound_nano_usd, True, "busy")
    assert (refused.cost_nano_usd, refused.usage_unknown, refused.usage) == (0, False, Usage(0))
    assert last.error == ""
    kinds = [type(event).__name__ for event in one.told]
    assert kinds == ["CallStarted", "Piece", "CallFailed", "CallStarted", "CallFailed", "CallStarted", "Piece"]
    assert [event.call for event in one.of(CallFailed)] == [billed, refused]  # type: ignore[union-attr]
    assert one.told[-1] == Piece(3, "yes")


@pytest.mark.parametrize(("max_retries", "attempts"), [(0, 1), (1, 2), (3, 4)])
async def test_it_gives_up_after_the_retries_that_are_set(max_retries: int, attempts: int) -> None:
    one = Scripted(*[["part ", passing(billed=True)]] * 4, retries=Retries(max_retries, first_wait_s=0))
    outcome = await one.ask()
    assert isinstance(outcome, GaveUp)
    assert len(outcome.calls) == len(one.of(CallStarted)) == attempts
    assert len(one.of(CallFailed)) == attempts - 1  # the last is told with the outcome
    assert outcome.partial_text == "part "
    assert "one/a" in outcome.message
    assert "busy" in outcome.message
    assert sum(call.cost_nano_usd for call in outcome.calls) <= one.asker.bound([FIRST], QUESTION).nano_usd


async def test_what_will_not_pass_is_not_tried_again_and_the_fallback_steps_in() -> None:
    one = Scripted([final()], ["yes", DONE])
    answer = await one.ask([FIRST, SECOND])
    assert isinstance(answer, Answered)
    assert answer.model == SECOND
    assert [(call.model, call.attempt) for call in answer.calls] == [("one/a", 1), ("two/b", 2)]
    assert [event.call for event in one.of(CallFailed)] == [answer.calls[0]]  # type: ignore[union-attr]


async def test_when_all_fallbacks_fail_each_ones_reason_is_told() -> None:
    one = Scripted([passing()], [passing()], [final()], retries=Retries(1, first_wait_s=0))
    outcome = await one.ask([FIRST, SECOND])
    assert isinstance(outcome, GaveUp)
    assert outcome.message == "one/a after 2 attempts: busy; two/b: no such model"
    assert [call.cost_nano_usd for call in outcome.calls] == [0, 0, 0]


async def test_waits_grow_by_the_factor_with_jitter_on_top_and_keep_to_retry_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def record(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", record)
    one = Scripted([passing()], [passing()], [passing(retry_after_s=30)], ["yes", DONE], retries=Retries(3, 2.0))
    assert isinstance(await one.ask(), Answered)
    first, second, third = (wait for wait in waits if wait)
    assert 1 <= first <= 1.25
    assert 2 <= second <= 2.5
    assert 30 <= third <= 37.5


@pytest.mark.parametrize("retry_after_s", [61.0, 1e9, float("inf")])
async def test_a_provider_that_asks_to_wait_for_long_is_given_up_for_the_fallback(retry_after_s: float) -> None:
    one = Scripted([passing(retry_after_s=retry_after_s)], ["yes", DONE])
    answer = await one.ask([FIRST, SECOND])
    assert isinstance(answer, Answered)
    assert answer.model == SECOND


async def test_without_a_fallback_a_long_wait_is_kept_to_if_the_deadline_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def record(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", record)
    with deadline_scope(1000):
        assert isinstance(await Scripted([passing(retry_after_s=90)], ["yes", DONE]).ask(), Answered)
    assert 90 <= max(waits) <= 112.5
    with deadline_scope(None):
        assert isinstance(await Scripted([passing(retry_after_s=90)]).ask(), GaveUp)


async def test_no_wait_that_could_not_end_before_the_deadline_is_begun() -> None:
    one = Scripted([passing(retry_after_s=50)])
    with deadline_scope(40):
        outcome = await one.ask()
    assert isinstance(outcome, GaveUp)
    assert len(outcome.calls) == 1


async def test_the_deadline_cuts_an_answer_that_drips_which_stays_at_its_bound() -> None:
    one = Scripted(["A book ", asyncio.Event()])
    with deadline_scope(0.05):
        outcome = await one.ask([FIRST, SECOND])
    assert isinstance(outcome, GaveUp)
    (call,) = outcome.calls
    assert call.usage_unknown
    assert call.cost_nano_usd == call.bound_nano_usd
    assert "time" in outcome.message
    assert outcome.partial_text == "A book "
    assert one.provider.open == 0
    assert one.of(CallFailed) == []  # no fallback was begun


async def test_past_the_deadline_no_call_is_begun() -> None:
    one = Scripted()
    with deadline_scope(0):
        outcome = await one.ask([FIRST, SECOND])
    assert isinstance(outcome, GaveUp)
    assert (outcome.calls, one.told, one.provider.asked) == ((), [], [])


async def test_no_call_is_told_as_started_before_it_has_room() -> None:
    go = asyncio.Event()
    one = Scripted([go, "1", DONE], ["2", DONE], max_concurrency=1)
    first = asyncio.create_task(one.ask())
    second = asyncio.create_task(one.ask())
    await until(lambda: one.provider.open > 0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(one.of(CallStarted)) == 1
    go.set()
    answers = await asyncio.gather(first, second)
    assert [answer.text for answer in answers if isinstance(answer, Answered)] == ["1", "2"]


async def test_a_call_that_gets_no_room_before_the_deadline_is_never_begun() -> None:
    go = asyncio.Event()
    one = Scripted([go, "1", DONE], ["3", DONE], max_concurrency=1)
    first = asyncio.create_task(one.ask())
    await until(lambda: one.provider.open > 0)
    with deadline_scope(0.05):
        outcome = await one.ask()
    assert isinstance(outcome, GaveUp)
    assert outcome.calls == ()
    assert "room" in outcome.message
    go.set()
    assert isinstance(await first, Answered)
    assert isinstance(await one.ask(), Answered)  # the room it waited for is not lost


async def test_whoever_waits_to_try_again_leaves_the_room_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_over, sleep = asyncio.Event(), asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: wait_over.wait() if seconds else sleep(0))
    one = Scripted([passing()], ["other", DONE], ["again", DONE], max_concurrency=1, retries=Retries())
    first = asyncio.create_task(one.ask())
    await until(lambda: bool(one.of(CallFailed)))
    other = await one.ask()
    assert isinstance(other, Answered)
    assert other.text == "other"
    wait_over.set()
    again = await first
    assert isinstance(again, Answered)
    assert again.text == "again"


async def test_a_cancelled_ask_tells_nothing_more_and_leaves_its_room() -> None:
    one = Scripted(["A book ", asyncio.Event()], ["yes", DONE], max_concurrency=1)
    task = asyncio.create_task(one.ask())
    await until(lambda: bool(one.of(Piece)))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [type(event) for event in one.told] == [CallStarted, Piece]
    assert one.provider.open == 0
    assert isinstance(await one.ask(), Answered)


async def test_an_answer_without_usage_stays_at_its_bound() -> None:
    one = Scripted(["yes", Reply(None)])
    answer = await one.ask()
    assert isinstance(answer, Answered)
    (call,) = answer.calls
    assert call.usage_unknown
    assert call.cost_nano_usd == call.bound_nano_usd
    assert call.error == ""


async def test_a_provider_that_bills_past_the_bound_is_recorded_as_it_says_and_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = Scripted(["secret words", Reply(Usage(10_000_000, 0, 5))])
    with caplog.at_level(logging.WARNING):
        answer = await one.ask()
    assert isinstance(answer, Answered)
    (call,) = answer.calls
    assert call.cost_nano_usd == 10_000_000 * 1000 + 5 * 10_000
    assert call.cost_nano_usd > call.bound_nano_usd
    (record,) = caplog.records
    assert call.call_id in record.getMessage()
    assert "secret" not in caplog.text
    assert "ledger" not in caplog.text


async def test_an_endless_answer_is_stopped_and_not_asked_for_again() -> None:
    def endless() -> Iterable[str]:
        while True:
            yield "x" * 10_000

    one = Scripted(endless())
    outcome = await one.ask()
    assert isinstance(outcome, GaveUp)
    assert len(outcome.calls) == 1
    assert outcome.calls[0].usage_unknown
    assert len(outcome.partial_text) < 100_000
    assert one.provider.open == 0


async def test_an_answer_that_just_ends_is_tried_again() -> None:
    one = Scripted(["half"], ["whole", DONE])
    answer = await one.ask()
    assert isinstance(answer, Answered)
    assert answer.calls[0].usage_unknown


async def test_call_ids_tell_the_attempts_at_a_run_apart_and_else_stay_the_same() -> None:
    one = Scripted(*[["yes", DONE]] * 3)
    ids = [(await one.ask(run_attempt=attempt)).calls[0].call_id for attempt in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


async def test_thinking_is_part_of_the_bound() -> None:
    thinks = replace(FIRST, thinking_tokens=1000)
    assert call_bound(thinks, QUESTION).tokens == call_bound(FIRST, QUESTION).tokens + 1000
    asker = Asker({}, max_concurrency={}, retries=Retries(max_retries=0))
    assert asker.bound([FIRST], QUESTION, unwritten_tokens=7).tokens == call_bound(FIRST, QUESTION).tokens + 70


async def test_a_provider_that_is_not_there_owes_nothing() -> None:
    one = Scripted()
    with pytest.raises(KeyError):
        await one.ask([replace(FIRST, name="three/c")])
    assert one.told == []


async def test_asking_no_model_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no model"):
        await Scripted().ask([])


async def test_every_attempt_is_a_span_that_says_what_it_cost_and_no_word_of_any_text(tmp_path: Path) -> None:
    one = Scripted(["a lost ", passing(billed=True)], ["a book", DONE])
    telemetry.setup("asking", spans_dir=tmp_path)
    try:
        with telemetry.service_scope("asking"), telemetry.run_scope(RUN):
            answer = await one.ask(question=replace(QUESTION, temperature=0.5, seed=7))
    finally:
        telemetry.shutdown()
    assert isinstance(answer, Answered)
    spans = read_spans(tmp_path, RUN)
    assert [span["name"] for span in spans] == ["chat one/a"] * 2
    recorded = json.dumps(spans)
    for name in ("gen_ai.request.seed", "gen_ai.usage.output_tokens", "djp.cost_nano_usd", "djp.call.usage_unknown"):
        assert name in recorded
    for text in ("ledger", "brief", "lost", "book"):
        assert text not in recorded
