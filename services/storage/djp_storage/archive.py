"""The portable archive of a tenant: a plain tar that names and hashes everything in it, written and read as a stream.

    djp-archive.json             what it is: format, version, tenant, when it was made
    manifest/00000001.jsonl      one line for each of the next objects: names, labels, size, hash
    objects/00000001             those objects, in the order of the lines
    manifest/00000002.jsonl      and so on
    end.json                     how many artifacts and bytes: proof that nothing is cut off

A manifest comes before its objects and is small, so neither side ever holds more than one of them and one chunk.
Reading trusts nothing: only these names, in this order, as regular files; no path of an archive becomes one of a disk.
"""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from djp.mesh.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

VERSION = 1
ARTIFACTS_A_MANIFEST = 500
MAX_MANIFEST_BYTES = 8 * 2**20
"""Of one manifest. A line with all the tags that an artifact may have is below half a MiB."""
MAX_JSON_BYTES = 2**20
"""Of the first and the last member."""

_FORMAT = "djp-artifacts"
_HEAD = "djp-archive.json"
_END = "end.json"
_BLOCK = tarfile.BLOCKSIZE


class BadArchive(InvalidInput):
    """What comes is no archive of ours, or ends too early: there is no way to go on."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"chunk: {problem}", field="chunk")


@dataclass(frozen=True)
class Entry:
    """A line of a manifest: an artifact, or with `from_schema` an older run's file that becomes one.

    `size` is in bytes, `sha256` is hex. Without `created_at` it was created now.
    """

    workflow: str
    artifact: str
    size: int
    sha256: str
    tier: str = "hot"
    content_type: str = ""
    run_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    from_schema: str = ""

    def line(self) -> bytes:
        """As JSON; what is empty is left out."""
        document = {
            "workflow": self.workflow,
            "artifact": self.artifact,
            "size": self.size,
            "sha256": self.sha256,
            "tier": self.tier,
            "content_type": self.content_type,
            "run_id": self.run_id,
            "tags": dict(self.tags),
            "created_at": self.created_at.astimezone(UTC).isoformat() if self.created_at else "",
            "from_schema": self.from_schema,
        }
        kept = {name: value for name, value in document.items() if value or name == "size"}
        return json.dumps(kept, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def head(tenant: str, at: datetime) -> bytes:
    """The first member."""
    document = {"format": _FORMAT, "version": VERSION, "tenant": tenant, "created_at": at.isoformat()}
    return _small(_HEAD, document)


def manifest(number: int, entries: Sequence[Entry]) -> bytes:
    """The member that announces the objects that follow it."""
    content = b"".join(entry.line() for entry in entries)
    return member_header(_manifest_name(number), len(content)) + padded(content)


def object_header(number: int, size: int) -> bytes:
    """What stands before an object's bytes; after them comes `padding(size)`."""
    return member_header(_object_name(number), size)


def end(artifacts: int, size: int) -> bytes:
    """The last member and the end of the tar."""
    document = {"artifacts": artifacts, "bytes": size}
    return _small(_END, document) + bytes(2 * _BLOCK)


def member_header(name: str, size: int) -> bytes:
    """The 512 bytes before a member."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """What fills the last block of so many bytes."""
    return bytes(-size % _BLOCK)


def padded(content: bytes) -> bytes:
    """The bytes in whole blocks."""
    return content + padding(len(content))


def _small(name: str, document: Mapping[str, Any]) -> bytes:
    content = json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True).encode() + b"\n"
    return member_header(name, len(content)) + padded(content)


def _manifest_name(number: int) -> str:
    return f"manifest/{number:08d}.jsonl"


def _object_name(number: int) -> str:
    return f"objects/{number:08d}"


class ArchiveReader:
    """Reads an archive of chunks of any size. Raises BadArchive, with the member, for whatever is not as it should be.

    Use it as `await head()`, then `async for entry in entries()` with all of `content()` read for each entry.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = memoryview(b"")
        self._left = 0  # bytes of the member at hand that were not read yet
        self._fill = 0  # and of its padding
        self.objects = 0
        self.bytes = 0

    async def head(self) -> Mapping[str, Any]:
        """What the archive says of itself."""
        size = await self._member(_HEAD, MAX_JSON_BYTES, "the archive is none of `djp storage export`")
        document = _json(_HEAD, await self._whole(size))
        if document.get("format") != _FORMAT or document.get("version") != VERSION:
            raise BadArchive(
                f"{_HEAD} says format {str(document.get('format'))[:40]!r}, version "
                f"{str(document.get('version'))[:40]!r}; this version of djp reads {_FORMAT!r}, version {VERSION}"
            )
        return document

    async def entries(self) -> AsyncGenerator[Entry, None]:
        """Every artifact, up to the end of the archive."""
        number = 0
        while True:
            number += 1
            name, size = await self._header()
            if name == _END:
                self._check_end(_json(_END, await self._whole(_at_most(_END, size, MAX_JSON_BYTES))))
                return
            if name != (expected := _manifest_name(number)):
                raise _bad(name, f"stands where {expected} or {_END} should be")
            lines = (await self._whole(_at_most(name, size, MAX_MANIFEST_BYTES))).splitlines()
            if not 0 < len(lines) <= ARTIFACTS_A_MANIFEST:
                raise _bad(name, f"has {len(lines)} lines; 1 to {ARTIFACTS_A_MANIFEST} are allowed")
            for at, line in enumerate(lines, start=1):
                entry = _entry(f"{name}:{at}", line)
                self.objects += 1
                self.bytes += entry.size
                size = await self._member(_object_name(self.objects), entry.size, "")
                if size != entry.size:
                    raise _bad(_object_name(self.objects), f"has {size} bytes; its manifest says {entry.size}")
                yield entry
                async for _ in self.content():  # of whoever did not want all of it
                    pass

    async def content(self) -> AsyncIterator[bytes]:
        """The bytes of the entry at hand."""
        while self._left:
            chunk = await self._some(self._left)
            self._left -= len(chunk)
            yield chunk
        await self._skip_fill()

    async def _member(self, expected: str, most: int, otherwise: str) -> int:
        name, size = await self._header()
        if name != expected:
            raise _bad(name, f"stands where {expected} should be; {otherwise}".removesuffix("; "))
        return _at_most(name, size, most)

    async def _header(self) -> tuple[str, int]:
        block = await self._exactly(_BLOCK)
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, ValueError):
            place = f"after {self.objects} objects" if self.objects else "at its beginning"
            raise BadArchive(f"the archive is no tar of `djp storage export`: {place} there is no header") from None
        if not info.isreg() or info.size < 0:
            raise _bad(info.name, "is no regular file")
        self._left, self._fill = info.size, -info.size % _BLOCK
        return info.name, info.size

    async def _whole(self, size: int) -> bytes:
        content = await self._exactly(size)
        self._left = 0
        await self._skip_fill()
        return content

    async def _skip_fill(self) -> None:
        await self._exactly(self._fill)
        self._fill = 0

    async def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            part = await self._some(size)
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    async def _some(self, most: int) -> bytes:
        """At least one byte, and not more than that."""
        while not self._buffer:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                raise BadArchive(
                    f"the archive ends too early, after {self.objects} objects; what came whole is kept, send all of "
                    "it again"
                )
            self._buffer = memoryview(chunk)
        taken, self._buffer = self._buffer[:most], self._buffer[most:]
        return bytes(taken)

    def _check_end(self, document: Mapping[str, Any]) -> None:
        told = (document.get("artifacts"), document.get("bytes"))
        if told != (self.objects, self.bytes):
            raise _bad(
                _END, f"counts {told[0]} artifacts and {told[1]} bytes; there were {self.objects} and {self.bytes}"
            )


def _bad(member: str, problem: str) -> BadArchive:
    return BadArchive(f"{member[:100]!a} {problem}")


def _at_most(name: str, size: int, most: int) -> int:
    if size > most:
        raise _bad(name, f"has {size} bytes; {most} are allowed")
    return size


def _json(name: str, content: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _bad(name, "is no JSON object")
    return document


_KINDS: dict[str, tuple[type, ...]] = {
    "workflow": (str,),
    "artifact": (str,),
    "size": (int,),
    "sha256": (str,),
    "tier": (str,),
    "content_type": (str,),
    "run_id": (str,),
    "tags": (dict,),
    "created_at": (str,),
    "from_schema": (str,),
}


def _entry(place: str, line: bytes) -> Entry:
    document = dict(_json(place, line))
    for name, value in document.items():
        if name not in _KINDS:
            raise _bad(place, f"has an unknown field {name[:40]!a}")
        if not isinstance(value, _KINDS[name]) or isinstance(value, bool):
            raise _bad(place, f"{name} is no {_KINDS[name][0].__name__}")
    if missing := {"workflow", "artifact", "size", "sha256"} - document.keys():
        raise _bad(place, f"has no {', '.join(sorted(missing))}")
    if any(not isinstance(value, str) for value in document.get("tags", {}).values()):
        raise _bad(place, "tags: are no texts")
    if not 0 <= document["size"] < 2**63:
        raise _bad(place, "size: out of range")
    try:
        created = datetime.fromisoformat(document.pop("created_at")) if "created_at" in document else None
        created = created.astimezone(UTC) if created else None
    except (ValueError, OverflowError):
        raise _bad(place, "created_at: is no time") from None
    return Entry(**document, created_at=created)
