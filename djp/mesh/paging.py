"""The opaque page tokens of lists: where the page before ended, in the order of the list."""

from __future__ import annotations

import base64
import json
from typing import Any

from djp.mesh.errors import InvalidInput

_MAX_NUMBER = 2**63 - 1  # what a database column holds


def page_token(*place: str | int) -> str:
    """Stands for the last entry of a page, named by what its list is ordered by."""
    return base64.urlsafe_b64encode(json.dumps(place, ensure_ascii=False).encode()).decode()


def read_page_token(token: str, *kinds: type[str | int]) -> tuple[Any, ...] | None:
    """The place that a token stands for, with one part of each of these kinds; None for the first page's empty token.

    Raises InvalidInput for a token of no list, or of another one.
    """
    if not token:
        return None
    try:
        place: object = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        raise bad_page_token() from None
    if not isinstance(place, list) or [type(part) for part in place] != list(kinds) or not all(map(_stored, place)):
        raise bad_page_token()
    return tuple(place)


def bad_page_token() -> InvalidInput:
    """What a caller hears whose token is not one of this list."""
    return InvalidInput("page_token: not a token of this list; start again without it", field="page_token")


def _stored(part: str | int) -> bool:
    """Whether a database can take it: numbers have an end there, and half a character of JSON is no text."""
    if isinstance(part, int):
        return abs(part) <= _MAX_NUMBER
    try:
        part.encode()
    except UnicodeEncodeError:
        return False
    return True
