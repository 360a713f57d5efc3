"""Reports: sums by day, model, workflow and preset that follow from the ledger, whatever happened to its calls."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from djp.v1 import governance_pb2
from djp_governance import reports
from djp_governance.adapters import sql_reports

if TYPE_CHECKING:
    from tests.governance.conftest import Governance

USD = 10**9


async def report(client: Any, tenant: str = "", days: int = 0) -> governance_pb2.ReportResponse:
    request = governance_pb2.ReportRequest(tenant=tenant, days=days)
    answer: governance_pb2.ReportResponse = await client.call("Report", request)
    return answer


def told(row: governance_pb2.ReportRow) -> tuple[Any, ...]:
    return row.tenant, row.day, row.model, row.runs, row.calls, row.input_tokens, row.output_tokens, row.cost_nano_usd


async def held(client: Any, **more: Any) -> str:
    return str((await client.reserve(USD, 1000, **more)).reservation.reservation_id)


async def test_a_report_has_a_row_for_each_day_model_workflow_and_preset(governance: Governance, make: Any) -> None:
    acme = (await governance.start()).client()
    tags = {"workflow": "weekly", "preset": "quick"}
    run = await held(acme, tags=tags)
    await acme.charge(run, make.model_call(5, "a/m", (1, 2)), make.model_call(7, "a/m", (3, 4)))
    await acme.charge(run, make.model_call(11, "b/m", (5, 6)))
    governance.clock.turn(hours=3)  # over midnight of a month's end
    await acme.charge(run, make.model_call(100, "b/m"))  # counts on the day of its reservation
    await acme.charge(await held(acme), make.model_call(13, "a/m"))
    answer = await report(acme)
    assert [(*told(row), row.workflow, row.preset) for row in answer.rows] == [
        ("acme", "2026-04-01", "a/m", 1, 1, 0, 0, 13, "", ""),
        ("acme", "2026-03-31", "a/m", 1, 2, 4, 6, 12, "weekly", "quick"),
        ("acme", "2026-03-31", "b/m", 1, 2, 5, 6, 111, "weekly", "quick"),
    ]
    assert list(map(told, answer.totals)) == [
        ("acme", "", "", 2, 5, 9, 12, 136),
        ("acme", "", "b/m", 1, 2, 5, 6, 111),
        ("acme", "", "a/m", 2, 3, 4, 6, 25),
    ]
    assert [(one.scope, one.spent_nano_usd) for one in answer.windows] == [("tenant:acme", 13), ("tenant:acme", 13)]
    assert [row.day for row in (await report(acme, days=1)).rows] == ["2026-04-01"]


async def test_a_call_counts_once_however_often_it_is_told(governance: Governance, make: Any) -> None:
    acme = (await governance.start()).client()
    run, call = await held(acme), make.model_call(5, "a/m", (1, 2))
    request = make.charge(run, call, call)
    await asyncio.gather(*(acme.call("Charge", request) for _ in range(4)))
    await acme.charge(run, call)
    await acme.settle(run)
    (row,) = (await report(acme)).rows
    assert told(row) == ("acme", "2026-03-31", "a/m", 1, 1, 1, 2, 5)


async def test_a_run_that_reserves_again_is_one_run(governance: Governance, make: Any) -> None:
    acme = (await governance.start()).client()
    run_id = make.id()
    for _ in range(3):
        run = await held(acme, run_id=run_id)
        await acme.charge(run, make.model_call(1, "a/m"), make.model_call(1, "b/m"))
        await acme.settle(run)
        governance.clock.turn(days=1)
    answer = await report(acme)
    assert sum(row.runs for row in answer.rows if row.model == "a/m") == 1
    assert [(one.model, one.runs, one.calls) for one in answer.totals] == [("", 1, 6), ("a/m", 1, 3), ("b/m", 1, 3)]


async def test_the_truth_replaces_what_a_lapse_charged(governance: Governance, make: Any) -> None:
    acme = (await governance.start()).client()
    run = await held(acme)
    call = make.model_call(900, "a/m", (50, 50), bound_nano_usd=900)
    await acme.extend(run, call)
    governance.clock.turn(hours=1)

    async def lapsed() -> Any:
        return (await report(acme)).rows

    (row,) = await make.until(lapsed)
    assert told(row) == ("acme", "2026-03-31", "a/m", 1, 1, 50, 50, 900)
    await acme.charge(run, make.model_call(7, "b/m", (1, 1), call_id=call.call_id))  # a fallback had answered
    answer = await report(acme)
    assert [told(row) for row in answer.rows if row.calls] == [("acme", "2026-03-31", "b/m", 1, 1, 1, 1, 7)]
    assert told(answer.totals[0]) == ("acme", "", "", 1, 1, 1, 1, 7)


async def test_operators_see_everybody_and_a_tenant_itself(governance: Governance, make: Any) -> None:
    await governance.start()
    acme, globex = governance.client("acme"), governance.client("globex")
    for client, cost in ((acme, 5), (globex, 70)):
        await client.charge(await held(client), make.model_call(cost, "a/m"))
    operator = governance.client("acme", "operator")
    answer = await report(operator)
    assert [told(row) for row in answer.rows] == [("", "2026-03-31", "a/m", 2, 2, 0, 0, 75)]
    assert [(one.tenant, one.model, one.cost_nano_usd) for one in answer.totals] == [
        ("globex", "", 70),
        ("globex", "a/m", 70),
        ("acme", "", 5),
        ("acme", "a/m", 5),
    ]
    assert {one.scope for one in answer.windows} == {"global"}
    assert [row.cost_nano_usd for row in (await report(operator, "globex")).rows] == [70]
    assert {row.tenant for row in (await report(acme)).rows} == {"acme"}
    for method, request in (
        ("Report", governance_pb2.ReportRequest(tenant="globex")),
        ("ListAnomalies", governance_pb2.ListAnomaliesRequest(tenant="globex")),
        ("Report", governance_pb2.ReportRequest(tenant="no\0body")),
    ):
        refusal = await acme.refused(method, request)
        assert refusal.code == "NOT_FOUND"
        assert [one.field for one in refusal.violations] == ["tenant"]


async def test_hostile_names_are_kept_apart_and_short(governance: Governance, make: Any) -> None:
    acme = (await governance.start()).client()
    for workflow in ("x" * 1000, "nul\0nul", "'; DROP TABLE rollups; --", "\u202eevil", "Grüße 💶"):
        run = await held(acme, tags={"workflow": workflow, "preset": "p" * 999, "other": "{"})
        await acme.charge(run, make.model_call(1, "öp/模" + "m" * 190))
    rows = (await report(acme)).rows
    assert len(rows) == 5
    assert max(len(row.workflow) for row in rows) == 100
    assert {row.preset for row in rows} == {"p" * 100}


async def test_a_report_that_fits_no_answer_says_what_to_ask_for(
    governance: Governance, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = (await governance.start()).client()
    run = await held(acme)
    await acme.charge(run, *(make.model_call(1, f"a/{number}") for number in range(4)))
    monkeypatch.setattr(sql_reports, "MAX_ROWS", 3)
    refusal = await acme.refused("Report", governance_pb2.ReportRequest())
    assert refusal.code == "FAILED_PRECONDITION"
    assert "fewer days" in refusal.message


async def test_an_empty_ledger_has_an_empty_report(governance: Governance) -> None:
    acme = (await governance.start()).client()
    answer = await report(acme, days=3660)
    assert not answer.rows
    assert not answer.totals
    assert len(answer.windows) == 2


async def test_concurrent_charges_add_up(governance: Governance, make: Any) -> None:
    acme = (await governance.start()).client()

    async def one() -> None:
        run = await held(acme)
        await acme.charge(run, make.model_call(3, "b/m", (1, 0)), make.model_call(2, "a/m", (0, 1)))
        await acme.settle(run)

    await acme.charge(await held(acme), make.model_call(0, "a/m"))
    await asyncio.gather(*(one() for _ in range(4)))
    assert told((await report(acme)).totals[0]) == ("acme", "", "", 5, 9, 4, 4, 20)


def test_a_report_never_begins_before_the_calendar() -> None:
    assert reports.first_of(3660, date(1, 1, 9)) == date.min
    assert reports.before(date(1, 1, 9), 28) == date.min
    assert reports.first_of(0, date(2026, 3, 1)) == date(2026, 1, 31)


@pytest.mark.parametrize(
    ("first", "last", "since", "until"),
    [
        (date(2028, 2, 1), date(2028, 2, 29), date(2028, 2, 1), date(2028, 3, 1)),
        (date(2028, 2, 1), date(2028, 2, 28), date(2028, 2, 1), date(2028, 2, 1)),  # none
        (date(2027, 12, 2), date(2028, 1, 31), date(2028, 1, 1), date(2028, 2, 1)),
        (date(2028, 1, 31), date(2028, 3, 1), date(2028, 2, 1), date(2028, 3, 1)),
        (date(2028, 1, 5), date(2028, 1, 20), date(2028, 2, 1), date(2028, 1, 1)),  # none
        (date.min, date.max, date.min, date(9999, 12, 1)),
    ],
)
def test_whole_months_are_those_with_all_their_days(first: date, last: date, since: date, until: date) -> None:
    assert reports.whole_months(first, last) == (since, until)


def fill_up(less: int) -> tuple[str, ...]:
    """Statements after which the only call of a ledger cost all that an int64 can count, but for so much."""
    most = 2**63 - 1 - less
    return (
        f"UPDATE calls SET cost_nano = {most}",
        f"UPDATE reservations SET charged_nano = {most}",
        f"UPDATE entries SET spent_nano = {most} WHERE kind = 'charge'",
        f"UPDATE windows SET spent_nano = {most}",
        f"UPDATE rollups SET cost_nano = {most}",
    )


async def test_what_is_more_than_the_ledger_can_count_is_refused(governance: Governance, make: Any) -> None:
    acme = (await governance.start()).client()
    run = await held(acme)
    await acme.charge(run, make.model_call(USD, "a/m"))
    for statement in fill_up(less=5):
        await governance.sql(statement)
    refusal = await acme.refused("Charge", make.charge(run, make.model_call(6, "a/m")))
    assert refusal.code == "FAILED_PRECONDITION"
    assert "2^63" in refusal.message
    await acme.charge(run, make.model_call(5, "a/m"))
    (row,) = (await report(acme)).rows
    assert row.cost_nano_usd == 2**63 - 1

    governance.clock.turn(days=1)
    await acme.charge(await held(acme), make.model_call(1, "a/m"))
    for days, code in ((1, ""), (2, "FAILED_PRECONDITION")):
        request = governance_pb2.ReportRequest(days=days)
        if code:
            refusal = await acme.refused("Report", request)
            assert (refusal.code, [one.field for one in refusal.violations]) == (code, ["days"])
            assert "fewer days" in refusal.message
        else:
            await acme.call("Report", request)
