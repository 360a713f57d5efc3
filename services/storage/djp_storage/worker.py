"""This process among those that share a catalogue: the objects it makes, that it lives, and what others left behind."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from djp.mesh.errors import DjpError, Unavailable
from djp_storage.errors import Moved
from djp_storage.model import BATCH_DIGITS, ArtifactKey, ObjectName

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence

    from djp_storage.leftovers import Leftovers
    from djp_storage.model import Maker, Tier
    from djp_storage.ports import Catalogue, ObjectStore

_log = logging.getLogger(__name__)

_OF_A_BATCH = 1000
"""So many objects are made of a batch: what a process leaves at its death is found in lists as long as that."""
_MANY = 100
_AT_ONCE = 8
_NUMBERS = 16**BATCH_DIGITS


def utc_now() -> datetime:
    """The clock of the world."""
    return datetime.now(UTC)


class Making:
    """An object on its way.

    `kept` is True when it has become an artifact's, False while it surely is none, None where nobody knows.
    """

    def __init__(self, name: ObjectName) -> None:
        self.name = name
        self.kept: bool | None = False


class _Batch:
    """Names of objects that this process alone may make: announced at once, given out one by one."""

    def __init__(self, tier: Tier, key: ArtifactKey) -> None:
        self._place = tier, ArtifactKey(key.tenant, key.workflow, "")
        self._first = secrets.randbelow(_NUMBERS)
        self.announcing = asyncio.Lock()
        self.announced = False
        self.at_hand = self.used = True
        self.doubtful = False
        self.given = self.making = 0
        self.begin()

    def begin(self) -> None:
        """With other names than before."""
        self.name = ObjectName(*self._place, secrets.token_hex(BATCH_DIGITS // 2))

    def named(self, key: ArtifactKey, number: int) -> ObjectName:
        """The name that no other object has, one for each number."""
        object_id = f"{self.name.object_id}{(self._first + number) % _NUMBERS:0{BATCH_DIGITS}x}"
        return ObjectName(self.name.tier, key, object_id)


class Worker:
    """A process that makes objects. What it begins is finished or removed: by itself, or after its death by others."""

    def __init__(
        self,
        catalogue: Catalogue,
        store: ObjectStore,
        leftovers: Leftovers,
        now: Callable[[], datetime] = utc_now,
        *,
        lease_s: float,
    ) -> None:
        """`lease_s` is the silence after which others take it for dead."""
        self.id = str(uuid4())
        self.now = now
        self.lease_s = lease_s
        self._catalogue = catalogue
        self._store = store
        self._leftovers = leftovers
        self._at_hand: dict[tuple[Tier, str, str], _Batch] = {}
        self._mine: set[_Batch] = set()
        self._later: set[asyncio.Task[None]] = set()
        self._gone: list[ObjectName] = []
        self._doubtful: set[ObjectName] = set()

    async def beat(self) -> None:
        """Tell that this worker lives, and find out who does not."""
        await self._catalogue.beat(self.id, self.now())

    @asynccontextmanager
    async def making(self, tier: Tier, key: ArtifactKey) -> AsyncIterator[Making]:
        """While the block makes an object, nobody takes it for left over; unless it is kept, it is removed after.

        What the catalogue refuses is undone. What it does not answer may count: then the batch ends, and is looked
        through when it belongs to nobody, so that nothing of it can be entered any more.
        """
        batch, number = self._begun(tier, key)
        try:
            await self._announced(batch)
        except BaseException:
            self._done(batch)
            raise
        making = Making(batch.named(key, number))
        try:
            yield making
        except Unavailable as error:
            if isinstance(error, Moved):
                making.kept = False
            else:
                batch.doubtful = True
            raise
        except DjpError:
            making.kept = making.kept or False
            raise
        finally:
            batch.doubtful = batch.doubtful or making.kept is None
            if making.kept or batch.doubtful:
                self._done(batch)
            else:
                self.later(self._give_up(batch, making.name))

    def _begun(self, tier: Tier, key: ArtifactKey) -> tuple[_Batch, int]:
        """A batch, and the number in it of an object that is made from now on."""
        place = tier, key.tenant, key.workflow
        batch = self._at_hand.get(place)
        if batch is None:
            batch = self._at_hand[place] = _Batch(tier, key)
            self._mine.add(batch)
        batch.making += 1
        batch.given += 1
        batch.used = True
        if batch.given == _OF_A_BATCH:
            self._put_away(batch)
        return batch, batch.given

    async def _announced(self, batch: _Batch) -> None:
        if batch.announced:
            return
        async with batch.announcing:
            while not batch.announced:
                batch.announced = await self._catalogue.announce(self.id, batch.name, self.now())
                if not batch.announced:
                    await self.beat()  # it was taken for dead, or another one has a batch of that name
                    batch.begin()

    def _put_away(self, batch: _Batch) -> None:
        """Make nothing more of it."""
        if batch.at_hand:
            batch.at_hand = False
            del self._at_hand[batch.name.tier, batch.name.key.tenant, batch.name.key.workflow]

    def _done(self, batch: _Batch) -> None:
        """An object of the batch is made, or was given up."""
        batch.making -= 1
        if batch.doubtful:
            self._put_away(batch)
        self._end(batch)

    def _end(self, batch: _Batch) -> None:
        """If nothing is made of it any more, now or later."""
        if batch.making or batch.at_hand:
            return
        self._mine.discard(batch)
        if batch.doubtful:
            self._doubtful.add(batch.name)
            self.later(self._look_through())
        else:
            self._gone.append(batch.name)

    async def _look_through(self) -> None:
        """Settle what is doubtful. Others who took this process for dead may have done so before all of it was there.

        So it is remembered until it is done, and told again, for the case that this process dies before.
        """
        for batch in list(self._doubtful):
            await self._catalogue.release(self.id, [batch])
            await self._catalogue.turn_out(batch, self.now())
            if await self._remove([batch], abandoned=True) == [True]:
                self._doubtful.discard(batch)
                self._gone.append(batch)

    async def _give_up(self, batch: _Batch, name: ObjectName) -> None:
        removed = False
        try:
            (removed,) = await self._remove([name], abandoned=False)
        finally:
            batch.doubtful = batch.doubtful or not removed
            self._done(batch)

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
        if len(self._gone) >= _MANY:
            await self.forget()

    async def forget(self) -> None:
        """Tell the catalogue what is gone."""
        gone, self._gone = self._gone, []
        try:
            await self._catalogue.forget(gone)
        except DjpError:
            self._gone += gone
            raise

    def rest(self, *, unused: bool = False) -> None:
        """End batches of which nothing is being made, all or those of which nothing was made since they were asked."""
        for batch in [one for one in self._at_hand.values() if not one.making]:
            if not (unused and batch.used):
                self._put_away(batch)
                self._end(batch)
            batch.used = False

    async def sweep(self) -> int:
        """Remove every stray that nobody works on; how many there were.

        Among them are batches of which this worker did not hear that they were announced. Those of which nothing was
        made since the last sweep it forgets.
        """
        self.rest(unused=True)
        await self._look_through()
        await self.forget()
        unheard = set(await self._catalogue.strays_of(self.id)) - {batch.name for batch in self._mine}
        await self._catalogue.release(self.id, list(unheard))
        swept = 0
        while names := await self._catalogue.strays(_MANY):
            await self.discard(names, abandoned=True)
            await self.forget()
            swept += len(names)
            if len(names) < _MANY or await self._catalogue.known(names):
                return swept  # the store refuses; later
        return swept

    async def other_makers(self) -> Collection[Maker]:
        """Who else is making something, or has left it behind when it died a moment ago."""
        return await self._catalogue.makers(self.id)

    async def still_silent(self, makers: Collection[Maker]) -> Collection[Maker]:
        """Those that still have something and were not heard of since; what the dead left is removed first."""
        await self.beat()
        await self.sweep()
        return set(makers) & set(await self._catalogue.makers(self.id))

    async def close(self) -> None:
        """Finish what was put off, and go."""
        while self._later:
            await asyncio.wait(set(self._later))
        await _logged(self._leave())

    async def _leave(self) -> None:
        self.rest()
        await self.sweep()  # a command's own mesh lives too briefly for the next one to be soon
        await self._catalogue.leave(self.id)

    async def _remove(self, names: Sequence[ObjectName], abandoned: bool) -> list[bool]:
        room = asyncio.Semaphore(_AT_ONCE)

        async def remove(name: ObjectName) -> bool:
            async with room:
                try:
                    if name.is_batch:
                        await self._leftovers.settle(name, self.now())
                    else:
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
