"""`djp scale simulate`: a modelled load under the rule and under the HPA, side by side."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from djp.cli.exits import Exit
from djp.cli.scale import scaling_settings
from djp.cli.tables import Column, print_table
from djp.cli.terminal import out, say
from djp.mesh.errors import InvalidInput, Violation
from djp.scaling.model import MAX_RUNS, by_hpa, by_rule, figures_of, jobs_of, run_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from djp.scaling.loads import Load
    from djp.scaling.model import Course, Figures, Tick
    from djp.scaling.rule import Rule, Tuning

COLUMNS = ("time_s", "scaler", "workers", "queue_depth", "p95_wait_ms", "utilisation")
SCALERS = {"rule": by_rule, "HPA": by_hpa}
SEEN: dict[str, Callable[[Tick], float]] = {
    "workers": lambda tick: tick.workers,
    "queue (runs)": lambda tick: tick.queue_depth,
    "p95 wait (s)": lambda tick: tick.p95_wait_ms / 1000,
}
"""What is drawn, over time."""
_BUSY_AT_PEAK = 0.6
_MAX_LOOKS = 100_000
_CHART_ROWS = 5
_LABEL = 6  # columns before a chart


@dataclass(frozen=True)
class SimulateFlags:
    """The command line; `rate` in runs a second, times in seconds."""

    profile: Load
    rate: float | None
    run_seconds: float
    seconds: float
    seed: int
    tuning: Tuning | None
    png: Path | None
    csv: Path | None
    as_json: bool


def simulate(flags: SimulateFlags) -> int:
    """Model the load, print what came of it, and write the files that were asked for.

    Raises InvalidInput with one violation for every bad flag, and OSError for a file that cannot be written.
    """
    rule = scaling_settings(flags.tuning).rule()
    rate = _checked(flags, rule)
    draw = _picture_drawer() if flags.png else None
    jobs = jobs_of(flags.profile, rate=rate, seconds=flags.seconds, mean_s=flags.run_seconds, seed=flags.seed)
    courses = {name: run_model(jobs, rule, by(rule), seconds=flags.seconds) for name, by in SCALERS.items()}
    figures = {
        name: figures_of(course, jobs, flags.profile, rule, seconds=flags.seconds) for name, course in courses.items()
    }
    if flags.csv:
        _write_csv(flags.csv, courses)
    if flags.png and draw:
        draw(flags.png, _title(flags, rate), courses, rule)
    if flags.as_json:
        load = {"profile": flags.profile, "rate": rate, "run_seconds": flags.run_seconds}
        load |= {"seconds": flags.seconds, "seed": flags.seed}
        told = {name.lower(): asdict(one) for name, one in figures.items()}
        print(json.dumps({"load": load, "rule": asdict(rule), "figures": told}, indent=2))
        return Exit.OK
    say(_title(flags, rate))
    for title, value in SEEN.items():
        for line in _charts(title, courses, value):
            out().print(line, no_wrap=True, overflow="crop")
    axis = f"0 to {flags.seconds:g} s"
    out().print((" " * _LABEL + axis.ljust(_chart_columns() + 2)) * len(courses), style="dim", no_wrap=True)
    say("")
    _print_figures(figures, rule)
    return Exit.OK


def _checked(flags: SimulateFlags, rule: Rule) -> float:
    """The rate at the peak."""
    problems = []
    for name, value, most in (("run_seconds", flags.run_seconds, 86_400.0), ("seconds", flags.seconds, 604_800.0)):
        if not 0 < value <= most:  # nor is it a NaN
            problems.append(Violation(name, f"give seconds, above 0 and up to {most:g}"))
    rate = flags.rate
    if rate is None and not problems:
        rate = _BUSY_AT_PEAK * rule.max_workers / flags.run_seconds
    if rate is not None and not 0 < rate < math.inf:
        problems.append(Violation("rate", "give runs a second, above 0"))
    elif rate is not None and not problems and rate * flags.seconds > MAX_RUNS:
        problems.append(
            Violation("rate", f"that would be {rate * flags.seconds:,.0f} runs; {MAX_RUNS:,} can be modelled")
        )
    if not problems and not 1 <= flags.seconds / rule.interval_s <= _MAX_LOOKS:
        problems.append(Violation("seconds", f"give 1 to {_MAX_LOOKS:,} times the interval of {rule.interval_s:g} s"))
    if problems or rate is None:
        raise InvalidInput("; ".join(f"{one.field}: {one.description}" for one in problems), violations=problems)
    return rate


def _title(flags: SimulateFlags, rate: float) -> str:
    return f"{flags.profile}: up to {rate:.3g} runs a second of about {flags.run_seconds:g} s each, seed {flags.seed}"


def _picture_drawer() -> Callable[[Path, str, Mapping[str, Course], Rule], None]:
    try:
        from djp.cli.scale_picture import draw
    except ModuleNotFoundError as error:
        raise InvalidInput(
            "a picture needs matplotlib: install djp-workflow[plots], or leave --png away", field="png"
        ) from error
    return draw


def _write_csv(path: Path, courses: Mapping[str, Course]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, course in courses.items():
            for tick in course.ticks:
                wait, busy = f"{tick.p95_wait_ms:.0f}", f"{tick.utilisation:.3f}"
                writer.writerow([f"{tick.time_s:g}", name.lower(), tick.workers, tick.queue_depth, wait, busy])


def _chart_columns() -> int:
    return max(10, min(60, out().width // len(SCALERS) - _LABEL - 3))


def _charts(title: str, courses: Mapping[str, Course], value: Callable[[Tick], float]) -> Sequence[str]:
    """The courses beside each other, on the same scale."""
    from plotille import Canvas

    columns = _chart_columns()
    top = max(1.0, *(value(tick) for course in courses.values() for tick in course.ticks))
    blocks = []
    for name, course in courses.items():
        last = course.ticks[-1].time_s
        canvas = Canvas(columns, _CHART_ROWS, xmin=0, ymin=0, xmax=last * 1.01, ymax=top * 1.1)
        at, was = 0.0, value(course.ticks[0])
        for tick in course.ticks:
            canvas.line(at, was, tick.time_s, value(tick))
            at, was = tick.time_s, value(tick)
        rows = canvas.plot().splitlines()
        labels = [f"{top:.3g}", *[""] * (len(rows) - 2), "0"]
        heading = " " * _LABEL + f"{title}, {name}".ljust(columns + 2)
        blocks.append([heading, *(f"{label:>{_LABEL - 2}} ┤{row} " for label, row in zip(labels, rows, strict=True))])
    return ["".join(line).rstrip() for line in zip(*blocks, strict=True)]


def _print_figures(figures: Mapping[str, Figures], rule: Rule) -> None:
    def row(of: Callable[[Figures], str]) -> list[str]:
        return [of(one) for one in figures.values()]

    lines = {
        f"p95 wait when settled (target {rule.target_p95_ms:,} ms)": row(lambda one: f"{one.settled_p95_ms:,.0f} ms"),
        "longest queue": row(lambda one: f"{one.peak_queue:,}"),
        "most workers": row(lambda one: f"{one.peak_workers:,}"),
        "changes of their number": row(lambda one: f"{one.changes:,}"),
        "changes of direction": row(lambda one: f"{one.direction_changes:,}"),
        "at most in one cool-down": row(lambda one: f"{one.most_direction_changes_in_a_cool_down:,}"),
        "at the minimum after the load fell": row(
            lambda one: "-" if one.to_minimum_s is None else f"{one.to_minimum_s:,.0f} s"
        ),
        "worker-hours": row(lambda one: f"{one.worker_hours:.2f}"),
        "runs begun": row(lambda one: f"{one.begun:,} of {one.runs:,}"),
    }
    columns = [Column(name, [cells[number] for cells in lines.values()]) for number, name in enumerate(figures)]
    print_table(Column("", list(lines)), *columns)
