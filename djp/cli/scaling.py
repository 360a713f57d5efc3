"""`djp scale` and `djp load`: their options. What they do is imported when they are called."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  Typer reads the types
from typing import Annotated

import typer

from djp.cli.options import AsJson, Gateway, examples
from djp.scaling.loads import Load
from djp.scaling.rule import Tuning

_DEBATER = "offline/lead"

scale_app = typer.Typer(
    help="Look at the autoscaler, and try it on a model.", no_args_is_help=True, rich_markup_mode=None
)


def _a_load(given: str | Load) -> Load:
    """The load of that name, or of the name that the operations guide has for it."""
    name = "ramp" if given.replace("-", "_") == "ramp_and_sustain" else given
    if name not in set(Load):
        raise typer.BadParameter(f"{given[:40]!r} is none of {', '.join(Load)}")
    return Load(name)


def _loads(beginning: str) -> list[str]:
    return [name for name in Load if name.startswith(beginning)]


_Profile = Annotated[
    Load,
    typer.Option(
        parser=_a_load,
        metavar=f"[{'|'.join(Load)}]",
        help="How the rate of runs goes over time; ramp is also called ramp_and_sustain.",
        autocompletion=_loads,
    ),
]
_Tuning = Annotated[Tuning | None, typer.Option(help="In the place of DJP_SCALE_TUNING.")]


@scale_app.command(epilog=examples("djp scale config --tuning latency"))
def config(tuning: _Tuning = None, as_json: AsJson = False) -> None:
    """Show the rule in force, and where each of its values comes from.

    The JSON document has `tuning` and `settings`, each with its `variable`, `value` and `origin`.
    """
    from djp.cli.scale import print_config
    from djp.cli.session import execute

    async def show() -> int:
        return print_config(tuning, as_json=as_json)

    execute(show, as_json=as_json)


@scale_app.command(epilog=examples("djp scale simulate --profile burst --run-seconds 20"))
def simulate(
    profile: _Profile = Load.RAMP,
    rate: Annotated[
        float | None, typer.Option(metavar="N", help="Runs a second at the peak; default: 60% of MAX_WORKERS are busy.")
    ] = None,
    run_seconds: Annotated[float, typer.Option(metavar="S", help="What a run takes on average.")] = 5.0,
    seconds: Annotated[float, typer.Option(metavar="S", help="How long the load lasts.")] = 900.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Fixes which runs come when.")] = 1,
    tuning: _Tuning = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it as a picture there, too.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write what was seen at each look there.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let a modelled load meet the rule, and beside it the HPA of Kubernetes; draw workers, queue and p95.

    No gateway is asked and no model is called. The JSON document has the `load`, the `rule`, and `figures` of both. A
    picture needs the extra `plots`.
    """
    from djp.cli.session import execute
    from djp.cli.simulate import SimulateFlags
    from djp.cli.simulate import simulate as command

    flags = SimulateFlags(profile, rate, run_seconds, seconds, seed, tuning, png, csv, as_json)

    async def run() -> int:
        return command(flags)

    execute(run, as_json=as_json)


@scale_app.command(epilog=examples("djp scale hpa --per-pod 4 > gateway-hpa.yaml"))
def hpa(
    per_pod: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="Workers of one gateway's pod.")],
    deployment: Annotated[str, typer.Option(metavar="NAME", help="The gateway's Deployment.")] = "djp-gateway",
    tuning: _Tuning = None,
) -> None:
    """Print the rule in force as a HorizontalPodAutoscaler of Kubernetes.

    The rule's workers are those of all pods together. Give each pod MIN_WORKERS and MAX_WORKERS of N.
    """
    from djp.cli.scale import print_hpa
    from djp.cli.session import execute

    async def show() -> int:
        return print_hpa(tuning, name=deployment, per_pod=per_pod)

    execute(show)


_OfGateway = Annotated[
    str | None, typer.Option("--gateway", envvar="DJP_GATEWAY", metavar="ADDRESS", help="The gateway, host:port.")
]


@scale_app.command(epilog=examples("djp scale status --gateway localhost:7100"))
def status(gateway: _OfGateway = None, as_json: AsJson = False) -> None:
    """Show a gateway's workers and its queue now, and what its autoscaler decided last and why.

    The JSON document has `executor`, `workers`, `min_workers`, `max_workers`, `working` (runs), `queue_depth`,
    `waiting_for_worker`, `oldest_wait_ms`, `p95_wait_ms`, `utilisation`, the numbers of `decisions`, `ups`, `downs` and
    `direction_changes`, the `last_decision`, and the last `changes`.
    """
    from djp.cli.scale_status import print_status
    from djp.cli.session import execute

    execute(lambda: print_status(gateway, as_json=as_json), as_json=as_json)


@scale_app.command(epilog=examples("djp scale watch --gateway localhost:7100"))
def watch(gateway: _OfGateway = None) -> None:
    """Print every change of a gateway's workers, and a line each interval of its rule, until Ctrl-C."""
    from djp.cli.scale_status import watch_status
    from djp.cli.session import execute

    execute(lambda: watch_status(gateway))


def load(
    profile: _Profile = Load.RAMP,
    rate: Annotated[float, typer.Option("--rate", "--max-rate", metavar="N", help="Runs a second at the peak.")] = 1.0,
    seconds: Annotated[
        float, typer.Option("--seconds", "--duration", metavar="S", help="How long the load lasts.")
    ] = 60.0,
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**31 - 1, help="Fixes when runs are started.")] = 1,
    task: Annotated[str, typer.Option(metavar="TEXT", help="The task of every run.")] = "Say what a load test is.",
    debater: Annotated[str, typer.Option(metavar="MODEL", help="Who drafts; a real model costs money.")] = _DEBATER,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a row about every run there.")] = None,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Drive a gateway with runs of an offline debater, at the rate of a profile, until all have ended or Ctrl-C.

    No model is called unless you name one with --debater, but runs go through budgets and storage as others do. Exits
    with 1 if one failed or was denied.
    """
    from djp.cli.load import LoadFlags, drive
    from djp.cli.session import execute

    flags = LoadFlags(profile, rate, seconds, seed, task, debater, csv, gateway, as_json)
    execute(lambda: drive(flags), as_json=as_json)
