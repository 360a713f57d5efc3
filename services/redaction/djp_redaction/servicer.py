"""RedactionService on the wire: protobuf to domain and back. A long text is redacted in a thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from djp.mesh.errors import InvalidInput, ResourceExhausted
from djp.mesh.identity import current_identity
from djp.v1 import redaction_pb2, redaction_pb2_grpc
from djp_redaction.model import Options, Redacted, Rule, Strategy
from djp_redaction.replacements import pseudonym_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    import grpc

    from djp_redaction.custom import Redactors
    from djp_redaction.metrics import FindingMetrics
    from djp_redaction.redactor import Redactor
    from djp_redaction.stream import RedactionStream

MAX_TITLE = 256
"""Characters of one kept title: so many may be held back in a stream until it is clear whether it is one."""

_INLINE_CHARACTERS = 16 * 1024  # a shorter text is redacted in less time than a hop to a thread costs the loop
_STRATEGIES = {
    redaction_pb2.REDACTION_STRATEGY_LABEL: Strategy.LABEL,
    redaction_pb2.REDACTION_STRATEGY_MASK: Strategy.MASK,
    redaction_pb2.REDACTION_STRATEGY_PARTIAL: Strategy.PARTIAL,
    redaction_pb2.REDACTION_STRATEGY_PSEUDONYM: Strategy.PSEUDONYM,
}

_Response = TypeVar("_Response", redaction_pb2.RedactResponse, redaction_pb2.RedactStreamResponse)


class RedactionServicer(redaction_pb2_grpc.RedactionServiceServicer):
    """Redacts with the rules in force. `secret` makes pseudonyms, `max_response_bytes` is what one message may have.

    `metrics`, if there are any, count what is found in the answers that are given.
    """

    def __init__(
        self, redactors: Redactors, secret: str | None, max_response_bytes: int, metrics: FindingMetrics | None = None
    ) -> None:
        self._redactors = redactors
        self._secret = secret
        self._max_response_bytes = max_response_bytes
        self._metrics = metrics

    async def Redact(
        self,
        request: redaction_pb2.RedactRequest,
        context: grpc.aio.ServicerContext[redaction_pb2.RedactRequest, redaction_pb2.RedactResponse],
    ) -> redaction_pb2.RedactResponse:
        """The whole text at once."""
        redactor = await self._redactor(request.options.custom_rules)
        options, key = _options(request.options, redactor), self._key()
        text = request.text
        if len(text) <= _INLINE_CHARACTERS and len(options.titles) <= 100:
            return self._whole(redactor, text, options, key)
        return await asyncio.to_thread(self._whole, redactor, text, options, key)

    def _whole(
        self, redactor: Redactor, text: str, options: Options, key: bytes | None
    ) -> redaction_pb2.RedactResponse:
        redacted = redactor.redact(text, options, key)
        response = redaction_pb2.RedactResponse(
            text=redacted.text,
            findings=_findings(redacted),
            counts=redacted.counts,
            rules_version=redactor.rule_set.version,
        )
        return self._fitting(response, redacted)

    async def RedactStream(
        self,
        request_iterator: AsyncIterator[redaction_pb2.RedactStreamRequest],
        context: grpc.aio.ServicerContext[redaction_pb2.RedactStreamRequest, redaction_pb2.RedactStreamResponse],
    ) -> AsyncIterator[redaction_pb2.RedactStreamResponse]:
        """The same as `Redact` of all the pieces together, as soon as it can no longer change."""
        stream: RedactionStream | None = None
        async for request in request_iterator:
            if request.WhichOneof("part") == "options":
                if stream is not None:
                    raise InvalidInput("options: they come once, and before the text", field="options")
                stream = await self._stream(request.options)
                continue
            stream = stream or await self._stream(redaction_pb2.RedactionOptions())
            async for response in self._given(stream, request.text, last=False):
                yield response
        stream = stream or await self._stream(redaction_pb2.RedactionOptions())
        async for response in self._given(stream, "", last=True):
            yield response

    async def _stream(self, options: redaction_pb2.RedactionOptions) -> RedactionStream:
        redactor = await self._redactor(options.custom_rules)
        stream = redactor.stream(_options(options, redactor), self._key())
        await asyncio.to_thread(stream.warm_up)
        return stream

    async def _given(
        self, stream: RedactionStream, text: str, *, last: bool
    ) -> AsyncIterator[redaction_pb2.RedactStreamResponse]:
        if stream.held + len(text) <= _INLINE_CHARACTERS:
            pieces = list(stream.feed(text, last=last))
        else:
            pieces = await asyncio.to_thread(lambda: list(stream.feed(text, last=last)))
        for piece in pieces:
            response = redaction_pb2.RedactStreamResponse(text=piece.text, findings=_findings(piece))
            yield self._fitting(response, piece)

    async def ListRules(
        self,
        request: redaction_pb2.ListRulesRequest,
        context: grpc.aio.ServicerContext[redaction_pb2.ListRulesRequest, redaction_pb2.ListRulesResponse],
    ) -> redaction_pb2.ListRulesResponse:
        """The strongest rule first; with the tenant's own rules."""
        rule_set = self._redactors.of(current_identity().tenant).rule_set
        return redaction_pb2.ListRulesResponse(
            rules=[
                redaction_pb2.RedactionRule(
                    name=rule.name,
                    type=rule.type,
                    description=rule.description,
                    pattern=rule.pattern,
                    examples=rule.examples,
                    counter_examples=rule.counter_examples,
                    source=rule.source,
                    validation=rule.validation,
                )
                for rule in rule_set.rules
            ],
            rules_version=rule_set.version,
        )

    async def ValidateRules(
        self,
        request: redaction_pb2.ValidateRulesRequest,
        context: grpc.aio.ServicerContext[redaction_pb2.ValidateRulesRequest, redaction_pb2.ValidateRulesResponse],
    ) -> redaction_pb2.ValidateRulesResponse:
        """Every problem of every rule."""
        rules = [_rule(rule) for rule in request.rules]
        found = await asyncio.to_thread(self._redactors.problems, current_identity().tenant, rules)
        return redaction_pb2.ValidateRulesResponse(
            valid=not found,
            problems=[
                redaction_pb2.RuleProblem(rule=problem.rule, construct=problem.construct, remedy=problem.remedy)
                for problem in found
            ],
        )

    async def _redactor(self, custom: Sequence[redaction_pb2.RedactionRule]) -> Redactor:
        tenant = current_identity().tenant
        if not custom:
            return self._redactors.of(tenant)
        return await asyncio.to_thread(self._redactors.of, tenant, tuple(_rule(rule) for rule in custom))

    def _key(self) -> bytes | None:
        return pseudonym_key(self._secret, current_identity().tenant) if self._secret else None

    def _fitting(self, response: _Response, redacted: Redacted) -> _Response:
        """The response, counted, if one message can hold it."""
        if response.ByteSize() > self._max_response_bytes:
            raise ResourceExhausted(
                f"text: {len(redacted.rules)} findings do not fit into one answer of "
                f"{self._max_response_bytes} bytes; send the text in smaller pieces",
                field="text",
            )
        if self._metrics and redacted.rules:
            self._metrics.found(redacted.counts)
        return response


def _findings(redacted: Redacted) -> Iterable[redaction_pb2.Finding]:
    return [
        redaction_pb2.Finding(type=rule.type, rule=rule.name, start=start, end=end, replacement=replacement)
        for rule, start, end, replacement in zip(*redacted[1:], strict=True)
    ]


def _rule(rule: redaction_pb2.RedactionRule) -> Rule:
    return Rule(
        name=rule.name,
        type=rule.type,
        pattern=rule.pattern,
        description=rule.description,
        validation=rule.validation,
        examples=tuple(rule.examples),
        counter_examples=tuple(rule.counter_examples),
        source=rule.source,
    )


def _options(options: redaction_pb2.RedactionOptions, redactor: Redactor) -> Options:
    """The options in the domain's words. Raises InvalidInput naming the field that cannot be used."""
    types = {rule.type for rule in redactor.rule_set.rules}
    for type_, strategy in options.strategy_by_type.items():
        if type_ not in types:
            raise InvalidInput(
                f"options.strategy_by_type: no rule finds {type_[:100]!r}; the types are {', '.join(sorted(types))}",
                field="options.strategy_by_type",
            )
        if strategy not in _STRATEGIES:
            raise InvalidInput(
                f"options.strategy_by_type: {type_} has no strategy that exists; choose one, or leave the type out",
                field="options.strategy_by_type",
            )
    for number, title in enumerate(options.keep_titles):
        if len(title) > MAX_TITLE:
            raise InvalidInput(
                f"options.keep_titles[{number}]: has {len(title)} characters; at most {MAX_TITLE} are kept",
                field=f"options.keep_titles[{number}]",
            )
    return Options(
        strategy=_STRATEGIES.get(options.strategy),
        strategy_by_type={type_: _STRATEGIES[strategy] for type_, strategy in options.strategy_by_type.items()},
        titles=tuple(options.keep_titles),
    )
