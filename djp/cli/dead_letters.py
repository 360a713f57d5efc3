"""`djp dlq`: its subcommands with their options. What they do is imported when they are called."""

from __future__ import annotations

from typing import Annotated

import typer

from djp.cli.options import AsJson, Gateway, examples

dlq_app = typer.Typer(help="Look after runs that were denied or failed.", no_args_is_help=True, rich_markup_mode=None)

_Tenant = Annotated[str, typer.Option(metavar="NAME", help="This tenant's, in a mesh of your own.")]
_Reason = Annotated[str, typer.Option(metavar="NAME", help="Only with this reason, such as budget_exceeded.")]
_Runs = Annotated[
    list[str] | None, typer.Argument(metavar="RUN...", help="Ids of runs, or 8 or more of their first characters.")
]


@dlq_app.command("list", epilog=examples("djp dlq list --reason budget_exceeded"))
def list_letters(
    tenant: _Tenant = "",
    reason: _Reason = "",
    replayed: Annotated[bool, typer.Option("--replayed", help="Those that were replayed, too.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="How many, the latest first.")] = 20,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters: runs that a budget refused, or that failed for good."""
    from djp.cli import dlq
    from djp.cli.session import execute

    execute(
        lambda: dlq.list_letters(
            gateway, tenant=tenant, reason=reason, replayed=replayed, limit=limit, as_json=as_json
        ),
        as_json=as_json,
    )


@dlq_app.command("show", epilog=examples("djp dlq show 3f2b8c1e"))
def show_letter(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or 8 or more of its first characters.")],
    tenant: _Tenant = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Show a dead letter: why its run ended, and the run that replays it."""
    from djp.cli import dlq
    from djp.cli.session import execute

    execute(lambda: dlq.show_letter(gateway, run, tenant=tenant, as_json=as_json), as_json=as_json)


@dlq_app.command("replay", epilog=examples("djp dlq replay 3f2b8c1e", "djp dlq replay --reason budget_exceeded"))
def replay_letters(
    run: _Runs = None,
    tenant: _Tenant = "",
    reason: _Reason = "",
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    window_share: Annotated[
        float | None,
        typer.Option(metavar="SHARE", min=0.0001, max=1.0, help="What replays may use of each budget window; 0.5."),
    ] = None,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Run dead letters again, each exactly once.

    Together they use at most half of each budget window (--window-share); the others start when it resets. Without a
    gateway the command waits for their ends.
    """
    from djp.cli import dlq
    from djp.cli.session import execute

    _which(run, reason, everything)
    execute(
        lambda: dlq.replay_letters(
            gateway, run or (), tenant=tenant, reason=reason, share=window_share, as_json=as_json
        ),
        as_json=as_json,
    )


@dlq_app.command("purge", epilog=examples("djp dlq purge --reason budget_exceeded"))
def purge_letters(
    run: _Runs = None,
    tenant: _Tenant = "",
    reason: _Reason = "",
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Forget dead letters, replayed or not. Their runs stay."""
    from djp.cli import dlq
    from djp.cli.session import execute

    _which(run, reason, everything)
    execute(
        lambda: dlq.purge_letters(gateway, run or (), tenant=tenant, reason=reason, as_json=as_json), as_json=as_json
    )


def _which(runs: list[str] | None, reason: str, everything: bool) -> None:
    if sum((bool(runs), bool(reason), everything)) != 1:
        raise typer.BadParameter("say which: RUN..., --reason NAME or --all; one of them")
