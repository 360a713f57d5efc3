"""governance_events.jsonl: every event of the ledger as a line, once, whoever recorded it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.event_log import EventLog

if TYPE_CHECKING:
    from pathlib import Path

    from djp_governance.events import Event
    from djp_governance.ports import EventStore


def governance_log(path: Path, events: EventStore) -> EventLog[Event]:
    """A copy of the events beside the ledger."""
    return EventLog(path, events.last_sequence, lambda sequence, limit: events.after(sequence, None, limit), _line)


def _line(event: Event) -> dict[str, object]:
    fields = {
        "sequence": event.sequence,
        "at": event.at.isoformat(),
        "kind": event.kind,
        "scope": event.scope,
        "tenant": event.tenant,
        "run_id": event.run_id,
        "actor": event.actor,
        "message": event.message,
    }
    return {**fields, "window": dict(event.window)} if event.window else fields
