"""Which orders of commands that came at once explain, by the plain model, what was answered and which events came."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC
from typing import TYPE_CHECKING, Any

from djp.v1 import governance_pb2
from tests.governance.ledger_books import threshold_key
from tests.governance.ledger_model import Model
from tests.governance.ledger_words import ANOMALY, DENIED, ENDED, OVER, REJECTED, THROTTLED, Event, flat

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Step = Callable[[Model], None]
"""What a command does to the model. Raises AssertionError where it was answered otherwise."""


def seen(event: Any) -> tuple[Any, ...]:
    """An event as it is compared: all but its sequence and its words, of which only what they are about."""
    window = flat(event.window) if event.HasField("window") else b""
    return event.at.ToDatetime(UTC), event.kind, event.scope, event.run_id, event.actor, about(event), window


def about(event: Any) -> str:
    """What an event's message has to tell."""
    if event.kind in (OVER, ENDED):
        return re.findall(r"reservation ([0-9a-f-]{36})", event.message)[0]
    if event.kind in (THROTTLED, DENIED):
        return "tokens" if "tokens of its limit" in event.message else "usd"
    if event.kind == ANOMALY:
        return re.findall(r"on (\d{4}-\d\d-\d\d)", event.message)[0]
    return "" if event.kind == REJECTED else event.message.rpartition("; ")[2]  # why a budget was set


def shown(event: Event) -> tuple[Any, ...]:
    at, kind, scope, _, run_id, actor, about_, window = event
    return at, kind, scope, run_id, actor, about_, window


def distinct(models: Sequence[Model]) -> list[Model]:
    return [model for place, model in enumerate(models) if model not in models[:place]]


def explained(
    model: Model, steps: Sequence[Step], fresh: Sequence[Any], refused: Collection[str], why: list[str]
) -> list[Model]:
    """The model after the steps, for each order in which it gives the answers that came and tells the events that came.

    `refused` are the runs without room. A refusal is told after it, so of several at once any may be the one that is.
    """
    after: dict[frozenset[int], list[Model]] = {frozenset(): [model]}  # by which steps are done
    for _ in steps:
        further: dict[frozenset[int], list[Model]] = {}
        for done, models in after.items():
            for place in set(range(len(steps))) - done:
                for one in models:
                    try:
                        steps[place](following := one.copy())
                    except AssertionError as error:
                        why.append(str(error))
                    else:
                        further.setdefault(done | {place}, []).append(following)
        after = {done: distinct(models) for done, models in further.items()}
    found = []
    for one in after.get(frozenset(range(len(steps))), ()):
        try:
            found.append(with_events(one, model, fresh, refused if len(refused) > 1 else ()))
        except AssertionError as error:
            why.append(str(error))
    return found


def with_events(after: Model, before: Model, fresh: Sequence[Any], refused: Collection[str]) -> Model:
    """The model with its new events in the order in which they came. Raises AssertionError where they are others."""
    new = {shown(one): key for key, one in after.events.items() if key not in before.events}
    loose = [one for one in {*new, *fresh} if refused and one[1] == DENIED]
    assert all(one[3] in refused for one in loose)
    assert Counter(fresh) - Counter(loose) == Counter(new.keys()) - Counter(loose), (
        f"events\n{fresh}\nbut the rules say\n{list(new)}"
    )
    events = dict(before.events)
    for one in fresh:
        if one in new:
            events[new[one]] = after.events[new[one]]
        else:  # of a refusal, as its window was when it was told
            at, kind, scope, run_id, actor, unit, window = one
            key = threshold_key(kind, governance_pb2.BudgetWindow.FromString(window), unit)
            events[key] = Event(at, kind, scope, scope.partition(":")[2], run_id, actor, unit, window)
    after.events = events
    return after
