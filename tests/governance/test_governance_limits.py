"""Limits: where they come from, which of them wins, what refuses, and who may change them."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

from djp.mesh.errors import FailedPrecondition, InvalidInput
from djp.v1 import governance_pb2
from djp_governance.adapters.budgets_file import BudgetsFile
from djp_governance.settings import GovernanceSettings

if TYPE_CHECKING:
    from pathlib import Path

USD = 10**9
REJECTED = governance_pb2.GOVERNANCE_EVENT_KIND_CONFIG_REJECTED

FILE = """
global:
  daily: 100.0
  monthly: none
tenants:
  acme:
    daily: 0.3  # as a float it would be less
    daily_tokens: 1000
workflows:
  weekly-report:
    monthly: 2
    run: 0.01
    run_tokens: 500
"""


@pytest.fixture
def budgets(tmp_path: Path) -> Path:
    path = tmp_path / "budgets.yaml"
    path.write_text(FILE)
    return path


def daily(budget: Any) -> tuple[int, str]:
    return budget.daily_nano_usd, budget.origin


async def test_the_file_wins_over_the_environment_and_what_is_set_over_both(governance: Any, budgets: Path) -> None:
    await governance.start(tenant_daily="7", tenant_monthly="70", budgets_file=budgets)
    operator = governance.client("ops", "operator")
    acme = await operator.budget("tenant:acme")
    assert daily(acme) == (3 * USD // 10, "file")
    assert (acme.monthly_nano_usd, acme.daily_tokens) == (70 * USD, 1000)  # what the file leaves out stays
    assert not acme.HasField("monthly_tokens")
    assert daily(await operator.budget("tenant:globex")) == (7 * USD, "environment")
    everybody = await operator.budget("global")
    assert daily(everybody) == (100 * USD, "file")
    assert not everybody.HasField("monthly_nano_usd")
    assert not everybody.windows[1].HasField("limit_nano_usd")

    was_set = await operator.set_budget("tenant:acme", daily_nano_usd=USD, monthly_tokens=9)
    assert (daily(was_set), was_set.monthly_tokens) == ((USD, "set"), 9)
    assert not was_set.HasField("monthly_nano_usd")  # all four are replaced
    operator = (await governance.restart(budgets_file=budgets)).client("ops", "operator")
    again = await operator.budget("tenant:acme")
    assert (daily(again), again.monthly_tokens) == ((USD, "set"), 9)
    await operator.delete_budget("tenant:acme")
    assert daily(await operator.budget("tenant:acme")) == (3 * USD // 10, "file")
    request = governance_pb2.DeleteBudgetRequest(request_id="0" * 8 + "-0000-4000-8000-" + "0" * 12, scope="global")
    assert (await operator.refused("DeleteBudget", request)).code == "NOT_FOUND"
    kinds = [one.kind for one in await operator.events()]
    assert kinds == [
        governance_pb2.GOVERNANCE_EVENT_KIND_BUDGET_SET,
        governance_pb2.GOVERNANCE_EVENT_KIND_BUDGET_DELETED,
    ]
    told = (await operator.events())[0]
    assert (told.actor, told.scope) == ("operator of ops", "tenant:acme")
    assert told.message == "tenant:acme is limited to $1.0000 a day, 9 tokens a month; because"


async def test_a_limit_of_nothing_is_another_than_none(governance: Any, make: Any) -> None:
    operator = (await governance.start()).client("ops", "operator")
    await operator.set_budget("tenant:acme", daily_nano_usd=0)
    day, month = (await operator.budget("tenant:acme")).windows
    assert (day.HasField("limit_nano_usd"), day.limit_nano_usd) == (True, 0)
    assert not month.HasField("limit_nano_usd")
    acme = governance.client("acme")
    assert (await acme.refused("Reserve", make.reserve(1))).reason == "BUDGET_EXCEEDED"
    (denied,) = await acme.events(kind=governance_pb2.GOVERNANCE_EVENT_KIND_DENIED)
    assert denied.window.HasField("limit_nano_usd")
    assert not denied.window.HasField("limit_tokens")


async def test_limits_set_at_run_time_count_at_once(governance: Any, make: Any) -> None:
    acme = (await governance.start()).client()
    operator = governance.client("ops", "admin")
    await acme.reserve(USD)
    await operator.set_budget("tenant:acme", daily_nano_usd=USD + 5)
    assert (await acme.refused("Reserve", make.reserve(6))).reason == "BUDGET_EXCEEDED"
    await acme.reserve(5)
    await operator.set_budget("tenant:acme", daily_nano_usd=1)  # below what is in use: it refuses until there is room
    assert (await acme.refused("Reserve", make.reserve(1))).reason == "BUDGET_EXCEEDED"
    await operator.set_budget("tenant:acme")
    await acme.reserve(30 * USD // 2)
    error = await acme.refused("Reserve", make.reserve(20 * USD))
    assert [one.subject for one in error.quota] == ["global/day"]


async def test_only_operators_set_budgets(governance: Any, make: Any) -> None:
    acme = (await governance.start()).client()
    for scope in ("tenant", "tenant:acme", "global", "workflow:w"):
        for method, more in (("SetBudget", {"budget": governance_pb2.Budget(daily_nano_usd=1)}), ("DeleteBudget", {})):
            request = getattr(governance_pb2, f"{method}Request")(request_id=make.id(), scope=scope, reason="r", **more)
            assert (await acme.refused(method, request)).code == "PERMISSION_DENIED"
    assert await governance.client("ops", "operator").events() == []


@pytest.mark.parametrize(
    ("scope", "budget", "field"),
    [
        ("tenant:", {}, "scope"),
        ("tenant:Big Corp", {}, "scope"),
        ("workflow:", {}, "scope"),
        ("workflow:\0", {}, "scope"),
        ("everybody", {}, "scope"),
        ("global", {"scope": "tenant:acme"}, "budget.scope"),
        ("global", {"origin": "file"}, "budget.origin"),
        ("global", {"windows": [governance_pb2.BudgetWindow()]}, "budget.windows"),
        ("global", {"daily_nano_usd": -1}, "budget.daily_nano_usd"),
    ],
)
async def test_a_budget_that_cannot_be_set_names_its_field(
    governance: Any, make: Any, scope: str, budget: dict[str, Any], field: str
) -> None:
    operator = (await governance.start()).client("ops", "operator")
    request = governance_pb2.SetBudgetRequest(
        request_id=make.id(), scope=scope, budget=governance_pb2.Budget(**budget), reason="r"
    )
    error = await operator.refused("SetBudget", request)
    assert (error.code, error.field) == ("INVALID_ARGUMENT", field)


async def test_setting_at_once_and_again_is_one_setting(governance: Any, make: Any) -> None:
    operator = (await governance.start()).client("ops", "operator")
    request = governance_pb2.SetBudgetRequest(
        request_id=make.id(), scope="workflow:w", budget=governance_pb2.Budget(daily_tokens=5), reason="r"
    )
    answers = await asyncio.gather(*(operator.call("SetBudget", request) for _ in range(5)))
    assert len({one.SerializeToString() for one in answers}) == 1
    await asyncio.gather(*(operator.set_budget("workflow:v", daily_tokens=n) for n in range(1, 6)))
    assert len(await operator.events()) == 6


async def test_operators_list_every_budget_that_is_named_or_used(governance: Any, budgets: Path) -> None:
    await governance.start(budgets_file=budgets)
    await governance.client("globex").reserve(1, tags={"workflow": "daily"})
    operator = governance.client("ops", "operator")
    await operator.set_budget("tenant:zeta", daily_nano_usd=1)
    found, token = [], ""
    while True:
        request = governance_pb2.ListBudgetsRequest(page_size=2, page_token=token)
        page = await operator.call("ListBudgets", request)
        found += [one.scope for one in page.budgets]
        token = page.next_page_token
        if not token:
            break
    assert found == [
        "global",
        "tenant:acme",
        "tenant:globex",
        "tenant:ops",
        "tenant:zeta",
        "workflow:daily",
        "workflow:weekly-report",
    ]


async def test_tokens_have_budgets_beside_dollars(governance: Any, make: Any, budgets: Path) -> None:
    acme = (await governance.start(budgets_file=budgets)).client()
    calm = await acme.reserve(0, 799)
    assert calm.outcome == governance_pb2.RESERVE_OUTCOME_GRANTED
    slow = await acme.reserve(0, 100)  # free, but not of tokens
    assert slow.outcome == governance_pb2.RESERVE_OUTCOME_THROTTLED
    assert slow.pace_ms > 0
    error = await acme.refused("Reserve", make.reserve(1, 102))
    assert [one.subject for one in error.quota] == ["tenant:acme/day"]
    assert "limit of 1,000 tokens, of which 899 are reserved and 0 spent" in error.message
    assert "the run asks for up to 102 tokens" in error.message
    await acme.reserve(1, 101)
    assert (await acme.window()).limit_tokens == 1000
    assert (await acme.window()).reserved_tokens == 1000
    assert [one.message.partition(" has used ")[2].partition(":")[0] for one in await acme.events()] == [
        "899 tokens of its limit of 1,000 tokens",
        "899 tokens of its limit of 1,000 tokens",
    ]


async def test_a_workflows_budget_is_for_all_tenants_and_counts_what_was_before_it(governance: Any, make: Any) -> None:
    await governance.start()
    tags = {"workflow": "weekly"}
    await governance.client("acme").reserve(USD, tags=tags)
    operator = governance.client("ops", "operator")
    await operator.set_budget("workflow:weekly", daily_nano_usd=2 * USD)
    globex = governance.client("globex")
    error = await globex.refused("Reserve", make.reserve(USD + 1, tags=tags))
    assert [one.subject for one in error.quota] == ["workflow:weekly/day"]
    await globex.reserve(USD, tags=tags)
    await globex.reserve(USD, tags={"workflow": "other"})
    await globex.reserve(USD)
    assert (await operator.budget("workflow:weekly")).windows[0].reserved_nano_usd == 2 * USD


async def test_every_run_of_a_workflow_has_its_limit_over_all_its_reservations(
    governance: Any, make: Any, budgets: Path
) -> None:
    acme = (await governance.start(budgets_file=budgets)).client()
    tags = {"workflow": "weekly_report"}  # the file writes it with a hyphen, a variable in capitals
    run = make.id()
    first = await acme.reserve(6_000_000, 100, tags=tags, run_id=run)
    assert list(first.warnings) == []
    await acme.charge(first.reservation.reservation_id, make.model_call(2_000_000))
    await acme.settle(first.reservation.reservation_id)
    second = await acme.reserve(7_000_000, 350, tags=tags, run_id=run)
    assert list(second.warnings) == ["projected cost $0.009 is 90 % of the budget $0.010"]
    error = await acme.refused("Reserve", make.reserve(1_000_001, tags=tags, run_id=run))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "RUN_BUDGET_EXCEEDED")
    assert error.message.startswith("BudgetExceededError: Projected cost $0.010000001 exceeds budget $0.010000000; ")
    assert "workflows.weekly-report.run in budgets.yaml" in error.message
    error = await acme.refused("Reserve", make.reserve(0, 501, tags=tags))
    assert error.message.startswith("BudgetExceededError: Projected tokens 501 exceed budget 500; ")
    await acme.reserve(10_000_000, tags=tags)  # another run


async def test_variables_limit_the_runs_of_a_workflow(
    governance: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUDGET_WEEKLY_REPORT_USD", "0.010")
    monkeypatch.setenv("BUDGET_WEEKLY_REPORT_TOKENS", "100")
    acme = (await governance.start()).client()
    tags = {"workflow": "weekly-report"}
    error = await acme.refused("Reserve", make.reserve(15_000_000, tags=tags))
    assert error.message == (
        "BudgetExceededError: Projected cost $0.015 exceeds budget $0.010; raise BUDGET_WEEKLY_REPORT_USD, or lower "
        "--max-tokens"
    )
    error = await acme.refused("Reserve", make.reserve(1, 101, tags=tags))
    assert "raise BUDGET_WEEKLY_REPORT_TOKENS" in error.message
    assert (await acme.window()).reserved_nano_usd == 0


@pytest.mark.parametrize(
    ("variable", "value"),
    [("BUDGET_A_USD", "-1"), ("BUDGET_A_USD", "lots"), ("BUDGET_A_TOKENS", "1.5"), ("BUDGET_A_TOKENS", "٣")],
)
async def test_a_runs_variable_that_is_no_amount_is_named(
    governance: Any, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidInput, match=f"{variable}: "):
        await governance.start()


async def test_a_changed_file_counts_and_a_broken_one_does_not(
    governance: Any, make: Any, budgets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await governance.start(budgets_file=budgets)
    operator = governance.client("ops", "operator")

    def rewrite(text: str) -> None:
        budgets.with_suffix(".new").write_text(text)
        os.replace(budgets.with_suffix(".new"), budgets)

    rewrite(FILE.replace("0.3", "0.4"))

    async def is_changed() -> bool:
        return daily(await operator.budget("tenant:acme")) == (4 * USD // 10, "file")

    await make.until(is_changed)
    for text, says in (
        ("tenants: {acme: {daily: 0.5, dayly: 3}}", "tenants.acme.dayly: is unknown here"),
        ("tenants: [", "is not YAML"),
    ):
        before = len(await operator.events(kind=REJECTED))
        rewrite(text)

        async def is_told(before: int = before) -> Any:
            found = await operator.events(kind=REJECTED)
            return found[-1] if len(found) > before else None

        told = await make.until(is_told)
        assert says in told.message
        assert any(says in record.message for record in caplog.records if record.levelname == "ERROR")
        assert await is_changed()  # the limits of before
    rewrite("tenants: {acme: {daily: 0.6}}")

    async def is_mended() -> bool:
        return daily(await operator.budget("tenant:acme")) == (6 * USD // 10, "file")

    await make.until(is_mended)
    assert len(await operator.events(kind=REJECTED)) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("global: {daily: -1}", "global.daily: "),
        ("global: {daily: 1e400}", "global.daily: "),
        ("global: {daily: }", "global.daily: give a number"),
        ("global: {daily: [1]}", "global.daily: give a number"),
        ("global: {daily_tokens: 1.5}", "global.daily_tokens: "),
        ("global: {daily_tokens: 99999999999999999999}", "global.daily_tokens: "),
        ("globl: {daily: 1}", "globl: is unknown here"),
        ("tenants: {'Big Corp': {daily: 1}}", "tenants.Big Corp: "),
        ("tenants: {a: {daily: 1}, a: {daily: 2}}", "'a' is there twice"),
        ("tenants: 5", "tenants: give names"),
        ("- 1", "give names"),
        ("workflows: {'': {run: 1}}", "workflows.: "),
        ("a: &x [*x]", ""),
        ("[" * 20000, "is n"),
        ("\ud800".encode("utf-8", "surrogatepass"), "is not UTF-8"),
        (b"x" * 1_000_001, "is no file of at most 1,000,000 bytes"),
    ],
)
def test_a_broken_file_at_the_start_stops_it(budgets: Path, text: str | bytes, says: str) -> None:
    budgets.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FailedPrecondition) as refused:
        BudgetsFile(budgets, GovernanceSettings().limits(), needed=True)
    assert str(budgets) in refused.value.message
    assert says in refused.value.message
    assert "\n" not in refused.value.message
    assert len(refused.value.message) < 700


async def test_a_file_that_was_named_must_be_there_and_the_usual_one_need_not(governance: Any, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="is not there; DJP_BUDGETS names it"):
        await governance.start(budgets_file=tmp_path / "none.yaml")
    await governance.start()
    (tmp_path / "budgets.yaml").write_text("global: {daily: 3}")
    await governance.restart()
    assert daily(await governance.client().budget("global")) == (3 * USD, "file")


async def test_a_workflow_that_is_no_name_for_a_budget_still_runs(acme: Any) -> None:
    for workflow in ("w" * 900, "a\0b", "💥", "global", "x:y"):
        await acme.reserve(1, tags={"workflow": workflow})
    assert (await acme.window()).reserved_nano_usd == 5
