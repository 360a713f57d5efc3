"""Putting artifacts in and getting them out again, over a real socket."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import common_pb2, storage_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from djp.mesh.errors import DjpError

NO_FILES: dict[str, bytes] = {}


async def refused(call: Any) -> DjpError:
    """The error that the service answers with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = error_from_rpc(caught.value)
    error.code = caught.value.code().name  # type: ignore[misc]  # the code on the wire, whatever class it maps to
    return error


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def header(artifact: str = "a.json", **more: Any) -> storage_pb2.PutArtifactRequest:
    key = storage_pb2.ArtifactKey(workflow="w", artifact=artifact)
    return storage_pb2.PutArtifactRequest(
        header=storage_pb2.ArtifactHeader(**{"request_id": str(uuid.uuid4()), "key": key, **more})
    )


def chunk(content: bytes) -> storage_pb2.PutArtifactRequest:
    return storage_pb2.PutArtifactRequest(chunk=content)


async def test_an_artifact_comes_back_as_it_went_in(client: Any, home: Path, files: Any) -> None:
    content = os.urandom(3_000_000)
    put = await client.put(
        content[:1_000_000],
        b"",
        content[1_000_000:],
        artifact="report.json",
        workflow="adhoc",
        sha256=sha256(content),
        content_type="application/json",
        run_id="r1",
        tags={"preset": "lean", "naïve": "ж"},
    )
    info, got = await client.get("report.json", "adhoc")
    assert got == content
    assert info == put == await client.stat("report.json", "adhoc")
    assert (info.size, info.sha256, info.tenant, info.tier) == (
        3_000_000,
        sha256(content),
        "acme",
        common_pb2.TIER_HOT,
    )
    assert (info.content_type, info.run_id) == ("application/json", "r1")
    assert dict(info.tags) == {"preset": "lean", "naïve": "ж"}
    assert re.fullmatch("hot/acme/adhoc/[0-9a-f]{12}-report.json", info.location)
    assert (home / "artifacts" / info.location).read_bytes() == content
    assert files() == {"hot/acme/adhoc/report.json": content}
    assert info.created_at == info.modified_at == info.tier_since
    assert info.due_at.ToDatetime() == info.tier_since.ToDatetime() + timedelta(days=7)


async def test_an_empty_artifact_is_an_artifact(client: Any) -> None:
    await client.put(sha256=sha256(b""))
    info, got = await client.get()
    assert (info.size, got) == (0, b"")


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "header"),
        ([chunk(b"x"), header()], "header"),
        ([storage_pb2.PutArtifactRequest()], "header"),
        ([header(), chunk(b"x"), header("b.json")], "chunk"),
        ([header(), chunk(b"x"), storage_pb2.PutArtifactRequest()], "chunk"),
        ([header(request_id="7")], "header.request_id"),
        ([header(sha256="XYZ")], "header.sha256"),
        ([header(content_type="text/html\r\nX-Evil: 1")], "header.content_type"),
        ([header(run_id="a\0b")], "header.run_id"),
        ([header(tags={"k": "v" * 1001})], "header.tags"),
        ([header(tags={"k\x1b[2J": "v"})], "header.tags"),
        ([header(), chunk(bytes(4 * 2**20 + 1))], "chunk"),
    ],
)
async def test_a_malformed_put_names_the_field_and_keeps_nothing(
    client: Any, files: Any, messages: list[storage_pb2.PutArtifactRequest], field: str
) -> None:
    error = await refused(client.put_messages(messages))
    assert (error.code, error.reason, error.field) == ("INVALID_ARGUMENT", "INVALID_INPUT", field)
    assert await client.names() == []
    assert files() == NO_FILES


async def test_bytes_that_are_not_those_announced_are_refused(client: Any, files: Any) -> None:
    error = await refused(client.put(b"one", b"two", sha256=sha256(b"onetw")))
    assert (error.code, error.reason) == ("DATA_LOSS", "HASH_MISMATCH")
    assert sha256(b"onetwo") in error.message
    assert (await refused(client.stat())).code == "NOT_FOUND"
    assert (await refused(client.get())).code == "NOT_FOUND"
    assert files() == NO_FILES
    await client.put(b"one", b"two", sha256=sha256(b"onetwo"))


async def test_more_bytes_than_allowed_are_refused(serve: Any, files: Any) -> None:
    async with serve(max_artifact_mib=1) as client:
        await client.put(bytes(2**20), artifact="fits")
        for times in (3, 60):  # the reason comes also to a sender that is far from its end
            error = await refused(client.put(*[bytes(2**19)] * times, artifact="does not"))
            assert (error.code, error.field) == ("INVALID_ARGUMENT", "chunk")
        assert await client.names() == ["fits"]
    assert list(files()) == ["hot/acme/w/fits"]


async def test_a_put_that_falls_silent_is_given_up(serve: Any, files: Any) -> None:
    never = asyncio.Event()

    async def messages() -> AsyncIterator[storage_pb2.PutArtifactRequest]:
        yield header()
        yield chunk(b"half")
        await never.wait()

    async with serve(idle_s=0.05) as client:
        error = await refused(client.stub.PutArtifact(messages()))
        assert (error.code, error.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
        assert await client.names() == []
    assert files() == NO_FILES


async def test_a_put_that_its_sender_cuts_off_leaves_nothing(serve: Any, files: Any) -> None:
    async with serve() as client:
        for size in range(20):  # an announced hash or not: a cut must not look like an end
            begun, never = asyncio.Event(), asyncio.Event()

            async def messages(size: int, begun: asyncio.Event, never: asyncio.Event) -> Any:
                yield header(f"cut-{size}")
                for _ in range(size):
                    yield chunk(b"half")
                begun.set()
                await never.wait()

            call = client.stub.PutArtifact(messages(size, begun, never))
            await begun.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        await client.put(b"whole", artifact="whole")
        assert await client.names() == ["whole"]
    assert list(files()) == ["hot/acme/w/whole"]  # the service has ended, and with it every call


async def test_the_same_request_again_gets_the_same_answer(client: Any) -> None:
    request_id = str(uuid.uuid4())
    first = await client.put(b"text", request_id=request_id, tags={"b": "1", "a": "2"})
    again = await client.put(b"te", b"xt", request_id=request_id.upper(), tags={"a": "2", "b": "1"})
    assert again == first
    assert len(await client.names()) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"parts": [b"other"]},
        {"artifact": "b.json"},
        {"workflow": "other"},
        {"content_type": "text/plain"},
        {"run_id": "r2"},
        {"tags": {"k": "v"}},
    ],
)
async def test_a_request_id_stands_for_one_artifact(client: Any, other: dict[str, Any]) -> None:
    request_id = str(uuid.uuid4())
    await client.put(b"text", request_id=request_id)
    parts = other.pop("parts", [b"text"])
    error = await refused(client.put(*parts, request_id=request_id, **other))
    assert (error.code, error.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert await client.names() == ["a.json"]
    assert (await client.get())[1] == b"text"


async def test_an_artifact_is_never_overwritten(client: Any) -> None:
    first = await client.put(b"text")
    for other in ({"parts": [b"TEXT"]}, {"parts": [b"text"], "tags": {"k": "v"}}):
        error = await refused(client.put(*other.pop("parts"), **other))
        assert (error.code, error.reason, error.field) == ("ALREADY_EXISTS", "ALREADY_EXISTS", "header.key.artifact")
    second_id = str(uuid.uuid4())
    assert await client.put(b"text", request_id=second_id) == first  # the same artifact under another id
    assert (await refused(client.put(b"x", request_id=second_id))).reason == "REQUEST_ID_REUSED"
    assert (await client.get())[1] == b"text"


async def test_of_many_puts_at_once_one_wins(client: Any, files: Any) -> None:
    contents = [f"content {n % 4}".encode() * 1000 for n in range(16)]
    answers = await asyncio.gather(*(client.put(content) for content in contents), return_exceptions=True)
    info, got = await client.get()
    for content, answer in zip(contents, answers, strict=True):
        if content == got:
            assert answer == info
        else:
            assert error_from_rpc(answer).reason == "ALREADY_EXISTS"
    only = {"hot/acme/w/a.json": got}
    for _ in range(3000):  # the losers' objects go a moment after their senders were answered
        if files() == only:
            break
        await asyncio.sleep(0.01)
    assert files() == only


async def test_the_same_request_many_times_at_once_is_one(client: Any) -> None:
    request_id = str(uuid.uuid4())
    answers = await asyncio.gather(*(client.put(b"text", request_id=request_id) for _ in range(12)))
    assert all(answer == answers[0] for answer in answers)


async def test_tenants_never_meet(client: Any) -> None:
    other, request_id = client.of("other"), str(uuid.uuid4())
    await client.put(b"mine", request_id=request_id)
    assert (await refused(other.stat())).code == "NOT_FOUND"
    assert (await refused(other.get())).code == "NOT_FOUND"
    assert await other.names() == []
    assert await other.stats() == []
    await other.put(b"theirs", request_id=request_id)  # neither the key nor the request id is taken
    assert (await client.get())[1] == b"mine"
    assert (await other.get())[1] == b"theirs"


HOSTILE = ["..", ".", "../../../etc/passwd", "a/b", "/etc/passwd", "a\\b", "a\0b", "a\nb", "\x1b[31m", "\u202egnp.exe"]


@pytest.mark.parametrize("name", [*HOSTILE, "", "x" * 201])
@pytest.mark.parametrize("part", ["workflow", "artifact"])
async def test_names_that_are_no_names_are_refused(client: Any, files: Any, part: str, name: str) -> None:
    error = await refused(client.put(b"x", **{part: name}))
    assert (error.code, error.field) == ("INVALID_ARGUMENT", f"header.key.{part}")
    for call in (client.get, client.stat):
        assert (await refused(call(**{part: name}))).field == f"key.{part}"
    assert files() == NO_FILES


ODD = [
    "report.json", "Report.json", "REPORT.JSON", "%52eport.json", ".hidden", "..hidden", "-rf", "~root", "nul", "NUL",
    "com1.txt", "end.", "end. ", " ", "*", "a:b", "ü" * 200, "ü" * 199 + "U", "\u00fc", "u\u0308", "日本語.pdf", "😀",
    "\u0440\u0430ypal", "paypal", "x" * 200, "%-", "file name with spaces", "${HOME}", "\ud7ff",
    "'; DROP TABLE artifacts; --",
]  # fmt: skip


async def test_every_other_name_is_an_artifact_of_its_own(client: Any, files: Any) -> None:
    for name in ODD:
        await client.put(name.encode(), artifact=name, workflow=name)
    for name in ODD:
        info, got = await client.get(name, name)
        assert (info.key.artifact, info.key.workflow, got) == (name, name, name.encode())
    stored = files()
    assert len({path.lower() for path in stored}) == len(ODD)
    for path in stored:
        assert path.startswith("hot/acme/")
        assert path.count("/") == 3


DAMAGES = {
    "first byte": lambda content: b"!" + content[1:],
    "last byte": lambda content: content[:-1] + b"!",
    "cut": lambda content: content[:-1],
    "grown": lambda content: content + b"!",
    "grown a lot": lambda content: content + b"!" * 2**20,
    "emptied": lambda content: b"",
}


@pytest.mark.parametrize("size", [10, 2**20, 2**20 + 1, 5 * 2**20])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_object_is_never_taken_for_whole(client: Any, home: Path, size: int, damage: str) -> None:
    content = bytes(size)
    put = await client.put(*(content[at : at + 2**20] for at in range(0, size, 2**20)))
    (home / "artifacts" / put.location).write_bytes(DAMAGES[damage](content))
    got = 0
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for message in client.stub.GetArtifact(
            storage_pb2.GetArtifactRequest(key=storage_pb2.ArtifactKey(workflow="w", artifact="a.json")),
            metadata=(("djp-tenant", "acme"),),
        ):
            got += len(message.chunk)
    assert (caught.value.code(), error_from_rpc(caught.value).reason) == (grpc.StatusCode.DATA_LOSS, "HASH_MISMATCH")
    assert got < size


async def test_an_object_that_is_gone_is_told_with_its_place(client: Any, home: Path) -> None:
    location = (await client.put(b"text")).location
    os.unlink(home / "artifacts" / location)
    error = await refused(client.get())
    assert (error.code, error.reason) == ("DATA_LOSS", "NOT_FOUND")
    assert f"{home}/artifacts/{location} is gone" in error.message
    assert error.told.startswith(f"{location} is gone")  # where the folder is, is told to nobody outside


def replace_by(kind: str, path: Path, secret: Path) -> None:
    path.unlink()
    match kind:
        case "link":
            path.symlink_to(secret)
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "linked folder":
            shutil.rmtree(path.parent)
            path.parent.symlink_to(secret.parent)


async def test_a_folder_that_is_taken_away_is_told(client: Any, home: Path) -> None:
    await client.put(b"text")
    os.rename(home / "artifacts", home / "away")
    assert (await refused(client.get())).code == "DATA_LOSS"
    error = await refused(client.put(b"other", artifact="b.json"))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "FAILED_PRECONDITION")
    assert str(home / "artifacts") in error.message
    os.rename(home / "away", home / "artifacts")
    assert (await client.get())[1] == b"text"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "linked folder"])
async def test_nothing_but_a_file_is_read(client: Any, home: Path, kind: str) -> None:
    secret = home / "elsewhere" / "a.json"
    secret.parent.mkdir()
    secret.write_bytes(b"text")
    replace_by(kind, home / "artifacts" / (await client.put(b"text")).location, secret)
    error = await refused(client.get())
    assert error.code == "FAILED_PRECONDITION"
    assert "link" in error.message


async def test_nothing_is_written_through_a_link(client: Any, home: Path) -> None:
    outside = home / "outside"
    outside.mkdir()
    await client.put(b"text")
    (home / "artifacts/hot/acme/linked").symlink_to(outside)
    error = await refused(client.put(b"text", workflow="linked"))
    assert error.code == "FAILED_PRECONDITION"
    assert list(outside.iterdir()) == []
    assert (await refused(client.stat(workflow="linked"))).code == "NOT_FOUND"


async def test_what_belongs_to_no_artifact_is_never_touched(client: Any, home: Path, files: Any) -> None:
    place = home / "artifacts/hot/acme/w"
    place.mkdir(parents=True)
    (place / "a.json").write_bytes(b"of a catalogue that was lost")
    await client.put(b"new")
    assert (await client.get())[1] == b"new"
    assert (place / "a.json").read_bytes() == b"of a catalogue that was lost"
