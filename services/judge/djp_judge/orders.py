"""In which order, and under which labels, a juror sees the drafts."""

from __future__ import annotations

from hashlib import sha256
from string import ascii_uppercase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def showing_order(draft_ids: Sequence[str], seed: int, showing: int) -> tuple[str, ...]:
    """The draft ids as they are shown the `showing`-th time (counted from 0 over the whole jury).

    The rows of a balanced Latin square (Williams 1949) over a shuffle that the seed decides: within n showings of n
    drafts every draft takes every place once. For an even n every draft also follows every other once; for an odd n it
    does within 2 n showings, because the square then comes mirrored. In which order the request named the drafts makes
    no difference.
    """
    shuffled = sorted(draft_ids, key=lambda draft_id: (sha256(f"{seed} {draft_id}".encode()).digest(), draft_id))
    size = len(shuffled)
    if not size:
        return ()
    square, row = divmod(showing, size)
    zigzag = [place // 2 if place % 2 == 0 else size - (place + 1) // 2 for place in range(size)]
    order = [shuffled[(place + row) % size] for place in zigzag]
    return tuple(reversed(order) if square % 2 else order)


def different_orders(size: int) -> int:
    """How many showings of so many drafts go by before one comes again: for an odd count the mirrored ones as well."""
    return size if size % 2 == 0 or size == 1 else 2 * size


def label(place: int) -> str:
    """What the draft in that place, counted from 0, is called: "Draft A" for the first. There are at most 16."""
    return f"Draft {ascii_uppercase[place]}"
