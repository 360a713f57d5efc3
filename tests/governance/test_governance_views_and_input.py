"""What governance shows, and what it refuses: lists and pages, budgets, hostile input, settings, RPCs to come."""

from __future__ import annotations

from datetime import UTC, date
from typing import Any

import pytest
from pydantic import ValidationError

from djp.mesh.errors import InvalidInput
from djp.mesh.settings import settings_problems
from djp.v1 import governance_pb2
from djp_governance.settings import GovernanceSettings
from djp_governance.windows import window_of

USD = 10**9
MAX = 2**63 - 1


def listing(**fields: Any) -> governance_pb2.ListReservationsRequest:
    return governance_pb2.ListReservationsRequest(**fields)


async def test_reservations_are_listed_newest_first_in_pages(governance: Any, make: Any) -> None:
    acme = (await governance.start()).client()
    made = []
    for number in range(7):
        governance.clock.turn(microseconds=number // 3)  # some at the same microsecond
        made.append((await acme.reserve(number)).reservation)
    newest_first = sorted(made, key=lambda one: (one.created_at.ToMicroseconds(), one.reservation_id), reverse=True)
    found, token = [], ""
    while True:
        page = await acme.call("ListReservations", listing(page_size=2, page_token=token))
        assert len(page.reservations) <= 2
        found += page.reservations
        token = page.next_page_token
        if not token:
            break
    assert found == newest_first


async def test_reservations_are_filtered_by_run_and_state(acme: Any, make: Any) -> None:
    run = make.id()
    mine = [(await acme.reserve(1, run_id=run)).reservation.reservation_id for _ in range(3)]
    other = (await acme.reserve(1)).reservation.reservation_id
    await acme.settle(mine[0])
    await acme.release(mine[1])

    async def found(**fields: Any) -> set[str]:
        answer = await acme.call("ListReservations", listing(**fields))
        return {one.reservation_id for one in answer.reservations}

    assert await found() == {*mine, other}
    assert await found(run_id=run) == set(mine)
    assert await found(run_id=run.upper()) == set(mine)
    assert await found(run_id=run, state=governance_pb2.RESERVATION_STATE_HELD) == {mine[2]}
    assert await found(state=governance_pb2.RESERVATION_STATE_SETTLED) == {mine[0]}
    assert await found(state=governance_pb2.RESERVATION_STATE_RELEASED) == {mine[1]}
    assert await found(state=governance_pb2.RESERVATION_STATE_LAPSED) == set()
    assert await found(run_id="' OR 1=1 --") == set()


@pytest.mark.parametrize("token", ["x", "MTo=", "eA==", "OTk5OTk5OTk5OTk5OTk5OTk5OTk6eA==", "💥", "/w==", "LTE6eA=="])
async def test_a_page_token_that_is_not_ours_is_refused(acme: Any, token: str) -> None:
    error = await acme.refused("ListReservations", listing(page_token=token))
    assert (error.code, error.field) == ("INVALID_ARGUMENT", "page_token")


async def test_a_tenant_sees_its_own_budget_and_the_global_one(governance: Any) -> None:
    acme = (await governance.start(tenant_daily="2.5")).client()
    await governance.client("globex").reserve(7)
    await acme.reserve(5, 50)
    budgets = (await acme.call("ListBudgets", governance_pb2.ListBudgetsRequest())).budgets
    assert [(one.scope, one.daily_nano_usd, one.monthly_nano_usd, one.origin) for one in budgets] == [
        ("global", 25 * USD, 500 * USD, "default"),
        ("tenant:acme", 5 * USD // 2, 100 * USD, "environment"),
    ]
    assert [window.reserved_nano_usd for one in budgets for window in one.windows] == [12, 12, 5, 5]
    for name in ("tenant", "tenant:acme"):
        got = await acme.call("GetBudget", governance_pb2.GetBudgetRequest(scope=name))
        assert got.budget == budgets[1]
    first = await acme.call("ListBudgets", governance_pb2.ListBudgetsRequest(page_size=1))
    second = await acme.call(
        "ListBudgets", governance_pb2.ListBudgetsRequest(page_size=1, page_token=first.next_page_token)
    )
    assert [*first.budgets, *second.budgets] == list(budgets)
    assert not second.next_page_token


@pytest.mark.parametrize("scope", ["tenant:globex", "workflow:weekly", "Global", "tenant:", "tenant:acme/day", "💥"])
async def test_no_other_budget_can_be_seen(acme: Any, scope: str) -> None:
    error = await acme.refused("GetBudget", governance_pb2.GetBudgetRequest(scope=scope))
    assert (error.code, error.field) == ("NOT_FOUND", "scope")


async def test_amounts_near_the_end_of_int64_are_refused_and_hold_nothing(acme: Any, make: Any) -> None:
    for request, field in (
        (make.reserve(MAX), "amount_nano_usd"),
        (make.reserve(0, MAX), "tokens"),
        (make.reserve(10**15 + 1), "amount_nano_usd"),
    ):
        error = await acme.refused("Reserve", request)
        assert (error.code, error.field) == ("INVALID_ARGUMENT", field)
    held = (await acme.reserve(10)).reservation.reservation_id
    for calls, field in (
        ([make.model_call(1), make.model_call(MAX)], "calls[1].cost_nano_usd"),
        ([make.model_call(1, tokens=(MAX, MAX))], "calls[0].usage.input_tokens"),
        ([make.model_call(0, bound_nano_usd=MAX, usage_unknown=True)], "calls[0].cost_nano_usd"),
        ([make.model_call(10**15), make.model_call(10**15)], "calls"),
        ([make.model_call(0, tokens=(10**12, 10**12))], "calls"),
    ):
        error = await acme.refused("Charge", make.charge(held, *calls))
        assert (error.code, error.field) == ("INVALID_ARGUMENT", field)
    window = await acme.window()
    assert (window.reserved_nano_usd, window.spent_nano_usd, window.reserved_tokens) == (10, 0, 0)


async def test_a_window_that_cannot_count_further_refuses_and_keeps_its_sums(governance: Any, make: Any) -> None:
    acme = (await governance.start()).client()
    held = (await acme.reserve(10)).reservation.reservation_id
    for column, most in (("spent_nano", MAX - 10), ("spent_tokens", MAX)):
        await governance.sql(f"UPDATE windows SET {column} = {most} WHERE scope = 'global' AND period = 'month'")
        call = make.model_call(11) if column == "spent_nano" else make.model_call(0, tokens=(1, 0))
        error = await acme.refused("Charge", make.charge(held, call))
        assert (error.code, "can count" in error.message) == ("FAILED_PRECONDITION", True)
        await governance.sql(f"UPDATE windows SET {column} = 0")
    assert (await acme.settle(held)).total_nano_usd == 0


async def test_limits_that_reach_the_end_of_int64_still_count(governance: Any, make: Any) -> None:
    most = "9223372036.854775807"
    limits = dict.fromkeys(("global_daily", "global_monthly", "tenant_daily", "tenant_monthly"), most)
    acme = (await governance.start(**limits)).client()
    await acme.reserve(10**15, 10**12)
    window = await acme.window()
    assert (window.limit_nano_usd, window.reserved_nano_usd) == (MAX, 10**15)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"request_id": "1"}, "request_id"),
        ({"run_id": ""}, "run_id"),
        ({"amount_nano_usd": -1}, "amount_nano_usd"),
        ({"tokens": -1}, "tokens"),
        ({"run_limit_nano_usd": 0}, "run_limit_nano_usd"),
        ({"tags": {str(n): "" for n in range(21)}}, "tags"),
        ({"tags": {"workflow": "w" * 1001}}, 'tags["workflow"]'),
        ({"tags": {"k" * 1001: ""}}, f'tags["{"k" * 40}"]'),
    ],
)
async def test_a_bad_field_is_named(acme: Any, make: Any, change: dict[str, Any], field: str) -> None:
    error = await acme.refused("Reserve", make.reserve(**{"amount": 1, **_renamed(change)}))
    assert (error.code, error.reason, error.field) == ("INVALID_ARGUMENT", "INVALID_INPUT", field)


def _renamed(change: dict[str, Any]) -> dict[str, Any]:
    return {"amount" if key == "amount_nano_usd" else key: value for key, value in change.items()}


async def test_a_models_name_has_no_control_characters(acme: Any, make: Any) -> None:
    held = (await acme.reserve(10)).reservation.reservation_id
    error = await acme.refused("Charge", make.charge(held, make.model_call(1, model="a\0b")))
    assert (error.code, error.field) == ("INVALID_ARGUMENT", "calls[0].model")


async def test_a_thousand_calls_are_one_charge(acme: Any, make: Any) -> None:
    held = (await acme.reserve(1000)).reservation.reservation_id
    calls = [make.model_call(1, model=f"openai/{n % 3}", tokens=(1, 1)) for n in range(1000)]
    charged = await acme.charge(held, *calls)
    assert charged.reservation.charged_nano_usd == 1000
    assert [one.calls for one in (await acme.settle(held)).totals] == [334, 333, 333]


@pytest.mark.parametrize("reservation_id", ["no-such", "' OR 1=1 --", "%", "\0", "💥" * 25])
async def test_an_unknown_reservation_is_not_found(acme: Any, make: Any, reservation_id: str) -> None:
    error = await acme.refused("Settle", make.settle(reservation_id))
    assert (error.code, error.field) == ("NOT_FOUND", "reservation_id")


async def test_limits_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("DJP_HOME", str(tmp_path))
    for name, value in (
        ("GLOBAL_BUDGET_DAILY", "10"),
        ("TENANT_BUDGET_MONTHLY_DEFAULT", "0.000000003"),
        ("BUDGET_HARD_THRESHOLD", "0.5"),
    ):
        monkeypatch.setenv(name, value)
    settings = GovernanceSettings()
    limits = settings.limits()
    assert (limits.everybody.daily, limits.everybody.monthly) == (10 * USD, 500 * USD)
    assert (limits.everybody.origin, limits.tenant.origin) == ("environment", "environment")
    month = window_of("tenant:acme", "month", date(2026, 3, 1), UTC)
    assert limits.window(month, limits.of("tenant:acme")).limit == 1  # half of 3 nano-dollars, never more
    assert settings.database_url == f"sqlite+aiosqlite:///{tmp_path}/governance.db"


@pytest.mark.parametrize("value", ["-1", "lots", "nan", "inf"])
def test_a_limit_that_is_no_amount_names_its_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("GLOBAL_BUDGET_DAILY", value)
    with pytest.raises(ValidationError) as wrong:
        GovernanceSettings()
    problems = settings_problems(wrong.value)
    assert len(problems) == 1
    assert problems[0].startswith("GLOBAL_BUDGET_DAILY: ")


@pytest.mark.parametrize("value", ["0.0000000001", "1e10"])
async def test_a_limit_that_cannot_be_counted_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, governance: Any, value: str
) -> None:
    monkeypatch.setenv("TENANT_BUDGET_DAILY_DEFAULT", value)
    with pytest.raises(InvalidInput, match="TENANT_BUDGET_DAILY_DEFAULT: "):
        await governance.start()


async def test_a_budget_of_zero_lets_only_free_runs_pass(governance: Any, make: Any) -> None:
    acme = (await governance.start(tenant_daily="0")).client()
    error = await acme.refused("Reserve", make.reserve(1))
    assert error.reason == "BUDGET_EXCEEDED"
    assert (await acme.reserve(0, 100)).outcome == governance_pb2.RESERVE_OUTCOME_GRANTED
