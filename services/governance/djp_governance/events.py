"""What an operator should know: events, and the keys that let each thing be told once, by one replica of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from djp.money import format_usd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from djp_governance.model import Reservation, Unit, Window

Kind = Literal[
    "throttled",
    "denied",
    "over_reservation",
    "lease_lapsed",
    "anomaly",
    "budget_set",
    "budget_deleted",
    "config_rejected",
]


@dataclass(frozen=True)
class NewEvent:
    """An event to record. Of one `key` there is one event for ever; `tenant` may see it beside the operators."""

    kind: Kind
    at: datetime
    key: str
    scope: str
    message: str
    tenant: str = ""
    run_id: str = ""
    actor: str = ""
    window: Mapping[str, str | int | None] | None = None


@dataclass(frozen=True)
class Event(NewEvent):
    """A recorded event; sequences grow in the order in which events can be seen."""

    sequence: int = 0


def tenant_of(scope: str) -> str:
    """The tenant that may see what happens to a scope; empty: only operators."""
    kind, _, name = scope.partition(":")
    return name if kind == "tenant" else ""


def of_threshold(
    kind: Literal["throttled", "denied"], window: Window, units: Sequence[Unit], now: datetime, run_id: str
) -> list[NewEvent]:
    """That a window passed its soft or its hard threshold: once for each limit that it has.

    A limit that is raised later has thresholds of its own.
    """
    scope, period = window.key.scope, window.key.period
    events = []
    for unit in units:
        limit, used = (window.limit, window.used) if unit == "usd" else (window.limit_tokens, window.used_tokens)
        shown = [format_usd(one) if unit == "usd" else f"{one:,} tokens" for one in (used, limit or 0)]
        what = "its runs are slowed down" if kind == "throttled" else "a run that did not fit was refused"
        events.append(
            NewEvent(
                kind=kind,
                at=now,
                key=f"{kind}|{scope}|{period}|{window.key.day}|{unit}|{limit}",
                scope=scope,
                message=f"{scope}/{period} of {window.key.day} has used {shown[0]} of its limit of {shown[1]}: {what}",
                tenant=tenant_of(scope),
                run_id=run_id,
                window=_snapshot(window),
            )
        )
    return events


def of_excess(reservation: Reservation, now: datetime) -> NewEvent:
    """That a run cost more than was reserved for it: once a reservation."""
    return _of_reservation(
        "over_reservation",
        reservation,
        now,
        f"reservation {reservation.reservation_id} held {format_usd(reservation.reserved)} and "
        f"{reservation.reserved_tokens:,} tokens, and was charged beyond them: {format_usd(reservation.charged)} and "
        f"{reservation.charged_tokens:,} tokens so far",
    )


def of_lapse(reservation: Reservation, owed: Sequence[int], back: int, now: datetime) -> NewEvent:
    """That nobody extended a reservation's lease; `owed` are the bounds of its unfinished calls."""
    calls = "no call was under way" if not owed else f"{len(owed)} unfinished calls stand at their bound"
    return _of_reservation(
        "lease_lapsed",
        reservation,
        now,
        f"the lease of reservation {reservation.reservation_id} lapsed: {calls} ({format_usd(sum(owed))}), "
        f"{format_usd(back)} went back",
    )


def _of_reservation(
    kind: Literal["over_reservation", "lease_lapsed"], reservation: Reservation, now: datetime, message: str
) -> NewEvent:
    """What there is one event of for each reservation."""
    return NewEvent(
        kind=kind,
        at=now,
        key=f"{kind}|{reservation.reservation_id}",
        scope=f"tenant:{reservation.tenant}",
        message=message,
        tenant=reservation.tenant,
        run_id=reservation.run_id,
    )


def _snapshot(window: Window) -> dict[str, str | int | None]:
    """The window as it was, by the wire's names, with times in ISO 8601; a limit that it has not is None."""
    return {
        "scope": window.key.scope,
        "period": window.key.period,
        "starts_at": window.key.starts_at.isoformat(),
        "resets_at": window.key.resets_at.isoformat(),
        "limit_nano_usd": window.limit,
        "reserved_nano_usd": window.reserved,
        "spent_nano_usd": window.spent,
        "limit_tokens": window.limit_tokens,
        "reserved_tokens": window.reserved_tokens,
        "spent_tokens": window.spent_tokens,
    }
