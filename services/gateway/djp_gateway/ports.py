"""What the gateway needs of its memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime, timedelta

    from djp.v1 import dead_letter_pb2, run_pb2


@dataclass(frozen=True)
class Page:
    """Runs, newest first, and the token of the next page (empty on the last one)."""

    runs: Sequence[run_pb2.Run]
    next_page_token: str


COMMAND = "command"
"""The executor's name of a mesh that lives for one command: its runs are nobody else's, and end with it."""


@dataclass(frozen=True)
class Checkpoint:
    """Something that a run has paid for or decided, kept until it ends, so that it can go on elsewhere."""

    kind: str
    """`debate` and `judge`: an answer of that leaf; `artifact`: the artifact's bytes."""
    content: bytes


@dataclass(frozen=True)
class Order:
    """What somebody wants of a run."""

    kind: str
    """CANCEL, APPROVE or REJECT."""
    by: str
    """Who, for people."""
    reason: str
    """In their words; may be empty."""
    at: datetime | None = None
    """When it was given; filled in by who keeps it."""


CANCEL, APPROVE, REJECT = "cancel", "approve", "reject"


class RunStore(Protocol):
    """Runs and their events."""

    async def earlier(self, tenant: str, request_id: str, request_sha256: str) -> run_pb2.Run | None:
        """The run that the tenant's request_id made before, if any.

        Raises:
            RequestIdReused: it came with another body.
        """
        ...

    async def save(
        self,
        run: run_pb2.Run,
        events: Sequence[run_pb2.RunEvent],
        hidden: Mapping[str, str] | None = None,
        kept: Sequence[Checkpoint] = (),
        parked_until: datetime | None = None,
    ) -> None:
        """Store the run as it is now and append events, all or nothing; the events get their numbers here.

        `run.last_sequence` is moved on. Once a run is terminal it never changes again, and its checkpoints are gone.
        `hidden`: what is hidden from the run's models, by the placeholders' names, takes the place of what was. `kept`
        is appended to the run's checkpoints. `parked_until`: nobody works on it any more, until that time or an order.

        Raises:
            FailedPrecondition: another attempt has taken the run over, or it has ended.
        """
        ...

    async def get(self, tenant: str, run_id: str) -> run_pb2.Run:
        """The run of that id, or of the only id that begins so.

        Raises:
            NotFound: the tenant has none.
            InvalidInput: several begin so.
        """
        ...

    async def hidden(self, run_id: str) -> Mapping[str, str] | None:
        """What is hidden from the run's models, by the placeholders' names; None if it is not kept."""
        ...

    async def checkpoints(self, run_id: str) -> Sequence[Checkpoint]:
        """What was kept of a run that has not ended, in order."""
        ...

    async def list(self, tenant: str, request: run_pb2.ListRunsRequest) -> Page:
        """The tenant's runs that fit the filter; a page may be shorter than asked for when its runs are large.

        Raises:
            InvalidInput: the page token is not from this list, or a time is not one.
        """
        ...

    async def events_after(self, run_id: str, sequence: int) -> Sequence[run_pb2.RunEvent]:
        """The run's events past that number, in order."""
        ...


@dataclass(frozen=True)
class Claim:
    """A run that is now its claimer's to work on."""

    tenant: str
    run_id: str
    attempt: int
    takeovers: int
    """How often an executor died with it."""
    waited_s: float = field(default=0.0, compare=False)
    """How long it had waited for its turn."""


class RunQueue(Protocol):
    """Runs that wait for an executor, and executors that show that they live.

    A run is either waiting, or one executor's, or parked until a person decides or a time comes, or has ended. What is
    taken from an executor gets a higher `attempt`, so that one that was only slow can write nothing any more. A run
    whose spec is of a newer version than this gateway knows is for newer gateways: it is not claimed here.
    """

    async def add(
        self, run: run_pb2.Run, *, request_id: str, request_sha256: str, executor: str, per_tenant: int = 0
    ) -> tuple[run_pb2.Run, bool]:
        """Store a new run, or find the one that this request_id made before; and whether it is now the executor's to
        work on. It is if `claim` would have given it next; else it waits. Without `per_tenant` it waits in any case.

        Raises:
            RequestIdReused: the request_id came with another body.
        """
        ...

    async def may_claim(self, executor: str, *, per_tenant: int) -> bool:
        """Whether `claim` would find a run now; without a lock."""
        ...

    async def claim(self, executor: str, *, per_tenant: int) -> Claim | None:
        """Take the run whose turn it is; None: none waits that may be in work now.

        A tenant has at most `per_tenant` runs in work, wherever; that of the fewest comes next, slowed ones after all
        others. Of a tenant's own runs the most urgent comes first, and among those the oldest. A command claims its own
        runs only, and nobody else does.
        """
        ...

    async def ready(self, executor: str, *, per_tenant: int) -> Sequence[float]:
        """For how many seconds each of the runs has waited that `claim` would give one after the other: those that wait
        for a place, and not for their tenant's other runs."""
        ...

    async def slow(self, tenant: str, pace: timedelta) -> None:
        """From now on, and for as long as `pace`, the tenant's runs wait for as long as anybody else's do, everywhere.

        That is how a tenant whose budget is nearly used up slows down: nothing is lost, and nobody waits for it.
        """
        ...

    async def claim_one(self, run_id: str, executor: str) -> Claim | None:
        """Take this run, out of turn; None: it neither waits nor is parked, or is for newer gateways."""
        ...

    async def hand_back(self, executor: str, *, keep: Collection[str] = ()) -> None:
        """Let the runs of an executor that stops wait for another one; or those that it does not `keep`, for any."""
        ...

    async def beat(self, executor: str) -> None:
        """Show that the executor lives."""
        ...

    async def beats(self) -> Mapping[str, int]:
        """By name, the last beat of every executor that works on runs, but no command's; 0: it showed none yet."""
        ...

    async def take_from(self, executor: str, beat: int | None, *, taker: str) -> int:
        """Let the runs of a dead executor wait, for the taker or others; how many that were.

        Nothing happens if it has shown since `beat` that it lives; None: whatever it has shown.
        """
        ...

    async def wake_parked(self, taker: str) -> int:
        """Let the parked runs wait for an executor whose time is over, or about which something was ordered; how many
        that were. A command wakes those only that need no more money."""
        ...

    async def left_by_commands(self) -> Sequence[Claim]:
        """The runs that commands work on, or have accepted and let wait."""
        ...

    async def newer(self) -> int:
        """How many runs wait for a newer gateway."""
        ...

    async def depth(self) -> tuple[int, float]:
        """How many runs wait, wherever they were accepted, and for how many seconds the first of them has."""
        ...


class RunOrders(Protocol):
    """What people order of runs, kept until whoever works on the run hears of it, and after."""

    async def earlier(self, tenant: str, request_id: str, request_sha256: str) -> str | None:
        """The id of the run that the tenant's request_id was about before, if any.

        Raises:
            RequestIdReused: it came with another body.
        """
        ...

    async def give(self, tenant: str, run_id: str, order: Order, *, request_id: str, request_sha256: str) -> None:
        """Keep an order; the same request again changes nothing.

        Raises:
            RequestIdReused: the request_id came with another body.
        """
        ...

    async def first(self, run_ids: Collection[str], *kinds: str) -> Mapping[str, Order]:
        """By run, the first order of these kinds, for those of the runs that have one."""
        ...


@dataclass(frozen=True)
class DeadRun:
    """A run that was denied or has failed, and the run that replays it, if any does."""

    run: run_pb2.Run
    replayed_as: str
    replayed_at: datetime | None


class DeadLetters(Protocol):
    """Runs that ended without a result and wait for somebody."""

    async def get(self, tenant: str, dead_letter_id: str) -> DeadRun:
        """The dead letter, which has the id of its run.

        Raises:
            NotFound: the tenant has none of that id, or it was purged.
        """
        ...

    async def list(
        self, tenant: str, wanted: dead_letter_pb2.DeadLetterFilter, *, page_size: int, page_token: str
    ) -> tuple[Sequence[DeadRun], str]:
        """Those that fit, latest deaths first, and the token of the next page.

        Raises:
            InvalidInput: the page token is not from this list, or a time is not one.
        """
        ...

    async def replay(
        self, tenant: str, wanted: dead_letter_pb2.DeadLetterFilter, *, window_share: float, executor: str, at_most: int
    ) -> Sequence[str]:
        """Queue the oldest of those that fit and are not replayed yet, each once; the new runs. Empty: none is left."""
        ...

    async def replayed(self, tenant: str, wanted: dead_letter_pb2.DeadLetterFilter) -> Sequence[str]:
        """The runs that replay those that fit."""
        ...

    async def purge(self, tenant: str, wanted: dead_letter_pb2.DeadLetterFilter) -> int:
        """Forget that those that fit are dead letters; the runs stay. How many that were."""
        ...

    async def take_share(
        self, run: run_pb2.Run, amount_nano_usd: int, windows: Sequence[tuple[datetime, int]]
    ) -> int | None:
        """Let a run that replays a dead letter count against the share of each window, of which it has the beginning
        and the nano-dollars that replays may use together; the place of a window that has no room for it, else None.

        A window that no replay has used yet has room for any. Done again, it changes nothing.
        """
        ...


class Answers(Protocol):
    """What requests were answered that must not be done twice."""

    async def earlier(self, tenant: str, request_id: str, request_sha256: str) -> bytes | None:
        """What the tenant's request_id was answered before, if anything.

        Raises:
            RequestIdReused: it came with another body.
        """
        ...

    async def keep(self, tenant: str, request_id: str, request_sha256: str, answer: bytes) -> bytes:
        """Keep an answer; the one that counts, for the same request may have been answered at the same time.

        Raises:
            RequestIdReused: the request_id came with another body.
        """
        ...
