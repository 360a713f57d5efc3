"""Errors cross the wire whole: every detail, for unary and streaming handlers, and nothing that is not meant to."""

from __future__ import annotations

import asyncio
import logging

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from djp.mesh import errors
from djp.mesh.rpc_errors import error_from_rpc


@pytest.fixture(params=["unix", "local"])
def scheme(request):
    return request.param


class BudgetDenied(errors.ResourceExhausted):
    reason = "BUDGET_EXCEEDED"


def _full_error() -> errors.DjpError:
    return BudgetDenied(
        "the monthly budget of tenant ä has no room\nsecond line",
        metadata={"budget": "monthly"},
        violations=[errors.Violation("items[0].title", "must not be empty")],
        retry_after_s=1.5,
        quota=[errors.QuotaViolation("tenant:acme/monthly", "12 of 12 USD")],
    )


def _assert_full(error: errors.DjpError) -> None:
    assert type(error) is errors.ResourceExhausted
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "BUDGET_EXCEEDED")
    assert error.message == "the monthly budget of tenant ä has no room\nsecond line"
    assert error.metadata == {"budget": "monthly"}
    assert error.violations == (errors.Violation("items[0].title", "must not be empty"),)
    assert error.retry_after_s == 1.5
    assert error.quota == (errors.QuotaViolation("tenant:acme/monthly", "12 of 12 USD"),)


async def _raises(*_):
    raise _full_error()


async def _raises_after_one(_request, _context):
    yield _request
    raise _full_error()


async def _writes_then_raises(request, context):
    await context.write(request)
    raise _full_error()


async def _reads_then_raises(requests, _context):
    async for request in requests:
        yield request
        raise _full_error()


@pytest.mark.parametrize("address", [None, "127.0.0.1:0", "localhost:0"])
async def test_every_detail_of_a_unary_error_comes_back(mesh, address):
    stub = await mesh.probe(address, Unary=_raises)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Unary(mesh.Text())
    _assert_full(error_from_rpc(caught.value))


async def test_other_clients_read_the_details_with_grpc_status(mesh):
    stub = await mesh.probe(Unary=_raises)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Unary(mesh.Text())
    status = rpc_status.from_call(caught.value)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("djp", "BUDGET_EXCEEDED")


@pytest.mark.parametrize("behavior", [_raises_after_one, _writes_then_raises])
async def test_a_stream_gives_what_it_had_and_then_the_error(mesh, behavior):
    stub = await mesh.probe(Stream=behavior)
    seen = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for response in stub.Stream(mesh.Text(value="first")):
            seen.append(response.value)
    assert seen == ["first"]
    _assert_full(error_from_rpc(caught.value))


async def test_client_streaming_and_bidirectional_handlers_too(mesh):
    stub = await mesh.probe(Collect=_raises, Chat=_reads_then_raises)

    async def requests():
        yield mesh.Text(value="a")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Collect(requests())
    _assert_full(error_from_rpc(caught.value))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stub.Chat(requests()):
            pass
    _assert_full(error_from_rpc(caught.value))


async def test_a_service_may_answer_for_itself(mesh):
    async def aborts(_request, context):
        await context.abort(grpc.StatusCode.DATA_LOSS, "gone")

    stub = await mesh.probe(Unary=aborts)
    with pytest.raises(grpc.aio.AioRpcError, match="gone") as caught:
        await stub.Unary(mesh.Text())
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS


def _not_yet(_request, context):  # as a generated base servicer does it: not async, raising at once
    context.set_code(grpc.StatusCode.UNIMPLEMENTED)
    raise NotImplementedError("Method not implemented!")


@pytest.mark.parametrize("method", ["Unary", "Stream"])
async def test_a_method_left_out_is_unimplemented_and_named(mesh, method):
    stub = await mesh.probe(**{method: _not_yet})
    call = getattr(stub, method)(mesh.Text())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call if method == "Unary" else call.read())
    error = error_from_rpc(caught.value)
    assert type(error) is errors.Unimplemented
    assert f"test.Probe/{method}" in error.message


async def test_an_unknown_exception_tells_the_caller_an_id_and_the_log_the_rest(mesh, caplog):
    async def breaks(*_):
        raise RuntimeError("the password is hunter2")

    stub = await mesh.probe(Unary=breaks)
    with pytest.raises(grpc.aio.AioRpcError) as caught, caplog.at_level(logging.ERROR):
        await stub.Unary(mesh.Text())
    error = error_from_rpc(caught.value)
    assert type(error) is errors.Internal
    assert "hunter2" not in str(caught.value.trailing_metadata()) + error.message
    assert error.metadata["error_id"] in error.message
    record = next(r for r in caplog.records if error.metadata["error_id"] in r.getMessage())
    assert "hunter2" in str(record.exc_info[1])


async def test_an_error_of_a_nested_call_goes_on_to_the_caller(mesh):
    leaf = await mesh.probe(Unary=_raises)

    async def forwards(request, _context):
        return await leaf.Unary(request)

    hub = await mesh.serve(mesh.service("hub", Unary=forwards))
    stub = await mesh.stub(hub.address)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Unary(mesh.Text())
    _assert_full(error_from_rpc(caught.value))


async def test_five_hundred_violations_still_reach_a_client_with_default_limits(mesh):
    violations = [errors.Violation(f"items[{i}].title", "must not be empty " + "ö" * 400) for i in range(500)]

    async def refuses(*_):
        raise errors.InvalidInput("ö" * 5000, violations=violations, metadata={"k": "v" * 5000})

    server = await mesh.serve(mesh.service(Unary=refuses), f"unix:{mesh.folder}/probe.sock")
    async with grpc.aio.insecure_channel(server.address) as plain:
        call = plain.unary_unary("/test.Probe/Unary")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")
    error = error_from_rpc(caught.value)
    assert type(error) is errors.InvalidInput
    assert error.field == "items[0].title"
    shown = len(error.violations) - 1
    assert shown >= 1
    assert error.violations[-1].description == f"and {500 - shown} more"


async def test_nothing_listens_is_unavailable(mesh):
    stub = await mesh.stub(mesh.address("nobody"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Unary(mesh.Text())
    assert type(error_from_rpc(caught.value)) is errors.Unavailable


@pytest.mark.parametrize("method", ["Unary", "Stream"])
async def test_a_cancelled_call_cancels_its_handler_and_closes_its_generator(mesh, method, caplog):
    entered, unwound = asyncio.Event(), asyncio.Event()

    async def hangs(*_):
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            unwound.set()
            raise

    async def generates(request, _context):
        try:
            while True:  # mostly cancelled while it is suspended at its yield
                yield request
                entered.set()
        finally:
            unwound.set()

    stub = await mesh.probe(Unary=hangs, Stream=generates)
    call = getattr(stub, method)(mesh.Text(value="x" * 10_000))
    if method == "Stream":
        await call.read()
    await asyncio.wait_for(entered.wait(), 10)
    call.cancel()
    await asyncio.wait_for(unwound.wait(), 10)
    assert "Traceback" not in caplog.text
    assert "different Context" not in caplog.text


def test_reasons_are_names_of_the_contract():
    from djp.v1.common_pb2 import ErrorReason

    def known(cls):
        yield cls
        for sub in cls.__subclasses__():
            if sub.__module__ == errors.__name__:
                yield from known(sub)

    for cls in known(errors.DjpError):
        assert f"ERROR_REASON_{cls.reason}" in ErrorReason.keys()  # noqa: SIM118  no mapping
        assert cls.code in grpc.StatusCode.__members__


async def test_an_upload_is_refused_whenever_it_ends(mesh):
    """A task of the handler's own may hear the end of the requests at the very moment at which the handler fails."""

    async def refuses(requests, _context):
        first = asyncio.get_running_loop().create_future()

        async def read():
            async for request in requests:
                first.set_result(int(request.value))

        reading = asyncio.create_task(read())
        for _ in range(await first):
            await asyncio.sleep(0)
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise errors.NotFound("there is no such thing")

    stub = await mesh.probe(Collect=refuses)
    for number in range(300):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Collect(iter([mesh.Text(value=str(number % 30))]), timeout=20)
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def _assert_unreadable(error: errors.DjpError, method: str) -> None:
    assert (type(error), error.reason) == (errors.InvalidInput, "INVALID_INPUT")
    assert error.message.startswith(f"{method}: the bytes of the request are no protobuf message")


@pytest.mark.parametrize("garbage", [b"\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\x05a"])  # no tag, no UTF-8, cut off
async def test_bytes_that_are_no_message_are_refused_in_plain_words(mesh, garbage):
    handled = []

    async def once(request, _context):
        handled.append([one async for one in request] if hasattr(request, "__aiter__") else request)
        return mesh.Text()

    async def many(request, _context):
        yield await once(request, _context)

    server = await mesh.serve(mesh.service(Unary=once, Stream=many, Collect=once, Chat=many))
    channel = await mesh.channel(server.address)
    for method, call in (
        ("Unary", channel.unary_unary("/test.Probe/Unary")(garbage)),
        ("Stream", channel.unary_stream("/test.Probe/Stream")(garbage).read()),
        ("Collect", channel.stream_unary("/test.Probe/Collect")(iter([b"", garbage]))),
        ("Chat", channel.stream_stream("/test.Probe/Chat")(iter([b"", garbage])).read()),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        _assert_unreadable(error_from_rpc(caught.value), f"test.Probe/{method}")
    assert not handled


async def test_probes_and_tools_are_refused_bytes_that_are_no_message(mesh):
    server = await mesh.serve(mesh.service(), f"unix:{mesh.folder}/probe.sock")
    channel = await mesh.channel(server.address)
    check, watch = (f"{health.SERVICE_NAME}/{method}" for method in ("Check", "Watch"))
    reflect = f"{reflection.SERVICE_NAME}/ServerReflectionInfo"
    for method, call in (
        (check, channel.unary_unary(f"/{check}")(b"\xff")),
        (watch, channel.unary_stream(f"/{watch}")(b"\xff").read()),
        (reflect, channel.stream_stream(f"/{reflect}")(iter([b"\xff"])).read()),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        _assert_unreadable(error_from_rpc(caught.value), method)
