"""`djp lifecycle`: its subcommands with their options. What they do is imported when they are called."""

from __future__ import annotations

from typing import Annotated

import typer

from djp.cli.options import AsJson, EachTenant, Gateway, examples

lifecycle_app = typer.Typer(
    help="Move artifacts from tier to tier as they age.", no_args_is_help=True, rich_markup_mode=None
)


@lifecycle_app.command("run", epilog=examples("djp lifecycle run --dry-run --verbose", "djp lifecycle run --live"))
def run_lifecycle(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is due.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Move what is due.")] = False,
    summary: Annotated[bool, typer.Option("--summary", help="Only say how the last run went.")] = False,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="With --live: purge even more of a tenant at once than is allowed.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="A line for every artifact.")] = False,
    tenant: EachTenant = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Move what is due. Hot to warm, warm to cold, cold to the trash, and out of the trash for good.

    Stops at Ctrl-C within a second and says what was done; the next run goes on. Any number may run at once. Exits with
    6 when artifacts could not be moved. The JSON document has `summary` and, with --verbose, `artifacts`.
    """
    from djp.cli import lifecycle
    from djp.cli.session import execute

    if dry_run + live + summary != 1:
        raise typer.BadParameter("give one of --dry-run, --live and --summary")
    if summary:
        execute(lambda: lifecycle.print_status(gateway, tenant, as_json=as_json), as_json=as_json)
    execute(
        lambda: lifecycle.run(gateway, tenant, live=live, confirm=confirm, verbose=verbose, as_json=as_json),
        as_json=as_json,
    )


@lifecycle_app.command(epilog=examples("djp lifecycle status"))
def status(tenant: EachTenant = "", gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Print how the last run went, and what each tier holds."""
    from djp.cli.lifecycle import print_status
    from djp.cli.session import execute

    execute(lambda: print_status(gateway, tenant, as_json=as_json), as_json=as_json)


@lifecycle_app.command("check", epilog=examples("djp lifecycle check"))
def check_lifecycle(tenant: EachTenant = "", gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Exit with 1 if all is not well. The last live run is over 26 hours ago, never was, or had errors."""
    from djp.cli.lifecycle import check
    from djp.cli.session import execute

    execute(lambda: check(gateway, tenant, as_json=as_json), as_json=as_json)


@lifecycle_app.command(epilog=examples("djp lifecycle drill --count 100"))
def drill(
    count: Annotated[int, typer.Option(metavar="N", min=3, max=10_000, help="How many artifacts to make.")] = 20,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Rehearse it all on a throw-away tenant. Make, age, dry run, live runs, restore, hold, undelete, erase, report.

    Nothing of any other tenant is touched, and nothing stays but the events. For operators. Exits with 1 when a step
    did not do what it should. The JSON document has `steps`, `tenant` and `ok`.
    """
    from djp.cli.lifecycle_drill import drill
    from djp.cli.session import execute

    execute(lambda: drill(gateway, count=count, as_json=as_json), as_json=as_json)
