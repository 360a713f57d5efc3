"""`djp cost`: reports and anomalies as people and programs read them, of a real ledger."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from djp.cli.cost import print_anomalies, print_report
from djp.cli.session import execute
from djp.mesh.errors import FailedPrecondition, InvalidInput, NotFound
from djp_governance import reports
from djp_governance.adapters import sql_reports

if TYPE_CHECKING:
    from tests.cli.conftest import Ledger

USD = 10**9


async def report(address: str, tenant: str = "", days: int = 30, *, as_json: bool = False) -> int:
    return await print_report(address, tenant=tenant, days=days, as_json=as_json)


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


async def test_a_report_has_totals_days_and_the_budget(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    await ledger.spend("acme", USD, 250_000_000)
    ledger.moment += timedelta(days=1)
    await ledger.spend("acme", 3_000, model="acme/small")
    await ledger.spend("beta-works", 500_000_000, model="acme/small", hold=1)
    assert await report(ledger.address) == 0
    assert printed(capsys) == [
        "Costs of all tenants in the last 30 days",
        "tenant, model  runs  calls  tokens in  tokens out       cost",
        "acme              2      3      3,000         300  $1.2500",
        "  acme/good       1      2      2,000         200  $1.2500",
        "  acme/small      1      1      1,000         100  $0.000003",
        "beta-works        1      1      1,000         100  $0.5000",
        "  acme/small      1      1      1,000         100  $0.5000",
        "total             3      4      4,000         400  $1.7500",
        "",
        "By day",
        "day         calls  tokens in  tokens out     cost",
        "2026-04-01      2      2,000         200  $0.5000",
        "2026-03-31      2      2,000         200  $1.2500",
        "total           4      4,000         400  $1.7500",
        "",
        "Budget now",
        "budget  per      limit    spent      reserved       left  resets (UTC)  limits from",
        "global  day     $25.00  $0.5000  $0.000000001   $24.5000  2026-04-02    default",
        "        month  $500.00  $0.5000  $0.000000001  $499.5000  2026-05-01    default",
    ]


async def test_a_tenants_report_is_its_own(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    await ledger.spend("acme", USD)
    await ledger.spend("beta", 4 * USD)
    await report(ledger.address, "acme", 1)
    shown = printed(capsys)
    assert shown[0] == "Costs of tenant acme today"
    assert "beta" not in "\n".join(shown)
    assert not any(line.startswith("total  ") and "runs" in line for line in shown)
    assert shown[-2].split()[:3] == ["tenant:acme", "day", "$5.00"]


@pytest.mark.parametrize(("tenant", "who"), [("", "All tenants"), ("nobody", "Tenant nobody")])
async def test_where_nothing_was_spent_it_says_so(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], tenant: str, who: str
) -> None:
    assert await report(ledger.address, tenant, 7) == 0
    shown = printed(capsys)
    assert shown[0] == f"{who} spent nothing in the last 7 days."
    assert shown[2] == "Budget now"
    assert await print_anomalies(ledger.address, tenant=tenant, days=7, as_json=False) == 0
    assert printed(capsys) == ["No cost in the last 7 days stands out."]


async def test_json_has_it_all_in_whole_nano_dollars(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    await ledger.spend("acme", 3, workflow="weekly", preset="quick")
    assert await report(ledger.address, "acme", as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["days", "totals", "rows", "anomalies", "budget"]
    assert told["rows"] == [
        {
            "tenant": "acme",
            "day": "2026-03-31",
            "model": "acme/good",
            "workflow": "weekly",
            "preset": "quick",
            "runs": "1",
            "calls": "1",
            "input_tokens": "1000",
            "output_tokens": "100",
            "cost_nano_usd": "3",
        }
    ]
    assert [(one["tenant"], one["model"], one["cost_nano_usd"]) for one in told["totals"]] == [
        ("acme", "", "3"),
        ("acme", "acme/good", "3"),
    ]
    assert told["budget"]["daily_nano_usd"] == "5000000000"
    assert told["budget"]["daily_tokens"] is None
    assert told["budget"]["windows"][0]["spent_nano_usd"] == "3"


async def test_a_costly_day_is_an_anomaly_in_both(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(12):
        await ledger.spend("acme", 100_000_000)
        ledger.moment += timedelta(days=1)
    await ledger.spend("acme", 4 * USD)
    await ledger.spend("beta", *[0] * 12)
    ledger.moment += timedelta(days=1)
    await ledger.spend("beta", 4 * USD)
    assert await print_anomalies(ledger.address, tenant="", days=7, as_json=False) == 0
    shown = printed(capsys)
    assert shown == [
        "tenant  day         spent  usual a day  deviations above",
        "beta    2026-04-13  $4.00        $0.00        over 1,000",
        "acme    2026-04-12  $4.00        $0.10             390.0",
    ]
    await report(ledger.address)
    assert printed(capsys)[-4:] == ["Cost Anomalies", *shown]
    await print_anomalies(ledger.address, tenant="acme", days=7, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["days"] == 7
    (anomaly,) = told["anomalies"]
    assert (anomaly["tenant"], anomaly["spent_nano_usd"], anomaly["baseline_events"]) == ("acme", "4000000000", 12)


@pytest.mark.parametrize("columns", [40, 60, 80, 140])
async def test_a_report_fits_its_terminal_and_no_name_commands_it(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    await ledger.spend("a" * 63, USD, 123_456_789, model="acme/[red]" + "界" * 100)
    await report(ledger.address)
    shown = printed(capsys)
    assert max(len(line) + line.count("界") for line in shown) <= columns
    assert "acme/[red]" in "\n".join(shown)
    assert all("$1.1235" in line for line in shown[2:4])


async def test_on_a_port_there_is_only_ones_own(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    await ledger.spend("default", USD)
    await ledger.spend("acme", 2 * USD)
    await report(ledger.port)
    shown = printed(capsys)
    assert shown[0] == "Costs of tenant default in the last 30 days"
    assert not any("acme " in line for line in shown)
    for asked in (report(ledger.port, "acme"), print_anomalies(ledger.port, tenant="acme", days=7, as_json=False)):
        with pytest.raises(NotFound, match="no tenant 'acme' that this caller may see"):
            await asked


async def test_a_report_that_does_not_fit_into_an_answer_says_what_to_do(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.spend("acme", 1)
    await ledger.spend("beta", 1)
    for module in (reports, sql_reports):
        monkeypatch.setattr(module, "MAX_ROWS", 1)
    with pytest.raises(FailedPrecondition, match="ask for fewer days, or for one tenant"):
        await report(ledger.address)


@pytest.mark.parametrize("tenant", ["Ä", "no one", "\x1b[31m", "x" * 64])
async def test_what_is_no_tenants_name_is_refused(ledger: Ledger, tenant: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await report(ledger.address, tenant)
    assert refused.value.field == "tenant"


async def test_colour_is_for_terminals_that_want_it(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from djp.cli import terminal

    await ledger.spend("acme", USD)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    await report(ledger.address)
    assert "\x1b[1m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.out.cache_clear()
    await report(ledger.address)
    assert "\x1b[3" not in capsys.readouterr().out


async def test_the_command_without_a_gateway_is_the_operator(djp: Any) -> None:
    """The whole way: the mesh of the command's own process believes who sits at it."""
    done = await djp("budgets", "set", "tenant:acme", "--daily_usd", "0.5", "--reason", "a trial")
    assert done.code == 0, done.err
    told = json.loads((await djp("budgets", "list", "--json")).out)["budgets"]
    assert {one["scope"]: one["origin"] for one in told} == {
        "global": "default",
        "tenant:acme": "set",
        "tenant:default": "default",
    }
    reported = await djp("cost", "report", "--tenant", "acme")
    assert reported.out.startswith("Tenant acme spent nothing in the last 30 days.")
    assert "$0.50" in reported.out


def test_errors_name_the_flags(home: Any, capsys: pytest.CaptureFixture[str]) -> None:
    async def refused() -> int:
        raise InvalidInput("tenant: 'Ä' is no tenant's name", field="tenant")

    with pytest.raises(SystemExit) as ended:
        execute(refused)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: --tenant: 'Ä' is no tenant's name\n"


async def test_wrong_command_lines_are_usage_errors(djp: Any) -> None:
    for arguments in (
        ["cost"],
        ["cost", "report", "--days", "0"],
        ["cost", "report", "--days", "many"],
        ["budgets", "set", "global", "--daily-usd", "1"],
        ["budgets", "unset", "global"],
        ["budgets", "lsit"],
    ):
        ended = await djp(*arguments)
        assert ended.code == 2
        assert "Usage: djp" in ended.out + ended.err


async def test_the_examples_of_the_docs_are_as_printed(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for day in range(14):
        ledger.moment = datetime(2026, 3, 2 + day, 9, 0, tzinfo=UTC)
        await ledger.spend("acme", 42_000_000, 38_500_000, model="openai/gpt-4o", workflow="weekly-report")
        await ledger.spend("acme", 6_120_000, model="anthropic/claude-haiku-4-5", workflow="weekly-report")
        if day % 5 == 0:
            await ledger.spend("northwind", 1_870_000, 1_910_000, model="openai/gpt-4o-mini")
    await ledger.spend("acme", *[610_000_000] * 6, model="openai/gpt-4o", workflow="weekly-report")
    await ledger.spend("acme", hold=250_000_000)
    await report(ledger.address, days=7)
    documented = (Path(__file__).parents[2] / "docs" / "budgets.md").read_text()
    for block in capsys.readouterr().out.split("\n\n"):
        indented = "\n".join(f"    {line.rstrip()}" for line in block.splitlines())
        print(indented)
        assert indented in documented
