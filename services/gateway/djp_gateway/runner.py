"""Takes runs from the queue, works on them in the background, and sees every one of them to an end."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakValueDictionary

from djp.database import DatabaseAwayError
from djp.mesh.identity import Identity, identity_scope
from djp.mesh.telemetry import current_trace_id, run_scope, service_scope
from djp.run_states import TERMINAL_STATES
from djp.v1 import common_pb2, run_pb2
from djp_gateway import steps
from djp_gateway.approving import Approvals
from djp_gateway.door import Door
from djp_gateway.ending import INTERRUPTED, Ending, cancelled
from djp_gateway.live import LiveRun
from djp_gateway.patience import to_the_end
from djp_gateway.ports import CANCEL, COMMAND, Claim, Order

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterator

    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.places import Places
    from djp_gateway.ports import DeadLetters, RunOrders, RunQueue, RunStore
    from djp_gateway.watching import Watchers

_log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

_LISTEN_S = 0.5
"""How often a gateway looks for orders that another one took for its runs: a cancelled run is to end within 2 s."""
_MOST_TAKEOVERS = 5
"""Of a run whose executors die: it may be what kills them."""
_END_S = 5.0  # what a run gets to end when its process stops

_DEADLY = run_pb2.RunError(
    reason=common_pb2.ERROR_REASON_INTERRUPTED,
    message=f"{_MOST_TAKEOVERS + 1} processes died while they worked on the run, so it is not taken up again; see the "
    "gateways' logs before you start it anew",
)


class Runner:
    """Works on as many runs at once as there are places; the others wait in the queue, for this gateway or another.

    A gateway that stops hands its runs back. The executor COMMAND lives for one command, and its runs end with it.
    """

    def __init__(
        self,
        store: RunStore,
        queue: RunQueue,
        orders: RunOrders,
        dead: DeadLetters,
        leaves: Leaves,
        watchers: Watchers,
        *,
        executor: str,
        places: Places,
        per_tenant: int,
        lease_s: float,
        approval_s: float,
        look_s: float,
    ) -> None:
        """`look_s`: how often it looks for runs that wait and that nobody here told it of."""
        self._store = store
        self._queue = queue
        self._orders = orders
        self._leaves = leaves
        self._watchers = watchers
        self._executor = executor
        self._places = places
        self._per_tenant = per_tenant
        self._lease_s = lease_s
        self._look_s = look_s
        self._gates = steps.Gates(queue, Approvals(orders, timedelta(seconds=approval_s)), dead)
        self._ending = Ending(store, leaves, watchers, outside=executor != COMMAND)
        self.door = Door()
        """What a caller who starts a run comes through, before anything is done for it."""
        self._lines = WeakValueDictionary[str, asyncio.Lock]()
        """By tenant, where its runs stand that are to be accepted."""
        self._accepting: set[asyncio.Task[Any]] = set()
        """What callers began, and what ends even if they go away."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._runs: dict[str, asyncio.Task[None]] = {}
        """By id, the tasks of those that this gateway has begun to work on."""
        self._cancelled: dict[str, Order] = {}
        self._left: set[str] = set()
        """Runs that this process had time enough to end, and could not; a later one will."""
        self._claiming = asyncio.Lock()
        self._adrift = False
        """The database may have runs as this gateway's that nobody here works on."""
        self._wake = asyncio.Event()
        self._stopping = False
        self.when_ended: Callable[[], None] = lambda: None
        """Called when this gateway has nothing more to do with a run: it has ended, or waits for somebody."""

    async def accept(self, run: run_pb2.Run, *, request_id: str, request_sha256: str) -> tuple[run_pb2.Run, bool]:
        """Store a run and queue it, both even if the caller goes away; that request_id's run, and whether it waits.

        A tenant's runs are accepted one after the other, so that nobody else's waits behind more than one of them.

        Raises:
            RequestIdReused: the request_id came with another body.
        """
        async with self._lines.setdefault(run.tenant, asyncio.Lock()):
            return await asyncio.shield(_keep(self._accepting, self._accept(run, request_id, request_sha256)))

    async def _accept(self, run: run_pb2.Run, request_id: str, request_sha256: str) -> tuple[run_pb2.Run, bool]:
        # With a place for it, it begins at once, and nobody has to look for it in the queue.
        room = self._room()
        with self._places.held(run.run_id) if room else nullcontext():
            try:
                stored, taken = await self._queue.add(
                    run, request_id=request_id, request_sha256=request_sha256, executor=self._executor, per_tenant=room
                )
            except Exception as error:
                self._adrift |= isinstance(error, DatabaseAwayError)
                self.wake()  # another one may have the place that was kept
                raise
            if taken and not self._stopping:
                accepted = run_pb2.Run()
                accepted.CopyFrom(stored)  # the caller's answer is the run as it was accepted
                self._begin(Claim(run.tenant, run.run_id, run.attempt, takeovers=0), accepted)
        if not taken:
            self.wake()
        return stored, not taken

    def wake(self) -> None:
        """Something may wait that can begin."""
        self._wake.set()

    def took_over(self, count: int) -> None:
        """So many runs of a dead executor wait, for this gateway or another."""
        self._places.replace(count)
        self.wake()

    def has(self, run_id: str) -> bool:
        """Whether the run is this gateway's: then its watchers hear of every change."""
        return run_id in self._runs

    async def take(self) -> None:
        """Take runs from the queue whenever there is room, until cancelled."""
        while True:
            self._wake.clear()
            try:
                async with self._claiming:
                    await self._take_what_fits()
            except Exception as error:
                self._adrift = True
                _log.warning("no run can be taken from the queue (%s); trying again", type(error).__name__)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_s):
                    await self._wake.wait()

    async def _take_what_fits(self) -> None:
        if self._adrift and not self._stopping:
            await to_the_end(self._queue.hand_back(self._executor, keep={*self._runs, *self._places}))
            self._adrift = False
        while (room := self._room()) and await self._queue.may_claim(self._executor, per_tenant=room):
            if not (room := self._room()):  # runs that were accepted meanwhile have found the last places
                break
            with self._places.held():
                claim = await to_the_end(self._queue.claim(self._executor, per_tenant=room))
                if claim is None:
                    break
                self._begin(claim)

    def _room(self) -> int:
        return 0 if self._stopping else self._places.room(self._per_tenant)

    async def listen(self) -> None:
        """Hear of what other gateways were told of the runs here, until cancelled."""
        while True:
            await asyncio.sleep(_LISTEN_S)
            try:
                await to_the_end(self._hear(list(self._runs)))
                if await to_the_end(self._queue.wake_parked(self._executor)):
                    self.wake()
            except Exception as error:
                _log.warning("orders cannot be read (%s); trying again", type(error).__name__)

    async def obey(self, run_id: str) -> None:
        """Do what was ordered of the run, if it waits, is parked or is this gateway's; else its own hears of it."""
        await asyncio.shield(_keep(self._accepting, self._obey(run_id)))

    async def _obey(self, run_id: str) -> None:
        async with self._claiming:
            try:
                claim = await self._queue.claim_one(run_id, self._executor)
            except DatabaseAwayError:
                self._adrift = True
                raise
            if claim:
                self._begin(claim)  # which begins with its orders
        if not claim:
            await self._hear([run_id])

    async def _hear(self, run_ids: Collection[str]) -> None:
        for run_id, order in (await self._orders.first(run_ids, CANCEL)).items():
            if run_id in self._runs and run_id in self._places:  # one that ends already is to get there
                self._places.give_back(run_id)
                self._cancelled[run_id] = order
                self._runs[run_id].cancel()

    async def end_left_over(self, *, wait_s: float) -> None:
        """Begin to end the runs that an earlier command left; wait for that, but not longer than given."""
        left = await self._queue.left_by_commands()
        self._left |= {claim.run_id for claim in left}
        tasks = [_keep(self._tasks, self._end_left_over(claim)) for claim in left]
        if tasks:
            await asyncio.wait(tasks, timeout=wait_s)

    def take_no_more(self) -> None:
        """Begin no further run: this gateway is about to stop."""
        self._stopping = True
        self.door.close()

    async def stop(self) -> None:
        """Hand the runs back; those of a command end as interrupted, and each gives its money back."""
        self.take_no_more()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._executor != COMMAND:
            await self._queue.hand_back(self._executor)
            return
        left = await self._queue.left_by_commands()
        waiting = [self._end_left_over(claim) for claim in left if claim.run_id not in self._left]
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await asyncio.gather(*waiting)

    def _begin(self, claim: Claim, accepted: run_pb2.Run | None = None) -> None:
        """`accepted`: the run, where it was accepted just now: it need not be read, nor is anything ordered of it."""
        self._places.take(claim.run_id, claim.waited_s)
        _keep(self._tasks, self._work(claim, accepted))

    async def _work(self, claim: Claim, accepted: run_pb2.Run | None) -> None:
        # Only from here on may it be cancelled: a task that has not begun would end without a word.
        self._runs[claim.run_id] = task = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            await self._worked(claim, accepted)
        except DatabaseAwayError as away:
            _log.warning("run %s goes on from what is kept when the database answers again: %s", claim.run_id, away)
            self._adrift = True
            self.wake()
            self._watchers.wake(claim.run_id)  # for what was written last, and nobody heard that it was
        finally:
            if (
                self._runs.get(claim.run_id) is task
            ):  # and not a later one, after another process took the run meanwhile
                del self._runs[claim.run_id]
                self._cancelled.pop(claim.run_id, None)
            self.when_ended()

    async def _worked(self, claim: Claim, accepted: run_pb2.Run | None) -> None:
        tenant, run_id = claim.tenant, claim.run_id
        live = LiveRun(run_pb2.Run(run_id=run_id, tenant=tenant), self._store, self._watchers, lease_s=self._lease_s)
        error: run_pb2.RunError | None = None
        with _run(tenant, run_id):
            try:
                live.run = accepted or await self._store.get(tenant, run_id)
                if live.run.state in TERMINAL_STATES:
                    return
                if not accepted and (order := (await self._orders.first([run_id], CANCEL)).get(run_id)):
                    error = cancelled(order)
                elif claim.takeovers > _MOST_TAKEOVERS:
                    error = _DEADLY
                else:
                    live.run.trace_id = current_trace_id()
                    await live.begin()
                    await steps.work(live, self._leaves, self._gates)
                    return
            except asyncio.CancelledError:
                if run_id in self._cancelled:
                    error = cancelled(self._cancelled[run_id])
                elif self._executor != COMMAND:
                    raise  # another executor goes on with it
                else:
                    error = INTERRUPTED
            except DatabaseAwayError:
                raise
            except Exception as failure:
                self._places.give_back(run_id)
                error = await self._ending.error_of(failure, live.run)
            finally:
                self._places.give_back(run_id)  # one that only has to be ended takes none, and cannot be cancelled
                self.wake()
                await live.close()
            if error is not INTERRUPTED:
                await self._ending.end(tenant, run_id, claim.attempt, error, live.owed)
                self.wake()  # only now its tenant may have another one
                return
            try:
                async with asyncio.timeout(_END_S):
                    await self._ending.end(tenant, run_id, claim.attempt, error, live.owed)
            except TimeoutError:
                self._left.add(run_id)
                _log.warning("run %s is left to be ended at the next start", run_id)

    async def _end_left_over(self, claim: Claim) -> None:
        with _run(claim.tenant, claim.run_id):
            order = (await self._orders.first([claim.run_id], CANCEL)).get(claim.run_id)
            error = cancelled(order) if order else INTERRUPTED
            await self._ending.end(claim.tenant, claim.run_id, claim.attempt, error, {})


@contextmanager
def _run(tenant: str, run_id: str) -> Iterator[None]:
    """Work inside the block is the gateway's, for this run, in the tenant's name."""
    with identity_scope(Identity(tenant=tenant)), service_scope("gateway"), run_scope(run_id):
        yield


def _keep(tasks: set[asyncio.Task[Answer]], work: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
    """Start work that outlives the call it came from: it has a context, hence an identity and a trace, of its own."""
    task = asyncio.create_task(work, context=contextvars.Context())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task
