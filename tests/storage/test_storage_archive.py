"""A tenant's artifacts leave as one archive and come back whole; whatever else comes is refused."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import tarfile
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from djp.catalogue_files import validate_against
from djp.mesh.identity import Identity, identity_scope
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import storage_pb2
from djp_storage import archive
from djp_storage.archive import Entry

from .older_run import older_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from djp.mesh.errors import DjpError


async def exported(client: Any, *, tenant: str = "", role: str = "tenant") -> bytes:
    with identity_scope(Identity(client.tenant, role)):
        stream = client.stub.ExportTenant(storage_pb2.ExportTenantRequest(tenant=tenant))
        return b"".join([one.chunk async for one in stream])


async def imported(
    client: Any, content: bytes, *, request_id: str = "", chunk_bytes: int = 1 << 20
) -> storage_pb2.ImportTenantResponse:
    parts = [storage_pb2.ImportTenantRequest(request_id=request_id or str(uuid.uuid4()))]
    parts += [
        storage_pb2.ImportTenantRequest(chunk=content[at : at + chunk_bytes])
        for at in range(0, len(content), chunk_bytes)
    ]
    with identity_scope(Identity(client.tenant)):
        answer: storage_pb2.ImportTenantResponse = await client.stub.ImportTenant(iter(parts))
    return answer


async def refused(call: Any) -> DjpError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = error_from_rpc(caught.value)
    error.code = caught.value.code().name  # type: ignore[misc]
    return error


def made(
    entries: Sequence[tuple[Entry, bytes]], *, part: int = archive.ARTIFACTS_A_MANIFEST, tenant: str = "acme"
) -> bytes:
    """An archive as the service writes it."""
    told = [archive.head(tenant, datetime.now(UTC))]
    for number, (_, content) in enumerate(entries, start=1):
        if (number - 1) % part == 0:
            of_part = [entry for entry, _ in entries[number - 1 : number - 1 + part]]
            told.append(archive.manifest((number - 1) // part + 1, of_part))
        told += [archive.object_header(number, len(content)), archive.padded(content)]
    told.append(archive.end(len(entries), sum(len(content) for _, content in entries)))
    return b"".join(told)


def entry(content: bytes = b"text", artifact: str = "a.json", **more: Any) -> tuple[Entry, bytes]:
    fields = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "workflow": "w", **more}
    return Entry(artifact=artifact, **fields), content


CONTENTS = {
    "empty": b"",
    "small.json": b"{}",
    "one block": bytes(512),
    "Ж\u202f😀": b"x" * 511,
    "-rf": b"y" * 513,
    "big": os.urandom(3_000_001),
}


async def test_what_was_exported_comes_back_in_another_deployment(client: Any, serve: Any, tmp_path: Any) -> None:
    for number, (name, content) in enumerate(CONTENTS.items()):
        await client.put(content, artifact=name, workflow=f"w{number % 2}", run_id=f"r{number}", tags={"näme": name})
    content = await exported(client)
    away = client.of("elsewhere")
    told = await imported(away, content)
    assert (told.imported, told.unchanged, told.refused) == (len(CONTENTS), 0, 0)
    for number, name in enumerate(CONTENTS):
        before, _ = await client.get(name, f"w{number % 2}")
        after, got = await away.get(name, f"w{number % 2}")
        assert got == CONTENTS[name]
        for same in ("sha256", "run_id", "tags", "content_type", "created_at", "size"):
            assert getattr(after, same) == getattr(before, same)
        assert after.tier_since.ToDatetime() >= before.created_at.ToDatetime()


async def test_any_tar_can_read_an_archive(client: Any) -> None:
    for name, content in CONTENTS.items():
        await client.put(content, artifact=name)
    with tarfile.open(fileobj=io.BytesIO(await exported(client))) as tar:
        names = tar.getnames()
        assert names[0] == "djp-archive.json"
        assert names[-1] == "end.json"
        lines = [json.loads(line) for line in tar.extractfile("manifest/00000001.jsonl").read().splitlines()]  # type: ignore[union-attr]
        for number, line in enumerate(lines, start=1):
            content = tar.extractfile(f"objects/{number:08d}").read()  # type: ignore[union-attr]
            assert content == CONTENTS[line["artifact"]]
            assert hashlib.sha256(content).hexdigest() == line["sha256"]


@pytest.mark.parametrize("chunk_bytes", [1, 511, 512, 513, 1 << 20])
async def test_chunks_may_be_cut_anywhere(client: Any, chunk_bytes: int) -> None:
    content = made([entry(b"x" * 600, "one"), entry(b"", "two"), entry(b"y", "three")], part=2)
    told = await imported(client, content, chunk_bytes=chunk_bytes)
    assert told.imported == 3
    assert (await client.get("three"))[1] == b"y"


async def test_the_same_archive_again_changes_nothing(client: Any) -> None:
    content, request_id = made([entry(), entry(b"other", "b.json")]), str(uuid.uuid4())
    first = await imported(client, content, request_id=request_id)
    again = await imported(client, content, request_id=request_id)
    once_more = await imported(client, content)
    assert [one.imported for one in (first, again, once_more)] == [2, 0, 0]
    assert [one.unchanged for one in (first, again, once_more)] == [0, 2, 2]


async def test_two_imports_of_one_archive_at_once_make_it_once(client: Any) -> None:
    content = made([entry(f"text {n}".encode(), f"a{n}") for n in range(30)])
    told = await asyncio.gather(*(imported(client, content) for _ in range(3)))
    assert sum(one.refused for one in told) == 0
    assert len(await client.names()) == 30


async def test_what_is_there_is_never_overwritten_and_the_rest_comes(client: Any) -> None:
    await client.put(b"mine")
    await client.put(b"labels", artifact="labels", tags={"a": "1"})
    told = await imported(client, made([entry(b"theirs"), entry(b"labels", "labels"), entry(b"new", "new")]))
    assert (told.imported, told.unchanged, told.refused) == (1, 0, 2)
    assert {problem.split(":")[0] for problem in told.problems} == {"w/a.json", "w/labels"}
    assert (await client.get())[1] == b"mine"
    assert (await client.get("new"))[1] == b"new"


async def test_an_archive_that_is_cut_off_keeps_what_came_and_says_so(client: Any) -> None:
    content = made([entry(b"x" * 2000, "one"), entry(b"y" * 2000, "two")], part=1)
    for at in (0, 100, 700, 1500, 2500, 4500, 6000, len(content) - 1600):
        error = await refused(imported(client, content[:at]))
        assert (error.code, error.field) == ("INVALID_ARGUMENT", "chunk")
        assert "ends too early" in error.message
    assert sorted(await client.names()) == ["one", "two"]
    assert (await imported(client, content)).unchanged == 2


async def test_entries_that_no_artifact_can_be_are_refused_one_by_one(client: Any, files: Any) -> None:
    bad = [
        entry(artifact="../../etc/passwd"),
        entry(workflow="..", artifact="x"),
        entry(artifact="a\0b"),
        entry(artifact="\u202egnp.exe"),
        entry(artifact="x" * 201),
        entry(artifact="hash", sha256="0" * 64),
        entry(artifact="no hash", sha256="zz"),
        entry(artifact="label", content_type="a\r\nb"),
        entry(artifact="tag", tags={"k": "\x1b[2J"}),
        entry(artifact="schema", from_schema="0.9"),
        entry(artifact="older", from_schema="1.1"),
    ]
    told = await imported(client, made([*bad, entry(artifact="good")]))
    assert (told.imported, told.refused) == (1, len(bad))
    assert len(told.problems) == len(bad)
    assert await client.names() == ["good"]
    assert sum(name.startswith("hot/") for name in files()) == sum("good" in name for name in files())


def tar_of(*members: tuple[str, bytes, bytes]) -> bytes:
    """Any tar: names, contents and types."""
    parts = []
    for name, content, kind in members:
        info = tarfile.TarInfo(name)
        info.size, info.type, info.linkname = len(content), kind, "/etc/passwd"
        parts += [info.tobuf(tarfile.GNU_FORMAT), archive.padded(content)]
    return b"".join(parts) + bytes(1024)


HEAD = b'{"format": "djp-artifacts", "version": 1}'
ONE = archive.manifest(1, [entry()[0]])
START = archive.head("acme", datetime(2026, 1, 1, tzinfo=UTC))


def line(**changes: Any) -> bytes:
    document = {"workflow": "w", "artifact": "a", "size": 0, "sha256": "0" * 64, **changes}
    document = {name: value for name, value in document.items() if value is not ...}
    content = json.dumps(document).encode()
    return START + archive.member_header("manifest/00000001.jsonl", len(content)) + archive.padded(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\0" * 512, "no header"),
        (b"PK\3\4" * 200, "no header"),
        (os.urandom(2048), "no header"),
        (tar_of(("report.json", b"{}", tarfile.REGTYPE)), "none of `djp storage export`"),
        (tar_of(("djp-archive.json", b"", tarfile.SYMTYPE)), "no regular file"),
        (tar_of(("djp-archive.json", HEAD, tarfile.GNUTYPE_LONGNAME)), "no regular file"),
        (tar_of(("djp-archive.json", HEAD, tarfile.XHDTYPE)), "no regular file"),
        (tar_of(("djp-archive.json", b"[]", tarfile.REGTYPE)), "no JSON object"),
        (tar_of(("djp-archive.json", b'{"format": "zip"}', tarfile.REGTYPE)), "'zip'"),
        (tar_of(("djp-archive.json", HEAD.replace(b"1", b"2"), tarfile.REGTYPE)), "'2'"),
        (archive.member_header("djp-archive.json", 2**50), "are allowed"),
        (START + archive.member_header("manifest/00000001.jsonl", 2**40), "are allowed"),
        (START + archive.member_header("../../../etc/cron.d/x", 5), "stands where manifest/00000001.jsonl"),
        (START + ONE + archive.object_header(2, 4), "stands where objects/00000001"),
        (START + ONE + archive.object_header(1, 5), "are allowed"),
        (START + ONE + archive.object_header(1, 3), "its manifest says 4"),
        (START + archive.end(1, 4), "counts 1 artifacts"),
        (START + archive.member_header("manifest/00000001.jsonl", 0), "has 0 lines"),
        (START + archive.manifest(1, [entry()[0]] * (archive.ARTIFACTS_A_MANIFEST + 1)), "501 lines"),
        (line(size=-1), "size: out of range"),
        (line(size=True), "size is no int"),
        (line(size="7"), "size is no int"),
        (line(tags={"k": 1}), "tags: are no texts"),
        (line(tags=[]), "tags is no dict"),
        (line(mode=7), "unknown field 'mode'"),
        (line(sha256=...), "has no sha256"),
        (line(created_at="yesterday"), "created_at: is no time"),
        (line(created_at="0001-01-01T00:00:00+20:00"), "created_at: is no time"),
    ],
)
async def test_what_is_no_archive_of_ours_is_refused(client: Any, files: Any, content: bytes, said: str) -> None:
    error = await refused(imported(client, content))
    assert (error.code, error.reason, error.field) == ("INVALID_ARGUMENT", "INVALID_INPUT", "chunk")
    assert said in error.message
    assert [name for name in files() if name.startswith("hot/")] == []


async def test_an_import_is_told_what_its_messages_must_be(client: Any) -> None:
    def send(*parts: storage_pb2.ImportTenantRequest) -> Any:
        return client.stub.ImportTenant(iter(parts))

    chunk = storage_pb2.ImportTenantRequest(chunk=b"x")
    request_id = storage_pb2.ImportTenantRequest(request_id=str(uuid.uuid4()))
    assert (await refused(send())).field == "request_id"
    assert (await refused(send(chunk))).field == "request_id"
    assert (await refused(send(request_id, request_id))).field == "chunk"
    assert (await refused(send(storage_pb2.ImportTenantRequest(request_id="7")))).field == "request_id"


async def test_a_sender_that_falls_silent_is_given_up(serve: Any) -> None:
    never = asyncio.Event()

    async def parts() -> Any:
        yield storage_pb2.ImportTenantRequest(request_id=str(uuid.uuid4()))
        yield storage_pb2.ImportTenantRequest(chunk=made([entry()])[:600])
        await never.wait()

    async with serve(idle_s=0.05) as client:
        assert (await refused(client.stub.ImportTenant(parts()))).code == "DEADLINE_EXCEEDED"


async def test_runs_of_the_older_system_are_converted_once(client: Any) -> None:
    files = [older_file(), older_file(publish__status="none"), b"{}"]
    entries = [entry(content, f"2025.10.02-{n}.json", from_schema="1.1") for n, content in enumerate(files)]
    told = await imported(client, made(entries))
    assert (told.imported, told.converted, told.refused) == (0, 2, 1)
    assert "2025.10.02-2.json" in told.problems[0]
    again = await imported(client, made(entries))
    assert (again.converted, again.unchanged, again.refused) == (0, 2, 1)
    for name in await client.names():
        info, content = await client.get(name)
        document = json.loads(content)
        assert validate_against("artifact", document) == []
        assert info.key.artifact == f"{info.run_id}.json" == f"{document['run_metadata']['run_id']}.json"
        assert info.tags["converted_from"] == "1.1"
        assert info.created_at.ToDatetime().year == 2025


async def test_a_tenant_exports_its_own_and_an_operator_any(client: Any) -> None:
    await client.put(b"mine")
    other = client.of("other")
    assert (await refused(exported(other, tenant="acme"))).code == "NOT_FOUND"
    with tarfile.open(fileobj=io.BytesIO(await exported(other, tenant="acme", role="operator"))) as tar:
        assert tar.extractfile("objects/00000001").read() == b"mine"  # type: ignore[union-attr]
    with tarfile.open(fileobj=io.BytesIO(await exported(other))) as tar:
        assert tar.getnames() == ["djp-archive.json", "end.json"]


async def test_an_artifact_that_cannot_be_read_costs_the_archive_no_other(client: Any, home: Path) -> None:
    for name, content in (("one", b"1" * 2000), ("two", b"2" * 2000), ("three", b"3" * 2000)):
        await client.put(content, artifact=name)
    os.unlink(home / "artifacts" / (await client.stat("two")).location)
    with open(home / "artifacts" / (await client.stat("one")).location, "wb") as file:  # noqa: ASYNC230
        file.write(b"1" * 1999 + b"!")
    got = []
    with pytest.raises(grpc.aio.AioRpcError) as caught, identity_scope(Identity("acme")):
        async for one in client.stub.ExportTenant(storage_pb2.ExportTenantRequest()):
            got.append(one.chunk)
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS
    assert "2 of 3 artifacts" in str(caught.value.details())
    told = await imported(client.of("elsewhere"), b"".join(got))
    assert (told.imported, told.refused) == (1, 2)


async def test_what_is_wrong_with_the_store_stops_an_import(client: Any, home: Path) -> None:
    (home / "elsewhere").mkdir()
    (home / "artifacts/hot").symlink_to(home / "elsewhere")
    for content in (b"small", bytes(500_000), bytes(500_000), bytes(500_000)):
        error = await refused(imported(client, made([entry(content, f"a{n}") for n in range(40)])))
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "FAILED_PRECONDITION")
    assert await client.names() == []
    (home / "artifacts/hot").unlink()
    assert (await imported(client, made([entry()]))).imported == 1


async def test_many_artifacts_make_many_manifests(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "ARTIFACTS_A_MANIFEST", 7)
    contents = {f"a{n}": f"text {n}".encode() for n in range(20)}
    for name, content in contents.items():
        await client.put(content, artifact=name)
    content = await exported(client)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert sum(name.startswith("manifest/") for name in tar.getnames()) == 3
    away = client.of("elsewhere")
    assert (await imported(away, content)).imported == 20
    assert {name: (await away.get(name))[1] for name in await away.names()} == contents


async def test_artifacts_with_all_the_tags_they_may_have_fit_into_manifests(client: Any) -> None:
    tags = {f"{n:03}" + "😀" * 997: "😀" * 1000 for n in range(50)}
    for n in range(12):
        await client.put(b"", artifact=f"a{n}", tags=tags)
    away = client.of("elsewhere")
    content = await exported(client)
    assert (await imported(away, content)).imported == 12
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert 1 < sum(name.startswith("manifest/") for name in tar.getnames()) < 12
    assert dict((await away.stat("a11")).tags) == tags
