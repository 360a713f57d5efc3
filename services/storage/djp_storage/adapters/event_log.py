"""lifecycle_events.jsonl: every event of the catalogue as a line, once, whoever recorded it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.event_log import EventLog

if TYPE_CHECKING:
    from pathlib import Path

    from djp_storage.model import Event
    from djp_storage.ports import EventStore


def lifecycle_log(path: Path, events: EventStore) -> EventLog[Event]:
    """A copy of the events beside the catalogue."""
    return EventLog(path, events.last_sequence, events.after, _line)


def _line(event: Event) -> dict[str, object]:
    return {
        "sequence": event.sequence,
        "timestamp": event.at.isoformat(),
        "event_type": event.action,
        "actor": event.actor,
        "tenant_id": event.key.tenant,
        "workflow_id": event.key.workflow,
        "artifact_id": event.key.artifact,
        "from_tier": event.from_tier or "",
        "to_tier": event.to_tier or "",
        "reason": event.reason,
    }
