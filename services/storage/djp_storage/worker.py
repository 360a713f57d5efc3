"""This process among those that share a catalogue: the strays it makes, that it lives, and what others left behind."""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from djp.mesh.errors import DjpError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence

    from djp_storage.model import ObjectName
    from djp_storage.ports import Catalogue, ObjectStore

_log = logging.getLogger(__name__)

_BATCH = 100
_MANY = 1000
_AT_ONCE = 8


def utc_now() -> datetime:
    """The clock of the world."""
    return datetime.now(UTC)


def new_object_id() -> str:
    """One that no other object has."""
    return uuid.uuid4().hex[:12]


class Making:
    """An object on its way; `kept` when it has become an artifact's."""

    def __init__(self) -> None:
        self.kept = False


class Worker:
    """A process that makes objects. What it begins is finished or removed: by itself, or after its death by others."""

    def __init__(
        self, catalogue: Catalogue, store: ObjectStore, now: Callable[[], datetime] = utc_now, *, lease_s: float
    ) -> None:
        """`lease_s` is the silence after which others take it for dead."""
        self.id = str(uuid.uuid4())
        self.now = now
        self.lease_s = lease_s
        self._catalogue = catalogue
        self._store = store
        self._active: set[ObjectName] = set()
        self._later: set[asyncio.Task[None]] = set()
        self._gone: list[ObjectName] = []

    async def beat(self) -> None:
        """Tell that this worker lives, and find out who does not."""
        await self._catalogue.beat(self.id, self.now())

    @asynccontextmanager
    async def making(self, name: ObjectName) -> AsyncIterator[Making]:
        """While the block makes an object, nobody takes it for left over; unless it is kept, it is removed after."""
        making = Making()
        self._active.add(name)
        try:
            yield making
        finally:
            self._active.discard(name)
            if not making.kept:
                self.later(self._give_up(name))

    async def announce(self, name: ObjectName) -> None:
        """Before the object of a `making` can be seen."""
        await self._catalogue.announce(self.id, name, self.now())

    def later(self, work: Coroutine[None, None, None]) -> None:
        """Do something that nobody waits for, and that `close` sees to its end."""
        task = asyncio.create_task(_logged(work))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def discard(self, names: Sequence[ObjectName], *, abandoned: bool = False) -> None:
        """Remove objects that are nobody's, `abandoned` by those who made them. What cannot be removed stays a stray.

        The catalogue hears of it a little later, of many at once: what it does not hear is removed once more.
        """
        self._gone += [name for name, done in zip(names, await self._remove(names, abandoned), strict=True) if done]
        if len(self._gone) >= _BATCH:
            await self.forget()

    async def forget(self) -> None:
        """Tell the catalogue what is gone."""
        gone, self._gone = self._gone, []
        try:
            await self._catalogue.forget(gone)
        except DjpError:
            self._gone += gone
            raise

    async def sweep(self) -> int:
        """Remove every stray that nobody works on; how many there were.

        Among them are those of which this worker did not hear whether they were kept: the database says.
        """
        await self.forget()
        mine = [name for name in await self._catalogue.strays_of(self.id) if name not in self._active]
        await self._catalogue.release(self.id, mine)
        swept = 0
        while names := await self._catalogue.strays(_BATCH):
            await self.discard(names, abandoned=True)
            await self.forget()
            swept += len(names)
            if len(names) < _BATCH or await self._catalogue.known(names):
                return swept  # the store refuses; later
        return swept

    async def strays_of_others(self) -> Collection[ObjectName]:
        """What others are making, or left behind when they died a moment ago."""
        return await self._catalogue.strays_of_others(self.id, _MANY)

    async def still_there(self, names: Collection[ObjectName]) -> Collection[ObjectName]:
        """Those of the strays that are not gone yet; what the dead among their makers left is removed first."""
        await self.beat()
        await self.sweep()
        return await self._catalogue.known(list(names))

    async def close(self) -> None:
        """Finish what was put off, and go."""
        while self._later:
            await asyncio.wait(set(self._later))
        await _logged(self._leave())

    async def _leave(self) -> None:
        await self.sweep()  # a command's own mesh lives too briefly for the next one to be soon
        await self._catalogue.leave(self.id)

    async def _give_up(self, name: ObjectName) -> None:
        await self._catalogue.release(self.id, [name])
        if await self._catalogue.known([name]):  # else it was kept after all
            await self.discard([name])

    async def _remove(self, names: Sequence[ObjectName], abandoned: bool) -> list[bool]:
        room = asyncio.Semaphore(_AT_ONCE)

        async def remove(name: ObjectName) -> bool:
            async with room:
                try:
                    if abandoned:
                        await self._store.abandon(name)
                    await self._store.remove(name)
                except DjpError as error:
                    _log.warning("%s could not be removed and is tried again: %s", name, error.message)
                    return False
                return True

        return await asyncio.gather(*map(remove, names))


async def _logged(work: Coroutine[None, None, None]) -> None:
    try:
        await work
    except DjpError as error:
        _log.warning("storage tries again later: %s", error.message)
    except Exception:
        _log.exception("storage tries again later")
