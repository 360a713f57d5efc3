"""Archives and older runs, changed at random, are read or refused and nothing worse: people upload anything."""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from djp.catalogue_files import validate_against
from djp.mesh.errors import InvalidInput
from djp_storage import archive
from djp_storage.archive import ArchiveReader, BadArchive, Entry
from djp_storage.conversion import convert

from .older_run import older_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

CONTENTS = (b"", b"x" * 511, b"y" * 512, b"z" * 2000)
WHOLE = b"".join(
    [
        archive.head("acme", datetime(2026, 1, 1, tzinfo=UTC)),
        archive.manifest(
            1,
            [
                Entry("w", f"Ж{n}", len(content), hashlib.sha256(content).hexdigest(), tags={"k": "v"})
                for n, content in enumerate(CONTENTS)
            ],
        ),
        *(
            archive.object_header(n, len(content)) + archive.padded(content)
            for n, content in enumerate(CONTENTS, start=1)
        ),
        archive.end(len(CONTENTS), sum(map(len, CONTENTS))),
    ]
)


async def read(content: bytes, chunk_bytes: int) -> list[bytes]:
    """The contents of an archive."""

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(content), chunk_bytes):
            yield content[at : at + chunk_bytes]

    reader, found = ArchiveReader(chunks()), []
    await reader.head()
    async with aclosing(reader.entries()) as entries:
        async for entry in entries:
            found.append(b"".join([part async for part in reader.content()]))
            assert len(found[-1]) == entry.size
    return found


@given(st.integers(1, 3000))
@settings(max_examples=50, deadline=None)
def test_an_archive_is_read_whatever_its_chunks(chunk_bytes: int) -> None:
    assert tuple(asyncio.run(read(WHOLE, chunk_bytes))) == CONTENTS


CHANGE = st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 40), st.binary(max_size=40))


@given(st.lists(CHANGE, min_size=1, max_size=3))
@settings(max_examples=400, deadline=None)
def test_a_changed_archive_is_read_or_refused(changes: list[tuple[int, int, bytes]]) -> None:
    content = WHOLE
    for at, cut, put in changes:
        content = content[:at] + put + content[at + cut :]
    try:
        found = asyncio.run(read(content, 700))
    except BadArchive as error:
        found = [error.message.encode()]
        told = len(error.message) < 1000 and error.field == "chunk"
    else:
        told = len(found) == len(CONTENTS)
    assert told, found


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["1.1", "published", "openai/gpt-4o", "2025-10-02T12:00:00", "", 0, 1, -1, 10**30]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a document."""
    if path:
        yield path
    if isinstance(document, dict | list):
        for key in document if isinstance(document, dict) else range(len(document)):
            yield from places(document[key], (*path, key))


PLACES = list(places(older_run()))


@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
def test_a_changed_run_of_the_older_system_is_converted_or_refused(changes: list[tuple[Any, Any]]) -> None:
    document: Any = older_run()
    for path, value in changes:
        target = document
        try:
            for part in path[:-1]:
                target = target[part]
            target[path[-1]] = value
        except (TypeError, KeyError, IndexError):  # an earlier change took it away
            continue
    try:
        converted = convert(json.dumps(document).encode(), tenant="acme", workflow="older")
    except InvalidInput as error:
        problems = [error.message] if len(error.message) > 5000 else []
    else:
        problems = validate_against("artifact", json.loads(converted.content))
    assert problems == []
