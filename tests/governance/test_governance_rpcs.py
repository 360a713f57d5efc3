"""A run's way through the ledger: reserve, charge, settle, release; what repeats, what is refused, who sees what."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from djp.v1 import governance_pb2

USD = 10**9
HELD, SETTLED, RELEASED = (
    governance_pb2.RESERVATION_STATE_HELD,
    governance_pb2.RESERVATION_STATE_SETTLED,
    governance_pb2.RESERVATION_STATE_RELEASED,
)


async def test_a_run_is_held_charged_and_settled_in_every_window(acme: Any, make: Any) -> None:
    granted = await acme.reserve(USD, 1000, tags={"workflow": "weekly", "preset": "schnell ✓"})
    reservation = granted.reservation
    assert granted.outcome == governance_pb2.RESERVE_OUTCOME_GRANTED
    assert (reservation.state, reservation.tenant, reservation.reserved_nano_usd) == (HELD, "acme", USD)
    assert dict(reservation.tags) == {"workflow": "weekly", "preset": "schnell ✓"}
    for scope in ("global", "tenant:acme"):
        for period in ("day", "month"):
            window = await acme.window(scope, period)
            assert (window.reserved_nano_usd, window.spent_nano_usd, window.reserved_tokens) == (USD, 0, 1000)

    calls = [
        make.model_call(300, "openai/a", (10, 5)),
        make.model_call(200, "anthropic/b", (7, 3)),
        make.model_call(100, "openai/a", (1, 1)),
    ]
    charged = await acme.charge(reservation.reservation_id, *calls)
    assert not charged.over_reservation
    assert (charged.reservation.charged_nano_usd, charged.reservation.charged_tokens) == (600, 27)
    window = await acme.window()
    assert (window.reserved_nano_usd, window.spent_nano_usd) == (USD - 600, 600)
    assert (window.reserved_tokens, window.spent_tokens) == (973, 27)

    settled = await acme.settle(reservation.reservation_id)
    assert (settled.reservation.state, settled.total_nano_usd) == (SETTLED, 600)
    assert settled.reservation.HasField("closed_at")
    assert [(one.model, one.calls, one.cost_nano_usd) for one in settled.totals] == [
        ("anthropic/b", 1, 200),
        ("openai/a", 2, 400),
    ]
    assert [(one.input_tokens, one.output_tokens) for one in settled.totals] == [(7, 3), (11, 6)]
    window = await acme.window()
    assert (window.reserved_nano_usd, window.spent_nano_usd) == (0, 600)
    assert (window.reserved_tokens, window.spent_tokens) == (0, 27)

    got = await acme.call(
        "GetReservation", governance_pb2.GetReservationRequest(reservation_id=reservation.reservation_id)
    )
    assert got.reservation == settled.reservation
    assert list(got.totals) == list(settled.totals)


async def test_a_released_run_keeps_its_charges_and_gives_the_rest_back(acme: Any, make: Any) -> None:
    held = (await acme.reserve(1000)).reservation.reservation_id
    await acme.charge(held, make.model_call(400))
    released = await acme.call("Release", make.release(held, "killed \0 by 'quotes' \U0001f4a5"))
    assert (released.reservation.state, released.total_nano_usd) == (RELEASED, 400)
    window = await acme.window()
    assert (window.reserved_nano_usd, window.spent_nano_usd) == (0, 400)
    settled = await acme.settle(held)  # whoever comes later learns what happened, and changes nothing
    assert (settled.reservation.state, settled.total_nano_usd) == (RELEASED, 400)
    assert settled.reservation == released.reservation


async def test_every_change_repeated_gives_the_first_answer_byte_for_byte(acme: Any, make: Any) -> None:
    order = make.reserve(1000, 10, tags={"b": "2", "a": "1"})
    first = await acme.call("Reserve", order)
    held = first.reservation.reservation_id
    payment = make.charge(held, make.model_call(400))
    end = make.settle(held)
    requests = [("Charge", payment), ("Charge", make.charge(held, make.model_call(100))), ("Settle", end)]
    answers = [("Reserve", order, first)] + [(name, one, await acme.call(name, one)) for name, one in requests]
    answers.append(("Release", late := make.release(held), await acme.call("Release", late)))
    for name, request, answer in answers:
        again = await acme.call(name, request)
        assert again.SerializeToString(deterministic=True) == answer.SerializeToString(deterministic=True)
    window = await acme.window()
    assert (window.reserved_nano_usd, window.spent_nano_usd) == (0, 500)


async def test_answers_outlive_the_process(governance: Any, make: Any) -> None:
    acme = (await governance.start()).client()
    order = make.reserve(1000)
    first = await acme.call("Reserve", order)
    acme = (await governance.restart()).client()
    assert await acme.call("Reserve", order) == first
    assert (await acme.window()).reserved_nano_usd == 1000


async def test_a_request_id_with_another_body_is_refused(acme: Any, make: Any) -> None:
    order = make.reserve(1000)
    held = (await acme.call("Reserve", order)).reservation.reservation_id
    changed = make.reserve(1001)
    changed.request_id, changed.run_id = order.request_id, order.run_id
    end = make.settle(held)
    end.request_id = order.request_id.upper()  # the same UUID, for another method
    for method, request in (("Reserve", changed), ("Settle", end)):
        error = await acme.refused(method, request)
        assert (error.code, error.reason, error.field) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED", "request_id")
    assert (await acme.window()).reserved_nano_usd == 1000


async def test_a_request_id_belongs_to_its_tenant(governance: Any, make: Any) -> None:
    await governance.start()
    order = make.reserve(1000)
    one = await governance.client("acme").call("Reserve", order)
    other = await governance.client("globex").call("Reserve", order)
    assert one.reservation.reservation_id != other.reservation.reservation_id
    assert other.reservation.tenant == "globex"


async def test_identical_requests_at_once_are_one(acme: Any, make: Any) -> None:
    order = make.reserve(3 * USD)  # twice would not fit
    answers = await asyncio.gather(*(acme.call("Reserve", order) for _ in range(10)))
    assert len({one.SerializeToString(deterministic=True) for one in answers}) == 1
    held = answers[0].reservation.reservation_id
    payment = make.charge(held, make.model_call(7))
    payments = await asyncio.gather(*(acme.call("Charge", payment) for _ in range(10)))
    assert len({one.SerializeToString(deterministic=True) for one in payments}) == 1
    window = await acme.window()
    assert (window.reserved_nano_usd, window.spent_nano_usd) == (3 * USD - 7, 7)


async def test_a_call_is_charged_once_ever(acme: Any, make: Any) -> None:
    one, two = [(await acme.reserve(1000)).reservation.reservation_id for _ in range(2)]
    call = make.model_call(100)
    louder = make.model_call(100, call_id=call.call_id.upper())
    await acme.charge(one, call, call, louder)
    await acme.charge(one, call, make.model_call(50))
    elsewhere = await acme.charge(two, call)
    assert elsewhere.reservation.charged_nano_usd == 0
    settled = await acme.settle(one)
    assert settled.total_nano_usd == 150
    assert (await acme.window()).spent_nano_usd == 150


async def test_a_call_of_unknown_usage_stands_at_its_bound(acme: Any, make: Any) -> None:
    held = (await acme.reserve(1000)).reservation.reservation_id
    await acme.charge(
        held,
        make.model_call(0, bound_nano_usd=300, usage_unknown=True),
        make.model_call(20, bound_nano_usd=300),
    )
    settled = await acme.settle(held)
    assert settled.total_nano_usd == 320
    assert [(one.calls, one.usage_unknown_calls) for one in settled.totals] == [(2, 1)]


async def test_a_refusal_names_the_full_windows_and_holds_nothing(governance: Any, make: Any) -> None:
    acme = (await governance.start(tenant_daily="1.00", tenant_monthly="1.10")).client()
    await acme.charge((await acme.reserve(USD // 2)).reservation.reservation_id, make.model_call(USD // 10))
    order = make.reserve(6 * USD // 10 + 1, 500)
    error = await acme.refused("Reserve", order)
    assert (error.code, error.reason, error.retry_after_s) == ("RESOURCE_EXHAUSTED", "BUDGET_EXCEEDED", None)
    assert [one.subject for one in error.quota] == ["tenant:acme/day", "tenant:acme/month"]
    assert error.metadata["resets_at"] == "2026-04-01T00:00:00Z"
    for part in ("limit of $1.0000", "$0.4000 is reserved", "$0.1000 spent", "asks for up to $0.6000"):
        assert part in error.message
    for scope in ("global", "tenant"):
        window = await acme.window(scope)
        assert (window.reserved_nano_usd, window.reserved_tokens) == (4 * USD // 10, 0)
    governance.clock.turn(hours=3)  # a new day and month: the very same request fits now
    assert (await acme.call("Reserve", order)).reservation.reserved_nano_usd == order.amount_nano_usd


async def test_the_last_nano_dollar_can_be_had_and_not_one_more(governance: Any, make: Any) -> None:
    acme = (await governance.start(tenant_daily="0.000000010", soft_threshold="1")).client()
    await acme.reserve(9)
    assert (await acme.refused("Reserve", make.reserve(2))).reason == "BUDGET_EXCEEDED"
    await acme.reserve(1)
    assert (await acme.refused("Reserve", make.reserve(1))).reason == "BUDGET_EXCEEDED"
    await acme.reserve(0, 100)  # costs nothing


async def test_the_global_budget_stops_every_tenant(governance: Any, make: Any) -> None:
    await governance.start(global_daily="1")
    await governance.client("acme").reserve(USD)
    globex = governance.client("globex")
    error = await globex.refused("Reserve", make.reserve(1))
    assert [one.subject for one in error.quota] == ["global/day"]
    assert (await globex.window()).reserved_nano_usd == 0


async def test_past_the_soft_threshold_a_run_is_granted_and_paced(governance: Any) -> None:
    acme = (await governance.start(tenant_daily="1")).client()
    calm = await acme.reserve(8 * USD // 10 - 1)
    assert (calm.outcome, calm.pace_ms) == (governance_pb2.RESERVE_OUTCOME_GRANTED, 0)
    paced = await acme.reserve(USD // 10)
    assert paced.outcome == governance_pb2.RESERVE_OUTCOME_THROTTLED
    assert paced.pace_ms == 2 * 3600 * 1000 * (USD // 10) // (USD // 10 + 1)  # two hours are left for one more run
    free = await acme.reserve(0, 50)
    assert (free.outcome, free.pace_ms) == (governance_pb2.RESERVE_OUTCOME_GRANTED, 0)


async def test_a_runs_own_limits_warn_and_refuse(acme: Any, make: Any) -> None:
    near = await acme.reserve(9_000_000, 900, run_limit_nano_usd=10_000_000, run_limit_tokens=1000)
    assert near.warnings == [
        "projected cost $0.009 is 90 % of the budget $0.010",
        "projected tokens 900 are 90 % of the budget 1,000",
    ]
    assert not (await acme.reserve(8_999_999, run_limit_nano_usd=10_000_000)).warnings
    before = (await acme.window()).reserved_nano_usd
    error = await acme.refused("Reserve", make.reserve(15_000_000, run_limit_nano_usd=10_000_000))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "RUN_BUDGET_EXCEEDED")
    assert error.message.startswith("BudgetExceededError: Projected cost $0.015 exceeds budget $0.010")
    error = await acme.refused("Reserve", make.reserve(1, 1001, run_limit_tokens=1000))
    assert error.message.startswith("BudgetExceededError: Projected tokens 1,001 exceed budget 1,000")
    assert (await acme.window()).reserved_nano_usd == before


async def test_charges_beyond_the_reservation_are_recorded_and_close_the_window(governance: Any, make: Any) -> None:
    acme = (await governance.start(tenant_daily="1")).client()
    held = (await acme.reserve(USD, 10)).reservation.reservation_id
    assert not (await acme.charge(held, make.model_call(USD - 1))).over_reservation
    over = await acme.charge(held, make.model_call(3))
    assert over.over_reservation
    assert over.reservation.charged_nano_usd == USD + 2
    window = await acme.window()
    assert (window.reserved_nano_usd, window.spent_nano_usd) == (0, USD + 2)
    error = await acme.refused("Reserve", make.reserve(1))
    assert "limit of $1.0000, of which $0.0000 is reserved and $1.0000 spent" in error.message
    await acme.reserve(0, 5)
    settled = await acme.settle(held)
    assert settled.total_nano_usd == USD + 2
    assert (await acme.window()).spent_nano_usd == USD + 2
    tokens = (await acme.reserve(0, 10)).reservation.reservation_id
    assert (await acme.charge(tokens, make.model_call(0, tokens=(6, 5)))).over_reservation


@pytest.mark.parametrize("end", ["settle", "release"])
async def test_a_charge_that_comes_after_the_end_is_not_forgotten(acme: Any, make: Any, end: str) -> None:
    held = (await acme.reserve(1000)).reservation.reservation_id
    await acme.charge(held, make.model_call(100))
    await getattr(acme, end)(held)
    late = await acme.charge(held, make.model_call(50))
    assert late.over_reservation  # nothing was held for it any more
    assert late.reservation.charged_nano_usd == 150
    window = await acme.window()
    assert (window.reserved_nano_usd, window.spent_nano_usd) == (0, 150)
    assert (await acme.settle(held)).total_nano_usd == 150


@pytest.mark.parametrize("end", ["settle", "release"])
async def test_nor_is_one_that_costs_tokens_only(acme: Any, make: Any, end: str) -> None:
    held = (await acme.reserve(1000, 100)).reservation.reservation_id
    await getattr(acme, end)(held)
    late = await acme.charge(held, make.model_call(0, tokens=(5, 0)))
    assert late.over_reservation
    assert late.reservation.charged_tokens == 5


async def test_a_run_that_crosses_midnight_stays_in_its_own_windows(governance: Any, make: Any) -> None:
    acme = (await governance.start()).client()
    held = (await acme.reserve(1000)).reservation.reservation_id
    governance.clock.turn(hours=3)  # April now
    await acme.charge(held, make.model_call(400))
    await acme.settle(held)
    for period in ("day", "month"):
        window = await acme.window(period=period)
        assert window.starts_at.ToDatetime(UTC) == datetime(2026, 4, 1, tzinfo=UTC)
        assert (window.reserved_nano_usd, window.spent_nano_usd) == (0, 0)
    governance.clock.turn(hours=-3)
    for period, starts_at in (("day", datetime(2026, 3, 31, tzinfo=UTC)), ("month", datetime(2026, 3, 1, tzinfo=UTC))):
        window = await acme.window(period=period)
        assert window.starts_at.ToDatetime(UTC) == starts_at
        assert (window.reserved_nano_usd, window.spent_nano_usd) == (0, 400)


async def test_another_tenants_reservation_does_not_exist(governance: Any, make: Any) -> None:
    await governance.start()
    acme, mallory = governance.client("acme"), governance.client("mallory")
    held = (await acme.reserve(1000)).reservation.reservation_id
    for method, request in (
        ("Charge", make.charge(held, make.model_call(1))),
        ("Settle", make.settle(held)),
        ("Release", make.release(held)),
        ("GetReservation", governance_pb2.GetReservationRequest(reservation_id=held)),
    ):
        error = await mallory.refused(method, request)
        assert (error.code, error.field) == ("NOT_FOUND", "reservation_id")
    listed = await mallory.call("ListReservations", governance_pb2.ListReservationsRequest())
    assert not listed.reservations
    assert (await acme.settle(held)).total_nano_usd == 0


async def test_a_tenants_call_ids_are_its_own(governance: Any, make: Any) -> None:
    await governance.start()
    call = make.model_call(5)
    for tenant in ("mallory", "acme"):
        client = governance.client(tenant)
        held = (await client.reserve(10)).reservation.reservation_id
        assert (await client.charge(held, call)).reservation.charged_nano_usd == 5
