"""Days and months of any zone: windows never double and never vanish, whatever the clocks and the calendar do."""

from __future__ import annotations

import zoneinfo
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djp.mesh.errors import InvalidInput
from djp_governance.windows import PERIODS, day_of, scopes_of, window_of, zone_of

ZONES = sorted(zoneinfo.available_timezones())


@pytest.mark.parametrize(
    ("now", "day", "month"),
    [
        (datetime(2028, 2, 29, 23, 59, 59, 999999, UTC), ((2028, 2, 29), (2028, 3, 1)), ((2028, 2, 1), (2028, 3, 1))),
        (datetime(2026, 12, 31, 0, 0, tzinfo=UTC), ((2026, 12, 31), (2027, 1, 1)), ((2026, 12, 1), (2027, 1, 1))),
        (datetime(2026, 2, 28, 12, 0, tzinfo=UTC), ((2026, 2, 28), (2026, 3, 1)), ((2026, 2, 1), (2026, 3, 1))),
        (
            datetime(2026, 4, 1, 1, 0, tzinfo=timezone(timedelta(hours=2))),  # still March in UTC
            ((2026, 3, 31), (2026, 4, 1)),
            ((2026, 3, 1), (2026, 4, 1)),
        ),
    ],
)
def test_windows_of_utc_are_its_days_and_months(now: datetime, day: Any, month: Any) -> None:
    for period, expected in (("day", day), ("month", month)):
        window = window_of("global", period, day_of(now, UTC), UTC)  # type: ignore[arg-type]
        assert [window.starts_at, window.resets_at] == [datetime(*one).replace(tzinfo=UTC) for one in expected]
        assert window.day == window.starts_at.date()


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),  # its summer time is half an hour
        ("Australia/Lord_Howe", date(2026, 10, 4), 23.5),
        ("Pacific/Kiritimati", date(2028, 2, 29), 24),  # the first to have it: UTC+14
        ("Pacific/Kiritimati", date(1994, 12, 31), 0),  # left out, at the end of a month and of a year
        ("America/Sao_Paulo", date(2018, 11, 4), 23),  # midnight itself is skipped
        ("America/Sao_Paulo", date(2018, 2, 17), 25),  # its last hour comes twice
        ("Asia/Beirut", date(2022, 3, 27), 23),
        ("Asia/Beirut", date(2022, 10, 29), 25),
        ("America/Havana", date(2026, 3, 8), 23),
        ("America/Havana", date(2026, 11, 1), 25),  # midnight comes twice
        ("Asia/Kathmandu", date(2026, 6, 1), 24),
        ("Pacific/Apia", date(2011, 12, 30), 0),  # the day that was left out
    ],
)
def test_a_day_lasts_as_long_as_the_clocks_say(zone: str, day: date, hours: float) -> None:
    window = window_of("global", "day", day, ZoneInfo(zone))
    assert window.resets_at - window.starts_at == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("zone", "last", "first"),
    [
        ("Pacific/Apia", date(2011, 12, 29), date(2011, 12, 31)),
        ("Pacific/Kiritimati", date(1994, 12, 30), date(1995, 1, 1)),  # December has a day less, and January all
        ("Europe/Berlin", date(2028, 2, 29), date(2028, 3, 1)),
        ("Asia/Beirut", date(2022, 3, 26), date(2022, 3, 27)),
    ],
)
def test_the_instant_after_a_day_is_the_first_of_the_next_one_that_there_was(
    zone: str, last: date, first: date
) -> None:
    zone_info = ZoneInfo(zone)
    ends = window_of("global", "day", last, zone_info).resets_at
    assert [day_of(ends + timedelta(microseconds=n), zone_info) for n in (-1, 0)] == [last, first]
    for period in PERIODS:
        before, after = (window_of("global", period, day, zone_info) for day in (last, first))
        assert before == after or before.resets_at == after.starts_at == ends


@given(
    zone=st.sampled_from(ZONES),
    now=st.datetimes(datetime(2012, 1, 2), datetime(2037, 12, 30), timezones=st.just(UTC)),
)
def test_every_instant_is_in_one_window_and_windows_touch(zone: str, now: datetime) -> None:
    zone_info = ZoneInfo(zone)
    day = day_of(now, zone_info)
    for period in PERIODS:
        window = window_of("global", period, day, zone_info)
        assert window.starts_at <= now < window.resets_at
        after = window_of("global", period, day_of(window.resets_at, zone_info), zone_info)
        before = window_of("global", period, day_of(window.starts_at - timedelta(microseconds=1), zone_info), zone_info)
        assert before.resets_at == window.starts_at
        assert after.starts_at == window.resets_at
        assert before.day < window.day < after.day


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "/etc/passwd", "\0", "x" * 10000, "Europe"])
def test_a_zone_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="DJP_BUDGET_ZONE: "):
        zone_of(name)


def test_a_workflow_with_a_name_too_long_for_a_scope_draws_on_the_others() -> None:
    assert scopes_of("acme", "w" * 91) == ["tenant:acme", f"workflow:{'w' * 91}", "global"]
    assert scopes_of("acme", "w" * 92) == scopes_of("acme") == ["tenant:acme", "global"]


async def test_a_run_counts_on_the_local_day_and_clocks_that_step_back_find_it_again(governance: Any) -> None:
    acme = (await governance.start(zone="Europe/Berlin")).client()
    governance.clock.moment = datetime(2026, 10, 24, 22, 30, tzinfo=UTC)  # half past midnight of the 25th
    await acme.reserve(7)
    governance.clock.turn(hours=24, minutes=15)  # a quarter to midnight, still the 25th: it has 25 hours
    await acme.reserve(5)
    window = await acme.window()
    assert window.reserved_nano_usd == 12
    assert window.starts_at.ToDatetime(UTC) == datetime(2026, 10, 24, 22, tzinfo=UTC)
    assert window.resets_at.ToDatetime(UTC) == datetime(2026, 10, 25, 23, tzinfo=UTC)
    governance.clock.turn(minutes=15)
    assert (await acme.window()).reserved_nano_usd == 0
    await acme.reserve(1)
    governance.clock.turn(hours=-3)  # somebody sets the clock
    assert (await acme.window()).reserved_nano_usd == 12
    await acme.reserve(1)
    governance.clock.turn(hours=3)
    assert (await acme.window()).reserved_nano_usd == 1
    assert (await acme.window(period="month")).reserved_nano_usd == 14
    rows = await governance.sql("SELECT starts_on FROM windows WHERE scope = 'global' AND period = 'day'")
    assert sorted(row["starts_on"] for row in rows) == ["2026-10-25", "2026-10-26"]


async def test_replicas_on_both_sides_of_midnight_draw_on_the_same_windows(governance: Any, make: Any) -> None:
    """One's clock is a second behind midnight, the other's a second before it; then both are set back over it."""
    here = await governance.start()
    there = await replace(governance, clock=replace(governance.clock)).start()
    here.clock.moment = datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC)
    there.clock.moment = datetime(2028, 3, 1, 0, 0, 1, tzinfo=UTC)
    held = []
    for seconds in (0, 0, -1, -1, 2, 2):
        for one in (here, there):
            one.clock.turn(seconds=seconds)
            held.append((await one.client().reserve(100)).reservation.reservation_id)
    for place, name in enumerate(held):  # each is charged by the other one
        await (here, there)[(place + 1) % 2].client().charge(name, make.model_call(7, "a/m"))
    rows = await governance.sql(
        "SELECT period, starts_on, reserved_nano, spent_nano FROM windows WHERE scope = 'global' ORDER BY 1, 2"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("day", "2028-02-29", 6 * 93, 6 * 7),
        ("day", "2028-03-01", 6 * 93, 6 * 7),
        ("month", "2028-02-01", 6 * 93, 6 * 7),
        ("month", "2028-03-01", 6 * 93, 6 * 7),
    ]


async def test_another_zone_in_the_middle_of_a_day_goes_on_with_the_same_window(governance: Any) -> None:
    acme = (await governance.start()).client()
    governance.clock.moment = datetime(2026, 6, 10, 12, 0, tzinfo=UTC)
    await acme.reserve(7)
    acme = (await governance.restart(zone="Asia/Tokyo")).client()
    await acme.reserve(5)
    assert (await acme.window()).reserved_nano_usd == 12
