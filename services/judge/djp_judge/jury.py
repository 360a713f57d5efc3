"""The jury at work: rules, recusals, then every ballot that is still missing, then the verdict."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from djp.llm.asking import Asking, CallFailed, CallStarted
from djp.llm.side_by_side import side_by_side
from djp_judge.blind import Blinder
from djp_judge.model import Ballot, Shown
from djp_judge.orders import different_orders, label, showing_order
from djp_judge.recusal import recusals
from djp_judge.rules import apply_rules
from djp_judge.verdict import checked, clear_lead, decide

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
    from fractions import Fraction

    from djp.llm.bounds import Bound
    from djp.llm.calls import ModelCall
    from djp_judge.model import Candidate, Disqualification, Marks, Passage, Rules, Seat, Verdict

_log = logging.getLogger(__name__)

Tell = Callable[[CallStarted | CallFailed], None]
"""Learns of a call before it is sent, and of its end when another one follows it."""


@dataclass(frozen=True)
class Vote:
    """What a juror said: marks by label, or why it abstains; every call that this took; and the model that answered."""

    model: str
    marks: Mapping[str, Marks] = field(default_factory=dict)
    abstain_reason: str = ""
    calls: tuple[ModelCall, ...] = ()


class Juror(Protocol):
    """A judging model, ready for one task and its passages."""

    async def vote(self, shown: Sequence[Shown], asking: Asking, tell: Tell) -> Vote:
        """Marks for the drafts shown, or an abstention. An exception counts as one; calls told before stay owed."""
        ...

    def bound(self, drafts: int, draft_tokens: int) -> Bound:
        """The most that one vote can cost over so many drafts that together may have so many output tokens."""
        ...


@dataclass(frozen=True)
class Case:
    """What is to be judged, by whom, in how many orders a juror, and the ballots that are already paid for, by id.

    `fast_path_margin` is in mean points; None: every ballot is cast. `attempt` counts the attempts at the run, from 1.
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
    attempt: int = 1


@dataclass(frozen=True)
class Cast:
    """A ballot that was cast just now, with the calls that it took."""

    ballot: Ballot
    calls: tuple[ModelCall, ...] = ()


def ballot_id(juror_id: str, order: int) -> str:
    """The id of a juror's ballot for its `order`-th order, counted from 1: "j1-o1"."""
    return f"{juror_id}-o{order}"


async def judge(case: Case, jurors: Mapping[str, Juror]) -> AsyncGenerator[CallStarted | CallFailed | Cast | Verdict]:
    """Casts the ballots that are missing, side by side, and ends with the verdict. `jurors` are by juror id.

    With a fast path's margin the jurors take turns: before a juror's first order the lead so far is compared with the
    margin. Between its orders a juror is never cut short, so that no single order decides, and a resumed judgement
    skips exactly what the first one would. Closing the iterator cancels every call.
    """
    session, disqualified = await asyncio.to_thread(_open, case, jurors)
    ids = list(session.texts)
    ballots = {one: checked(ballot, ids) for one, ballot in case.completed.items()} if ids else {}
    turns = [[number] for number in range(len(case.seats))]
    if case.fast_path_margin is None:
        turns = [list(range(len(case.seats)))]
    skipped = False
    for turn in turns if ids else ():
        orders = [(number, order) for number in turn for order in session.orders(number)]
        missing = [one for one in orders if session.ballot_id(*one) not in ballots]
        if len(missing) == len(orders) and _is_clear(case, session.left, list(ballots.values())):
            skipped = True
            continue
        async with aclosing(side_by_side([_casting(session, *one) for one in missing])) as events:
            async for event in events:
                if isinstance(event, Cast):
                    ballots[event.ballot.ballot_id] = event.ballot
                yield event
    yield decide(session.left, disqualified, list(ballots.values()), fast_path=skipped)


def _is_clear(case: Case, candidates: Sequence[Candidate], ballots: Sequence[Ballot]) -> bool:
    if case.fast_path_margin is None:
        return False
    ahead = clear_lead(candidates, ballots)
    return ahead is not None and ahead >= case.fast_path_margin


def _casting(session: _Session, number: int, order: int) -> Callable[[Tell], Awaitable[Cast]]:
    return lambda tell: session.cast(number, order, tell)


def _open(case: Case, jurors: Mapping[str, Juror]) -> tuple[_Session, list[Disqualification]]:
    left, disqualified = apply_rules(case.candidates, case.rules, case.passages)
    blinder = Blinder({name for candidate in case.candidates for name in candidate.names})
    texts = {candidate.draft_id: blinder.blind(candidate.text) for candidate in left}
    return _Session(case, left, jurors, texts, recusals(left, case.seats)), disqualified


@dataclass(frozen=True)
class _Session:
    """What casting any ballot of a case needs. `texts` are the drafts as they are shown, by draft id."""

    case: Case
    left: Sequence[Candidate]
    jurors: Mapping[str, Juror]
    texts: Mapping[str, str]
    recused: Mapping[str, frozenset[str]]

    def ballot_id(self, number: int, order: int) -> str:
        return ballot_id(self.case.seats[number].juror_id, order)

    def orders(self, number: int) -> range:
        """The orders that a juror sees, none of them twice; one, in which nothing is shown, where all are recused."""
        drafts = len(self.texts) - len(self.recused[self.case.seats[number].juror_id])
        return range(1, 1 + min(self.case.orders, max(1, different_orders(drafts))))

    async def cast(self, number: int, order: int, tell: Tell) -> Cast:
        """Have a juror vote on its drafts in one of its orders."""
        seat = self.case.seats[number]
        recused = self.recused[seat.juror_id]
        own = [draft_id for draft_id in self.texts if draft_id not in recused]
        draft_ids = showing_order(own, self.case.seed, number * self.case.orders + order - 1)
        ballot = Ballot(
            ballot_id(seat.juror_id, order), seat.juror_id, seat.model, draft_ids, recused=tuple(sorted(recused))
        )
        if not draft_ids:
            return Cast(replace(ballot, abstain_reason="every draft is of the juror's own model family"))
        shown = [Shown(label(place), self.texts[draft_id]) for place, draft_id in enumerate(draft_ids)]
        asking = Asking(self.case.run_id, "JUDGE", seat.juror_id, (seat.juror_id, order), self.case.attempt)
        try:
            vote = await self.jurors[seat.juror_id].vote(shown, asking, tell)
        except Exception as error:  # one juror's failure must not end the jury
            name = type(error).__name__  # no more of it: an exception may quote a draft
            _log.warning("juror %s (%s) failed in order %d: %s", seat.juror_id, seat.model, order, name)
            return Cast(replace(ballot, abstain_reason=f"the juror failed ({name})"))
        named = {draft.label: draft_id for draft, draft_id in zip(shown, draft_ids, strict=True)}
        marks = {named.get(one, f"unknown {one}"): marks for one, marks in vote.marks.items()}
        ballot = replace(ballot, model=vote.model, marks=marks, abstain_reason=vote.abstain_reason)
        return Cast(checked(ballot, list(self.texts)), vote.calls)
