"""The tokens of a list's pages: where the page before ended, in the order of the list."""

from __future__ import annotations

import base64
import json

from djp.mesh.errors import InvalidInput

_MAX_NUMBER = 2**63 - 1  # of a BigInteger column


def page_token(largest_first: bool, number: int, workflow: str, artifact: str) -> str:
    """Stands for the last artifact of a page; `number` is its size or its time, as the list is ordered."""
    place = json.dumps([largest_first, number, workflow, artifact])
    return base64.urlsafe_b64encode(place.encode()).decode()


def read_page_token(token: str, largest_first: bool) -> tuple[int, str, str]:
    """Number, workflow and artifact. Raises InvalidInput for a token that is not of a list in this order."""
    match _decoded(token):
        case [bool(order), int(number), str(workflow), str(artifact)] if (
            order is largest_first and abs(number) <= _MAX_NUMBER and _encodable(workflow + artifact)
        ):
            return number, workflow, artifact
    raise InvalidInput("page_token: not a token of this list; start again without it", field="page_token")


def _encodable(text: str) -> bool:
    """Whether a database can take it: JSON may hold half characters, and no column does."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decoded(token: str) -> object:
    try:
        decoded: object = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        return None
    return decoded
