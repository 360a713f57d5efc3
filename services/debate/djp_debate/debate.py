"""A debate from beginning to end: what it may cost at most, then round after round of drafts, written side by side."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from djp.llm.bounds import Bound
from djp.llm.side_by_side import side_by_side
from djp.mesh import semconv, telemetry
from djp_debate.agreement import agreement
from djp_debate.model import Failed, Finished, Over, Started
from djp_debate.model_writer import ModelWriter
from djp_debate.offline import OfflineWriter
from djp_debate.ports import Work

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from djp.llm.asking import Asker
    from djp_debate.model import Brief, Debater, Draft, Event
    from djp_debate.ports import Tell, Writer

    Drafts = dict[tuple[str, int], Draft]


async def project(brief: Brief, asker: Asker) -> Bound:
    """The most that the debate can cost: every draft that is missing, in every round."""
    writer = _writers(brief, asker)
    total = Bound()
    for round_ in range(1, brief.rounds + 1):
        for debater in _missing(brief, brief.completed, round_):
            total += await writer(debater).bound(debater, round_)
    return total


async def debate(brief: Brief, asker: Asker) -> AsyncGenerator[Event]:
    """Everything that happens, as it happens, and last that it is over. Closing the generator cancels every call.

    In the first round nobody sees another draft; in each later one everybody sees the last draft of all others. Who
    failed keeps the last good draft and goes on in the next round. The debate ends before its last round when the first
    round's drafts agree as much as the brief's threshold asks, or when there is no draft at all.
    """
    writer = _writers(brief, asker)
    drafts = dict(brief.completed)
    agreed: float | None = None
    for round_ in range(1, brief.rounds + 1):
        missing = _missing(brief, drafts, round_)
        before = _last(brief, {key: draft for key, draft in drafts.items() if key[1] < round_})
        works = [_writing(writer(one), one, _work(one, before, round_)) for one in missing]
        for debater in missing:
            yield Started(debater, round_)
        async with aclosing(side_by_side(works)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    drafts[event.draft.debater_id, round_] = event.draft
                yield event
        last = _last(brief, drafts)
        if not last or round_ == brief.rounds:
            break
        if round_ > 1 or brief.agreement_threshold is None:
            continue
        firsts = [drafts[key].text for one in brief.debaters if (key := (one.debater_id, 1)) in drafts]
        if len(firsts) > 1:
            agreed = await asyncio.to_thread(agreement, firsts)
            # A debate that went on before it was interrupted goes on now, whatever its drafts say together.
            if agreed >= brief.agreement_threshold and all(at == 1 for _, at in drafts):
                break
    yield Over(last, round_, stopped_early=bool(last) and round_ < brief.rounds, agreement=agreed)


def _writers(brief: Brief, asker: Asker) -> Callable[[Debater], Writer]:
    offline, models = OfflineWriter(brief), ModelWriter(brief, asker)
    return lambda debater: offline if debater.offline else models


def _missing(brief: Brief, drafts: Mapping[tuple[str, int], Draft], round_: int) -> list[Debater]:
    """Who is to write in a round: whoever has no draft of it or of a later one, before which it has failed for good."""
    rounds = range(round_, brief.rounds + 1)
    return [one for one in brief.debaters if not any((one.debater_id, later) in drafts for later in rounds)]


def _work(debater: Debater, before: Sequence[Draft], round_: int) -> Work:
    own = next((draft for draft in before if draft.debater_id == debater.debater_id), None)
    return Work(round_, own, tuple(draft for draft in before if draft is not own))


def _last(brief: Brief, drafts: Drafts) -> tuple[Draft, ...]:
    """The last draft of each debater that has one, in the order of the debaters."""
    last: dict[str, Draft] = {}
    for (debater_id, _), draft in sorted(drafts.items(), key=lambda item: item[0][1]):
        last[debater_id] = draft
    return tuple(last[one.debater_id] for one in brief.debaters if one.debater_id in last)


def _writing(writer: Writer, debater: Debater, work: Work) -> Callable[[Tell], Awaitable[Finished | Failed]]:
    async def write(tell: Tell) -> Finished | Failed:
        try:
            with telemetry.span(f"draft {debater.debater_id}", **{semconv.DJP_ROUND: work.round}):
                return await writer.write(debater, work, tell)
        except Exception as error:  # one debater's failure must not end the debate; the message could quote a text
            message = f"{debater.debater_id} ({debater.model}): an internal error ({type(error).__name__})"
            return Failed(debater, work.round, message, ())

    return write
