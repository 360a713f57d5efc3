"""Leases: what a holder that is lost leaves behind is charged or given back; nothing leaks, nothing is forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from djp.v1 import governance_pb2

HELD, SETTLED, LAPSED = (
    governance_pb2.RESERVATION_STATE_HELD,
    governance_pb2.RESERVATION_STATE_SETTLED,
    governance_pb2.RESERVATION_STATE_LAPSED,
)
UNKNOWN = {"usage_unknown": True}


async def lapsed(client: Any, make: Any, reservation_id: str) -> Any:
    """The reservation once the sweeper found it."""

    async def is_lapsed() -> Any:
        found = await client.reservation(reservation_id)
        return found if found.state == LAPSED else None

    return await make.until(is_lapsed)


async def test_a_lapse_charges_unfinished_calls_at_their_bound_and_the_truth_corrects_it(
    governance: Any, make: Any
) -> None:
    acme = (await governance.start()).client()
    held = (await acme.reserve(1000, 100)).reservation
    assert not held.HasField("lease_expires_at")
    name = held.reservation_id
    done = make.model_call(100, tokens=(5, 5))
    await acme.charge(name, done)
    lost = make.model_call(300, bound_nano_usd=300, tokens=(20, 10), **UNKNOWN)
    late = make.model_call(200, bound_nano_usd=200, tokens=(10, 10), **UNKNOWN)
    extended = await acme.extend(name, done, lost, late)
    assert extended.lease_expires_at.ToMicroseconds() > 0
    governance.clock.turn(seconds=119)
    assert (await acme.reservation(name)).state == HELD
    governance.clock.turn(seconds=1)
    ended = await lapsed(acme, make, name)
    assert (ended.charged_nano_usd, ended.charged_tokens) == (600, 60)
    window = await acme.window()
    assert (window.reserved_nano_usd, window.spent_nano_usd) == (0, 600)
    assert (window.reserved_tokens, window.spent_tokens) == (0, 60)

    truth = make.model_call(120, bound_nano_usd=200, tokens=(9, 1), call_id=late.call_id.upper())
    corrected = await acme.charge(name, truth)
    assert not corrected.over_reservation
    assert (corrected.reservation.state, corrected.reservation.charged_nano_usd) == (LAPSED, 520)
    await acme.charge(name, make.model_call(1, call_id=late.call_id))  # told again: the first truth counts
    await acme.charge(name, make.model_call(1, call_id=done.call_id))  # a lapse never charged this one
    settled = await acme.settle(name)
    assert (settled.reservation.state, settled.total_nano_usd) == (LAPSED, 520)
    assert [(one.calls, one.usage_unknown_calls) for one in settled.totals] == [(3, 1)]
    window = await acme.window()
    assert (window.reserved_nano_usd, window.spent_nano_usd, window.spent_tokens) == (0, 520, 50)
    (event,) = await acme.events()
    assert event.kind == governance_pb2.GOVERNANCE_EVENT_KIND_LEASE_LAPSED
    assert event.run_id == held.run_id
    assert "2 unfinished calls stand at their bound" in event.message


async def test_a_truth_beyond_the_bound_is_recorded_too(governance: Any, make: Any) -> None:
    acme = (await governance.start()).client()
    name = (await acme.reserve(100)).reservation.reservation_id
    lost = make.model_call(50, bound_nano_usd=50, **UNKNOWN)
    await acme.extend(name, lost)
    governance.clock.turn(seconds=121)
    await lapsed(acme, make, name)
    dearer = await acme.charge(name, make.model_call(170, call_id=lost.call_id), make.model_call(1))
    assert dearer.over_reservation
    assert (await acme.call("Release", make.release(name))).total_nano_usd == 171
    assert (await acme.window()).spent_nano_usd == 171


async def test_bounds_beyond_the_reservation_are_charged_at_its_lapse_and_told(governance: Any, make: Any) -> None:
    acme = (await governance.start()).client()
    name = (await acme.reserve(100)).reservation.reservation_id
    await acme.extend(name, *(make.model_call(60, bound_nano_usd=60, **UNKNOWN) for _ in range(2)))
    governance.clock.turn(seconds=121)
    assert (await lapsed(acme, make, name)).charged_nano_usd == 120
    assert [one.kind for one in await acme.events()] == [
        governance_pb2.GOVERNANCE_EVENT_KIND_LEASE_LAPSED,
        governance_pb2.GOVERNANCE_EVENT_KIND_OVER_RESERVATION,
    ]


async def test_extending_keeps_a_reservation_and_replaces_the_open_calls(governance: Any, make: Any) -> None:
    acme = (await governance.start(lease_s=60)).client()
    name = (await acme.reserve(1000)).reservation.reservation_id
    await acme.extend(name, make.model_call(900, bound_nano_usd=900, **UNKNOWN))
    for _ in range(3):
        governance.clock.turn(seconds=59)
        assert (await acme.extend(name)).state == HELD
    governance.clock.turn(seconds=61)
    assert (await lapsed(acme, make, name)).charged_nano_usd == 0  # the call had ended and was not under way any more
    again = await acme.extend(name, make.model_call(5))  # too late, and no way to take money that is not held
    assert (again.state, again.charged_nano_usd) == (LAPSED, 0)


async def test_a_lease_asked_for_at_once_ends_without_any_extend(governance: Any, make: Any) -> None:
    acme = (await governance.start()).client()
    held = (await acme.reserve(1000, lease=Duration(seconds=10))).reservation
    assert held.lease_expires_at.seconds - held.created_at.seconds == 10
    governance.clock.turn(seconds=9)
    renewed = await acme.extend(held.reservation_id)  # by as long as it was asked for
    assert renewed.lease_expires_at.seconds - held.created_at.seconds == 19
    governance.clock.turn(seconds=10)
    await lapsed(acme, make, held.reservation_id)
    listed = await acme.call(
        "ListReservations", governance_pb2.ListReservationsRequest(state=governance_pb2.RESERVATION_STATE_LAPSED)
    )
    assert [one.reservation_id for one in listed.reservations] == [held.reservation_id]


async def test_what_nobody_asked_a_lease_for_and_what_has_ended_never_lapses(governance: Any, make: Any) -> None:
    acme = (await governance.start()).client()
    plain = (await acme.reserve(10)).reservation.reservation_id
    ended = (await acme.reserve(10)).reservation.reservation_id
    await acme.extend(ended, make.model_call(5, bound_nano_usd=5, **UNKNOWN))
    await acme.settle(ended)
    marker = (await acme.reserve(10, lease=Duration(seconds=1))).reservation.reservation_id
    governance.clock.turn(days=1)
    await lapsed(acme, make, marker)
    assert (await acme.reservation(plain)).state == HELD
    assert (await acme.reservation(ended)).state == SETTLED
    assert len(await acme.events()) == 1


async def test_leases_can_be_switched_off(governance: Any, make: Any) -> None:
    acme = (await governance.start(lease_s=0)).client()
    held = (await acme.reserve(10, lease=Duration(seconds=1))).reservation
    assert not held.HasField("lease_expires_at")
    assert not (await acme.extend(held.reservation_id, make.model_call(5))).HasField("lease_expires_at")


@pytest.mark.parametrize("lease", [Duration(seconds=0), Duration(seconds=86_401), Duration(nanos=999_999_999)])
async def test_a_lease_of_no_sensible_length_is_refused(acme: Any, make: Any, lease: Duration) -> None:
    assert (await acme.refused("Reserve", make.reserve(1, lease=lease))).field == "lease"


async def test_an_extend_may_be_repeated_and_belongs_to_its_tenant(governance: Any, make: Any) -> None:
    acme = (await governance.start()).client()
    name = (await acme.reserve(10)).reservation.reservation_id
    request = governance_pb2.ExtendRequest(request_id=make.id(), reservation_id=name)
    first = await acme.call("Extend", request)
    governance.clock.turn(seconds=50)
    assert await acme.call("Extend", request) == first
    error = await governance.client("mallory").refused("Extend", request)
    assert (error.code, error.field) == ("NOT_FOUND", "reservation_id")
    huge = governance_pb2.ExtendRequest(
        request_id=make.id(), reservation_id=name, open_calls=[make.model_call(0, bound_nano_usd=2**62)]
    )
    assert (await acme.refused("Extend", huge)).field == "open_calls[0].cost_nano_usd"


async def test_many_lapse_at_once_and_each_once(governance: Any, make: Any) -> None:
    acme = (await governance.start()).client()
    names = [(await acme.reserve(3, lease=Duration(seconds=1))).reservation.reservation_id for _ in range(25)]
    call = make.model_call(2, bound_nano_usd=2, **UNKNOWN)
    for name in names[:2]:  # one call told by two holders is owed once
        await acme.extend(name, call)
    governance.clock.turn(seconds=5)
    for name in names:
        await lapsed(acme, make, name)
    window = await acme.window()
    assert (window.reserved_nano_usd, window.spent_nano_usd) == (0, 2)
    assert len(await acme.events()) == 25
