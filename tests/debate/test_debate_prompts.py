"""What a debater that is a model is asked, what its draft counts, and how much of it is shown while it comes."""

from __future__ import annotations

import json
import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from djp.llm.asking import Asker, Piece, Retries
from djp.llm.calls import Usage
from djp.llm.fake import FakeProvider
from djp.llm.fences import FENCED
from djp.llm.models import Model
from djp.llm.prices import PriceBook
from djp.llm.provider import ProviderError, Reply
from djp.llm.tokens import count_tokens
from djp_debate import model_writer
from djp_debate.debate import debate, project
from djp_debate.deltas import Deltas
from djp_debate.model import Brief, Debater, Delta, Draft, Failed, Finished, Passage
from djp_debate.prompts import FORM_TOKENS, draft_question
from djp_debate.reading import read_draft

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djp.llm.provider import Question

LOST = ProviderError("the connection was lost", passing=True, billed=True)
OTHERS = [f"Draft number {n} says so." for n in range(6)]


def model(name: str = "bytes") -> Model:
    price = PriceBook.load().price("offline/lead")
    return Model(f"one/{name}", name, "family", price, "o200k_base" if name == "o200k_base" else "bytes")


def brief_of(*debaters: Debater, **more: Any) -> Brief:
    fields: dict[str, Any] = {"max_tokens": 100} | more
    return Brief(str(uuid.uuid4()), "Who is paid first?", debaters, **fields)


def ask(debater: Debater | None = None, *, others: Iterable[str] = (), own: str | None = None, **more: Any) -> Question:
    one = debater or Debater("d1", (model(),))
    round_ = more.pop("round_", 2)
    return draft_question(brief_of(one, **more), one, own=own, others=tuple(others), round_=round_, secret="s")


def order(question: Question) -> tuple[int, ...]:
    return tuple(sorted(range(len(OTHERS)), key=lambda n: question.user.index(OTHERS[n])))


def test_the_order_of_the_others_is_the_seeds_and_each_debaters_own() -> None:
    seeds = {order(ask(Debater("d1", (model(),), seed=seed), others=OTHERS)) for seed in range(20)}
    voices = {order(ask(Debater(f"d{n}", (model(),)), others=OTHERS)) for n in range(20)}
    rounds = {order(ask(others=OTHERS, round_=round_)) for round_ in range(2, 9)}
    assert min(len(seeds), len(voices), len(rounds)) > 3
    assert len({order(ask(others=OTHERS)) for _ in range(5)}) == 1
    places = {order(ask(Debater("d1", (model(),), seed=seed), others=OTHERS)).index(0) for seed in range(60)}
    assert places == set(range(6)), "place says nothing of who wrote a draft"


@pytest.mark.parametrize("unit", ["word ", "\u0939\u093f\u0928\u094d\u0926\u0940 ", "\ufdfa", "\U0001f30a"])
def test_a_prompt_is_bounded_however_long_the_drafts_before_it_are(unit: str) -> None:
    short = ask(others=["x"] * 3, own="x")
    long = ask(others=[unit * 50_000] * 3, own=unit * 50_000)
    assert len(long.user.encode()) - len(short.user.encode()) <= 4 * 10 * 100


def test_a_question_has_what_the_debater_and_the_brief_say() -> None:
    question = ask(Debater("d1", (model(),), "first,\n\nthen  more", temperature=0.7, seed=11))
    assert (question.temperature, question.seed, question.max_tokens) == (0.7, 11, 100 + FORM_TOKENS)
    assert question.schema is not None
    assert set(question.schema["required"]) == set(question.schema["properties"])
    assert next(iter(question.schema["properties"])) == "answer", "so that it can be shown while it comes"
    assert "Your part: first, then more\n" in question.system
    assert FENCED in question.system
    assert "at most 60 words" in question.system


def test_passages_are_numbered_and_titled_and_citations_asked_for() -> None:
    passages = tuple(Passage(f"p{n}", "d", f"Title {n}", f"Text {n}.") for n in (1, 2))
    question = ask(passages=passages, required_citations=3)
    for n in (1, 2):
        assert f" Passage {n}\nTitle: Title {n}\n\nText {n}.\n" in question.user
    assert "At least 3 citations are required." in question.system
    assert "are required" not in ask(passages=passages).system
    assert "There are no passages" in ask(required_citations=3).system


def test_the_fences_depend_on_the_secret() -> None:
    one = Debater("d1", (model(),))
    asked = {draft_question(brief_of(one), one, round_=1, secret=secret).user for secret in ("a", "b")}
    assert len(asked) == 2
    assert len(model_writer._SECRET) >= 32


def whole(text: str, usage: Usage | None) -> list[Any]:
    return [json.dumps({"answer": text, "evidence": [], "confidence": 0.5, "safety_flags": []}), Reply(usage)]


async def run(brief: Brief, play: Any) -> tuple[list[Any], int]:
    asker = Asker({"one": FakeProvider(play)}, max_concurrency={}, retries=Retries(max_retries=1, first_wait_s=0.0))
    bound = await project(brief, asker)
    return [event async for event in debate(brief, asker)], bound.nano_usd


@pytest.mark.parametrize("usage", [Usage(30, output_tokens=50, reasoning_tokens=20), None])
async def test_a_drafts_tokens_are_without_the_thoughts(usage: Usage | None) -> None:
    text = "The baker is paid first, then all others."
    told, _ = await run(brief_of(Debater("d1", (model(),))), lambda *_: whole(text, usage))
    (draft,) = told[-1].drafts
    assert draft.tokens == (30 if usage else count_tokens(text))


@pytest.mark.parametrize("name", ["bytes", "o200k_base"])
@pytest.mark.parametrize("letter", ["x", "\x07", "\ufdfa"])
async def test_a_debate_that_takes_every_attempt_stays_within_its_projection(name: str, letter: str) -> None:
    attempts: dict[tuple[str, int], int] = {}

    def play(_: Model, question: Question) -> Iterable[Any]:
        key = question.system.partition("Your part: ")[2][:7], 2 if "Above are" in question.user else 1
        attempts[key] = attempts.get(key, 0) + 1
        return [LOST] if attempts[key] == 1 else whole("x" + letter * 3000, None)

    roles = ["voice 1", "voice 2 " + "who cares for much " * 50]
    debaters = [Debater(f"d{n}", (model(name),), role) for n, role in enumerate(roles)]
    told, bound = await run(brief_of(*debaters, rounds=2), play)
    calls = [call for event in told if isinstance(event, Finished | Failed) for call in event.calls]
    assert len(calls) == 8
    assert sum(call.bound_nano_usd for call in calls) <= bound


async def test_a_debate_that_went_on_goes_on_when_it_is_taken_up_again() -> None:
    text = "The baker is paid first."
    debaters = tuple(Debater(f"d{n}", (model(),)) for n in (1, 2))
    done = {(d, r): Draft(f"{d}-r{r}", d, "one/bytes", r, text, 5) for d, r in (("d1", 1), ("d2", 1), ("d1", 2))}
    brief = brief_of(*debaters, rounds=2, agreement_threshold=0.9, completed=done)
    told, _ = await run(brief, lambda *_: whole("All others wait.", None))
    assert (told[-1].rounds, told[-1].stopped_early) == (2, False)
    assert [draft.text for draft in told[-1].drafts] == [text, "All others wait."]


async def test_a_fault_inside_a_draft_fails_that_draft_alone_and_quotes_nothing() -> None:
    def play(_: Model, question: Question) -> Iterable[Any]:
        if "voice 1" in question.system:
            raise RuntimeError(question.user)
        return whole("The baker is paid first.", Usage(1, output_tokens=9))

    debaters = [Debater(f"d{n}", (model(),), f"voice {n}") for n in (1, 2)]
    told, _ = await run(brief_of(*debaters), play)
    (failed,) = [event for event in told if isinstance(event, Failed)]
    assert "RuntimeError" in failed.message
    assert "paid" not in failed.message
    assert [draft.debater_id for draft in told[-1].drafts] == ["d2"]


async def test_a_long_answer_is_read_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def noting(*arguments: Any) -> Any:
        threads.append(threading.current_thread())
        return read_draft(*arguments)

    monkeypatch.setattr("djp_debate.model_writer.read_draft", noting)
    await run(brief_of(Debater("d1", (model(),))), lambda *_: whole("Paid first.", None))
    assert threads
    assert threading.main_thread() not in threads


@pytest.mark.parametrize(("step_s", "most"), [(0.0, 1), (10.0, 10_000)])
def test_deltas_are_few_bounded_and_come_to_the_draft(
    monkeypatch: pytest.MonkeyPatch, step_s: float, most: int
) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += step_s
        return now + 1

    monkeypatch.setattr("djp_debate.deltas.time.monotonic", clock)
    told: list[Delta] = []
    shown = Deltas("d1", 1, told.append)
    text = "word " * 40_000 + "end"
    for at in range(0, len(text), 500):
        shown.add(Piece(1, text[at : at + 500]))
    assert 0 < len(told) <= most
    assert sum(len(delta.text) for delta in told) <= 70_000
    shown.end(text)
    assert "".join(delta.text for delta in told) == text
