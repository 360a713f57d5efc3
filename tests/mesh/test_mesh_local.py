"""What holds of calls on a wire holds of calls within one process, tested once for both."""

from __future__ import annotations

import asyncio
import gc
import threading
from dataclasses import replace

import grpc
import pytest

from djp.client_retries import Retrying
from djp.mesh.channel import open_channel
from djp.mesh.errors import DjpError, FailedPrecondition, Unavailable
from djp.mesh.rpc_errors import error_from_rpc
from djp.mesh.settings import MeshSettings

CODE = grpc.StatusCode
METHODS = ("Unary", "Stream", "Collect", "Chat")


@pytest.fixture(params=["unix", "local"])
def scheme(request):
    return request.param


class Hanging:
    """A behavior that answers nothing until it is ended."""

    def __init__(self):
        self.entered, self.ended = asyncio.Event(), asyncio.Event()

    async def __call__(self, *_):
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


async def _silent():
    await asyncio.Event().wait()
    yield


def _called(mesh, stub, method, **options):
    """A call that has an awaitable answer or a first one."""
    call = getattr(stub, method)(_silent() if method in ("Collect", "Chat") else mesh.Text(), **options)
    return call, (call.read() if method in ("Stream", "Chat") else call)


@pytest.mark.parametrize("method", METHODS)
async def test_the_deadline_ends_both_sides(mesh, method):
    hanging = Hanging()
    stub = await mesh.probe(**{method: hanging})
    call, answer = _called(mesh, stub, method, timeout=0.3)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    assert caught.value.code() is await call.code() is CODE.DEADLINE_EXCEEDED
    assert type(error_from_rpc(caught.value)).__name__ == "DeadlineExceeded"
    await asyncio.wait_for(hanging.ended.wait(), 10)


@pytest.mark.parametrize("left_s", [0, -1])
async def test_without_time_left_the_call_ends(mesh, left_s):
    stub = await mesh.probe(Unary=Hanging())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Unary(mesh.Text(), timeout=left_s)
    assert caught.value.code() is CODE.DEADLINE_EXCEEDED


@pytest.mark.parametrize("method", METHODS)
async def test_a_caller_that_is_cancelled_ends_the_handler(mesh, method):
    hanging = Hanging()
    stub = await mesh.probe(**{method: hanging})
    call, answer = _called(mesh, stub, method)

    async def waits():
        return await answer

    caller = asyncio.create_task(waits())
    await asyncio.wait_for(hanging.entered.wait(), 10)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await asyncio.wait_for(hanging.ended.wait(), 10)
    assert call.cancelled()
    assert call.done()
    assert await call.code() is CODE.CANCELLED


@pytest.mark.parametrize("scheme", ["local"], indirect=True)  # on a wire our interceptors hold it
@pytest.mark.parametrize("method", METHODS)
async def test_a_call_that_nobody_holds_any_more_is_given_up(mesh, method):
    hanging = Hanging()
    stub = await mesh.probe(**{method: hanging})
    call = getattr(stub, method)(_silent() if method in ("Collect", "Chat") else mesh.Text())
    await asyncio.wait_for(hanging.entered.wait(), 10)
    del call
    gc.collect()
    await asyncio.wait_for(hanging.ended.wait(), 10)


@pytest.mark.parametrize("scheme", ["local"], indirect=True)  # on a wire it goes on until its window is full
async def test_a_stream_left_in_the_middle_ends_its_handler(mesh):
    ended = asyncio.Event()

    async def counts(*_):
        try:
            for number in range(1_000_000):
                yield mesh.Text(value=str(number))
        finally:
            ended.set()

    stub = await mesh.probe(Stream=counts)

    async def looks():
        async for answer in stub.Stream(mesh.Text()):
            if answer.value == "3":
                return

    await looks()
    gc.collect()
    await asyncio.wait_for(ended.wait(), 10)


@pytest.mark.parametrize("method", ["Unary", "Stream"])
async def test_cancelled_before_it_began_a_call_is_cancelled(mesh, method):
    stub = await mesh.probe(**{method: Hanging()})
    call = getattr(stub, method)(mesh.Text())
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await (call.read() if method == "Stream" else call)
    assert not call.cancel()


@pytest.mark.parametrize("method", METHODS)
async def test_a_status_of_the_handlers_own_comes_with_its_trailers(mesh, method):
    async def aborts(_request, context):
        await context.send_initial_metadata((("begun", "yes"),))
        await context.abort(CODE.DATA_LOSS, "gone", (("hint", "look elsewhere"), ("raw-bin", b"\0\1")))

    stub = await mesh.probe(**{method: aborts})
    call, answer = _called(mesh, stub, method)
    with pytest.raises(grpc.aio.AioRpcError, match="gone") as caught:
        await answer
    assert caught.value.code() is CODE.DATA_LOSS
    trailers = dict(caught.value.trailing_metadata())
    assert (trailers["hint"], trailers["raw-bin"]) == ("look elsewhere", b"\0\1")
    assert dict(caught.value.initial_metadata())["begun"] == "yes"
    assert (await call.code(), await call.details()) == (CODE.DATA_LOSS, "gone")


async def test_metadata_goes_both_ways_of_a_call_that_succeeds(mesh):
    async def answers(_request, context):
        await context.send_initial_metadata((("begun", "yes"),))
        context.set_trailing_metadata((("cost", "7"),))
        sent = dict(context.invocation_metadata())
        return mesh.Text(value=f"{sent['asked']} {sent['raw-bin']!r} {sent['own']}")

    server = await mesh.serve(mesh.service(Unary=answers))
    stub = await mesh.stub(server.address, headers={"own": "channel", "asked": "nothing"})
    call = stub.Unary(mesh.Text(), metadata=(("asked", "much"), ("raw-bin", b"\0\1")))
    assert (await call).value == "much b'\\x00\\x01' channel"
    assert (await call).value == "much b'\\x00\\x01' channel"
    assert dict(await call.initial_metadata())["begun"] == "yes"
    assert dict(await call.trailing_metadata())["cost"] == "7"
    assert await call.code() is CODE.OK


@pytest.mark.parametrize("method", METHODS)
async def test_an_unknown_method_is_unimplemented(mesh, method):
    stub = await mesh.probe()
    _, answer = _called(mesh, stub, method)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    assert caught.value.code() is CODE.UNIMPLEMENTED


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("direction", ["request", "answer"])
async def test_a_message_past_the_limit_ends_the_call(mesh, monkeypatch, method, direction):
    monkeypatch.setenv("DJP_MAX_MESSAGE_BYTES", "100000")
    small, large = mesh.Text(value="x"), mesh.Text(value="x" * 100_001)
    sent, answered = (large, small) if direction == "request" else (small, large)

    async def once(request, _context):
        if method == "Collect":
            [one async for one in request]
        return answered

    async def many(request, _context):
        if method == "Chat":
            [one async for one in request]
        if direction == "request":
            await asyncio.Event().wait()
        yield small
        yield answered

    behavior = once if method in ("Unary", "Collect") else many
    server = await mesh.serve(mesh.service(**{method: behavior}), settings=MeshSettings())
    stub = await mesh.stub(server.address)
    call = getattr(stub, method)(iter([sent]) if method in ("Collect", "Chat") else sent)
    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
        if method in ("Unary", "Collect"):
            await call
        else:
            async for _ in call:
                pass
    told = await call.code()
    if (mesh.scheme, method, direction) == ("unix", "Chat", "request"):
        assert told in (CODE.RESOURCE_EXHAUSTED, CODE.INTERNAL)  # gRPC sees a failure to write first
    else:
        assert told is CODE.RESOURCE_EXHAUSTED


async def test_messages_up_to_the_limit_pass_whole(mesh, monkeypatch):
    monkeypatch.setenv("DJP_MAX_MESSAGE_BYTES", "1000000")

    async def echoes(requests, _context):
        async for request in requests:
            yield request

    server = await mesh.serve(mesh.service(Chat=echoes), settings=MeshSettings())
    stub = await mesh.stub(server.address)
    texts = [str(n) * 900_000 for n in range(5)]
    assert [a.value async for a in stub.Chat(mesh.Text(value=t) for t in texts)] == texts


@pytest.mark.parametrize("who", ["reader of answers", "reader of requests"])
async def test_a_slow_reader_slows_the_writer_and_loses_nothing(mesh, who):
    """What lies unread stays far below the 40 MB that go by."""
    written = furthest = 0
    text = "x" * 20_000

    async def writes():
        nonlocal written
        for written in range(1, 2001):
            yield mesh.Text(value=f"{written} {text}")

    async def reads(messages):
        nonlocal furthest
        number = 0
        async for message in messages:
            number += 1
            assert message.value == f"{number} {text}"
            furthest = max(furthest, written - number)
            for _ in range(5):
                await asyncio.sleep(0)
        return number

    async def answers(*_):
        async for message in writes():
            yield message

    async def collects(requests, _context):
        return mesh.Text(value=str(await reads(requests)))

    stub = await mesh.probe(Stream=answers, Collect=collects)
    if who == "reader of answers":
        assert await reads(stub.Stream(mesh.Text())) == 2000
    else:
        assert (await stub.Collect(writes())).value == "2000"
    assert furthest * len(text) < 16_000_000


async def test_nothing_is_shared_between_the_sides(mesh):
    seen = []

    async def spoils(request, _context):
        seen.append(request)
        answer = mesh.Text(value=request.value)
        request.value = "spoilt"
        yield answer
        answer.value = "spoilt"
        yield request

    stub = await mesh.probe(Stream=spoils)
    request = mesh.Text(value="mine")
    answers = [answer async for answer in stub.Stream(request)]
    assert [answer.value for answer in answers] == ["mine", "spoilt"]
    answers[1].value = "the caller's"
    assert (request.value, seen[0].value) == ("mine", "spoilt")


async def test_many_calls_at_once_keep_apart(mesh):
    async def echoes(requests, _context):
        async for request in requests:
            await asyncio.sleep(0)
            yield mesh.Text(value=f"{request.value}!")

    stub = await mesh.probe(Chat=echoes)

    async def talk(number):
        said = [mesh.Text(value=f"{number}-{i}") for i in range(20)]
        assert [a.value async for a in stub.Chat(iter(said))] == [f"{one.value}!" for one in said]

    await asyncio.gather(*(talk(number) for number in range(50)))


async def test_both_sides_take_turns_when_they_read_and_write_by_hand(mesh):
    async def answers(_requests, context):
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(mesh.Text(value=f"{request.value}!"))

    stub = await mesh.probe(Chat=answers)
    call = stub.Chat()
    for word in ("one", "two"):
        await call.write(mesh.Text(value=word))
        assert (await call.read()).value == f"{word}!"
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    with pytest.raises(asyncio.InvalidStateError):
        await call.write(mesh.Text(value="late"))


async def test_requests_that_break_off_are_no_whole_stream(mesh):
    hanging, whole = Hanging(), []

    async def collects(requests, context):
        try:
            whole.append([request.value async for request in requests])
        finally:
            hanging.ended.set()

    async def breaks():
        yield mesh.Text(value="half")
        raise ValueError("the disk is gone")

    stub = await mesh.probe(Collect=collects)
    with pytest.raises(asyncio.CancelledError):
        await stub.Collect(breaks())
    await asyncio.wait_for(hanging.ended.wait(), 10)
    assert whole == []


async def test_an_answer_before_the_requests_end_ends_them(mesh):
    async def hears_enough(requests, _context):
        return await anext(requests)

    async def talks():
        yield mesh.Text(value="enough")
        while True:
            await asyncio.sleep(0)
            yield mesh.Text(value="and more")

    stub = await mesh.probe(Collect=hears_enough)
    assert (await stub.Collect(talks())).value == "enough"


async def test_a_drain_lets_the_open_call_end_and_refuses_the_next(mesh):
    entered, go_on, begun = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def waits(request, _context):
        entered.set()
        await go_on.wait()
        return request

    server = await mesh.serve(replace(mesh.service(Unary=waits), on_drain=[begun.set]))
    stub = await mesh.stub(server.address)
    call = stub.Unary(mesh.Text(value="mine"))
    await entered.wait()
    draining = asyncio.create_task(server.drain(grace_s=30))
    await asyncio.wait_for(begun.wait(), 10)
    async with open_channel(server.address) as late:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await late.unary_unary("/test.Probe/Unary", mesh.Text.SerializeToString)(mesh.Text())
    assert caught.value.code() is CODE.UNAVAILABLE
    go_on.set()
    assert (await call).value == "mine"
    await asyncio.wait_for(draining, 10)


async def test_a_drain_ends_what_does_not_end(mesh):
    hanging = Hanging()
    server = await mesh.serve(mesh.service(Unary=hanging))
    call = (await mesh.stub(server.address)).Unary(mesh.Text())
    await asyncio.wait_for(hanging.entered.wait(), 10)
    await asyncio.wait_for(server.drain(grace_s=0.1), 10)
    await asyncio.wait_for(hanging.ended.wait(), 10)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() in (CODE.UNAVAILABLE, CODE.CANCELLED)


async def test_a_closed_channel_ends_its_calls_and_makes_no_more(mesh):
    hanging = Hanging()
    server = await mesh.serve(mesh.service(Stream=hanging))
    channel = open_channel(server.address)
    method = channel.unary_stream("/test.Probe/Stream", mesh.Text.SerializeToString)
    call = method(mesh.Text())
    await asyncio.wait_for(hanging.entered.wait(), 10)
    await channel.close()
    await asyncio.wait_for(hanging.ended.wait(), 10)
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    with pytest.raises(grpc.aio.UsageError):
        await method(mesh.Text()).read()


async def test_calls_are_made_again_by_an_interceptor(mesh):
    asked, first = 0, asyncio.Event()

    async def answers_at_last(request, _context):
        nonlocal asked
        asked += 1
        first.set()
        if asked < 3:
            raise Unavailable("not yet")
        return request

    server = await mesh.serve(mesh.service(Unary=answers_at_last))
    stub = await mesh.stub(server.address, interceptors=[Retrying((0.01, 0.01))])
    assert (await stub.Unary(mesh.Text(value="x"), timeout=20)).value == "x"
    asked = 0
    impatient = await mesh.stub(server.address, interceptors=[Retrying((0.01,))])
    with pytest.raises(grpc.aio.AioRpcError, match="not yet"):
        await impatient.Unary(mesh.Text())
    asked = 0
    first.clear()
    patient = await mesh.stub(server.address, interceptors=[Retrying((3600,))])
    call = patient.Unary(mesh.Text())
    await asyncio.wait_for(first.wait(), 10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_those_who_ask_to_be_told_of_the_end_are_told_once(mesh):
    async def answers(request, _context):
        return request

    stub = await mesh.probe(Unary=answers)
    call, told = stub.Unary(mesh.Text()), []
    call.add_done_callback(told.append)
    await call
    await call.code()
    call.cancel()
    assert len(told) == 1
    call.add_done_callback(told.append)
    assert len(told) == 2


@pytest.mark.parametrize("scheme", ["local"], indirect=True)
async def test_one_address_in_a_process_is_one_servers(mesh):
    async def answers(request, _context):
        return request

    first = await mesh.serve(mesh.service(Unary=answers))
    with pytest.raises(FailedPrecondition, match="another server listens on local:"):
        await mesh.serve(mesh.service(Unary=answers), first.address)
    assert (await (await mesh.stub(first.address)).Unary(mesh.Text(value="still here"))).value == "still here"


@pytest.mark.parametrize("scheme", ["local"], indirect=True)
async def test_another_event_loop_of_the_process_is_told_that_nothing_is_there(mesh):
    async def answers(request, _context):
        return request

    server, refused = await mesh.serve(mesh.service(Unary=answers)), list[DjpError]()

    async def calls():
        async with open_channel(server.address) as channel:
            try:
                await channel.unary_unary("/test.Probe/Unary", mesh.Text.SerializeToString)(mesh.Text())
            except grpc.aio.AioRpcError as error:
                refused.append(error_from_rpc(error))

    other = threading.Thread(target=lambda: asyncio.run(calls()))
    other.start()
    await asyncio.to_thread(other.join)
    assert [type(error) for error in refused] == [Unavailable]
