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


def by_rest(
    client: httpx2.Client, service: Any, method: str, request: Message, answer: Message
) -> tuple[int, Message | None, status_pb2.Status | None]:
    """The HTTP status, and the answer (read into `answer`) or the error."""
    options = service.methods_by_name[method].GetOptions()
    rule = options.Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    fields = json_format.MessageToDict(request, preserving_proto_field_name=True)
    path = str(getattr(rule, verb))
    for name in [part.split("}")[0] for part in path.split("{")[1:]]:
        path = path.replace(f"{{{name}}}", quote(str(fields.pop(name)), safe=""))
    if rule.body:
        told = client.request(verb.upper(), path, json=fields if rule.body == "*" else fields.get(rule.body, {}))
    else:
        told = client.request(verb.upper(), path, params=fields)
    if told.status_code == 200:
        return 200, json_format.Parse(told.text, answer), None
    return told.status_code, None, json_format.Parse(told.text, status_pb2.Status())
