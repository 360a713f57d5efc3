"""The judge service on a real socket, and requests and cases to send to it."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from djp.llm.asking import Asker, Retries
from djp.llm.bounds import bound_call
from djp.llm.calls import ModelCall, Usage, call_id
from djp.llm.fake import FakeProvider
from djp.llm.llm import Llm, open_llm
from djp.llm.prices import Price
from djp.llm.settings import LlmSettings
from djp.v1 import common_pb2, debate_pb2, judge_pb2, judge_pb2_grpc
from djp_judge.jury import Case, Cast, Vote, judge
from djp_judge.model import Candidate, Marks, Rules, Seat, Verdict
from djp_judge.server import open_service, service_of
from tests.judge.judge_scripts import FAIR, GOOD, PROVIDERS, fair_ballot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from djp.llm.asking import Asking
    from djp.llm.bounds import Bound
    from djp.llm.models import Model
    from djp.llm.provider import Question
    from djp_judge.jury import Tell
    from djp_judge.model import Ballot, Shown

PASSAGES = [
    ("Tides", "The moon pulls the water of the sea. Spring tides come at new moon and at full moon, twice a month."),
    ("Harbours", "A harbour master closes the gate before a spring tide. Ships wait until the gate opens again."),
]


def _natural(ballot_id: str) -> tuple[int, ...]:
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in ballot_id.split("-"))


class Service:
    """Speaks to a judge service over its socket."""

    def __init__(self, stub: Any) -> None:
        self.stub = stub

    @staticmethod
    def request(texts: Sequence[str] = (GOOD, FAIR), **fields: Any) -> judge_pb2.JudgeRequest:
        """Drafts d1-r1, d2-r1, ... of these texts, one offline juror, two passages, and whatever `fields` change."""
        request = judge_pb2.JudgeRequest(
            run_id=str(uuid.UUID(int=7)),
            task="When do spring tides come?",
            candidates=[
                judge_pb2.Candidate(
                    draft=debate_pb2.Draft(
                        draft_id=f"d{number}-r1", debater_id=f"d{number}", model="offline/lead", round=1, text=text
                    )
                )
                for number, text in enumerate(texts, 1)
            ],
            passages=[common_pb2.Passage(title=title, text=text) for title, text in PASSAGES],
        )
        fields = {"orders": 1, "jurors": [judge_pb2.Juror(juror_id="j1", model="offline/rubric")], **fields}
        for name, value in fields.items():
            if isinstance(value, list):
                request.ClearField(name)  # type: ignore[arg-type]
                getattr(request, name).extend(value)
            else:
                setattr(request, name, value)
        return request

    async def judge(self, request: judge_pb2.JudgeRequest) -> tuple[list[judge_pb2.BallotCast], judge_pb2.Verdict]:
        """The ballots that were cast, in the order of their ids, and the verdict, which must come last and once."""
        events = [event async for event in self.stub.Judge(request)]
        assert [event.WhichOneof("event") == "verdict" for event in events] == [False] * (len(events) - 1) + [True]
        casts = [event.ballot for event in events if event.HasField("ballot")]
        return sorted(casts, key=lambda cast: _natural(cast.ballot.ballot_id)), events[-1].verdict


@pytest.fixture
async def service(serving: Any) -> AsyncIterator[Service]:
    async with serving(open_service(LlmSettings())) as channel:
        yield Service(judge_pb2_grpc.JudgeServiceStub(channel))


@dataclass
class Models:
    """A judge service whose models answer from a script."""

    judge: Service
    provider: FakeProvider

    @property
    def asked(self) -> list[tuple[Model, Question]]:
        """Every question so far, and the model that got it."""
        return self.provider.asked


@pytest.fixture
def models(serving: Any, tmp_path: Path) -> Any:
    """Opens a judge service whose models answer from a script: `async with models(script) as opened`."""

    @asynccontextmanager
    async def opener(script: Any = fair_ballot, retries: Retries | None = None) -> AsyncIterator[Models]:
        path = tmp_path / "providers.yaml"
        path.write_text(PROVIDERS)
        provider = FakeProvider(script)

        @asynccontextmanager
        async def opening() -> AsyncIterator[Any]:
            async with open_llm(LlmSettings(providers=path)) as llm:
                quick = retries or Retries(max_retries=1, first_wait_s=0.001)
                asker = Asker({"red": provider, "blue": provider}, max_concurrency={}, retries=quick)
                yield service_of(Llm(llm.catalogue, asker))

        async with serving(opening()) as channel:
            yield Models(Service(judge_pb2_grpc.JudgeServiceStub(channel)), provider)

    return opener


PRICE = Price(Decimal(1), Decimal(1), Decimal(2))


@dataclass
class ScriptedJuror:
    """Gives each text the marks that `points` says; a text's marks may depend on the place where it was shown."""

    points: Callable[[str, int], tuple[float, float, float]]
    asked: int = 0

    async def vote(self, shown: Sequence[Shown], asking: Asking, tell: Tell) -> Vote:
        self.asked += 1
        marks = {
            draft.label: Marks(*(Fraction(one) for one in self.points(draft.text, place)), reason="said so")
            for place, draft in enumerate(shown)
        }
        return Vote("x/y", marks, calls=(call_of(asking),))

    def bound(self, drafts: int, draft_tokens: int) -> Bound:
        return bound_call(PRICE, draft_tokens, drafts)


def call_of(asking: Asking) -> ModelCall:
    """A call that the juror of this asking made."""
    return ModelCall(
        call_id=call_id(asking.run_id, asking.stage, *asking.parts, asking.run_attempt, 1),
        stage=asking.stage,
        model="x/y",
        usage=Usage(10, output_tokens=5),
        cost_nano_usd=10,
        bound_nano_usd=20,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        duration=timedelta(),
        actor_id=asking.actor_id,
    )


class Bench:
    """Judges a case with scripted jurors. Draft `a` has the text "a", and so on."""

    Scripted = ScriptedJuror
    Candidate = Candidate
    Rules = Rules
    Seat = Seat

    @staticmethod
    def seats(count: int) -> list[Seat]:
        return [Seat(f"j{number}", "x/y") for number in range(1, count + 1)]

    async def judge(self, juror: Any, drafts: Sequence[str] = ("a", "b"), **fields: Any) -> tuple[list[Cast], Verdict]:
        """The ballots that were cast, in the order of their ids, and the verdict. `juror`: one for all, or by id."""
        fields = {"seats": self.seats(1), "rules": Rules(), **fields}
        candidates = fields.pop("candidates", None) or [Candidate(one, one) for one in drafts]
        case = Case(run_id=str(uuid.UUID(int=7)), task="task", candidates=candidates, **fields)
        jurors = juror if isinstance(juror, dict) else {seat.juror_id: juror for seat in case.seats}
        events = [event async for event in judge(case, jurors)]
        assert isinstance(events[-1], Verdict)
        casts = [event for event in events[:-1] if isinstance(event, Cast)]
        return sorted(casts, key=lambda cast: _natural(cast.ballot.ballot_id)), events[-1]

    @staticmethod
    def ballots(casts: Sequence[Cast]) -> Mapping[str, Ballot]:
        return {cast.ballot.ballot_id: cast.ballot for cast in casts}


@pytest.fixture
def bench() -> Bench:
    return Bench()
