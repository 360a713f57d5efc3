"""One call made by gRPC and by REST: the HTTP request is made from the message by the contract's own routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import grpc
from google.api import annotations_pb2
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2

from djp.mesh.rpc_errors import DETAILS_KEY

if TYPE_CHECKING:
    import httpx2
    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.message import Message

_KNOWN = (error_details_pb2.ErrorInfo, status_pb2.Status)  # the details of errors are read by their names


def by_grpc(stub: Any, method: str, request: Message) -> tuple[str, Message | None, status_pb2.Status | None]:
    """The code, and the answer or the error."""
    try:
        answer: Message = getattr(stub, method)(request)
        return "OK", answer, None
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        return error.code().name, None, status_pb2.Status.FromString(trailers[DETAILS_KEY])


def http_request(method: MethodDescriptor, fields: dict[str, Any]) -> dict[str, Any]:
    """What an HTTP client sends for a request, whose fields have the contract's own names."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    verb = str(rule.WhichOneof("pattern"))
    path, left = str(getattr(rule, verb)), {**fields}
    for name in [part.split("}")[0] for part in path.split("{")[1:]]:
        outer, _, inner = name.partition(".")
        value = left[outer][inner] if inner else left[outer]
        path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
        left[outer] = {key: one for key, one in left[outer].items() if key != inner} if inner else None
        left = {key: one for key, one in left.items() if one not in (None, {})}
    if rule.body:
        return {"method": verb.upper(), "url": path, "json": left if rule.body == "*" else left.get(rule.body, {})}
    return {"method": verb.upper(), "url": path, "params": _flat(left)}


def _flat(fields: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Fields of fields as query parameters have them."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
    return found


def by_rest(
    client: httpx2.Client, service: Any, method: str, request: Message, answer: Message
) -> tuple[int, Message | None, status_pb2.Status | None]:
    """The HTTP status, and the answer (read into `answer`) or the error."""
    fields = json_format.MessageToDict(request, preserving_proto_field_name=True)
    told = client.request(**http_request(service.methods_by_name[method], fields))
    if told.status_code == 200:
        return 200, json_format.Parse(told.text, answer), None
    return told.status_code, None, json_format.Parse(told.text, status_pb2.Status())
