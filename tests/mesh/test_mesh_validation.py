"""Rules of a .proto are checked before the handler runs, and every bad field is named by its path."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from djp.mesh.errors import InvalidInput
from djp.mesh.rpc_errors import error_from_rpc
from djp.mesh.validation import validate
from djp.v1 import validate_pb2

_F = descriptor_pb2.FieldDescriptorProto


@pytest.fixture(params=["unix", "local"])
def scheme(request):
    return request.param


def _field(message, name, number, kind, *, label=_F.LABEL_OPTIONAL, type_name=None):
    field = message.field.add(name=name, number=number, type=kind, label=label)
    if type_name:
        field.type_name = type_name
    return field.options.Extensions[validate_pb2.field]


@pytest.fixture(scope="module")
def request_class():
    """message Request { string name; repeated Item items; map<string, string> labels; } with rules."""
    file = descriptor_pb2.FileDescriptorProto(name="tests/mesh_validation.proto", package="test", syntax="proto3")
    file.dependency.append(validate_pb2.DESCRIPTOR.name)
    item = file.message_type.add(name="Item")
    _field(item, "title", 1, _F.TYPE_STRING).string.min_len = 1
    request = file.message_type.add(name="Request")
    _field(request, "name", 1, _F.TYPE_STRING).string.max_len = 5
    _field(request, "items", 2, _F.TYPE_MESSAGE, label=_F.LABEL_REPEATED, type_name=".test.Item").repeated.max_items = 3
    entry = request.nested_type.add(name="LabelsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_F.TYPE_STRING, label=_F.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=_F.TYPE_STRING, label=_F.LABEL_OPTIONAL)
    labels = _field(
        request, "labels", 3, _F.TYPE_MESSAGE, label=_F.LABEL_REPEATED, type_name=".test.Request.LabelsEntry"
    )
    labels.map.values.string.min_len = 1
    rule = request.options.Extensions[validate_pb2.message].cel.add()
    rule.id, rule.message = "request.named", "items need a name"
    rule.expression = "size(this.items) == 0 || this.name != ''"
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Request"))


async def _stub(mesh, request_class, **methods):
    server = await mesh.serve(mesh.service(message=request_class, **methods))
    return await mesh.stub(server.address, message=request_class)


async def test_every_bad_field_is_named_with_its_path(mesh, request_class):
    async def never(*_):
        raise AssertionError("the handler ran")

    stub = await _stub(mesh, request_class, Unary=never, Stream=never)
    request = request_class(name="too long", items=[{"title": "fine"}, {"title": ""}], labels={'a"b': ""})
    unary = stub.Unary(request)
    stream = stub.Stream(request)
    for answer in (unary, stream.read()):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer
        error = error_from_rpc(caught.value)
        assert type(error) is InvalidInput
        assert {v.field for v in error.violations} == {"name", "items[1].title", r'labels["a\"b"]'}
        assert all(v.description for v in error.violations)
        assert "items[1].title" in error.message


def test_a_message_of_many_bad_parts_is_refused_for_its_first(request_class):
    """To describe each of 300,000 broken rules took half a minute and a gigabyte, with every other call waiting."""
    request = request_class(name="too long", items=[{"title": ""}] * 300_000)
    with pytest.raises(InvalidInput) as caught:
        validate(request)
    assert len(caught.value.violations) == 1
    with pytest.raises(InvalidInput) as caught:
        validate(request_class(name="too long", items=[{"title": ""}] * 500))
    assert len(caught.value.violations) == 502  # the name, each title, too many of them


async def test_a_rule_of_the_whole_message_gives_its_own_message(mesh, request_class):
    stub = await _stub(mesh, request_class, Unary=None)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Unary(request_class(items=[{"title": "x"}]))
    assert "items need a name" in error_from_rpc(caught.value).message


async def test_each_message_of_a_request_stream_is_checked(mesh, request_class):
    seen = []

    async def collects(requests, _context):
        async for request in requests:
            seen.append(request.name)
        return mesh.Text()

    async def requests():
        yield request_class(name="good")
        yield request_class(name="too long")

    stub = await _stub(mesh, request_class, Collect=collects)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Collect(requests())
    assert error_from_rpc(caught.value).field == "name"
    assert seen == ["good"]


async def test_a_good_request_and_a_message_without_rules_pass(mesh, request_class):
    async def answers(request, _context):
        return mesh.Text(value=request.name)

    stub = await _stub(mesh, request_class, Unary=answers)
    assert (await stub.Unary(request_class(name="good"))).value == "good"
