"""The pure rules: what a denial and a near limit say, how far a run is slowed down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from djp_governance.model import Order, RunBudgetExceeded, RunLimits, Window
from djp_governance.rules import check_order, denial, pace_ms
from djp_governance.windows import windows_of

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def test_a_denial_tells_when_the_last_of_the_full_windows_resets() -> None:
    windows = [
        Window(key, 10**9, reserved=6 * 10**8, spent=3 * 10**8) for key in windows_of(["tenant:acme"], NOON.date(), UTC)
    ]
    refused = denial(windows, 10**8 + 1, 0)
    assert [one.subject for one in refused.quota] == ["tenant:acme/day", "tenant:acme/month"]
    assert refused.metadata == {"resets_at": "2026-04-01T00:00:00Z", "asked_nano_usd": "100000001", "asked_tokens": "0"}
    assert refused.message == (
        "budget exceeded: tenant:acme/day has a limit of $1.0000, of which $0.6000 is reserved and $0.3000 spent, "
        "until 2026-03-11T00:00:00Z; tenant:acme/month has a limit of $1.0000, of which $0.6000 is reserved and "
        "$0.3000 spent, until 2026-04-01T00:00:00Z; the run asks for up to $0.1000; wait until 2026-04-01T00:00:00Z, "
        "ask for fewer debaters or tokens, or raise the budget"
    )


def test_a_pace_stretches_what_is_left_over_the_rest_of_the_window() -> None:
    day = windows_of(["global"], NOON.date(), UTC)[0]
    twelve_hours_ms = 12 * 3600 * 1000
    assert pace_ms(Window(day, 100, reserved=40, spent=40, soft=80), 5, 0, NOON) == twelve_hours_ms // 4
    assert pace_ms(Window(day, 100, reserved=60, spent=40, soft=80), 5, 0, NOON) == twelve_hours_ms  # nothing is left
    assert pace_ms(Window(day, 100, spent=120, soft=80), 5, 0, NOON) == twelve_hours_ms
    assert pace_ms(Window(day, 100, spent=90, soft=80), 5, 0, NOON + timedelta(days=2)) == 0


@pytest.mark.parametrize(
    ("amount", "limit", "says"),
    [
        (15_000_000, 10_000_000, "Projected cost $0.015 exceeds budget $0.010;"),
        (10_000_001, 10_000_000, "Projected cost $0.010000001 exceeds budget $0.010000000;"),
        (10_400_000, 10_000_000, "Projected cost $0.0104 exceeds budget $0.0100;"),
        (2, 1, "Projected cost $0.000000002 exceeds budget $0.000000001;"),
    ],
)
def test_a_projection_beyond_its_limit_never_looks_equal_to_it(amount: int, limit: int, says: str) -> None:
    with pytest.raises(RunBudgetExceeded) as refused:
        check_order(Order("run", amount, 0, RunLimits(limit)))
    assert refused.value.message.startswith(f"BudgetExceededError: {says}")


def test_a_projection_at_its_limit_is_a_warning() -> None:
    assert check_order(Order("run", 10_000_000, 50, RunLimits(10_000_000, 50))) == [
        "projected cost $0.010 is 100 % of the budget $0.010",
        "projected tokens 50 are 100 % of the budget 50",
    ]
    assert check_order(Order("run", 8, 89, RunLimits(10, 100))) == []
