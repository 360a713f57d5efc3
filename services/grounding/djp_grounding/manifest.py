"""The list of what a version holds. Its hash is the version's name, so the same files always make the same version."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from djp_grounding.analysis import ANALYSER_VERSION
from djp_grounding.extract import EXTRACTOR_VERSION
from djp_grounding.index import INDEX_VERSION
from djp_grounding.model import Document, Skipped
from djp_grounding.pdf import reader_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from djp_grounding.limits import Limits

VERSION_DIGITS = 16
"""A version's name is so many hex digits of the SHA-256: 64 bits, enough to tell the versions of one corpus apart."""


@dataclass(frozen=True)
class Manifest:
    """What a version holds and what was left out.

    `inputs` is a hash of everything its build depended on, files left out included: the same inputs need no second
    look. It is empty when a file was left out for a reason that may pass, such as a time limit. `index` is the digest
    of the index files. `stale` passages of it are deleted and still weigh a little in its statistics.
    """

    version: str
    created_at: datetime
    inputs: str
    index: str
    documents: tuple[Document, ...]
    skipped: tuple[Skipped, ...]
    stale: int = 0

    @property
    def passages(self) -> int:
        """Of all documents."""
        return sum(document.passages for document in self.documents)

    @property
    def bytes(self) -> int:
        """Of the files the documents were made from."""
        return sum(document.bytes for document in self.documents)

    def to_json(self) -> str:
        """One JSON object (times are in UTC) and, on a line before it, its SHA-256."""
        body = json.dumps(
            {
                "version": self.version,
                "created_at": self.created_at.astimezone(UTC).isoformat(),
                "inputs": self.inputs,
                "index": self.index,
                "stale": self.stale,
                "documents": [asdict(document) for document in self.documents],
                "skipped": [asdict(skipped) for skipped in self.skipped],
            },
        )
        return f"{_sha256(body)}\n{body}\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Raises ValueError, KeyError or TypeError if `text` is no manifest, or not as it was written."""
        checksum, _, body = text.rstrip("\n").partition("\n")
        if checksum != _sha256(body):
            raise ValueError("the manifest is not what was written")
        values = json.loads(body)
        return cls(
            version=values["version"],
            created_at=datetime.fromisoformat(values["created_at"]),
            inputs=values["inputs"],
            index=values["index"],
            stale=values["stale"],
            documents=tuple(Document(**document) for document in values["documents"]),
            skipped=tuple(Skipped(**skipped) for skipped in values["skipped"]),
        )


def version_name(documents: Sequence[Document]) -> str:
    """The version of these documents, sorted by path: a hash of paths, contents and the code's versions."""
    reader = reader_version() if any(document.pages for document in documents) else ""
    files = [[document.path, document.sha256] for document in documents]
    return _hash({"code": _code_versions(reader), "files": files})[:VERSION_DIGITS]


def inputs_hash(files: Sequence[tuple[str, str]], skipped: Iterable[Skipped], limits: Limits) -> str:
    """A hash of all a build depends on: (path, SHA-256) of the files, those left out, limits, the code's versions."""
    left_out = [[one.path, one.reason] for one in skipped]
    reader = reader_version() if any(path.lower().endswith(".pdf") for path, _ in files) else ""
    return _hash({"code": _code_versions(reader), "files": files, "skipped": left_out, "limits": asdict(limits)})


def _code_versions(reader: str) -> dict[str, int | str]:
    return {"extractor": EXTRACTOR_VERSION, "analyser": ANALYSER_VERSION, "index": INDEX_VERSION, "pdf": reader}


def _hash(value: Any) -> str:
    return _sha256(json.dumps(value, sort_keys=True))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
