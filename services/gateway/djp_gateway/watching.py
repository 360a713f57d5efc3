"""Those who watch runs: they are told what was stored, as long as the run is worked on here."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from djp_gateway.drafting import Listener

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from djp.mesh.errors import DjpError
    from djp.v1 import run_pb2

Watcher = TypeVar("Watcher")

_MOST_WAITING = 1000
"""Events that wait for one slow follower; then it reads them from the store, when it gets there."""


class Follower:
    """One who follows a run's events. `bell` rings when there is something new."""

    def __init__(self) -> None:
        self.bell = asyncio.Event()
        self.behind = True
        """The store may have events that the follower was not told; who looks there says so."""
        self._told: deque[run_pb2.RunEvent] = deque()

    def tell(self, events: Sequence[run_pb2.RunEvent]) -> None:
        """These were stored; nobody changes them any more."""
        if len(self._told) + len(events) > _MOST_WAITING:
            self._told.clear()
            self.behind = True
        else:
            self._told.extend(events)
        self.bell.set()

    def take(self, after: int) -> list[run_pb2.RunEvent]:
        """What was told and comes right after that number; if something between was not, the follower is behind."""
        taken = [event for event in self._told if event.sequence > after]
        self._told.clear()
        if taken and taken[0].sequence > after + 1:
            self.behind = True
            return []
        return taken


class Watchers:
    """Wakes those who wait for a run's next event."""

    def __init__(self) -> None:
        self._followers: dict[str, set[Follower]] = {}
        self._listeners: dict[str, set[Listener]] = {}
        self._stuck: dict[str, DjpError] = {}

    @contextmanager
    def follower(self, run_id: str) -> Iterator[Follower]:
        """Is told of every change of the run that is made here; clear its bell before looking, and none is missed."""
        with _among(self._followers, run_id, Follower()) as follower:
            yield follower

    @contextmanager
    def listener(self, run_id: str, bell: asyncio.Event) -> Iterator[Listener]:
        """Gets the run's drafts while they are written, for as long as the block lasts; `bell` rings for it too."""
        with _among(self._listeners, run_id, Listener(bell)) as listener:
            yield listener

    def listeners(self, run_id: str) -> Collection[Listener]:
        """Those who get the run's drafts while they are written."""
        return self._listeners.get(run_id, ())

    def tell(self, run_id: str, events: Sequence[run_pb2.RunEvent]) -> None:
        """The run was stored with these new events."""
        self._stuck.pop(run_id, None)
        for follower in self._followers.get(run_id, ()):
            follower.tell(events)

    def wake(self, run_id: str) -> None:
        """Something has changed that the store knows."""
        self._stuck.pop(run_id, None)
        self._ring(run_id)

    def stop_waiting(self, run_id: str, problem: DjpError) -> None:
        """The run's end cannot even be stored, until somebody mends what stops it: no event can say so."""
        said = f"run {run_id} cannot be ended yet: {{}}; it is ended, and its money given back, when that is mended"
        self._stuck[run_id] = type(problem)(
            said.format(problem.message), reason=problem.reason, outside=said.format(problem.told)
        )
        self._ring(run_id)

    def stuck(self, run_id: str) -> DjpError | None:
        """What stops the run from being ended; None unless something does."""
        return self._stuck.get(run_id)

    def _ring(self, run_id: str) -> None:
        for follower in self._followers.get(run_id, ()):
            follower.behind = True
            follower.bell.set()

    def __len__(self) -> int:
        """How many runs are watched."""
        return len(self._followers)


@contextmanager
def _among(watchers: dict[str, set[Watcher]], run_id: str, watcher: Watcher) -> Iterator[Watcher]:
    """The watcher is among those of the run inside the block."""
    others = watchers.setdefault(run_id, set())
    others.add(watcher)
    try:
        yield watcher
    finally:
        others.discard(watcher)
        if not others:
            watchers.pop(run_id, None)
