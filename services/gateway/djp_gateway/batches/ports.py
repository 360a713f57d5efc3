"""What batches need of the gateway's memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp.v1 import batch_pb2, run_pb2


class BatchKey(NamedTuple):
    """Which batch it is."""

    tenant: str
    batch_id: str


@dataclass(frozen=True)
class Terms:
    """How a batch is to be worked off."""

    executor: str
    """The gateway that took it; COMMAND: a mesh of one command, with which it ends."""
    max_cost_nano_usd: int | None
    """None: no cap."""
    concurrency: int
    """Rows that are in work at once."""


@dataclass(frozen=True)
class Checked:
    """A row that was looked through."""

    spec: run_pb2.RunSpec | None
    """What its run will be; None: it is bad."""
    bound_nano_usd: int = 0
    error: str = ""


@dataclass(frozen=True)
class Change:
    """A row after its change of that number."""

    sequence: int
    row: batch_pb2.BatchRow


class Batches(Protocol):
    """Batches and their rows, as callers see them."""

    async def collect(
        self, key: BatchKey, first_row: int, requests: Sequence[run_pb2.RunRequest], terms: Terms, *, more: bool
    ) -> None:
        """Take rows, counted from 1.

        Without `more` they are the last ones: then the batch is checked, or goes on under these terms, if it had the
        same rows before.

        Raises:
            AlreadyExists: the batch has other rows.
            FailedPrecondition: rows before these are missing.
        """
        ...

    async def get(self, key: BatchKey) -> batch_pb2.Batch:
        """The batch.

        Raises:
            NotFound: the tenant has none of that id.
        """
        ...

    async def list(self, tenant: str, *, page_size: int, page_token: str) -> tuple[Sequence[batch_pb2.Batch], str]:
        """A tenant's batches, newest first, and the token of the next page.

        Raises:
            InvalidInput: the page token is not from this list.
        """
        ...

    async def rows(self, key: BatchKey, *, page_size: int, page_token: str) -> tuple[Sequence[batch_pb2.BatchRow], str]:
        """A batch's rows in order, with what they ask for; a page may be shorter than asked for.

        Raises:
            InvalidInput: the page token is not from this list.
        """
        ...

    async def changes(self, key: BatchKey, after_sequence: int, at_most: int) -> Sequence[Change]:
        """The rows that changed since, in the order of their last changes."""
        ...

    async def pause(self, key: BatchKey) -> None:
        """Take no further row; one that rests already stays as it is."""
        ...

    async def cancel(self, key: BatchKey) -> None:
        """Take no further row, and let nobody go on but who sends the rows again; one that has ended stays as it is."""
        ...

    async def resume(self, key: BatchKey, *, executor: str, max_cost_nano_usd: int | None, concurrency: int) -> None:
        """Go on with one that was paused or capped; a cap of None and a concurrency of 0 stay as they were.

        Raises:
            FailedPrecondition: it was cancelled, refused, or still lacks rows.
        """
        ...


class BatchWork(Protocol):
    """Batches for who works them off. Everything may be done by several gateways at once, and counts once."""

    async def unchecked(self, executor: str) -> Sequence[tuple[BatchKey, int]]:
        """The batches that are being checked, each with the number of its rows that are."""
        ...

    async def rows_to_check(self, key: BatchKey, after_row: int, at_most: int) -> Sequence[run_pb2.RunRequest]:
        """The next rows of a batch that are to be checked."""
        ...

    async def keep_checked(self, key: BatchKey, after_row: int, found: Sequence[Checked]) -> bool:
        """Keep what was found of the rows past that one; False: another gateway was quicker, or it was stopped."""
        ...

    async def in_need(self, executor: str) -> Sequence[BatchKey]:
        """The batches of which a row has ended, or can be started."""
        ...

    async def advance(self, key: BatchKey, executor: str) -> bool:
        """Book the rows that have ended, and start those that there is room for, each as one run, all in one
        transaction; whether runs were started."""
        ...

    async def pause_left_over(self) -> None:
        """Pause the batches that an earlier command left."""
        ...
