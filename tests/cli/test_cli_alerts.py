"""`djp alerts` and `djp runs export`: figures over the runs of a time, told, sent and written."""

from __future__ import annotations

import csv
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from djp.cli.alerts import Thresholds, watch_over
from djp.cli.export import export_runs
from djp.mesh.errors import DjpError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GUIDE = Thresholds(advisory=0.3, cost_usd="0.01", failure=0.2, grounded=0.6, redacted=0.1)


class Webhook(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hook)
        self.taken: list[dict[str, str]] = []
        self.answer = 200

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/T0/secret"


class _Hook(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        self.server.taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.answer)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("WEBHOOK_URL", server.address)
        yield server
        server.shutdown()
        thread.join()


async def figures(gateway: Any, capsys: pytest.CaptureFixture[str], thresholds: Thresholds = GUIDE) -> tuple[int, Any]:
    code = await watch_over(gateway.address, "7d", thresholds, as_json=True)
    told = json.loads(capsys.readouterr().out)
    return code, {one["name"]: one for one in told["figures"]}


async def test_every_figure_has_its_threshold_and_what_is_beyond_it_is_sent(
    home: Path, gateway: Any, webhook: Webhook, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = gateway.result(redactionCounts={}, totalNanoUsd=10_000_000)
    gateway.stored = [gateway.finished(result=plain) for _ in range(9)]
    gateway.stored.append(gateway.finished("ADVISORY", result=gateway.result(totalNanoUsd=10_000_000)))
    code, found = await figures(gateway, capsys)
    assert (code, webhook.taken) == (0, [])
    assert found["advisory_rate"]["value"] == 0.1
    assert found["redacted_rate"]["value"] == 0.1  # as much as is allowed
    assert found["grounded_rate"]["value"] == 1

    gateway.stored.append(gateway.finished("FAILED", result=gateway.result(totalNanoUsd=10_000_011)))
    gateway.stored += [gateway.finished("ADVISORY", result={"groundedFailReason": "0 of 1"}) for _ in range(9)]
    gateway.stored += [gateway.finished("RUNNING"), gateway.finished("DENIED", result={})]
    code, found = await figures(gateway, capsys, Thresholds(0.3, "0.004", 0.01, 0.6, 0.01))
    assert code == 1
    assert {name for name, one in found.items() if one["alert"]} == {
        "advisory_rate",
        "failure_rate",
        "grounded_rate",
        "redacted_rate",
        "average_cost",
    }
    assert len(webhook.taken) == 1
    assert "10 of 19 runs are advisory: 53%, and should be at most 30%" in webhook.taken[0]["text"]


async def test_a_webhook_that_does_not_take_it_is_told_and_never_shown(
    home: Path, gateway: Any, webhook: Webhook, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.stored = [gateway.finished("FAILED")]
    webhook.answer = 500
    assert await watch_over(gateway.address, "1d", GUIDE, as_json=False) == 1
    told = capsys.readouterr()
    assert "[ALERT] 1 of 1 runs are failed: 100%, and should be at most 20%" in told.out
    assert "could not be sent to WEBHOOK_URL: it answered 500" in told.err
    for address in ("http://127.0.0.1:1/secret", "file:///secret", "http://[secret"):
        monkeypatch.setenv("WEBHOOK_URL", address)
        assert await watch_over(gateway.address, "1d", GUIDE, as_json=False) == 1
        assert "secret" not in capsys.readouterr().err


async def test_no_runs_are_no_alert(home: Path, gateway: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert await watch_over(gateway.address, "1d", GUIDE, as_json=False) == 0
    assert "There is nothing to look at" in capsys.readouterr().out
    with pytest.raises(InvalidInput, match="--since"):
        await watch_over(gateway.address, "1 day", GUIDE, as_json=False)


async def test_an_export_has_a_harmless_row_for_every_run_of_the_time(
    home: Path, gateway: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = {"task": "=cmd()|ada@example.org\nsecond", "policy": "any", "redaction": "REDACTION_MODE_ON"}
    gateway.stored = [gateway.finished(spec=spec), gateway.finished("RUNNING", finishedAt=None)]
    file = tmp_path / "weekly.csv"
    assert await export_runs(gateway.address, file, since="2026-03-01", until="2026-03-07", as_json=False) == 0
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["status"] for row in rows] == ["published", "running"]
    assert rows[0]["task"] == "'=cmd()|[REDACTED:EMAIL] second"
    asked = gateway.listed[-1].created
    assert (asked.since.ToJsonString(), asked.until.ToJsonString()) == ("2026-03-01T00:00:00Z", "2026-03-08T00:00:00Z")
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []  # noqa: ASYNC240

    capsys.readouterr()
    await export_runs(gateway.address, None, since="", until="", as_json=True)
    assert json.loads(capsys.readouterr().out)["runs"][0]["status"] == "published"


@pytest.mark.parametrize(
    ("since", "until", "told"),
    [
        ("yesterday", "", "--since: 'yesterday' is no day; write"),
        ("2026-13-01", "", "--since: '2026-13-01' is no day; write it as 2026-10-01, or 7d"),
        ("", "7d", "--until: '7d' is no day"),
        ("2026-03-02", "2026-03-01", "--until: 2026-03-01 is before 2026-03-02"),
    ],
)
async def test_a_time_that_is_none_is_told_with_its_flag(since: str, until: str, told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await export_runs(None, None, since=since, until=until, as_json=False)
    assert told in refused.value.message


async def test_a_file_that_cannot_be_written_is_told(home: Path, gateway: Any, tmp_path: Path) -> None:
    with pytest.raises(DjpError, match=r"--output: .* cannot be written"):
        await export_runs(gateway.address, tmp_path / "no" / "x.csv", since="", until="", as_json=False)
