"""The few messages of Envoy's authorization API (`envoy.service.auth.v3`, ext_authz) that the REST bridge needs.

They are declared here by their names and numbers, as in Envoy's external_auth.proto and attribute_context.proto: the
package that has all of Envoy's API overwrites files of the packages that gRPC and protovalidate bring.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "envoy.service.auth.v3"
SERVICE = f"{_PACKAGE}.Authorization"
_FIELDS: dict[str, dict[str, tuple[int, str]]] = {
    "HttpRequest": {"method": (2, "string"), "path": (4, "string"), "raw_body": (12, "bytes")},
    "Request": {"http": (2, "HttpRequest")},
    "AttributeContext": {"request": (4, "Request")},
    "CheckRequest": {"attributes": (1, "AttributeContext")},
    "Status": {"code": (1, "int32")},
    "HeaderValue": {"key": (1, "string"), "value": (2, "string")},
    "HeaderValueOption": {"header": (1, "HeaderValue")},
    "HttpStatus": {"code": (1, "int32")},
    "DeniedHttpResponse": {"status": (1, "HttpStatus"), "headers": (2, "HeaderValueOption"), "body": (3, "string")},
    "OkHttpResponse": {},
    "CheckResponse": {
        "status": (1, "Status"),
        "denied_response": (2, "DeniedHttpResponse"),
        "ok_response": (3, "OkHttpResponse"),
    },
}
_REPEATED = {"headers"}


def _declared() -> descriptor_pool.DescriptorPool:
    kind = descriptor_pb2.FieldDescriptorProto
    scalars = {"string": kind.TYPE_STRING, "bytes": kind.TYPE_BYTES, "int32": kind.TYPE_INT32}
    file = descriptor_pb2.FileDescriptorProto(name="djp/envoy_auth.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, type_) in fields.items():
            label = kind.LABEL_REPEATED if field in _REPEATED else kind.LABEL_OPTIONAL
            added = message.field.add(
                name=field, number=number, label=label, type=scalars.get(type_, kind.TYPE_MESSAGE)
            )
            if type_ not in scalars:
                added.type_name = f".{_PACKAGE}.{type_}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _declared()
CheckRequest: Any = message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.CheckRequest"))
CheckResponse: Any = message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.CheckResponse"))
