"""The autoscaler's rule: its bounds, its conditions, and that it never swings."""

from __future__ import annotations

import itertools
import logging
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from djp.mesh.settings import settings_problems
from djp.scaling.autoscaler import COOL_LOOKS, Autoscaler, p95
from djp.scaling.rule import CALM_UTILISATION, Observation, Rule, decide
from djp.scaling.settings import TUNINGS, ScalingSettings

RULE = TUNINGS["balanced"]
IDLE = Observation(0, 0.0, 0.0)


def rules() -> st.SearchStrategy[Rule]:
    """Of all kinds."""
    positive = st.integers(1, 60)
    return st.builds(
        lambda low, more, queue, p95_ms, up, down, interval: Rule(low, low + more, queue, p95_ms, up, down, interval),
        *(positive, st.integers(0, 60), positive, st.integers(1, 9000), positive, positive, st.integers(100, 5000)),
    )


def _seen() -> st.SearchStrategy[Observation]:
    return st.builds(
        Observation,
        st.integers(0, 10**6),
        st.floats(0, 10**7),
        st.floats(0, 1),
    )


@pytest.mark.parametrize(
    ("seen", "workers", "wanted", "told"),
    [
        (Observation(51, 0, 0.0), 4, 6, "queue 51 is over its target 50"),
        (Observation(50, 0, 1.0), 4, 4, "not below 30%"),
        (Observation(1, 2001, 0.5), 4, 6, "p95 wait 2001 ms is over its target 2000 ms"),
        (Observation(0, 2001, 0.7), 4, 6, "p95 wait"),
        (Observation(0, 2001, 0.1), 4, 4, "not below 50%"),  # idle workers are no reason for more of them
        (Observation(51, 0, 1.0), 11, 12, "queue 51"),
        (Observation(51, 0, 1.0), 12, 12, "MAX_WORKERS already"),
        (Observation(14, 999, 0.5), 8, 7, "calm"),
        (Observation(15, 999, 0.5), 8, 8, "queue 15 is not below 30%"),
        (Observation(14, 1000, 0.5), 8, 8, "p95 wait 1000 ms is not below 50%"),
        (Observation(14, 999, 0.7), 8, 8, "70% busy"),
        (Observation(0, 0, 0.65), 8, 8, "8 workers are needed"),  # seven would be 74 % busy
        (IDLE, 2, 2, "MIN_WORKERS"),
        (IDLE, 1, 2, "the bounds are 2 to 12"),
        (IDLE, 400, 12, "the bounds are 2 to 12"),
    ],
)
def test_what_is_seen_decides(seen: Observation, workers: int, wanted: int, told: str) -> None:
    decision = decide(RULE, seen, workers, math.inf)
    assert decision.workers == wanted
    assert told in decision.reason
    assert decision.direction == ("up" if wanted > workers else "down" if wanted < workers else "hold")


def test_nothing_changes_within_an_interval_of_the_last_change() -> None:
    assert decide(RULE, Observation(999, 9999, 1.0), 4, 1.9).workers == 4
    assert decide(RULE, Observation(999, 9999, 1.0), 4, 2.0).workers == 6


@given(rules(), _seen(), st.integers(0, 500), st.floats(0, 100), st.integers(0, 500))
def test_the_bounds_and_the_steps_are_never_left(
    rule: Rule, seen: Observation, workers: int, since_s: float, lately: int
) -> None:
    decision = decide(rule, seen, workers, since_s, lately)
    assert rule.min_workers <= decision.workers <= rule.max_workers
    if rule.min_workers <= workers <= rule.max_workers:
        assert -rule.down_step <= decision.workers - workers <= rule.up_step
        if decision.direction == "down":
            assert seen.utilisation * workers / decision.workers <= CALM_UTILISATION + 1e-6
            assert decision.workers >= min(lately, workers)
        if since_s < rule.interval_s - 1e-6:
            assert decision.direction == "hold"


@given(rules(), st.lists(st.tuples(st.floats(0, 20), _seen()), max_size=60))
def test_however_often_it_is_asked_it_turns_at_most_once_a_cool_down(
    rule: Rule, looks: list[tuple[float, Observation]]
) -> None:
    autoscaler, workers, now = Autoscaler(rule), rule.min_workers, 0.0
    changes, turns, way = list[float](), list[float](), "hold"
    for wait_s, seen in looks:
        now += wait_s
        decision = autoscaler.look(now, seen, workers)
        workers = decision.workers
        if decision.direction != "hold":
            changes.append(now)
            if way not in ("hold", decision.direction):
                turns.append(now)
            way = decision.direction
    cool_s = COOL_LOOKS * rule.interval_s
    assert all(sum(at < turn <= at + cool_s for turn in turns) <= 1 for at in changes)
    assert all(later - earlier >= rule.interval_s - 1e-6 for earlier, later in itertools.pairwise(changes))
    assert autoscaler.stats.decisions == len(looks)
    assert autoscaler.stats.ups + autoscaler.stats.downs == len(changes)
    assert autoscaler.stats.direction_changes == len(turns)


@given(rules(), st.integers(0, 120))
def test_an_idle_pool_goes_down_to_its_minimum(rule: Rule, above: int) -> None:
    autoscaler, workers, now = Autoscaler(rule), min(rule.min_workers + above, rule.max_workers), 0.0
    for _ in range(math.ceil((workers - rule.min_workers) / rule.down_step)):
        workers = autoscaler.look(now, IDLE, workers).workers
        now += rule.interval_s
    assert workers == rule.min_workers


def test_a_worker_that_was_needed_lately_is_kept_and_every_decision_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "djp.scaling")
    autoscaler, step = Autoscaler(RULE), RULE.interval_s
    workers = autoscaler.look(0.0, Observation(80, 0, 1.0), 4).workers
    assert workers == 6
    for number in range(1, COOL_LOOKS + 1):
        workers = autoscaler.look(number * step, IDLE, workers).workers
        assert workers == 6  # what was added stays for as long as the cool-down
    assert autoscaler.look((COOL_LOOKS + 1) * step, IDLE, workers).workers == 5
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "Scale decision: up 4 -> 6 (queue 80 is over its target 50)"
    assert lines[1].startswith("Scale decision: hold 6 (calm, but 6 workers are needed")
    assert lines[-1].startswith("Scale decision: down 6 -> 5 (calm")


def test_a_worker_that_was_needed_in_the_cool_down_is_kept() -> None:
    autoscaler, step, busy = Autoscaler(RULE), RULE.interval_s, Observation(0, 0.0, 0.6)
    assert autoscaler.look(0.0, busy, 8).workers == 7  # 4.8 of them were busy
    for number in range(1, COOL_LOOKS + 1):
        assert autoscaler.look(number * step, IDLE, 7).workers == 7
    assert autoscaler.look((COOL_LOOKS + 1) * step, IDLE, 7).workers == 6


def test_the_tunings_are_the_guides_and_variables_win_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ScalingSettings().rule() == Rule(2, 12, 50, 2000, 2, 1, 2000)
    monkeypatch.setenv("DJP_SCALE_TUNING", "latency")
    monkeypatch.setenv("SCALE_UP_STEP", "7")
    monkeypatch.setenv("MIN_WORKERS", "")
    settings = ScalingSettings()
    assert settings.rule() == Rule(5, 30, 10, 500, 7, 1, 1000)
    assert settings.origins()["SCALE_UP_STEP"] == "environment"
    assert settings.origins()["MIN_WORKERS"] == "tuning latency"


def test_who_says_only_how_many_there_may_be_needs_no_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_WORKERS", "1")
    rule = ScalingSettings().rule()
    assert (rule.min_workers, rule.max_workers) == (1, 1)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("MIN_WORKERS", "13", "MIN_WORKERS (13) is above MAX_WORKERS (12)"),
        ("MIN_WORKERS", "0", "MIN_WORKERS: "),
        ("MAX_WORKERS", "many", "MAX_WORKERS: "),
        ("SCALE_DECISION_INTERVAL_MS", "1", "SCALE_DECISION_INTERVAL_MS: "),
        ("DJP_SCALE_TUNING", "fast", "DJP_SCALE_TUNING: "),
    ],
)
def test_a_wrong_value_names_its_variable(name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        ScalingSettings()
    assert told in "; ".join(settings_problems(caught.value))


def test_p95_is_the_nearest_rank() -> None:
    assert p95([]) == 0.0
    assert p95([3.0]) == 3.0
    assert p95(map(float, range(1, 101))) == 95.0
    assert p95([1.0] * 19 + [9.0]) == 1.0
