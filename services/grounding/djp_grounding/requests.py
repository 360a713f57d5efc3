"""Remembers the answers to requests that change something, so that a repeated request gets its first answer."""

from __future__ import annotations

import hashlib
import json
import tempfile
import uuid
from pathlib import Path
from typing import Any

from djp.mesh.errors import InvalidInput, RequestIdReused

_KEPT = 1_000
"""So many answers of a tenant are kept, the newest: a client repeats within minutes, not after a thousand changes."""


class RequestLog:
    """The answers of one tenant, one small file each, named by the request's id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check_id(self, request_id: str) -> None:
        """Raises InvalidInput if the id is no UUID."""
        self._file(request_id)

    def find(self, request_id: str, body: str) -> dict[str, Any] | None:
        """The answer given to this request before, or None. `body` is a digest of all the request asks for.

        Raises InvalidInput if the id is no UUID, RequestIdReused if it came with another body.
        """
        try:
            stored = json.loads(self._file(request_id).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):  # a write cut short by a crash counts as never made
            return None
        if stored["body"] != body:
            raise RequestIdReused.by(request_id)
        answer: dict[str, Any] = stored["answer"]
        return answer

    def remember(self, request_id: str, body: str, answer: dict[str, Any]) -> None:
        """Keeps the answer; forgets the oldest ones."""
        file = self._file(request_id)
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self._folder, encoding="utf-8", delete=False) as temporary:
            json.dump({"body": body, "answer": answer}, temporary)
        Path(temporary.name).replace(file)
        kept = list(self._folder.iterdir())
        if len(kept) > 2 * _KEPT:
            kept.sort(key=lambda path: path.stat().st_mtime)
            for old in kept[:-_KEPT]:
                old.unlink(missing_ok=True)

    def _file(self, request_id: str) -> Path:
        try:
            name = str(uuid.UUID(request_id))
        except ValueError:
            raise InvalidInput("request_id: not a UUID; make a new one for each request", field="request_id") from None
        return self._folder / f"{name}.json"


def digest(*parts: str) -> str:
    """A hash of what a request asks for."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
