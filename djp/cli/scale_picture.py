"""The picture of `djp scale simulate`: workers, queue and p95 over time. The only module that needs matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from djp.cli.simulate import SEEN
from djp.mesh.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from djp.scaling.model import Course
    from djp.scaling.rule import Rule


def draw(path: Path, title: str, courses: Mapping[str, Course], rule: Rule) -> None:
    """Draw the courses above each other into a .png, .svg or .pdf file. Raises InvalidInput for another ending."""
    ending = path.suffix.removeprefix(".").lower()
    if ending not in ("png", "svg", "pdf"):
        raise InvalidInput(f"{path} ends in none of .png, .svg and .pdf; give one of them", field="png")
    figure = Figure(figsize=(10, 7), layout="constrained")
    figure.suptitle(title)
    targets = (rule.max_workers, rule.target_queue_depth, rule.target_p95_ms / 1000)
    names = ("MAX_WORKERS", "target", "target")
    all_axes = figure.subplots(len(SEEN), sharex=True)
    for axes, (label, value), target, name in zip(all_axes, SEEN.items(), targets, names, strict=True):
        for scaler, course in courses.items():
            times = [tick.time_s for tick in course.ticks]
            axes.plot(times, [value(tick) for tick in course.ticks], drawstyle="steps-post", label=scaler)
        axes.axhline(target, color="grey", linestyle=":", label=name)
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    all_axes[-1].set_xlabel("time (s)")
    figure.savefig(path, format=ending, dpi=120)
