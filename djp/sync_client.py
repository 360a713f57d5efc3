"""The Python client of the gateway for programs without an event loop: the methods of `djp.client`, blocking, typed."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import partial, wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import anyio
from anyio import from_thread

from djp import batches_client, client, corpora_client, storage_client
from djp.client_retries import RETRY_WAITS_S

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Coroutine,
        Generator,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from anyio.from_thread import BlockingPortal

    from djp.v1 import redaction_pb2, storage_pb2

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Inner = TypeVar("Inner")
Given = ParamSpec("Given")


class _Blocking:
    """An asynchronous client `inner` and the event loop in a thread that it lives on."""

    def __init__(self, inner: object, portal: BlockingPortal) -> None:
        self._inner = inner
        self._portal = portal

    def _wait(self, start: Callable[[], Coroutine[object, object, Answer]]) -> Answer:
        """The answer; Ctrl-C while we wait cancels the call, too."""
        future = self._portal.start_task_soon(start)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _walk(self, items: AsyncGenerator[Item, None]) -> Generator[Item, None, None]:
        """The items as they come; a walk that is given up ends the stream."""
        try:
            with suppress(StopAsyncIteration):
                while True:
                    yield self._wait(partial(_next, items))
        finally:
            with suppress(RuntimeError):  # the client is closed already, and its streams with it
                self._wait(items.aclose)


async def _next(items: AsyncIterator[Item]) -> Item:
    return await anext(items)


async def _read(items: Iterable[Item]) -> AsyncGenerator[Item, None]:
    """The items of a caller, who may take his time, without holding up the event loop."""
    iterator, end = iter(items), object()
    while (item := await anyio.to_thread.run_sync(next, iterator, end)) is not end:
        yield item  # type: ignore[misc]  # not the end, so an item


def _call(
    method: Callable[Concatenate[Inner, Given], Coroutine[object, object, Answer]],
) -> Callable[Concatenate[_Blocking, Given], Answer]:
    """A method of the asynchronous client that blocks until it has its answer."""

    @wraps(method)
    def blocking(self: _Blocking, /, *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        return self._wait(partial(method, self._inner, *args, **kwargs))  # type: ignore[arg-type]  # the classes below pair them

    return blocking


def _stream(
    method: Callable[Concatenate[Inner, Given], AsyncGenerator[Item, None]],
) -> Callable[Concatenate[_Blocking, Given], Generator[Item, None, None]]:
    """The same of one that answers with a stream: a generator, which ends the stream when it is closed."""

    @wraps(method)
    def blocking(self: _Blocking, /, *args: Given.args, **kwargs: Given.kwargs) -> Generator[Item, None, None]:
        return self._walk(method(self._inner, *args, **kwargs))  # type: ignore[arg-type]  # as above

    return blocking


class SyncBatchesClient(_Blocking):
    """`BatchesClient`, blocking."""

    start = _call(batches_client.BatchesClient.start)
    get = _call(batches_client.BatchesClient.get)
    list = _call(batches_client.BatchesClient.list)
    rows = _stream(batches_client.BatchesClient.rows)
    watch = _stream(batches_client.BatchesClient.watch)
    pause = _call(batches_client.BatchesClient.pause)
    resume = _call(batches_client.BatchesClient.resume)
    cancel = _call(batches_client.BatchesClient.cancel)


class SyncCorporaClient(_Blocking):
    """`CorporaClient`, blocking."""

    list = _call(corpora_client.CorporaClient.list)
    versions = _call(corpora_client.CorporaClient.versions)
    get = _call(corpora_client.CorporaClient.get)
    search = _call(corpora_client.CorporaClient.search)
    check = _call(corpora_client.CorporaClient.check)
    rollback = _call(corpora_client.CorporaClient.rollback)
    delete = _call(corpora_client.CorporaClient.delete)


class SyncStorageClient(_Blocking):
    """`StorageClient`, blocking. What is sent comes from plain iterables."""

    _inner: storage_client.StorageClient

    get = _stream(storage_client.StorageClient.get)
    stat = _call(storage_client.StorageClient.stat)
    list = _call(storage_client.StorageClient.list)
    stats = _call(storage_client.StorageClient.stats)
    restore = _call(storage_client.StorageClient.restore)
    purge = _call(storage_client.StorageClient.purge)
    undelete = _call(storage_client.StorageClient.undelete)
    hold = _call(storage_client.StorageClient.hold)
    run_lifecycle = _stream(storage_client.StorageClient.run_lifecycle)
    lifecycle_status = _call(storage_client.StorageClient.lifecycle_status)
    reconcile = _stream(storage_client.StorageClient.reconcile)
    export = _stream(storage_client.StorageClient.export)
    list_events = _call(storage_client.StorageClient.list_events)

    def put(
        self,
        workflow: str,
        artifact: str,
        chunks: Iterable[bytes],
        *,
        sha256: str = "",
        content_type: str = "",
        run_id: str = "",
        tags: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> storage_pb2.ArtifactInfo:
        """Store an artifact. Without its `sha256` (hex), bytes that end too early cannot be told from all of them."""
        return self._wait(
            partial(
                self._inner.put,
                workflow,
                artifact,
                _read(chunks),
                sha256=sha256,
                content_type=content_type,
                run_id=run_id,
                tags=tags,
                request_id=request_id,
            )
        )

    def take_in(self, chunks: Iterable[bytes], *, request_id: str | None = None) -> storage_pb2.ImportTenantResponse:
        """Take an archive in. What is there already stays; see `refused` and `problems` for what was not taken."""
        return self._wait(partial(self._inner.take_in, _read(chunks), request_id=request_id))


class SyncDjpClient(_Blocking):
    """A gateway's client. Every method raises DjpError, with the gateway's own code and reason; none raises RpcError.

    Several threads may share one. What it calls back (`sent` of `create_corpus`) it calls in a thread of its own.

    Example:
        with connect("localhost:7100") as client:
            run = client.start_run(RunRequest(task="How are citations checked?"))
            for event in client.watch(run.run_id):
                print(event.sequence, event.WhichOneof("event"))
            print(client.get_run(run.run_id).result.text)
    """

    _inner: client.DjpClient

    def __init__(self, inner: client.DjpClient, portal: BlockingPortal) -> None:
        super().__init__(inner, portal)
        self.batches = SyncBatchesClient(inner.batches, portal)
        self.corpora = SyncCorporaClient(inner.corpora, portal)
        self.storage = SyncStorageClient(inner.storage, portal)

    create_corpus = _call(client.DjpClient.create_corpus)
    import_corpus = _call(client.DjpClient.import_corpus)
    start_run = _call(client.DjpClient.start_run)
    project_run = _call(client.DjpClient.project_run)
    watch = _stream(client.DjpClient.watch)
    get_run = _call(client.DjpClient.get_run)
    cancel_run = _call(client.DjpClient.cancel_run)
    replay_run = _call(client.DjpClient.replay_run)
    list_runs = _call(client.DjpClient.list_runs)
    list_presets = _call(client.DjpClient.list_presets)
    list_policies = _call(client.DjpClient.list_policies)
    list_templates = _call(client.DjpClient.list_templates)
    get_template = _call(client.DjpClient.get_template)
    render_template = _call(client.DjpClient.render_template)
    list_models = _call(client.DjpClient.list_models)
    redact = _call(client.DjpClient.redact)
    list_rules = _call(client.DjpClient.list_rules)
    validate_rules = _call(client.DjpClient.validate_rules)
    cost_report = _call(client.DjpClient.cost_report)
    list_anomalies = _call(client.DjpClient.list_anomalies)
    list_budgets = _call(client.DjpClient.list_budgets)
    get_budget = _call(client.DjpClient.get_budget)
    set_budget = _call(client.DjpClient.set_budget)
    delete_budget = _call(client.DjpClient.delete_budget)
    list_events = _call(client.DjpClient.list_events)
    approve_run = _call(client.DjpClient.approve_run)
    reject_run = _call(client.DjpClient.reject_run)
    list_dead_letters = _call(client.DjpClient.list_dead_letters)
    get_dead_letter = _call(client.DjpClient.get_dead_letter)
    replay_dead_letters = _call(client.DjpClient.replay_dead_letters)
    purge_dead_letters = _call(client.DjpClient.purge_dead_letters)
    create_key = _call(client.DjpClient.create_key)
    get_scaling = _call(client.DjpClient.get_scaling)
    list_keys = _call(client.DjpClient.list_keys)
    revoke_key = _call(client.DjpClient.revoke_key)
    get_caller = _call(client.DjpClient.get_caller)
    list_audit_events = _call(client.DjpClient.list_audit_events)

    def redact_stream(
        self, pieces: Iterable[str], options: redaction_pb2.RedactionOptions
    ) -> Generator[redaction_pb2.RedactStreamResponse, None, None]:
        """`redact` for a text of any length that comes in pieces of up to 1 MiB: what can no longer change, at once.

        Raises what `pieces` raises, too.
        """
        return self._walk(self._inner.redact_stream(_read(pieces), options))


@contextmanager
def connect(
    address: str, *, api_key: str = "", retry_waits_s: Sequence[float] = RETRY_WAITS_S
) -> Iterator[SyncDjpClient]:
    """A client as `djp.client.connect` gives it, for code that blocks. An event loop runs in a thread of its own."""
    with (
        from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(
            client.connect(address, api_key=api_key, retry_waits_s=retry_waits_s)
        ) as inner,
    ):
        yield SyncDjpClient(inner, portal)
