"""What the REST bridge's Envoy says itself, not the gateway, in the form of all other errors."""

from __future__ import annotations

from typing import Any

from google.rpc import code_pb2

from djp.mesh.rpc_errors import DOMAIN


def own_answers() -> dict[str, Any]:
    """A `local_reply_config`: each answer has its HTTP status's reason, what the checker refuses the checker's."""
    at_least = {  # the first that fits counts
        504: "DEADLINE_EXCEEDED",
        503: "UNAVAILABLE",
        500: "INTERNAL",
        431: "INVALID_INPUT",
        429: "RESOURCE_EXHAUSTED",
        426: "UNIMPLEMENTED",
        413: "INVALID_INPUT",
        408: "DEADLINE_EXCEEDED",
        404: "NOT_FOUND",
        403: "PERMISSION_DENIED",
        400: "INVALID_INPUT",
    }
    by_checker = {"response_flag_filter": {"flags": ["UAEX"]}}
    silent = {
        "filter": {"and_filter": {"filters": [by_checker, _from(500)]}},
        "body": {"inline_string": "the call could not be checked in time; make it again"},
        "body_format_override": _status("UNAVAILABLE"),
    }
    # What the checker says is in that form already.
    checked = {
        "filter": by_checker,
        "body_format_override": {
            "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
            "content_type": "application/json",
        },
    }
    return {
        "mappers": [
            silent,
            checked,
            *(
                {"filter": _from(status), "body_format_override": _status(reason)}
                for status, reason in at_least.items()
            ),
        ],
    }


def _from(status: int) -> dict[str, Any]:
    """Answers with that HTTP status or a higher one."""
    value = {"default_value": status, "runtime_key": f"rest.{status}"}
    return {"status_code_filter": {"comparison": {"op": "GE", "value": value}}}


def _status(reason: str) -> dict[str, Any]:
    code = code_pb2.Code.Value("INVALID_ARGUMENT" if reason == "INVALID_INPUT" else reason)
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": DOMAIN}
    return {"json_format": {"code": code, "message": "%LOCAL_REPLY_BODY%", "details": [info]}}
