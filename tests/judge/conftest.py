"""The judge service on a real socket, and requests and cases to send to it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from djp.llm.calls import Usage
from djp.llm.prices import PriceBook
from djp.v1 import common_pb2, debate_pb2, judge_pb2, judge_pb2_grpc
from djp_judge.jury import Answer, Case, Cast, judge
from djp_judge.model import Candidate, Marks, Rules, Seat, Verdict
from djp_judge.server import open_service
from djp_judge.settings import JudgeSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from djp_judge.model import Ballot, Shown

PASSAGES = [
    ("Tides", "The moon pulls the water of the sea. Spring tides come at new moon and at full moon, twice a month."),
    ("Harbours", "A harbour master closes the gate before a spring tide. Ships wait until the gate opens again."),
]
GOOD = (
    "Spring tides come at new moon and at full moon, twice a month [Tides]. "
    "The moon pulls the water of the sea [Tides].\n\nA harbour master closes the gate before a spring tide [Harbours]."
)
FAIR = "Ships wait until the gate opens again [Harbours]. Nobody in the village has seen a comet."


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
        """The ballots that were cast, and the verdict, which must come last and once."""
        events = [event async for event in self.stub.Judge(request)]
        assert [event.WhichOneof("event") for event in events] == ["ballot"] * (len(events) - 1) + ["verdict"]
        return [event.ballot for event in events[:-1]], events[-1].verdict


@pytest.fixture
async def service(serving: Any) -> AsyncIterator[Service]:
    async with serving(open_service(JudgeSettings())) as channel:
        yield Service(judge_pb2_grpc.JudgeServiceStub(channel))


@dataclass
class ScriptedJuror:
    """Gives each text the marks that `points` says; a text's marks may depend on the place where it was shown."""

    points: Callable[[str, int], tuple[float, float, float]]
    offline: bool = False
    asked: int = 0

    async def vote(self, shown: Sequence[Shown]) -> Answer:
        self.asked += 1
        marks = {
            draft.label: Marks(*(Fraction(one) for one in self.points(draft.text, place)), reason="said so")
            for place, draft in enumerate(shown)
        }
        return Answer(marks, Usage(input_tokens=10, output_tokens=5))


class Bench:
    """Judges a case with scripted jurors. Draft `a` has the text "a", and so on."""

    Scripted = ScriptedJuror
    Candidate = Candidate
    Rules = Rules

    def __init__(self) -> None:
        self.prices = PriceBook.load()

    @staticmethod
    def seats(count: int) -> list[Seat]:
        return [Seat(f"j{number}", "offline/rubric") for number in range(1, count + 1)]

    async def judge(self, juror: Any, drafts: Sequence[str] = ("a", "b"), **fields: Any) -> tuple[list[Cast], Verdict]:
        fields = {"seats": self.seats(1), "rules": Rules(), **fields}
        candidates = fields.pop("candidates", None) or [Candidate(one, one) for one in drafts]
        case = Case(run_id=str(uuid.UUID(int=7)), task="task", candidates=candidates, **fields)
        events = [event async for event in judge(case, {"offline/rubric": juror}, self.prices)]
        assert isinstance(events[-1], Verdict)
        return [event for event in events[:-1] if isinstance(event, Cast)], events[-1]

    @staticmethod
    def ballots(casts: Sequence[Cast]) -> Mapping[str, Ballot]:
        return {cast.ballot.ballot_id: cast.ballot for cast in casts}


@pytest.fixture
def bench() -> Bench:
    return Bench()
