"""RedactionService on the wire: protobuf to domain and back. A long text is redacted in a thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput, ResourceExhausted
from djp.v1 import redaction_pb2, redaction_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from djp_redaction.redactor import Redactor

_INLINE_CHARACTERS = 16 * 1024  # a shorter text is redacted in less time than a hop to a thread costs the loop
_LABEL_ONLY = (redaction_pb2.REDACTION_STRATEGY_UNSPECIFIED, redaction_pb2.REDACTION_STRATEGY_LABEL)


class RedactionServicer(redaction_pb2_grpc.RedactionServiceServicer):
    """Redacts with the rules in force. `max_response_bytes` is what one message may have."""

    def __init__(self, redactor: Redactor, max_response_bytes: int) -> None:
        self._redactor = redactor
        self._max_response_bytes = max_response_bytes

    async def Redact(
        self,
        request: redaction_pb2.RedactRequest,
        context: grpc.aio.ServicerContext[redaction_pb2.RedactRequest, redaction_pb2.RedactResponse],
    ) -> redaction_pb2.RedactResponse:
        """The whole text at once."""
        _check(request.options)
        text, titles = request.text, list(request.options.keep_titles)
        if len(text) <= _INLINE_CHARACTERS and len(titles) <= 100:
            return self._redact(text, titles)
        return await asyncio.to_thread(self._redact, text, titles)

    def _redact(self, text: str, titles: Sequence[str]) -> redaction_pb2.RedactResponse:
        redacted = self._redactor.redact(text, titles)
        response = redaction_pb2.RedactResponse(
            text=redacted.text,
            findings=[
                redaction_pb2.Finding(
                    type=finding.rule.type,
                    rule=finding.rule.name,
                    start=finding.start,
                    end=finding.end,
                    replacement=self._redactor.rule_set.label_of(finding.rule.type),
                )
                for finding in redacted.findings
            ],
            counts=redacted.counts,
            rules_version=self._redactor.rule_set.version,
        )
        if response.ByteSize() > self._max_response_bytes:
            raise ResourceExhausted(
                f"text: {len(redacted.findings)} findings do not fit into one answer of "
                f"{self._max_response_bytes} bytes; send the text in smaller pieces",
                field="text",
            )
        return response

    async def ListRules(
        self,
        request: redaction_pb2.ListRulesRequest,
        context: grpc.aio.ServicerContext[redaction_pb2.ListRulesRequest, redaction_pb2.ListRulesResponse],
    ) -> redaction_pb2.ListRulesResponse:
        """The strongest rule first."""
        rule_set = self._redactor.rule_set
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


def _check(options: redaction_pb2.RedactionOptions) -> None:
    """Refuses what this service does not do yet, field by field."""
    unavailable = {
        "options.strategy": options.strategy not in _LABEL_ONLY,
        "options.strategy_by_type": any(strategy not in _LABEL_ONLY for strategy in options.strategy_by_type.values()),
        "options.custom_rules": bool(options.custom_rules),
    }
    for field, used in unavailable.items():
        if used:
            raise InvalidInput(f"{field}: not available yet; leave it out", field=field)
