"""`djp scale`: its subcommands with their options. What they do is imported when they are called."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  Typer reads the types
from typing import Annotated

import typer

from djp.cli.options import AsJson  # noqa: TC001  Typer reads the types
from djp.scaling.loads import Load
from djp.scaling.rule import Tuning

scale_app = typer.Typer(
    help="Look at the autoscaler, and try it on a model.", no_args_is_help=True, rich_markup_mode=None
)


_Tuning = Annotated[Tuning | None, typer.Option(help="In the place of DJP_SCALE_TUNING.")]


@scale_app.command()
def config(tuning: _Tuning = None, as_json: AsJson = False) -> None:
    """Show the rule in force, and where each of its values comes from.

    The JSON document has `tuning` and `settings`, each with its `variable`, `value` and `origin`.
    """
    from djp.cli.scale import print_config
    from djp.cli.session import execute

    async def show() -> int:
        return print_config(tuning, as_json=as_json)

    execute(show, as_json=as_json)


@scale_app.command()
def simulate(
    profile: Annotated[Load, typer.Option(help="How the rate of runs goes over time.")] = Load.RAMP,
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
