"""`djp storage get`, `put`, `export` and `import`: artifacts and archives between files and the mesh."""

from __future__ import annotations

import asyncio
import hashlib
import json
import mimetypes
import os
import sys
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from djp.cli.bars import transfer_bar
from djp.cli.documents import document
from djp.cli.exits import Exit
from djp.cli.places import place_of
from djp.cli.session import CommandError
from djp.cli.storage import full_name, size, storage_of
from djp.cli.terminal import one_line, say
from djp.mesh.errors import DataLoss, InvalidInput
from djp.storage_client import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from io import BufferedReader

    from djp.v1 import storage_pb2

_DASH = Path("-")


async def get_artifact(gateway: str | None, tenant: str, workflow: str, artifact: str, output: Path | None) -> int:
    """Write an artifact out."""
    async with storage_of(gateway, tenant) as storage, aclosing(storage.get(workflow, artifact)) as parts:
        whole = done = 0
        with _written(output or _DASH) as file, transfer_bar("reading", silent=output is None) as went:
            async for part in parts:
                if isinstance(part, bytes):
                    await asyncio.to_thread(file.write, part)
                    done += len(part)
                    went(done, whole)
                else:
                    whole = part.size
    return Exit.OK


async def put_artifact(
    gateway: str | None,
    tenant: str,
    workflow: str,
    artifact: str,
    file: Path,
    *,
    content_type: str,
    tags: Sequence[str],
    as_json: bool,
) -> int:
    """Store a file. It is read twice: first for its hash, so that what arrives can be checked."""
    labels = dict(_tag(tag) for tag in tags)
    if file == _DASH:
        raise InvalidInput("FILE: standard input cannot be read twice, for the hash and to send it; name a file")
    with _opened(file) as source:
        digest = await asyncio.to_thread(hashlib.file_digest, source, "sha256")
        whole = source.seek(0, os.SEEK_END)
        source.seek(0)
        with transfer_bar("sending", silent=as_json) as went:
            async with storage_of(gateway, tenant) as storage:
                stored = await storage.put(
                    workflow,
                    artifact or file.name,
                    _read(source, whole, went),
                    sha256=digest.hexdigest(),
                    content_type=content_type or mimetypes.guess_type(file.name)[0] or "",
                    tags=labels,
                )
    if as_json:
        print(json.dumps(document(stored), indent=2))
    else:
        say(f"{full_name(stored.key)}: {size(stored.size)} at {one_line(place_of(stored.location, gateway))}")
    return Exit.OK


async def export_tenant(gateway: str | None, tenant: str, file: Path, *, as_json: bool) -> int:
    """Write the archive of a tenant. One in which bytes are missing is kept, and the command fails."""
    written, missing = 0, None
    async with storage_of(gateway, tenant) as storage, aclosing(storage.export()) as chunks:
        with _written(file) as target, transfer_bar("exporting", silent=as_json or file == _DASH) as went:
            try:
                async for chunk in chunks:
                    await asyncio.to_thread(target.write, chunk)
                    written += len(chunk)
                    went(written, 0)
            except DataLoss as error:
                missing = error
    if missing:
        raise CommandError(missing, Exit.FAILED)
    if as_json and file != _DASH:
        print(json.dumps({"file": str(file), "bytes": written}, indent=2))
    elif file != _DASH:
        say(f"{one_line(str(file))}: {size(written)}")
    return Exit.OK


async def import_path(gateway: str | None, tenant: str, path: Path, *, workflow: str, as_json: bool) -> int:
    """Take in an archive, or files of the older system; PROBLEM if some artifacts were refused."""
    try:
        with transfer_bar("importing", silent=as_json or path == _DASH) as went:
            if files := await asyncio.to_thread(_older_files, path):
                told = await _take_in(gateway, tenant, _archive_of(files, workflow, went))
            else:
                with _opened(path) as source:
                    whole = source.seek(0, os.SEEK_END) if source.seekable() else 0
                    if source.seekable():
                        source.seek(0)
                    told = await _take_in(gateway, tenant, _read(source, whole, went))
    except asyncio.CancelledError:
        if not as_json:
            say("Stopped. What was taken in stays; run it again to go on.")
        raise
    if as_json:
        print(json.dumps(document(told), indent=2))
    else:
        counts = {
            "taken in": told.imported,
            "converted": told.converted,
            "there already": told.unchanged,
            "refused": told.refused,
        }
        say(", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "The archive is empty.")
        for problem in told.problems:
            say(f"refused {one_line(problem, 400)}", "red")
        if told.refused > len(told.problems):
            say(f"and {told.refused - len(told.problems):,} more refused", "red")
    return Exit.PROBLEM if told.refused else Exit.OK


async def _take_in(gateway: str | None, tenant: str, chunks: AsyncIterator[bytes]) -> storage_pb2.ImportTenantResponse:
    async with storage_of(gateway, tenant) as storage:
        return await storage.take_in(chunks)


def _older_files(path: Path) -> list[Path]:
    """The file, if it is one of the older system, or those of the folder. Raises InvalidInput when that has none."""
    if not path.is_dir():
        return [path] if path.suffix == ".json" else []
    files = sorted(one for one in path.glob("*.json") if one.is_file())
    if not files:
        raise InvalidInput(f"PATH: {path} has no .json files; give the folder of the older system's runs", field="PATH")
    return files


async def _archive_of(files: Sequence[Path], workflow: str, went: Callable[[int, int], None]) -> AsyncIterator[bytes]:
    """Files of the older system as an archive: the service reads nothing else. One of them is in memory at a time."""
    from djp_storage import archive
    from djp_storage.conversion import MAX_OLDER_BYTES
    from djp_storage.older_artifacts import OLDER_VERSION

    yield archive.head("", datetime.now(UTC))
    whole = 0
    for number, file in enumerate(files, start=1):
        with _opened(file) as source:
            content = await asyncio.to_thread(source.read, MAX_OLDER_BYTES + 1)
        entry = archive.Entry(
            workflow=workflow,
            artifact=file.name.encode(errors="backslashreplace").decode(),
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            from_schema=OLDER_VERSION,
        )
        yield archive.manifest(number, [entry]) + archive.object_header(number, len(content)) + archive.padded(content)
        whole += len(content)
        went(number, len(files))
    yield archive.end(len(files), whole)


async def _read(source: BufferedReader, whole: int, went: Callable[[int, int], None]) -> AsyncIterator[bytes]:
    done = 0
    while chunk := await asyncio.to_thread(source.read, CHUNK_BYTES):
        yield chunk
        done += len(chunk)
        went(done, whole)


@contextmanager
def _opened(file: Path) -> Iterator[BufferedReader]:
    """A file to read, or standard input. Raises InvalidInput that names it."""
    if file == _DASH:
        yield cast("BufferedReader", sys.stdin.buffer)
        return
    try:
        source = file.open("rb")
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read ({error.strerror}); check the path") from None
    with source:
        yield source


@contextmanager
def _written(file: Path) -> Iterator[BinaryIO]:
    """A new file, there when the block has ended well, or standard output. Raises InvalidInput if it exists."""
    if file == _DASH:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if file.exists():
        raise InvalidInput(f"{file} exists, and nothing is overwritten; choose another name, or remove it")
    part = file.with_name(f"{file.name}.part")
    with part.open("wb") as target:
        try:
            yield target
            target.flush()
            os.fsync(target.fileno())
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    part.rename(file)


def _tag(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InvalidInput(f"--tag: {text[:40]!r} is no KEY=VALUE", field="--tag")
    return name, value
