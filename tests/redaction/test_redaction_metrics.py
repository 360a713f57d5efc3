"""What `/metrics` tells of findings: their types, and never the names that tenants gave to theirs."""

from __future__ import annotations

import re
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import start_http_server

from djp.v1 import redaction_pb2, redaction_pb2_grpc
from djp.v1.redaction_pb2 import RedactionOptions, RedactionRule, RedactRequest
from djp_redaction.server import open_service
from djp_redaction.settings import RedactionSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], dict[str, float]]]:
    """Findings by label since the test began, read as Prometheus reads them."""
    server, thread = start_http_server(0, "127.0.0.1")
    # Who serves the port is not the service's business; that there is one is.
    monkeypatch.setenv("DJP_METRICS_PORT", str(server.server_port))

    def read() -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as response:
            text = response.read().decode()
        return {
            label: float(value)
            for label, value in re.findall(r'^djp_redaction_findings_total\{type="(.*)"\} (.*)$', text, re.MULTILINE)
        }

    before = read()
    yield lambda: {label: value - before.get(label, 0) for label, value in read().items() if value != before.get(label)}
    server.shutdown()
    server.server_close()
    thread.join()


async def test_findings_are_counted_by_type(serving: Any, counted: Callable[[], dict[str, float]]) -> None:
    async with serving(open_service(RedactionSettings())) as channel:
        stub = redaction_pb2_grpc.RedactionServiceStub(channel)
        await stub.Redact(RedactRequest(text="a@b.co, c@d.co, 10.0.0.1"))
        await stub.Redact(RedactRequest(text="nothing"))
        parts = [redaction_pb2.RedactStreamRequest(text=piece) for piece in ("e@f", ".co and 10.0", ".0.2 ")]
        assert "".join([answer.text async for answer in stub.RedactStream(iter(parts))])
        assert counted() == {"EMAIL": 3, "IP": 2}


async def test_types_that_somebody_made_up_are_counted_together(
    serving: Any, counted: Callable[[], dict[str, float]]
) -> None:
    rules = [RedactionRule(name=f"r{n}", type=f"JANE_ROE_{n}", pattern=f"SECRET-{n}-[0-9]{{4}}") for n in range(20)]
    rules.append(RedactionRule(name="ours", type="EMAIL", pattern="MAIL-[0-9]{4}"))
    text = " ".join(f"SECRET-{n}-1234" for n in range(20)) + " MAIL-1234"
    async with serving(open_service(RedactionSettings())) as channel:
        stub = redaction_pb2_grpc.RedactionServiceStub(channel)
        answer = await stub.Redact(RedactRequest(text=text, options=RedactionOptions(custom_rules=rules)))
        assert len(answer.counts) == 21
        assert counted() == {"custom": 20, "EMAIL": 1}


async def test_without_the_port_nothing_is_counted(
    serving: Any, counted: Callable[[], dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DJP_METRICS_PORT")
    async with serving(open_service(RedactionSettings())) as channel:
        await redaction_pb2_grpc.RedactionServiceStub(channel).Redact(RedactRequest(text="a@b.co"))
    assert counted() == {}
