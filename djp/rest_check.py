"""Checks REST calls before Envoy transcodes them: it drops what the contract does not know, and we refuse it."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

import grpc
from google.api import annotations_pb2
from google.protobuf import json_format, message_factory
from google.rpc import code_pb2

from djp import envoy_auth
from djp.v1 import (
    batch_pb2,
    catalogue_pb2,
    dead_letter_pb2,
    debate_pb2,
    governance_pb2,
    grounding_pb2,
    judge_pb2,
    key_pb2,
    redaction_pb2,
    run_pb2,
    scaling_pb2,
    storage_pb2,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor

_VARIABLE = re.compile(r"\{([^}=]+)(?:=[^}]*)?\}")
_UNKNOWN = re.compile(
    r'Message type "(?:djp\.v1\.)?(?P<message>[^"]*)" has no field named "(?P<name>.{0,200}?)" '
    r'at "[^".]*\.?(?P<around>[^"]*)"',
    re.DOTALL,
)
_DEEPEST = 100  # of JSON; the contract's messages nest far less
_MOST_PARTS = 300_000
"""Names and list items of a body. Short ones are many in 16 MiB, and each takes up to 10 microseconds to check."""
_LONG = 64 << 10
"""Bytes of a body that is checked in a thread, while the mesh in this process goes on."""


class Refusal(Exception):  # noqa: N818  named after what happened
    """Why a call is refused: the HTTP status, the gRPC code, the field (may be empty) and what to do."""

    def __init__(self, status: HTTPStatus, code: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field

    def body(self) -> str:
        """As `google.rpc.Status` in JSON, like every other error."""
        kind = "type.googleapis.com/google.rpc."
        details: list[dict[str, Any]] = [{"@type": f"{kind}ErrorInfo", "reason": "INVALID_INPUT", "domain": "djp"}]
        if self.code == "NOT_FOUND":
            details[0]["reason"] = "NOT_FOUND"
        if self.field:
            violation = {"field": self.field, "description": self.message}
            details.append({"@type": f"{kind}BadRequest", "fieldViolations": [violation]})
        return json.dumps({"code": code_pb2.Code.Value(self.code), "message": self.message, "details": details})


@dataclass(frozen=True)
class Route:
    """One HTTP route of the contract. `body` is `*`, a field's name, or empty for a call without one."""

    method: str
    path: re.Pattern[str]
    variables: Sequence[str]
    body: str
    request: Descriptor


_FILES = (
    *(batch_pb2, catalogue_pb2, dead_letter_pb2, debate_pb2, governance_pb2, grounding_pb2),
    *(judge_pb2, key_pb2, redaction_pb2, run_pb2, scaling_pb2, storage_pb2),
)


def public_services() -> list[ServiceDescriptor]:
    """The services of the contract that have an HTTP route."""
    services = [service for file in _FILES for service in file.DESCRIPTOR.services_by_name.values()]
    return [service for service in services if any(list(_routes_of(method)) for method in service.methods)]


def routes() -> list[Route]:
    """All HTTP routes, those with a verb behind `:` first, for a plain one would match them too."""
    found = [route for service in public_services() for method in service.methods for route in _routes_of(method)]
    return sorted(found, key=lambda route: ":" not in route.path.pattern.rpartition("/")[2])


def _routes_of(method: MethodDescriptor) -> Iterator[Route]:
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return
    rule = options.Extensions[annotations_pb2.http]
    for one in (rule, *rule.additional_bindings):
        verb = one.WhichOneof("pattern")
        template = str(getattr(one, verb))
        variables = _VARIABLE.findall(template)
        pattern = "[^/]+".join(re.escape(part) for part in _VARIABLE.sub("\0", template).split("\0"))
        yield Route(verb.upper(), re.compile(pattern), variables, one.body, method.input_type)


class Strict:
    """Refuses unknown routes, methods, parameters and fields, and JSON that is none."""

    def __init__(self) -> None:
        self._routes = routes()

    def check(self, method: str, target: str, body: bytes) -> None:
        """Raises Refusal. `target` is the path with its query."""
        try:
            unquote_to_bytes(target).decode()
        except UnicodeDecodeError:
            told = "the address is not UTF-8 text; write other characters as percent signs and the bytes of their UTF-8"
            raise Refusal(HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", told) from None
        path, _, query = target.partition("?")
        here = [route for route in self._routes if route.path.fullmatch(path)]
        if not here:
            told = f"there is nothing at {path[:200]}; /docs shows what there is"
            raise Refusal(HTTPStatus.NOT_FOUND, "NOT_FOUND", told)
        route = next((one for one in here if one.method == method), None)
        if route is None:
            takes = ", ".join(sorted({one.method for one in here}))
            told = f"{path[:200]} does not take {method}, it takes {takes}"
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "UNIMPLEMENTED", told)
        _check_query(query, route)
        if route.body:
            _check_body(body, route)
        elif body.strip():
            told = f"{method} {path[:200]} takes no body; leave it out"
            raise Refusal(HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", told)


def _check_query(query: str, route: Route) -> None:
    for name, _ in parse_qsl(query, keep_blank_values=True, max_num_fields=1000):
        known = _field_path(route.request, name)
        if route.body == "*" or not known or known in (*route.variables, route.body):
            told = f"{name[:100]!r} is no parameter of this call; /docs shows those that it has"
            raise Refusal(HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", told, unquote(name[:100]))


def _field_path(message: Descriptor | None, name: str) -> str:
    """The contract's own spelling of a dotted name in camel or snake case; empty if it leads to no field."""
    first, _, rest = name.partition(".")
    field = message and (message.fields_by_name.get(first) or message.fields_by_camelcase_name.get(first))
    if not field:
        return ""
    below = _field_path(field.message_type, rest) if rest else ""
    return "" if rest and not below else ".".join(filter(None, (field.name, below)))


def _check_body(body: bytes, route: Route) -> None:
    try:
        text = body.decode()
        document = json.loads(text or "{}", object_pairs_hook=_Once())
    except UnicodeDecodeError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", "the body is not UTF-8 text") from None
    except RecursionError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", "the body is nested too deeply") from None
    except ValueError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", f"the body is not JSON: {error}") from None
    expected = route.request if route.body == "*" else route.request.fields_by_name[route.body].message_type
    if expected is None:
        raise AssertionError(f"{route.body} of {route.request.full_name} is no message")
    if not isinstance(document, dict):
        raise Refusal(HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", "the body is not a JSON object")
    _count(document)
    try:
        json_format.ParseDict(document, message_factory.GetMessageClass(expected)(), max_recursion_depth=_DEEPEST)
    except (json_format.ParseError, RecursionError) as error:
        raise _unusable(str(error)) from None


class _Once:
    """Makes the objects of a JSON document. A name that comes twice would hide from us what Envoy reads of it."""

    def __init__(self) -> None:
        self._names = 0

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._names += len(pairs)
        if self._names > _MOST_PARTS:
            raise _too_many()
        found = dict(pairs)
        if len(found) < len(pairs):
            name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
            told = f"{name[:100]!r} stands twice in one object; write it once"
            raise Refusal(HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", told, name[:100])
        return found


def _count(document: dict[str, Any]) -> None:
    """Raises Refusal: there are too many parts."""
    parts, left = 0, list[Any]([document])
    while left:
        one = left.pop()
        parts += len(one)
        if parts > _MOST_PARTS:
            raise _too_many()
        left += [part for part in (one.values() if isinstance(one, dict) else one) if isinstance(part, dict | list)]


def _too_many() -> Refusal:
    told = f"the body has more than {_MOST_PARTS:,} names and list items; send it in pieces"
    return Refusal(HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", told)


def _unusable(told: str) -> Refusal:
    """What the parser says, in our words where a field is unknown: that is the mistake that matters most."""
    unknown = _UNKNOWN.search(told)
    if unknown is None:
        return Refusal(HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", told[:500])
    field = ".".join(filter(None, (unknown["around"], unknown["name"])))
    told = f"{field}: there is no such field in {unknown['message']}; /docs shows those that there are"
    return Refusal(HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", told, field)


def checker(strict: Strict) -> grpc.GenericRpcHandler:
    """What Envoy asks before it transcodes a call."""
    thread = ThreadPoolExecutor(1, "rest-check")  # of its own: long bodies are to keep nothing else from being done

    async def check(request: Any, context: Any) -> Any:
        call = request.attributes.request.http
        answer = envoy_auth.CheckResponse()
        try:
            if len(call.raw_body) < _LONG:
                strict.check(call.method, call.path, call.raw_body)
            else:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(thread, strict.check, call.method, call.path, call.raw_body)
        except Refusal as refusal:
            answer.status.code = code_pb2.Code.Value(refusal.code)
            denied = answer.denied_response
            denied.status.code, denied.body = int(refusal.status), refusal.body()
            header = denied.headers.add().header
            header.key, header.value = "content-type", "application/json"
        else:
            answer.ok_response.SetInParent()
        return answer

    handler = grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=envoy_auth.CheckRequest.FromString,
        response_serializer=envoy_auth.CheckResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(envoy_auth.SERVICE, {"Check": handler})
