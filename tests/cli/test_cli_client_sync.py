"""The Python client for programs that block, and the calls that are made again: by reason, with the same request."""

from __future__ import annotations

import asyncio
import inspect
import re
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from djp import batches_client, corpora_client, storage_client, sync_client
from djp import client as async_client
from djp.mesh.errors import DeadlineExceeded, InvalidInput, NotFound, ResourceExhausted, Unavailable
from djp.sync_client import SyncDjpClient, connect
from djp.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from djp.mesh.errors import DjpError

RUN = run_pb2.RunRequest(task="Why?")


@pytest.fixture
def blocking(gateway: Any) -> Callable[[Callable[[SyncDjpClient], Any]], Awaitable[Any]]:
    """Runs a blocking program with a client of the fake gateway, which goes on serving."""

    def program(work: Callable[[SyncDjpClient], Any]) -> Any:
        with connect(gateway.address, retry_waits_s=(0, 0, 0)) as client:
            return work(client)

    return lambda work: asyncio.to_thread(program, work)


async def test_a_run_from_its_start_to_its_end(gateway: Any, blocking: Any, docs: Path) -> None:
    gateway.breaks = [3, 5]

    def work(client: SyncDjpClient) -> tuple[list[int], str]:
        corpus = client.create_corpus(docs)
        run = client.start_run(run_pb2.RunRequest(task="Why?", corpus=corpus.name))
        seen = [event.sequence for event in client.watch(run.run_id)]
        return seen, client.get_run(run.run_id).result.text

    seen, text = await blocking(work)
    assert seen == list(range(1, 10))
    assert text == gateway.run.result.text
    assert gateway.watched_after == [0, 3, 5]


async def test_the_example_of_each_client_works(gateway: Any, docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def example(cls: type) -> str:
        code = textwrap.dedent((cls.__doc__ or "").partition("Example:\n")[2])
        return code.replace("localhost:7100", gateway.address).replace('"docs"', repr(str(docs)))

    blocking = example(SyncDjpClient)
    names = {"connect": connect, "RunRequest": run_pb2.RunRequest}
    await asyncio.to_thread(lambda: exec(blocking, dict(names)))
    awaiting = "async def program():\n" + textwrap.indent(example(async_client.DjpClient), "    ")
    made: dict[str, Any] = {**names, "connect": async_client.connect, "Path": type(docs)}
    exec(awaiting, made)
    await made["program"]()
    printed = capsys.readouterr().out
    assert printed.count("9 state") == 2
    assert printed.count(gateway.run.result.text) == 2


@pytest.mark.parametrize(
    ("awaiting", "blocks"),
    [
        (async_client.DjpClient, sync_client.SyncDjpClient),
        (batches_client.BatchesClient, sync_client.SyncBatchesClient),
        (corpora_client.CorporaClient, sync_client.SyncCorporaClient),
        (storage_client.StorageClient, sync_client.SyncStorageClient),
    ],
)
def test_both_clients_have_the_same_methods(awaiting: type, blocks: type) -> None:
    def methods(cls: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in vars(cls).items()
            if callable(method) and not name.startswith("_")
        }

    assert methods(blocks) == methods(awaiting)
    for name in methods(blocks):
        assert getattr(blocks, name).__doc__


async def test_watching_that_is_given_up_ends_the_stream(gateway: Any, blocking: Any) -> None:
    gateway.goes_on.clear()

    def work(client: SyncDjpClient) -> int:
        for event in client.watch(gateway.run.run_id):
            if event.sequence == 3:
                break
        left_open = client.watch(gateway.run.run_id)
        next(left_open)
        return client.start_run(RUN).state

    assert await blocking(work) == run_pb2.RUN_STATE_QUEUED


async def test_threads_share_a_client(gateway: Any, blocking: Any) -> None:
    def work(client: SyncDjpClient) -> list[int]:
        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(lambda _: len(list(client.watch(gateway.run.run_id))), range(16)))

    assert await blocking(work) == [9] * 16


async def test_errors_are_the_domains_own(blocking: Any) -> None:
    def work(client: SyncDjpClient) -> None:
        with pytest.raises(NotFound, match="there is no run 12345678"):
            client.get_run("12345678")

    await blocking(work)


async def test_a_closed_client_says_so(gateway: Any) -> None:
    def work() -> None:
        with connect(gateway.address) as client:
            pass
        with pytest.raises(RuntimeError, match="not running"):
            client.list_presets()

    await asyncio.to_thread(work)
    assert not [thread for thread in threading.enumerate() if "portal" in thread.name]


@pytest.mark.parametrize(
    "error", [Unavailable("it restarts"), DeadlineExceeded("a service behind it"), Unavailable("x", retry_after_s=0.01)]
)
async def test_what_may_pass_is_asked_again_with_the_same_request(gateway: Any, blocking: Any, error: DjpError) -> None:
    gateway.lost = [error, error]
    run = await blocking(lambda client: client.start_run(RUN))

    assert run.run_id == gateway.run.run_id
    assert len(gateway.start_requests) == 3
    assert len({request.request_id for request in gateway.start_requests}) == 1


@pytest.mark.parametrize(
    "error",
    [
        ResourceExhausted("no room in tenant:default/daily", reason="BUDGET_EXCEEDED", retry_after_s=0.01),
        ResourceExhausted("the disk", reason="DISK_FULL"),
        InvalidInput("bad", field="task"),
        Unavailable("nothing left to wait for", reason="PROVIDER_FAILED"),
    ],
)
async def test_what_is_final_is_asked_once(gateway: Any, blocking: Any, error: DjpError) -> None:
    gateway.lost = [error]

    def work(client: SyncDjpClient) -> None:
        with pytest.raises(type(error), match=re.escape(error.message)) as caught:
            client.start_run(RUN)
        assert caught.value.reason == error.reason

    await blocking(work)
    assert len(gateway.start_requests) == 1


async def test_the_calls_own_deadline_ends_the_attempts(gateway: Any, blocking: Any) -> None:
    gateway.lost = [Unavailable("not before tomorrow", retry_after_s=86400)]

    def work(client: SyncDjpClient) -> None:
        with pytest.raises(Unavailable, match="tomorrow"):
            client.start_run(RUN)

    await blocking(work)
    assert len(gateway.start_requests) == 1


async def test_a_gateway_that_stays_away_is_told(blocking: Any, gateway: Any) -> None:
    gateway.lost = [*[Unavailable("it restarts")] * 9]

    def work(client: SyncDjpClient) -> None:
        with pytest.raises(Unavailable, match="it restarts"):
            client.start_run(RUN)

    await blocking(work)
    assert len(gateway.start_requests) == 4
