"""What a judgement costs is never more than its projection."""

from __future__ import annotations

import itertools
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from djp.llm.asking import Asker, Retries
from djp.llm.bounds import Bound
from djp.llm.calls import Usage
from djp.llm.fake import FakeProvider
from djp.llm.llm import Llm, open_llm
from djp.llm.provider import ProviderError, Reply
from djp.llm.settings import LlmSettings
from djp.llm.tokens import count_tokens, cut_draft
from djp.v1 import common_pb2, debate_pb2, judge_pb2
from djp_judge.model import Passage
from djp_judge.offline import ANSWER_TOKENS_PER_DRAFT
from djp_judge.rubric import Rubric
from djp_judge.server import service_of
from tests.judge.judge_scripts import PROVIDERS, ballot_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from djp.llm.models import Model
    from djp.llm.provider import Question

words = st.text(st.sampled_from("the sea [T]. \n`*#|\u6d77\U0001f30a\u0301a\ufdfa0123<>"), max_size=200)
JURORS = {
    "offline": judge_pb2.Juror(model="offline/rubric"),
    "bytes": judge_pb2.Juror(model="red/gpt-r"),
    "counted": judge_pb2.Juror(model="blue/small", temperature=0.3),
    "with fallbacks": judge_pb2.Juror(model="red/cold", fallback_models=["blue/claude-b", "blue/small"]),
}


class Moody:
    """A provider whose calls go as its moods say, one after the other: fine, unreadable, billed failures."""

    def __init__(self) -> None:
        self.moods: Iterator[str] = itertools.cycle(["fine"])

    def __call__(self, _model: Model, question: Question) -> Iterator[Any]:
        mood = next(self.moods)
        if mood == "lost":
            yield "half a ball"
            raise ProviderError("lost", passing=True, billed=True)
        if mood == "refused":
            raise ProviderError("refused", passing=False, billed=False)
        yield "8/10" if mood == "unreadable" else ballot_text(question, lambda *_: (3, 2.5, 1))
        yield Reply(None if mood == "untold" else Usage(50, output_tokens=20))


@pytest.fixture
async def judging(tmp_path: Path) -> AsyncIterator[tuple[Any, Moody]]:
    path = tmp_path / "providers.yaml"
    path.write_text(PROVIDERS)
    moody = Moody()
    async with open_llm(LlmSettings(providers=path)) as llm:
        provider = FakeProvider(moody)
        asker = Asker(
            {"red": provider, "blue": provider}, max_concurrency={}, retries=Retries(max_retries=1, first_wait_s=0)
        )
        yield service_of(Llm(llm.catalogue, asker)).servicers[0][1], moody


def request_of(jurors: list[str], task: str, texts: list[str], **fields: Any) -> judge_pb2.JudgeRequest:
    request = judge_pb2.JudgeRequest(run_id=str(uuid.UUID(int=1)), task=task, **fields)
    for number, name in enumerate(jurors):
        request.jurors.add().CopyFrom(JURORS[name])
        request.jurors[-1].juror_id = f"j{number}"
    for number, text in enumerate(texts):
        draft = debate_pb2.Draft(draft_id=f"d{number}", round=1, text=text, model=f"red/gpt-{number % 2}")
        request.candidates.add(draft=draft)
    return request


async def projected(servicer: Any, request: judge_pb2.JudgeRequest, drafts: int, max_tokens: int) -> Bound:
    response = await servicer.ProjectJudge(
        judge_pb2.ProjectJudgeRequest(
            jurors=request.jurors,
            task=request.task,
            passages=request.passages,
            orders=request.orders,
            drafts=drafts,
            draft_max_tokens=max_tokens,
        ),
        None,
    )
    return Bound(response.bound.cost_nano_usd, response.bound.tokens, response.bound.calls)


async def spent(servicer: Any, request: judge_pb2.JudgeRequest) -> tuple[Bound, Bound]:
    """What the calls cost, and what they were bounded by. Each call is told before it is made, and ends once."""
    cost, bounds = Bound(), Bound()
    started: dict[str, Any] = {}
    ended: set[str] = set()
    async for event in servicer.Judge(request, None):
        if event.HasField("call_started"):
            assert event.call_started.call_id not in started
            assert event.call_started.usage_unknown
            assert event.call_started.cost_nano_usd == event.call_started.bound_nano_usd
            started[event.call_started.call_id] = event.call_started
        for call in event.ballot.calls:
            assert call.call_id not in ended
            ended.add(call.call_id)
            assert call.offline or started[call.call_id].bound_nano_usd == call.bound_nano_usd
            assert call.cost_nano_usd <= call.bound_nano_usd
            tokens = call.usage.input_tokens + call.usage.output_tokens
            cost += Bound(call.cost_nano_usd, tokens, 1)
            bound_tokens = tokens if call.offline else started[call.call_id].usage.input_tokens
            bounds += Bound(call.bound_nano_usd, bound_tokens, 1)
    assert set(started) <= ended
    return cost, bounds


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    task=words.filter(bool),
    texts=st.lists(words, min_size=1, max_size=5),
    passages=st.lists(st.builds(common_pb2.Passage, title=words, text=words), max_size=3),
    jurors=st.lists(st.sampled_from(sorted(JURORS)), min_size=1, max_size=3),
    orders=st.integers(1, 3),
    max_tokens=st.integers(16, 30),
    more_drafts=st.integers(0, 2),
    moods=st.lists(st.sampled_from(["fine", "unreadable", "lost", "refused", "untold"]), min_size=1, max_size=7),
)
async def test_no_judgement_costs_more_than_projected(
    judging: tuple[Any, Moody],
    task: str,
    texts: list[str],
    passages: list[common_pb2.Passage],
    jurors: list[str],
    orders: int,
    max_tokens: int,
    more_drafts: int,
    moods: list[str],
) -> None:
    servicer, moody = judging
    moody.moods = itertools.cycle(moods)
    texts = [cut_draft(text, max_tokens) for text in texts]
    request = request_of(jurors, task, texts, passages=passages, orders=orders)
    bound = await projected(servicer, request, len(texts) + more_drafts, max_tokens)
    cost, bounds = await spent(servicer, request)
    assert cost.nano_usd <= bounds.nano_usd <= bound.nano_usd
    assert bounds.tokens <= bound.tokens
    assert bounds.calls <= bound.calls


@pytest.mark.parametrize("juror", sorted(JURORS))
async def test_drafts_as_long_as_they_may_be_that_fail_as_often_as_they_can_stay_within_it(
    judging: tuple[Any, Moody], juror: str
) -> None:
    servicer, moody = judging
    moody.moods = itertools.cycle(["lost"])
    texts = [cut_draft(f"tide {number} \u6d77" * 20_000, 3_000) for number in range(16)]
    passages = [common_pb2.Passage(title="T" * 1000, text="tide " * 5_000)] * 10
    request = request_of([juror], "t" * 262_144, texts, passages=passages, orders=2)
    bound = await projected(servicer, request, 16, 3_000)
    cost, bounds = await spent(servicer, request)
    assert bounds.calls == {"offline": 2, "bytes": 4, "counted": 4, "with fallbacks": 12}[juror]
    assert cost.nano_usd <= bounds.nano_usd <= bound.nano_usd


async def test_an_offline_juror_is_projected_without_retries_and_close_to_what_it_costs(
    judging: tuple[Any, Moody],
) -> None:
    servicer, _ = judging
    request = request_of(["offline"], "When do spring tides come?", ["a tide \n" * 1250, "b tide \n" * 1250], orders=2)
    bound = await projected(servicer, request, 2, 1_000)
    cost, bounds = await spent(servicer, request)
    assert bound.calls == bounds.calls == 2
    assert cost.tokens <= bound.tokens <= cost.tokens + 2 * 2 * ANSWER_TOKENS_PER_DRAFT + 50


def test_no_reason_is_longer_than_its_bound() -> None:
    task = " ".join(f"term{number}" for number in range(1_200))
    passages = [Passage("T", task)]
    crowded = "A b c d e f g h. " * 300 + "Score the jury draft. " * 200 + "word " * 2000
    for rubric in (Rubric(task, passages), Rubric(task, []), Rubric(crowded, passages)):
        for text in (crowded, task, "", crowded * 3):
            reason = rubric.marks(text).reason
            assert count_tokens(f"Draft A: {reason}") <= ANSWER_TOKENS_PER_DRAFT


async def test_every_juror_and_order_adds_the_same(judging: tuple[Any, Moody]) -> None:
    servicer, _ = judging
    one = await projected(servicer, request_of(["bytes"], "task", [], orders=1), 3, 200)
    assert one.calls == 4  # asked twice, tried twice
    many = await projected(servicer, request_of(["bytes"] * 16, "task", [], orders=6), 3, 200)
    assert many == Bound(one.nano_usd * 96, one.tokens * 96, one.calls * 96)
    # Three drafts have six orders; no more of them are shown, however many are asked for.
    assert await projected(servicer, request_of(["bytes"] * 16, "task", [], orders=16), 3, 200) == many
