"""What the gateway needs of its memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from djp.v1 import run_pb2


@dataclass(frozen=True)
class Page:
    """Runs, newest first, and the token of the next page (empty on the last one)."""

    runs: Sequence[run_pb2.Run]
    next_page_token: str


@dataclass(frozen=True)
class Order:
    """What somebody wants of a run."""

    kind: str
    """CANCEL."""
    by: str
    """Who, for people."""
    reason: str
    """In their words; may be empty."""


CANCEL = "cancel"


class RunStore(Protocol):
    """Runs and their events."""

    async def earlier(self, tenant: str, request_id: str, request_sha256: str) -> run_pb2.Run | None:
        """The run that the tenant's request_id made before, if any.

        Raises:
            RequestIdReused: it came with another body.
        """
        ...

    async def create(self, run: run_pb2.Run, *, request_id: str, request_sha256: str, executor: str) -> run_pb2.Run:
        """Store a new run, or return the one that this request_id made before.

        Raises:
            RequestIdReused: the request_id came with another body.
        """
        ...

    async def save(
        self, run: run_pb2.Run, events: Sequence[run_pb2.RunEvent], hidden: Mapping[str, str] | None = None
    ) -> None:
        """Store the run as it is now and append events, all or nothing; the events get their numbers here.

        `run.last_sequence` is moved on. Once a run is terminal it never changes again. `hidden`: what is hidden from
        the run's models, by the placeholders' names, takes the place of what was.

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

    async def list(self, tenant: str, request: run_pb2.ListRunsRequest) -> Page:
        """The tenant's runs that fit the filter; a page may be shorter than asked for when its runs are large.

        Raises:
            InvalidInput: the page token is not from this list, or a time is not one.
        """
        ...

    async def events_after(self, run_id: str, sequence: int) -> Sequence[run_pb2.RunEvent]:
        """The run's events past that number, in order."""
        ...

    async def unfinished(self, executor: str) -> Sequence[tuple[str, str]]:
        """Tenant and id of each run of that executor that has not ended."""
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

    async def first(self, run_ids: Collection[str], kind: str) -> Mapping[str, Order]:
        """By run, the first order of that kind, for those of the runs that have one."""
        ...
