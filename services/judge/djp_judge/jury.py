"""The jury at work: rules, then ballot by ballot what is still missing, then the verdict."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from djp.llm.calls import ModelCall, call_id
from djp.llm.tokens import utf8_bytes
from djp_judge.model import Ballot, Shown
from djp_judge.orders import label, showing_order
from djp_judge.projection import bound_ballot, bytes_read
from djp_judge.rules import apply_rules
from djp_judge.verdict import checked, decide, lead

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from fractions import Fraction

    from djp.llm.calls import Usage
    from djp.llm.prices import PriceBook
    from djp_judge.model import Candidate, Disqualification, Marks, Passage, Rules, Seat, Verdict

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What a juror said: its marks by label, and the tokens that it used."""

    marks: Mapping[str, Marks]
    usage: Usage


class Juror(Protocol):
    """A judging model, ready for one task and its passages. `offline` says that no model is called."""

    offline: bool

    async def vote(self, shown: Sequence[Shown]) -> Answer:
        """Marks for the drafts shown. Any exception makes the ballot an abstention."""


@dataclass(frozen=True)
class Case:
    """What is to be judged, by whom, in how many orders a juror, and the ballots that are already paid for, by id.

    `fast_path_margin` is in mean points; None: every ballot is cast.
    """

    run_id: str
    task: str
    candidates: Sequence[Candidate]
    seats: Sequence[Seat]
    rules: Rules
    passages: Sequence[Passage] = ()
    orders: int = 1
    seed: int = 0
    completed: Mapping[str, Ballot] = field(default_factory=dict)
    fast_path_margin: Fraction | None = None


@dataclass(frozen=True)
class Cast:
    """A ballot that was cast just now, with the calls that it took."""

    ballot: Ballot
    calls: tuple[ModelCall, ...]


def ballot_id(juror_id: str, order: int) -> str:
    """The id of a juror's ballot for its `order`-th order, counted from 1: "j1-o1"."""
    return f"{juror_id}-o{order}"


async def judge(case: Case, jurors: Mapping[str, Juror], prices: PriceBook) -> AsyncIterator[Cast | Verdict]:
    """Casts the ballots that are missing, one after another, and ends with the verdict. `jurors` are by model.

    Before a juror's first order the lead so far is compared with the fast path's margin. Between its orders a juror is
    never cut short, so that no single order decides, and a resumed judgement skips exactly what the first one would.
    """
    session, disqualified = await asyncio.to_thread(_open, case, jurors, prices)
    left = session.left
    ids = [candidate.draft_id for candidate in left]
    ballots = {one: checked(ballot, ids) for one, ballot in case.completed.items()} if left else {}
    skipped = False
    for number, seat in enumerate(case.seats if left else ()):
        missing = [order for order in range(1, case.orders + 1) if ballot_id(seat.juror_id, order) not in ballots]
        if len(missing) == case.orders and _is_clear(case, left, list(ballots.values())):
            skipped = True
            continue
        for order in missing:
            draft_ids = showing_order(ids, case.seed, number * case.orders + order - 1)
            cast = await session.cast(seat, order, draft_ids)
            ballots[cast.ballot.ballot_id] = cast.ballot
            yield cast
    yield decide(left, disqualified, list(ballots.values()), fast_path=skipped)


def _is_clear(case: Case, candidates: Sequence[Candidate], ballots: Sequence[Ballot]) -> bool:
    if case.fast_path_margin is None:
        return False
    ahead = lead(candidates, ballots)
    return ahead is not None and ahead >= case.fast_path_margin


def _open(case: Case, jurors: Mapping[str, Juror], prices: PriceBook) -> tuple[_Session, list[Disqualification]]:
    left, disqualified = apply_rules(case.candidates, case.rules)
    draft_bytes = sum(utf8_bytes(candidate.text) for candidate in left)
    return _Session(case, left, jurors, prices, bytes_read(case.task, case.passages), draft_bytes), disqualified


@dataclass(frozen=True)
class _Session:
    """What casting any ballot of a case needs."""

    case: Case
    left: Sequence[Candidate]
    jurors: Mapping[str, Juror]
    prices: PriceBook
    read_bytes: int
    draft_bytes: int

    async def cast(self, seat: Seat, order: int, draft_ids: Sequence[str]) -> Cast:
        """Have a juror vote on the drafts in this order."""
        texts = {candidate.draft_id: candidate.text for candidate in self.left}
        shown = [Shown(label(place), texts[draft_id]) for place, draft_id in enumerate(draft_ids)]
        ballot = Ballot(ballot_id(seat.juror_id, order), seat.juror_id, seat.model, tuple(draft_ids))
        juror, price = self.jurors[seat.model], self.prices.price(seat.model)
        bound = bound_ballot(price, self.read_bytes, self.draft_bytes, len(shown))
        started_at, started = datetime.now(UTC), time.monotonic()
        try:
            answer = await juror.vote(shown)
        except Exception as error:  # one juror's failure must not end the jury
            name = type(error).__name__  # no more of it: an exception may quote a draft
            _log.warning("juror %s (%s) failed in order %d: %s", seat.juror_id, seat.model, order, name)
            return Cast(replace(ballot, abstain_reason=f"the juror failed ({name})"), ())
        call = ModelCall(
            call_id=call_id(self.case.run_id, "judge", seat.juror_id, order),
            stage="JUDGE",
            model=seat.model,
            usage=answer.usage,
            cost_nano_usd=price.cost(answer.usage),
            bound_nano_usd=bound.nano_usd,
            started_at=started_at,
            duration=timedelta(seconds=time.monotonic() - started),
            actor_id=seat.juror_id,
            offline=juror.offline,
        )
        named = {draft.label: draft_id for draft, draft_id in zip(shown, draft_ids, strict=True)}
        marks = {named.get(one, f"unknown {one}"): marks for one, marks in answer.marks.items()}
        return Cast(checked(replace(ballot, marks=marks), draft_ids), (call,))
