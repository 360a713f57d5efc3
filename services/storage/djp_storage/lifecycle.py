"""The lifecycle: moves what is due to the next tier, purges and erases; any number of runs at once, each resumable."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from djp.mesh.errors import DjpError, Unavailable
from djp_storage.errors import LegalHold, Moved
from djp_storage.model import Job, Tier

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from datetime import datetime

    from djp_storage.model import Artifact, ArtifactKey, By, RequestKey
    from djp_storage.moves import Moves
    from djp_storage.ports import EventStore, LifecycleStore
    from djp_storage.retention import Branch, Retention
    from djp_storage.worker import Worker

_log = logging.getLogger(__name__)

HEALTHY_HOURS = 26
"""A run every night may take two hours longer than the one before."""

_BATCH = 64
_AT_ONCE = 8
_PAGE = 500  # of a dry run
_POLL_S = 0.2
_PATIENCE = 1.5  # leases, for what a process left that died right before the run
_DONE: dict[Tier | None, str] = {Tier.WARM: "to_warm", Tier.COLD: "to_cold", Tier.TRASH: "to_trash", None: "erased"}


@dataclass(frozen=True)
class Order:
    """A run that was asked for: of one tenant or (empty) of all, at `as_of` instead of now if that is set.

    `live` is False for a dry run. `confirm` allows purges of more than the share that the retention allows.
    """

    tenant: str
    live: bool
    confirm: bool
    as_of: datetime | None = None


@dataclass(frozen=True)
class Step:
    """What happened to an artifact (`action` as in Job, or `failed`); without one, of the run itself."""

    so_far: Job
    artifact: Artifact | None = None
    action: str = ""
    error: str = ""


class Lifecycle:
    """Runs the lifecycle in this process."""

    def __init__(
        self, store: LifecycleStore, events: EventStore, worker: Worker, moves: Moves, retention: Retention
    ) -> None:
        self._store = store
        self._events = events
        self._worker = worker
        self._moves = moves
        self._retention = retention
        self._stopping = asyncio.Event()
        self._runs = 0
        self._claimed: set[ArtifactKey] = set()  # by all runs of this process

    def stop(self) -> None:
        """End every run now; what is being moved is finished in the background."""
        self._stopping.set()

    async def run(self, order: Order, by: By, request: RequestKey) -> AsyncGenerator[Step, None]:
        """Do what is due, and tell each step; the last one has a job that has finished.

        The same request again goes on where the first one was stopped, or tells its end. Raises Unavailable when the
        service stops.
        """
        running = _Run(self, order, by, request)
        self._runs += 1
        try:
            async with aclosing(running.live() if order.live else running.dry()) as steps:
                async for step in steps:
                    yield step
        finally:
            self._runs -= 1

    async def tidy(self) -> None:
        """Free what a run of this process could not give back because the database was away."""
        if not self._runs:
            await self._store.unclaim_all(self._worker.id)

    async def health(self, tenant: str) -> tuple[Job | None, str]:
        """The newest live run for a tenant, or for all, and what is wrong with that; empty if all is well."""
        newest, done = await self._store.last_jobs(tenant)
        if done is None or done.finished_at is None:
            return newest, "no lifecycle run was ever done to its end; run one (djp lifecycle run --live)"
        hours = (self._worker.now() - done.finished_at).total_seconds() / 3600
        if hours > HEALTHY_HOURS:
            return newest, f"the last lifecycle run ended {hours:.0f} hours ago; one is due every day"
        if done.errors:
            return newest, f"the last lifecycle run had {done.errors} errors; `djp storage events` shows them"
        return newest, ""

    def branches(self, order: Order, now: datetime) -> list[Branch]:
        """What to look for. What comes into a tier after `now` is not due, whatever the moment reckoned with."""
        found = self._retention.branches(order.as_of or now, order.tenant)
        return [replace(one, before=min(one.before, now)) for one in found]


class _Run:
    """One run of the lifecycle."""

    def __init__(self, lifecycle: Lifecycle, order: Order, by: By, request: RequestKey) -> None:
        self._lifecycle = lifecycle
        self._store = lifecycle._store
        self._worker = lifecycle._worker
        self._order = order
        self._by = by
        self._request = request
        self._job = Job(request.request_id, order.tenant, by.at, None, order.live)
        self._failed: set[ArtifactKey] = set()
        self._claimed: set[ArtifactKey] = set()
        self._over = False

    async def dry(self) -> AsyncGenerator[Step, None]:
        branches = self._lifecycle.branches(self._order, self._by.at)
        async with aclosing(self._unconfirmed(branches)) as steps:
            async for step in steps:
                yield step
        seen: set[ArtifactKey] = set()  # of what is too old at all, which other branches may have, too
        for branch in branches:
            after = None
            while found := await self._store.due(branch, after, _PAGE):
                for artifact in found:
                    if artifact.key in seen or self._is_spared(artifact, branch):
                        continue
                    if branch.from_tier is None:
                        seen.add(artifact.key)
                    yield self._count(artifact, branch.to_tier)
                after = found[-1]
        self._job = replace(self._job, finished_at=self._worker.now())
        yield Step(self._job)

    async def live(self) -> AsyncGenerator[Step, None]:
        job = await self._store.start_job(self._job, self._request, self._by)
        if job.finished_at and not job.stopped:
            yield Step(job)
            return
        self._job = replace(job, finished_at=None, stopped=False)
        branches = self._lifecycle.branches(self._order, self._by.at)
        try:
            await self._worker.beat()
            await self._worker.sweep()
            others, patience = await self._worker.other_makers(), time.monotonic() + self._worker.lease_s * _PATIENCE
            async with aclosing(self._unconfirmed(branches)) as steps:
                async for step in steps:
                    yield step
            while True:
                work = await self._others_work()  # asked before, too: what they give back meanwhile was passed over
                async with aclosing(self._pass(branches)) as steps:
                    async for step in steps:
                        yield step
                if not (await self._others_work() or work):
                    break
                await self._rest()
                await self._worker.beat()
            while (others := await self._worker.still_silent(others)) and time.monotonic() < patience:
                await self._rest()
            self._over = True
        finally:
            self._job = replace(self._job, finished_at=self._worker.now(), stopped=not self._over)
            if not self._over:
                self._worker.later(self._end())
        await self._end()
        yield Step(self._job)

    async def _pass(self, branches: Sequence[Branch]) -> AsyncGenerator[Step, None]:
        """Move what is due and claimed by nobody else."""
        for branch in branches:
            after = None
            while True:
                claimed, last = await self._store.claim(self._worker.id, branch, after, _BATCH)
                self._claimed |= {one.key for one in claimed}
                self._lifecycle._claimed |= self._claimed
                async with aclosing(self._batch(claimed, branch)) as steps:
                    async for step in steps:
                        yield step
                await self._give_back()
                if last is None:
                    break
                after = last

    async def _batch(self, claimed: Sequence[Artifact], branch: Branch) -> AsyncGenerator[Step, None]:
        waiting = [one for one in claimed if one.key not in self._failed and not self._is_spared(one, branch)]
        waiting.reverse()
        moving: set[asyncio.Task[Step | None]] = set()
        stopping = asyncio.create_task(self._lifecycle._stopping.wait())
        try:
            while waiting or moving:
                while waiting and len(moving) < _AT_ONCE:
                    moving.add(asyncio.create_task(self._one(waiting.pop(), branch.to_tier)))
                done, _ = await asyncio.wait({*moving, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if stopping in done:
                    raise _stopped()
                finished = {task for task in moving if task.done()}
                moving -= finished
                for task in finished:
                    if step := task.result():
                        yield step
        finally:
            stopping.cancel()
            for task in moving:  # not cancelled: whatever was begun is finished, though nobody waits for it here
                self._worker.later(_ended(task))
        if self._job.live:
            await self._store.save_job(self._job)

    async def _one(self, artifact: Artifact, to_tier: Tier | None) -> Step | None:
        """Move one artifact; None if somebody else did, or it was put under a hold meanwhile."""
        by = replace(self._by, at=self._worker.now(), reason=f"lifecycle {self._job.job_id}")
        try:
            if to_tier is None:
                await self._lifecycle._moves.erase(artifact, by)
            else:
                purge = to_tier is Tier.TRASH
                action = f"purged_from_{artifact.tier}" if purge else f"promoted_to_{to_tier}"
                await self._lifecycle._moves.move(artifact, to_tier, action, by)
        except (Moved, LegalHold):
            return None
        except DjpError as error:
            return await self._fail(artifact, error.message, by)
        except Exception:
            _log.exception("the lifecycle could not move %s", artifact.key)
            return await self._fail(artifact, "internal error; the service's log has more", by)
        return self._count(artifact, to_tier)

    async def _fail(self, artifact: Artifact, error: str, by: By) -> Step:
        self._failed.add(artifact.key)
        self._job = replace(self._job, errors=self._job.errors + 1)
        self._worker.later(self._lifecycle._events.append("move_failed", artifact.key, replace(by, reason=error)))
        return Step(self._job, artifact, "failed", error)

    def _count(self, artifact: Artifact, to_tier: Tier | None) -> Step:
        action = _DONE[to_tier]
        more = {action: getattr(self._job, action) + 1, "bytes_moved": self._job.bytes_moved + artifact.size}
        self._job = replace(self._job, **more)
        return Step(self._job, artifact, action)

    async def _unconfirmed(self, branches: Sequence[Branch]) -> AsyncGenerator[Step, None]:
        """Spare tenants of which too much would be purged at once, unless that was confirmed."""
        self._spared: dict[str, str] = {}
        for branch in branches:
            if branch.to_tier is not Tier.TRASH or self._order.confirm:
                continue
            share = self._lifecycle._retention.purge_share
            for tenant, (due, kept) in (await self._store.shares(branch, share)).items():
                if tenant in self._spared:
                    continue
                self._spared[tenant] = (
                    f"tenant {tenant}: {due} of its {kept} artifacts would be purged, which is more than "
                    f"{share:.0%}; nothing of it is, unless you confirm (--confirm)"
                    if due < kept
                    else f"tenant {tenant}: all of its {due} artifacts would be purged; none is, unless you confirm "
                    "(--confirm)"
                )
                self._job = replace(self._job, errors=self._job.errors + 1)
                yield Step(self._job, None, "failed", self._spared[tenant])

    def _is_spared(self, artifact: Artifact, branch: Branch) -> bool:
        return branch.to_tier is Tier.TRASH and artifact.key.tenant in self._spared

    async def _others_work(self) -> bool:
        """Whether other runs hold claims: those of the living are finished, and those of the dead become free."""
        mine = bool(self._lifecycle._claimed)
        return mine or await self._store.claimed_by_others(self._worker.id, self._order.tenant)

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._lifecycle._stopping.wait(), _POLL_S)
        if self._lifecycle._stopping.is_set():
            raise _stopped()

    async def _give_back(self) -> None:
        claimed, self._claimed = self._claimed, set()
        try:
            await self._store.unclaim(self._worker.id, sorted(claimed))
        finally:
            self._lifecycle._claimed -= claimed

    async def _end(self) -> None:
        await self._give_back()
        told = f"{'stopped' if self._job.stopped else 'finished'}: " + ", ".join(
            f"{name} {getattr(self._job, name)}" for name in ("to_warm", "to_cold", "to_trash", "erased", "errors")
        )
        by = replace(self._by, at=self._worker.now(), reason=told)
        await self._store.save_job(self._job, by)


async def _ended(task: asyncio.Task[Step | None]) -> None:
    await task


def _stopped() -> Unavailable:
    return Unavailable("the service stops; run it again with the same request to go on from here")
