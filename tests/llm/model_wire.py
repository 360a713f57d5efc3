"""The two wire formats that the model server speaks: what OpenAI and Anthropic send, and what they refuse."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from djp.llm.calls import Usage

Api = Literal["openai", "anthropic"]
Fault = Literal["", "cut", "hang", "error", "garbage"]

_SHARED_FIELDS = frozenset({"model", "messages", "max_tokens", "temperature", "stream", "service_tier"})
OPENAI_FIELDS = _SHARED_FIELDS | {"max_completion_tokens", "seed", "response_format", "stream_options"}
ANTHROPIC_FIELDS = _SHARED_FIELDS | {"system", "output_config"}
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@dataclass(frozen=True)
class Behaviour:
    """What the server does with one request.

    The answer is `text`, a token a word, cut at the request's limit unless `obeys_limit` is off; `refusal` is what the
    model says in its place when it refuses. `usage` is what the request used: by default words, as no tokenizer makes
    fewer tokens. `tells_usage` and `usage_json` (sent in its place) say what the client learns of it, `billed` whether
    it is billed: by default when the status is 200.

    `delay_s` passes before the answer begins, `gap_s` between writes of `pieces_per_write` pieces. The text is sent in
    at most `max_pieces` pieces. `fault` happens after so many pieces: at -1 before the response's head; "cut" closes
    the connection, "hang" says nothing more, "error" is the error event `error_type`, "garbage" is broken JSON.
    `status` is the response's, with `headers`; `raw` replaces its body and `content_type` its type.
    """

    text: str = "This is the answer of the model server."
    refusal: str = ""
    stop: Literal["end", "length", "refusal"] = "end"
    usage: Usage | None = None
    tells_usage: bool = True
    usage_json: str | None = None
    billed: bool | None = None
    obeys_limit: bool = True
    delay_s: float = 0.0
    gap_s: float = 0.0
    pieces_per_write: int = 1
    max_pieces: int = 200
    fault: Fault = ""
    after: int = 0
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    error_type: str = ""
    error_message: str = "The model server was told to fail."
    raw: bytes | None = None
    content_type: str | None = None


def words(text: str) -> list[str]:
    """A text in its tokens: words, with the white space before them."""
    return re.findall(r"\s*\S+|\s+$", text)


def settle(behaviour: Behaviour, prompt: str, limit: int) -> tuple[Behaviour, Usage]:
    """The behaviour under the request's limit, and what it uses."""
    said = words(behaviour.refusal or behaviour.text)
    used = behaviour.usage
    if behaviour.obeys_limit and len(said) > limit and used is None:
        behaviour = replace(behaviour, text="".join(said[:limit]), stop="length")
        said = said[:limit]
    # A chat has at least seven tokens around two messages: three each and a role.
    return behaviour, used or Usage(7 + len(prompt.split()), output_tokens=max(1, len(said)))


def refusal_of(api: Api, body: dict[str, Any], headers: dict[str, str]) -> str | None:
    """Why the service would refuse the request with 400, or None."""
    unknown = set(body) - (OPENAI_FIELDS if api == "openai" else ANTHROPIC_FIELDS)
    if unknown:
        return f"{min(unknown)}: Extra inputs are not permitted"
    if not body.get("messages") or not isinstance(body.get("model"), str):
        return "messages and model are required"
    if api == "anthropic":
        if "anthropic-version" not in headers:
            return "anthropic-version: header is required"
        if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] < 1:
            return "max_tokens: Input should be greater than or equal to 1"
        if not 0 <= body.get("temperature", 1) <= 1:
            return "temperature: range: 0..1"
    elif body.get("stream_options") is not None and not body.get("stream"):
        return "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    schema = schema_of(api, body)
    return _schema_refusal(api, schema) if schema is not None else None


def schema_of(api: Api, body: dict[str, Any]) -> dict[str, Any] | None:
    """The JSON schema that the request asks the answer to keep to."""
    if api == "openai":
        return ((body.get("response_format") or {}).get("json_schema") or {}).get("schema")
    return ((body.get("output_config") or {}).get("format") or {}).get("schema")


def _schema_refusal(api: Api, schema: Any) -> str | None:
    """Strict mode's rules, as both services document them."""
    unsupported = {"minLength", "maxLength", "uniqueItems", "patternProperties", "oneOf"}
    if api == "anthropic":
        unsupported |= {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "maxItems"}
    for node in _nodes(schema):
        found = unsupported & set(node)
        if found:
            return f"Invalid schema: '{min(found)}' is not permitted"
        if node.get("type") == "object":
            if node.get("additionalProperties") is not False:
                return "Invalid schema: 'additionalProperties' is required to be supplied and to be false"
            if api == "openai" and set(node.get("required", ())) != set(node.get("properties", {})):
                return "Invalid schema: 'required' is required to include every key in properties"
    return None


def _nodes(schema: Any) -> list[dict[str, Any]]:
    if not isinstance(schema, dict):
        return []
    children = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values(), *schema.get("anyOf", ())]
    return [schema, *(node for child in [*children, schema.get("items")] for node in _nodes(child))]


def error_body(api: Api, status: int, error_type: str, message: str) -> dict[str, Any]:
    """An error as the service words it."""
    kind = error_type or ERROR_TYPES.get(status, "api_error")
    if api == "openai":
        return {"error": {"message": message, "type": kind, "param": None, "code": error_type or None}}
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def usage_body(api: Api, usage: Usage) -> dict[str, Any]:
    """A usage as the service words it: Anthropic's input tokens are those that no cache had."""
    if api == "openai":
        return {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "prompt_tokens_details": {
                "cached_tokens": usage.cached_input_tokens,
                "cache_write_tokens": usage.cache_write_tokens,
                "audio_tokens": 0,
            },
            "completion_tokens_details": {
                "reasoning_tokens": usage.reasoning_tokens,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }
    return {
        "input_tokens": usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
        "service_tier": "standard",
    }


def told_usage(api: Api, behaviour: Behaviour, usage: Usage) -> dict[str, Any] | None:
    """What the client is told of the usage."""
    if behaviour.usage_json is not None:
        told: dict[str, Any] | None = json.loads(behaviour.usage_json)
        return told
    return usage_body(api, usage) if behaviour.tells_usage else None


def _finish(api: Api, behaviour: Behaviour) -> str:
    if api == "openai":
        return {"end": "stop", "length": "length", "refusal": "content_filter"}[
            "end" if behaviour.refusal else behaviour.stop
        ]
    stop = "refusal" if behaviour.refusal else behaviour.stop
    return {"end": "end_turn", "length": "max_tokens", "refusal": "refusal"}[stop]


def unary_body(api: Api, model: str, behaviour: Behaviour, usage: Usage) -> dict[str, Any]:
    """A whole answer."""
    told = told_usage(api, behaviour, usage)
    if api == "openai":
        message: dict[str, Any] = {"role": "assistant", "content": behaviour.text, "refusal": None, "annotations": []}
        if behaviour.refusal:
            message |= {"content": None, "refusal": behaviour.refusal}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(api, behaviour)}
        body = _openai_envelope(model, "chat.completion") | {"choices": [choice]}
    else:
        content = [{"type": "text", "text": behaviour.refusal or behaviour.text}]
        if usage.reasoning_tokens:
            content.insert(0, {"type": "thinking", "thinking": "", "signature": "c2ln"})
        body = _anthropic_envelope(model) | {"content": content, "stop_reason": _finish(api, behaviour)}
    return body if told is None else body | {"usage": told}


@lru_cache(maxsize=64)
def stream_parts(
    api: Api, model: str, behaviour: Behaviour, usage: Usage, include_usage: bool
) -> tuple[bytes, tuple[bytes, ...], bytes]:
    """A streamed answer as server-sent events: what comes before its pieces, the pieces, and what comes after."""
    said = words(behaviour.refusal or behaviour.text)
    each = max(1, -(-len(said) // behaviour.max_pieces))
    pieces = ["".join(said[start : start + each]) for start in range(0, len(said), each)]
    told = told_usage(api, behaviour, usage)
    if api == "openai":
        return _openai_stream(model, behaviour, pieces, told, include_usage=include_usage)
    return _anthropic_stream(model, behaviour, pieces, told, thinks=usage.reasoning_tokens > 0)


def error_event(api: Api, behaviour: Behaviour) -> bytes:
    """An error within a stream whose status was 200."""
    body = error_body(api, 500, behaviour.error_type, behaviour.error_message)
    return _event("error" if api == "anthropic" else None, body)


def _event(name: str | None, data: Any) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _openai_envelope(model: str, kind: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-CdJp0123456789abcdefghijklmno",
        "object": kind,
        "created": 1_760_000_000,
        "model": model,
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    }


def _openai_stream(
    model: str, behaviour: Behaviour, pieces: list[str], told: dict[str, Any] | None, *, include_usage: bool
) -> tuple[bytes, tuple[bytes, ...], bytes]:
    usage: dict[str, Any] = {"usage": None} if include_usage else {}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
        envelope = _openai_envelope(model, "chat.completion.chunk") | {"choices": choices} | usage
        return _event(None, envelope | {"obfuscation": "Zx81Qw"})

    key = "refusal" if behaviour.refusal else "content"
    head = chunk({"role": "assistant", "content": "", "refusal": None})
    tail = chunk({}, _finish("openai", behaviour))
    if include_usage and told is not None:
        tail += _event(None, _openai_envelope(model, "chat.completion.chunk") | {"choices": [], "usage": told})
    return head, tuple(chunk({key: piece}) for piece in pieces), tail + b"data: [DONE]\n\n"


def _anthropic_envelope(model: str) -> dict[str, Any]:
    return {
        "id": "msg_01AbCdEfGhIjKlMnOpQrStUv",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _anthropic_stream(
    model: str, behaviour: Behaviour, pieces: list[str], told: dict[str, Any] | None, *, thinks: bool
) -> tuple[bytes, tuple[bytes, ...], bytes]:
    def event(name: str, **fields: Any) -> bytes:
        return _event(name, {"type": name} | fields)

    def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
        middle = b"".join(event("content_block_delta", index=index, delta=delta) for delta in deltas)
        return event("content_block_start", index=index, content_block=start) + middle

    begun = (
        _anthropic_envelope(model)
        if told is None
        else _anthropic_envelope(model) | {"usage": told | {"output_tokens": 1}}
    )
    head = event("message_start", message=begun)
    if thinks:
        head += block(
            0, {"type": "thinking", "thinking": "", "signature": ""}, {"type": "signature_delta", "signature": "c2ln"}
        )
        head += event("content_block_stop", index=0)
    head += block(int(thinks), {"type": "text", "text": ""}) + event("ping")
    deltas = tuple(
        event("content_block_delta", index=int(thinks), delta={"type": "text_delta", "text": piece}) for piece in pieces
    )
    ended = {"delta": {"stop_reason": _finish("anthropic", behaviour), "stop_sequence": None}}
    if told is not None:
        ended["usage"] = {name: told[name] for name in told if name != "service_tier"}
    tail = event("content_block_stop", index=int(thinks)) + event("message_delta", **ended) + event("message_stop")
    return head, deltas, tail
