"""The model of a pool, and what the four loads come to in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djp.scaling.hpa import Hpa
from djp.scaling.loads import Load, arrivals, share_of_peak
from djp.scaling.model import Figures, Job, by_hpa, by_rule, figures_of, jobs_of, run_model
from djp.scaling.rule import Observation, Rule, Tuning
from djp.scaling.settings import TUNINGS

SECONDS = 900.0


def _figures(load: Load, tuning: Tuning, mean_s: float, *, hpa: bool = False) -> Figures:
    rule = TUNINGS[tuning]
    jobs = jobs_of(load, rate=0.6 * rule.max_workers / mean_s, seconds=SECONDS, mean_s=mean_s, seed=1)
    course = run_model(jobs, rule, (by_hpa if hpa else by_rule)(rule), seconds=SECONDS)
    return figures_of(course, jobs, load, rule, seconds=SECONDS)


@pytest.mark.parametrize("tuning", TUNINGS)
@pytest.mark.parametrize("load", Load)
@pytest.mark.parametrize("mean_s", [1.0, 5.0])
def test_every_load_settles_within_the_target_and_without_swinging(load: Load, tuning: Tuning, mean_s: float) -> None:
    figures = _figures(load, tuning, mean_s)
    assert figures.settled_p95_ms <= TUNINGS[tuning].target_p95_ms
    assert figures.most_direction_changes_in_a_cool_down <= 1
    assert figures.peak_workers <= TUNINGS[tuning].max_workers
    assert figures.begun == figures.runs


@pytest.mark.parametrize("tuning", TUNINGS)
@pytest.mark.parametrize("load", [Load.DROP, Load.BURST])
def test_after_a_fall_the_workers_go_to_the_minimum_sooner_than_an_hpas(load: Load, tuning: Tuning) -> None:
    ours = _figures(load, tuning, 5.0).to_minimum_s
    theirs = _figures(load, tuning, 5.0, hpa=True).to_minimum_s
    assert ours is not None
    assert theirs is not None
    assert 0 < ours < theirs


def test_changes_of_direction_are_counted_in_the_cool_down_after_each_change() -> None:
    rule, wanted = Rule(1, 3, 1, 1, 1, 1, 1000), [2, 2, 1, 2, *[2] * 60, 1, 2]
    decided = iter(wanted)
    course = run_model([], rule, lambda _now, _seen, _workers: next(decided), seconds=len(wanted))
    figures = figures_of(course, [], Load.SUSTAIN, rule, seconds=len(wanted))
    assert (figures.changes, figures.direction_changes) == (5, 4)
    assert figures.most_direction_changes_in_a_cool_down == 2


def test_a_load_is_the_same_for_the_same_seed_and_has_its_rate() -> None:
    given_ = {"rate": 10.0, "seconds": 1000.0}
    assert list(arrivals(Load.RAMP, seed=3, **given_)) == list(arrivals(Load.RAMP, seed=3, **given_))
    assert list(arrivals(Load.RAMP, seed=3, **given_)) != list(arrivals(Load.RAMP, seed=4, **given_))
    assert len(list(arrivals(Load.SUSTAIN, seed=3, **given_))) == pytest.approx(10_000, rel=0.05)
    assert len(list(arrivals(Load.DROP, seed=3, **given_))) == pytest.approx(5000, rel=0.05)
    assert max(arrivals(Load.DROP, seed=3, **given_)) < 500
    assert [share_of_peak(Load.RAMP, part) for part in (0, 0.25, 0.5, 1)] == [0, 0.5, 1, 1]
    assert [share_of_peak(Load.BURST, part) for part in (0, 0.3, 0.4, 1)] == [0.02, 1, 0.02, 0.02]


def test_a_worker_that_is_taken_away_ends_its_job_first() -> None:
    rule = Rule(1, 2, 1, 1, 1, 1, 1000)
    jobs = [Job(0.1, 5.0), Job(0.2, 5.0), Job(0.3, 1.0)]
    wanted = iter([2, 1, 1, 1, 1, 1, 1, 1])
    course = run_model(jobs, rule, lambda _now, _seen, _workers: next(wanted), seconds=8)
    assert course.waits == pytest.approx([0.0, 0.8, 5.7])  # the third when both are done, for one worker is left
    assert [tick.queue_depth for tick in course.ticks] == [2, 1, 1, 1, 1, 0, 0, 0]


def test_runs_that_wait_count_in_the_p95_before_they_begin() -> None:
    rule = Rule(1, 1, 50, 2000, 1, 1, 1000)
    course = run_model([Job(0.0, 99.0), Job(0.0, 1.0)], rule, by_rule(rule), seconds=10)
    assert [tick.p95_wait_ms for tick in course.ticks][-1] == 11_000  # what it will be at the next look
    assert course.waits == [0.0, None]
    figures = figures_of(course, [Job(0.0, 99.0), Job(0.0, 1.0)], Load.DROP, rule, seconds=10)
    assert (figures.runs, figures.begun, figures.worker_hours) == (2, 1, pytest.approx(10 / 3600))


@pytest.mark.parametrize("load", [Load.SUSTAIN, Load.RAMP])
def test_waits_stay_inside_the_target_though_the_rule_looks_only_now_and_then(load: Load) -> None:
    """Whenever the runs come: a rule that waits for the target to be passed is too late by an interval."""
    rule, seconds = Rule(1, 12, 10, 2000, 2, 1, 400), 90.0
    for seed in range(100):
        jobs = jobs_of(load, rate=0.8, seconds=seconds, mean_s=5.0, seed=seed)
        course = run_model(jobs, rule, by_rule(rule), seconds=seconds)
        figures = figures_of(course, jobs, load, rule, seconds=seconds)
        assert figures.settled_p95_ms <= rule.target_p95_ms, seed


def test_no_load_at_all() -> None:
    rule = TUNINGS["cost"]
    course = run_model([], rule, by_rule(rule), seconds=60)
    assert {tick.workers for tick in course.ticks} == {1}
    assert figures_of(course, [], Load.DROP, rule, seconds=60).to_minimum_s == 0.0


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 20)), max_size=50), st.booleans())
def test_jobs_begin_in_order_and_never_before_they_arrive(given_: list[tuple[float, float]], hpa: bool) -> None:
    jobs, rule = [Job(*one) for one in sorted(given_)], Rule(1, 4, 2, 500, 2, 1, 1000)
    course = run_model(jobs, rule, (by_hpa if hpa else by_rule)(rule), seconds=1000)
    waits = [(job.arrives_s, wait) for job, wait in zip(jobs, course.waits, strict=True) if wait is not None]
    begun = [round(arrived + waited, 9) for arrived, waited in waits]  # several begin at one moment
    assert len(begun) == len(jobs)
    assert begun == sorted(begun)
    assert min((wait for wait in course.waits if wait is not None), default=0.0) >= 0


def test_the_hpa_follows_its_formula_its_tolerance_and_its_stabilisation() -> None:
    hpa = Hpa(TUNINGS["balanced"])
    assert hpa.workers(0, Observation(0, 0, 0.7), 4) == 4
    assert hpa.workers(15, Observation(0, 0, 0.76), 4) == 4  # within a tenth of the target
    assert hpa.workers(30, Observation(0, 0, 0.84), 4) == 5  # ceil(4 * 0.84 / 0.7)
    assert hpa.workers(45, Observation(100, 0, 0.7), 5) == 10  # twice its queue
    assert hpa.workers(60, Observation(0, 0, 0.0), 10) == 10
    assert Hpa(TUNINGS["latency"]).workers(0, Observation(999, 0, 1.0), 5) == 10  # at most twice as many at once
    assert hpa.workers(346, Observation(0, 0, 0.0), 10) == 2
