"""What is left when storage is killed, runs out of disk, or finds its folder unusable."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import random
import resource
import subprocess
import sys
import uuid
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from djp.mesh.channel import open_channel
from djp.mesh.errors import FailedPrecondition, Unavailable
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import storage_pb2_grpc
from djp_storage.adapters.directory_store import DirectoryStore
from djp_storage.model import ArtifactKey, ObjectName, Tier
from djp_storage.server import open_service
from djp_storage.settings import StorageSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SCRIPT = Path(__file__).with_name("storage_killed_put.py")
SERVE = "import sys; from djp.standalone import serve_one; sys.exit(serve_one('storage', sys.argv[1]))"


def script() -> Any:
    spec = importlib.util.spec_from_file_location("storage_killed_put", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_a_put_killed_at_any_step_is_whole_or_was_never_made(home: Path, serve: Any, files: Any) -> None:
    killed = script()
    run = await asyncio.to_thread(
        subprocess.run, [sys.executable, SCRIPT, home], capture_output=True, text=True, timeout=600, check=True
    )
    lines = [line.split() for line in run.stdout.splitlines()]
    acknowledged = {int(n) for word, n in lines if word == "acknowledged"}
    (survived,) = [int(n) for word, n in lines if word == "survived"]
    assert survived > 20
    assert survived in acknowledged
    assert [path for path in files() if path.startswith(".incoming/")]  # dead uploads, as after a power cut

    async with serve() as client:
        assert not [path for path in files() if path.startswith(".incoming/")]
        while True:  # until what the dead have left whole is entered, for nobody knows whether it was before
            placed = {path.split("/")[2] for path in files() if path.startswith("hot/")}
            if placed == {one.key.workflow for one in (await client.list(page_size=1000)).artifacts}:
                break
            await asyncio.sleep(0.05)
        whole = {one.key.workflow for one in (await client.list(page_size=1000)).artifacts}
        assert whole >= {f"w{n}" for n in acknowledged}
        assert 0 < len(whole) < survived
        for n in range(1, survived + 1):
            name = {"workflow": f"w{n}", "artifact": "a.json"}
            if f"w{n}" in whole:
                assert (await client.get(**name))[1] == killed.content(n)
                await client.put(killed.content(n), request_id=killed.request_id(n), **name)
            else:  # the sender tries again, or gives up and puts something else there
                again = killed.content(n) if n % 2 else b"something else"
                await client.put(again, request_id=killed.request_id(n), **name)
                assert (await client.get(**name))[1] == again


class Process:
    """A storage target in a process of its own."""

    def __init__(self, home: Path, **limits: Any) -> None:
        self.address = f"unix:{home}/p.sock"
        environment = {**os.environ, "DJP_HOME": str(home), "DJP_DRAIN_DELAY_S": "0"}
        self._process = subprocess.Popen([sys.executable, "-c", SERVE, self.address], env=environment, **limits)

    def lives(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@asynccontextmanager
async def process(home: Path, client_of: Any, **limits: Any) -> AsyncIterator[tuple[Process, Any]]:
    running = Process(home, **limits)
    try:
        async with open_channel(running.address) as channel:
            ready = asyncio.ensure_future(channel.channel_ready())
            while not ready.done():
                assert running.lives(), "it ended before it answered"
                await asyncio.wait([ready], timeout=0.1)
            yield running, client_of(storage_pb2_grpc.StorageServiceStub(channel))
    finally:
        running.kill()


async def test_whatever_a_killed_service_acknowledged_is_there(home: Path, client_of: Any) -> None:
    rolled = random.Random(8)
    acknowledged: dict[str, str] = {}
    tried: dict[str, str] = {}
    codes: dict[grpc.StatusCode, str] = {}

    async def putting(client: Any, kill_at: int, running: Process) -> None:
        while True:
            content = rolled.randbytes(rolled.choice([0, 10, 5_000, 300_000]))
            name, digest = str(uuid.uuid4()), hashlib.sha256(content).hexdigest()
            tried[name] = digest
            try:
                await client.put(content[:100_000], content[100_000:], artifact=name, sha256=digest)
            except grpc.aio.AioRpcError as error:
                codes[error.code()] = repr(error)
                return
            acknowledged[name] = digest
            if len(acknowledged) >= kill_at:
                running.kill()

    for _ in range(2):
        async with process(home, client_of) as (running, client):
            for page in await all_pages(client):
                for one in page.artifacts:
                    assert tried[one.key.artifact] == one.sha256
                    assert hashlib.sha256((await client.get(one.key.artifact))[1]).hexdigest() == one.sha256
                    acknowledged.setdefault(one.key.artifact, one.sha256)
            kill_at = len(acknowledged) + rolled.randrange(5, 30)
            await asyncio.gather(*(putting(client, kill_at, running) for _ in range(4)))
    # UNKNOWN is what a client hears whose server dies between two frames.
    assert set(codes) - {grpc.StatusCode.UNKNOWN} == {grpc.StatusCode.UNAVAILABLE}, codes
    async with process(home, client_of) as (_, client):
        stored = {one.key.artifact for page in await all_pages(client) for one in page.artifacts}
        assert stored >= set(acknowledged)
        for name in stored:
            assert hashlib.sha256((await client.get(name))[1]).hexdigest() == tried[name]


async def all_pages(client: Any) -> list[Any]:
    pages = [await client.list(page_size=50)]
    while pages[-1].next_page_token:
        pages.append(await client.list(page_size=50, page_token=pages[-1].next_page_token))
    return pages


async def test_a_full_disk_is_told_and_leaves_nothing(home: Path, client_of: Any, files: Any) -> None:
    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    async with process(home, client_of, preexec_fn=no_large_files) as (_, client):
        for parts in ([bytes(2**20), b"x"], [bytes(700_000)] * 2, [bytes(2**20 + 1)]):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.put(*parts)
            error = error_from_rpc(caught.value)
            assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "DISK_FULL")
            assert "free some space" in error.message
        assert await client.names() == []
        await client.put(b"small")
        assert (await client.get())[1] == b"small"
        assert files() == {"hot/acme/w/a.json": b"small"}


async def test_two_services_share_a_folder_and_a_database(serve: Any, home: Path, files: Any) -> None:
    async with serve() as one, serve() as other:
        contents = [f"content {n % 3}".encode() * 1000 for n in range(12)]
        answers = await asyncio.gather(
            *((one, other)[n % 2].put(content) for n, content in enumerate(contents)), return_exceptions=True
        )
        _, got = await one.get()
        assert (await other.get())[1] == got
        for content, answer in zip(contents, answers, strict=True):
            assert (content == got) == (not isinstance(answer, BaseException))
    assert files() == {"hot/acme/w/a.json": got}


async def test_too_many_open_files_is_a_matter_of_trying_again(home: Path) -> None:
    store = DirectoryStore(home / "artifacts")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(home, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(Unavailable):
            async with store.upload(ObjectName(Tier.HOT, ArtifactKey("acme", "w", "a"), "0123456789ab")):
                pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    async with store.upload(ObjectName(Tier.HOT, ArtifactKey("acme", "w", "a"), "0123456789ab")) as upload:
        await upload.write(b"x")


async def refuses_to_start(home: Path, data_dir: Path) -> str:
    settings = StorageSettings(database_url=f"sqlite+aiosqlite:///{home}/storage.db", data_dir=data_dir)
    with pytest.raises(FailedPrecondition) as caught:
        async with open_service(settings):
            pass
    assert str(data_dir) in caught.value.message
    return caught.value.message


async def test_a_folder_that_cannot_be_used_stops_the_start(home: Path) -> None:
    file = home / "file"
    file.write_bytes(b"")
    assert "folder" in await refuses_to_start(home, file)
    assert "folder" in await refuses_to_start(home, file / "artifacts")
    linked = home / "linked"
    linked.mkdir()
    (linked / ".incoming").symlink_to(home)
    assert "link" in await refuses_to_start(home, linked)


async def test_a_folder_that_cannot_be_written_stops_the_start(home: Path) -> None:
    locked = home / "locked"
    locked.mkdir(mode=0o500)
    nobody = os.geteuid() == 0  # root may write everywhere
    if nobody:
        os.chmod(home, 0o711)
        os.seteuid(65534)
    try:
        message = await refuses_to_start(home, locked)
    finally:
        if nobody:
            os.seteuid(0)
    assert "permissions" in message
    assert "DJP_STORAGE_DATA_DIR" in message
