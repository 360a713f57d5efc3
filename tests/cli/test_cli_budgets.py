"""`djp budgets`: what is left, limits set at run time, thresholds that were passed, and who may do what."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from djp.cli.budgets import check_budgets, print_budget_table, print_budgets, set_budget, span_of, unset_budget
from djp.mesh.errors import InvalidInput, NotFound, PermissionDenied
from djp.v1 import governance_pb2

if TYPE_CHECKING:
    from tests.cli.conftest import Ledger

USD = 10**9


async def set_limits(address: str, scope: str, as_json: bool = False, **given: str) -> int:
    flags = {f"--{name.replace('_', '-')}": value for name, value in given.items()}
    return await set_budget(address, scope, flags, reason="because", as_json=as_json)


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [line.split() for line in capsys.readouterr().out.splitlines()]


async def test_the_list_says_what_is_left_and_when_it_resets(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    await ledger.spend("acme", 1_230_000_000, 4_500, hold=2 * USD, workflow="weekly")
    assert await print_budgets(ledger.address, as_json=False) == 0
    shown = capsys.readouterr().out
    assert [line.rstrip() for line in shown.splitlines()] == [
        "budget           per      limit    spent  reserved       left  resets (UTC)  limits from",
        "global           day     $25.00  $1.2300     $2.00   $21.7700  2026-04-01    default",
        "                 month  $500.00  $1.2300     $2.00  $496.7700  2026-04-01    default",
        "tenant:acme      day      $5.00  $1.2300     $2.00    $1.7700  2026-04-01    default",
        "                 month  $100.00  $1.2300     $2.00   $96.7700  2026-04-01    default",
        "tenant:default   day      $5.00  $0.0000     $0.00    $5.0000  2026-04-01    default",
        "                 month  $100.00  $0.0000     $0.00  $100.0000  2026-04-01    default",
        "workflow:weekly  day       none  $1.2300     $2.00          -  2026-04-01    default",
        "                 month     none  $1.2300     $2.00          -  2026-04-01    default",
    ]


async def test_setting_some_limits_keeps_the_others(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert await set_limits(ledger.address, "tenant:acme", daily_usd="1234.5", monthly_tokens="5000000") == 0
    assert lines_of(capsys)[1:] == [
        ["tenant:acme", "day", "$1,234.50", "$0.00", "$0.00", "$1,234.50", "2026-04-01", "set"],
        ["month", "$100.00", "$0.00", "$0.00", "$100.00", "2026-04-01", "set"],
        ["month,", "tokens", "5,000,000", "0", "0", "5,000,000", "2026-04-01", "set"],
    ]
    await set_limits(ledger.address, "tenant:acme", as_json=True, monthly_usd="none", daily_tokens="0")
    budget = json.loads(capsys.readouterr().out)["budget"]
    assert {
        name: budget[name] for name in ("daily_nano_usd", "monthly_nano_usd", "daily_tokens", "monthly_tokens")
    } == {
        "daily_nano_usd": "1234500000000",
        "monthly_nano_usd": None,
        "daily_tokens": "0",
        "monthly_tokens": "5000000",
    }
    assert [window["scope"] for window in budget["windows"]] == ["tenant:acme", "tenant:acme"]


async def test_unsetting_brings_the_configured_limits_back_once(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    await set_limits(ledger.address, "global", daily_usd="0")
    capsys.readouterr()
    assert await unset_budget(ledger.address, "global", reason="over", as_json=True) == 0
    budget = json.loads(capsys.readouterr().out)["budget"]
    assert (budget["origin"], budget["daily_nano_usd"]) == ("default", "25000000000")
    with pytest.raises(NotFound, match="no limits of 'global' were set at run time"):
        await unset_budget(ledger.address, "global", reason="over", as_json=False)


async def test_every_bad_limit_is_named_and_nothing_is_changed(ledger: Ledger) -> None:
    with pytest.raises(InvalidInput) as refused:
        await set_limits(
            ledger.address, "global", daily_usd="much", monthly_usd="-1", daily_tokens="1.5", monthly_tokens="9" * 19
        )
    assert [one.field for one in refused.value.violations] == [
        *("--daily-usd", "--monthly-usd", "--daily-tokens", "--monthly-tokens")
    ]
    with pytest.raises(InvalidInput, match="nothing to set; give one of --daily-usd"):
        await set_limits(ledger.address, "global")
    for scope in ("everybody", "tenant:", "tenant:Ä", "workflow:\x1b[31m", "x" * 101):
        with pytest.raises(InvalidInput):
            await set_limits(ledger.address, scope, daily_usd="1")
    with pytest.raises(InvalidInput, match="reason"):
        await set_budget(ledger.address, "global", {"--daily-usd": "1"}, reason=" \n", as_json=False)
    budgets = {one.scope: one.origin for one in await _all(ledger)}
    assert budgets == {"global": "default", "tenant:default": "default"}


async def test_on_a_port_a_tenant_sees_its_own_and_may_set_nothing(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    await ledger.spend("acme", 1)
    assert await print_budgets(ledger.port, as_json=True) == 0
    shown = json.loads(capsys.readouterr().out)["budgets"]
    assert [one["scope"] for one in shown] == ["global", "tenant:default"]
    for scope in ("tenant:default", "global", "tenant:acme", "workflow:weekly"):
        with pytest.raises(PermissionDenied, match=f"only an operator may set budgets, and {ledger.port} takes"):
            await set_limits(ledger.port, scope, daily_usd="1000")
        with pytest.raises(PermissionDenied, match="only an operator may set budgets"):
            await unset_budget(ledger.port, scope, reason="over", as_json=False)


async def test_a_check_tells_the_thresholds_that_were_passed_since(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from djp.cli import budgets

    class Clock:
        @staticmethod
        def now(zone: Any) -> Any:
            return ledger.moment.astimezone(zone)

    monkeypatch.setattr(budgets, "datetime", Clock)
    assert await check_budgets(ledger.address, since="7d", as_json=False) == 0
    assert capsys.readouterr().out == "No budget has reached a threshold within 7d.\n"
    await ledger.spend("acme", 4_500_000_000)
    await ledger.spend("acme", 400_000_000)
    with pytest.raises(Exception, match="budget exceeded"):
        await ledger.spend("acme", USD)
    ledger.moment += timedelta(days=1)
    assert await check_budgets(ledger.address, since="2d", as_json=False) == 1
    hard, soft = capsys.readouterr().out.splitlines()
    told = "tenant:acme/day of 2026-03-31 has used $4.9000 of its limit of $5.0000: a run that did not fit was refused"
    assert hard == f"2026-03-31 12:00 UTC  hard  {told}"
    assert soft.startswith("2026-03-31 12:00 UTC  soft  tenant:acme/day of 2026-03-31 has used $4.")
    assert await check_budgets(ledger.address, since="7d", as_json=True) == 1
    passed = json.loads(capsys.readouterr().out)["passed"]
    assert [(one["threshold"], one["scope"]) for one in passed] == [("hard", "tenant:acme"), ("soft", "tenant:acme")]
    assert await check_budgets(ledger.address, since="23h", as_json=False) == 0


@pytest.mark.parametrize("text", ["", "7", "d", "7m", "-7d", "7.5d", "99999d", "\u0667d", "d7", "7d "])
def test_a_span_is_digits_and_a_unit(text: str) -> None:
    with pytest.raises(InvalidInput, match="--since"):
        span_of(text)


def test_spans() -> None:
    assert [span_of(text) for text in ("12h", "7d", "4w", "0d")] == [
        *(timedelta(hours=12), timedelta(days=7), timedelta(weeks=4), timedelta(0))
    ]


async def _all(ledger: Ledger) -> list[governance_pb2.Budget]:
    from djp.cli.session import connected_as_operator

    async with connected_as_operator(ledger.address) as client:
        return list(await client.list_budgets())


def window(scope: str, period: str = "DAY", **fields: Any) -> governance_pb2.BudgetWindow:
    found = governance_pb2.BudgetWindow(scope=scope, period=f"BUDGET_PERIOD_{period}", **fields)
    found.resets_at.FromJsonString("2026-04-01T00:00:00Z")
    return found


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_tables_fit_their_terminal_and_nothing_commands_it(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    over = {"limit_nano_usd": 5 * USD, "spent_nano_usd": 1234 * USD + 5, "reserved_nano_usd": 1}
    print_budget_table(
        [
            governance_pb2.Budget(
                scope="workflow:\x1b[31m[bold]" + "界" * 60,
                daily_nano_usd=5 * USD,
                origin="set",
                windows=[window("x", **over), window("x", "MONTH", spent_nano_usd=9_999_999 * USD)],
            ),
            governance_pb2.Budget(
                scope="tenant:shut", daily_nano_usd=0, daily_tokens=0, windows=[window("tenant:shut")]
            ),
        ]
    )
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert max(len(line.rstrip()) + line.count("界") for line in shown.splitlines()) <= columns
    assert "-$1,229.00" in shown
    assert "$0.00" in shown
    assert ("limits from" in shown) == (columns == 140)


def test_a_hard_threshold_below_the_budget_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    budget = governance_pb2.Budget(
        scope="global", daily_nano_usd=10 * USD, windows=[window("global", limit_nano_usd=9 * USD)]
    )
    print_budget_table([budget])
    shown = capsys.readouterr().out
    assert "$9.00" in shown
    assert "BUDGET_HARD_THRESHOLD" in shown


def test_a_budget_without_any_limit_has_nothing_left_to_tell(capsys: pytest.CaptureFixture[str]) -> None:
    print_budget_table([governance_pb2.Budget(scope="workflow:x", origin="set", windows=[window("workflow:x")])])
    assert lines_of(capsys)[1] == ["workflow:x", "day", "none", "$0.00", "$0.00", "-", "2026-04-01", "set"]


def test_where_days_do_not_begin_at_midnight_utc_the_minute_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    berlin = window("global", limit_nano_usd=USD)
    berlin.resets_at.FromJsonString("2026-03-29T22:00:00Z")
    month = window("global", "MONTH", limit_nano_usd=USD)
    print_budget_table(
        [governance_pb2.Budget(scope="global", daily_nano_usd=USD, monthly_nano_usd=USD, windows=[berlin, month])]
    )
    _, first, second = lines_of(capsys)
    assert first[6:8] == ["2026-03-29", "22:00"]
    assert second[5:7] == ["2026-04-01", "00:00"]
