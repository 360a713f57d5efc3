"""Does a real gateway find its size? The four loads, shortened, against `djp serve all` that scales its workers live.

`djp load` starts the runs; the debater is a model server of ours that takes its time to answer, so a run holds its
worker and not the processor. Every interval of the rule the gateway is asked for its workers, its queue and the p95 of
the waits. Beside it stands what the model of `djp scale simulate` says about runs that arrive at the same times and
take as long as these took on average. `--png FOLDER` draws both.

`settled p95` is of the waits of the runs that arrived when the load had settled; `at minimum` counts from the last fall
of the load, which for `sustain` and `ramp` is its end.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from djp.cli.scale_picture import draw
from djp.client import connect
from djp.scaling.loads import FALLS, Load
from djp.scaling.model import Course, Figures, Job, Tick, by_rule, figures_of, run_model
from djp.scaling.rule import Rule

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from djp.client import DjpClient

ROOT = Path(__file__).resolve().parent.parent
DJP = str(Path(sys.executable).with_name("djp"))
RULE = Rule(1, 12, target_queue_depth=10, target_p95_ms=2000, up_step=2, down_step=1, interval_ms=400)
ANSWER_S = 3.0
RATE = 0.8  # at the peak: a third of the workers are busy, and on a busy machine, where runs take longer, half of them
PROVIDERS = """\
providers:
  slow:
    api: openai
    base_url: http://localhost:{port}/v1
    max_concurrency: 64
    models:
      model: {{tokenizer: o200k_base, price: {{input: 0, output: 0}}}}
"""
_PATIENCE_S = 120.0


def environment(folder: Path, rule: Rule) -> dict[str, str]:
    """Of the mesh: the rule, and one tenant whose runs wait for workers only, so that the queue has all of them."""
    names = ("MIN_WORKERS", "MAX_WORKERS", "TARGET_QUEUE_DEPTH", "TARGET_P95_LATENCY_MS", "SCALE_UP_STEP")
    names += ("SCALE_DOWN_STEP", "SCALE_DECISION_INTERVAL_MS")
    values = (rule.min_workers, rule.max_workers, rule.target_queue_depth, rule.target_p95_ms, rule.up_step)
    values += (rule.down_step, rule.interval_ms)
    return {
        **os.environ,
        **dict(zip(names, map(str, values), strict=True)),
        "PER_TENANT_MAX_CONCURRENCY": str(2 * rule.max_workers),
        "DJP_HOME": str(folder / "home"),
        "DJP_PROVIDERS": str(folder / "providers.yaml"),
        "DJP_LOG_LEVEL": "INFO",
    }


@asynccontextmanager
async def mesh(folder: Path, rule: Rule) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """A slow model and the whole mesh, each a process; its address, and the environment of the commands."""
    pipe = asyncio.subprocess.PIPE
    async with AsyncExitStack() as stack:

        async def start(*command: str, **more: Any) -> asyncio.subprocess.Process:
            process = await asyncio.create_subprocess_exec(*command, stdin=pipe, cwd=ROOT, **more)
            stack.push_async_callback(process.wait)
            stack.callback(process.terminate)
            return process

        delay = str(ANSWER_S * 1000)
        model = await start(sys.executable, "-m", "tests.llm.model_server", "--delay-ms", delay, stdout=pipe)
        assert model.stdout is not None
        port = (await model.stdout.readline()).decode().strip()
        (folder / "providers.yaml").write_text(PROVIDERS.format(port=port))
        own, address = environment(folder, rule), f"unix:{folder}/gateway.sock"
        server = await start(DJP, "serve", "all", "--listen", address, env=own, stderr=pipe)
        assert server.stderr is not None
        while b"listening on" not in (line := await server.stderr.readline()):
            assert line, "the mesh did not start"
        reading = asyncio.create_task(server.stderr.read())  # or it would wait for room in the pipe
        stack.callback(reading.cancel)
        yield address, own


async def observe(client: DjpClient, began: float, rule: Rule) -> Tick:
    """What the gateway tells now."""
    told = await client.get_scaling()
    return Tick(
        time.monotonic() - began,
        told.workers,
        told.waiting_for_worker,
        told.p95_wait.ToTimedelta().total_seconds() * 1000,
        told.utilisation,
    )


async def drive(load: Load, rule: Rule, seconds: float, folder: Path) -> tuple[Course, Sequence[Job]]:
    """Let a load come and go; what was seen, and the runs with the time that each took in work."""
    path, ticks = folder / "load.csv", list[Tick]()
    async with mesh(folder, rule) as (address, own), connect(address) as client:
        flags = ("--profile", load, "--rate", f"{RATE:.3f}", "--seconds", f"{seconds:g}", "--debater", "slow/model")
        driver = await asyncio.create_subprocess_exec(
            *(DJP, "load", *flags, "--csv", str(path), "--gateway", address, "--json"),
            env=own,
            stdout=asyncio.subprocess.DEVNULL,
        )
        ending = asyncio.create_task(driver.wait())
        while not path.exists():
            assert not ending.done(), "the load did not begin"
            await asyncio.sleep(0.02)
        began = time.monotonic()
        while not ending.done() or ticks[-1].workers > rule.min_workers:
            ticks.append(await observe(client, began, rule))
            assert ticks[-1].time_s < seconds + _PATIENCE_S, "it does not come to rest"
            await asyncio.sleep(rule.interval_s)
        ticks.append(await observe(client, began, rule))
        assert ending.result() == 0, "runs of the load failed"
    with path.open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["time_s"]))
    waits = [float(row["wait_ms"]) / 1000 for row in rows]
    took = [float(row["latency_ms"]) / 1000 - wait for row, wait in zip(rows, waits, strict=True)]
    return Course(ticks, waits), [Job(float(row["time_s"]), one) for row, one in zip(rows, took, strict=True)]


def to_minimum_s(course: Course, load: Load, rule: Rule, seconds: float) -> float:
    """From the load's last fall until the workers were at their minimum for good."""
    above = [tick.time_s for tick in course.ticks if tick.workers > rule.min_workers]
    return max(0.0, above[-1] - FALLS.get(load, 1.0) * seconds) if above else 0.0


def told(figures: Figures, course: Course, load: Load, seconds: float) -> dict[str, float]:
    """What is printed of a course."""
    return {
        "runs": figures.runs,
        "settled_p95_ms": round(figures.settled_p95_ms),
        "peak_queue": figures.peak_queue,
        "peak_workers": figures.peak_workers,
        "changes": figures.changes,
        "direction_changes": figures.direction_changes,
        "most_in_a_cool_down": figures.most_direction_changes_in_a_cool_down,
        "to_minimum_s": round(to_minimum_s(course, load, RULE, seconds), 1),
    }


async def measure(loads: Sequence[Load], seconds: float, pictures: Path | None) -> dict[str, dict[str, float]]:
    """All loads, one after the other, each against a new mesh."""
    found: dict[str, dict[str, float]] = {}
    for load in loads:
        with tempfile.TemporaryDirectory(prefix="djp-") as name:
            course, jobs = await drive(load, RULE, seconds, Path(name))
        took_s = statistics.mean(job.takes_s for job in jobs)
        alike = [Job(job.arrives_s, took_s) for job in jobs]
        modelled = run_model(alike, RULE, by_rule(RULE), seconds=course.ticks[-1].time_s)
        for kind, one in (("gateway", course), ("model", modelled)):
            figures = figures_of(one, jobs, load, RULE, seconds=seconds)
            found[f"{load}_{kind}"] = told(figures, one, load, seconds)
        found[f"{load}_gateway"]["run_s"] = round(took_s, 2)
        if pictures:
            title = f"{load}: up to {RATE:.2g} runs a second of {took_s:.1f} s, decided every {RULE.interval_s:g} s"
            draw(pictures / f"{load}.png", title, {"gateway": course, "model": modelled}, RULE)
    return found


def main() -> None:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one load of 15 s instead of four of 90 s")
    parser.add_argument("--png", type=Path, metavar="FOLDER", help="draw a picture of each load there")
    options = parser.parse_args()
    loads, seconds = ([Load.DROP], 15.0) if options.quick else (list(Load), 90.0)
    figures = asyncio.run(measure(loads, seconds, options.png))
    names = list(next(iter(figures.values())))
    print(f"{'':<18}" + "".join(f"{name.replace('_', ' '):>21}" for name in names))
    for kind, one in figures.items():
        print(f"{kind.replace('_', ', '):<18}" + "".join(f"{one.get(name, ''):>21}" for name in names))
    print(json.dumps({"benchmark": "scaling", "figures": figures}))


if __name__ == "__main__":
    main()
