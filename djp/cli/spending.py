"""`djp cost` and `djp budgets`: their subcommands with their options. What they do is imported when they are called."""

from __future__ import annotations

from typing import Annotated

import typer

from djp.cli.options import AsJson, Gateway, examples

cost_app = typer.Typer(help="Look at what was spent.", no_args_is_help=True, rich_markup_mode=None)
budgets_app = typer.Typer(help="Look after budgets.", no_args_is_help=True, rich_markup_mode=None)

_Tenant = Annotated[str, typer.Option(metavar="NAME", help="Only this tenant's.")]
_Days = Annotated[int, typer.Option(metavar="N", min=1, max=3660, help="How many days, today the last.")]
_Scope = Annotated[str, typer.Argument(metavar="SCOPE", help="global, tenant:NAME or workflow:NAME.")]
_Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; an event keeps it, with who did it.")]
_Usd = Annotated[str | None, typer.Option(metavar="DOLLARS", help="Such as 12.50, or none for no limit.")]
_Tokens = Annotated[str | None, typer.Option(metavar="N", help="Such as 500000, or none for no limit.")]


@cost_app.command(epilog=examples("djp cost report --days 7", "djp cost report --tenant team-a --json > report.json"))
def report(
    tenant: _Tenant = "",
    days: _Days = 30,
    since: Annotated[str, typer.Option(metavar="SPAN", help="In the place of --days: 7d or 4w.")] = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Print what was spent: by tenant and model, by day, and what is left of the budget.

    The JSON document has `days`, `totals` (by tenant, and by model under it; an empty model stands for all of them),
    `rows` (by day, model, workflow and preset; with a tenant's name only when one was asked for), `budget` (as
    `djp budgets list` has it) and `anomalies`. Amounts are whole nano-dollars, and 64-bit numbers are strings.
    """
    from djp.cli.cost import print_report
    from djp.cli.session import execute

    execute(lambda: print_report(gateway, tenant=tenant, days=days, since=since, as_json=as_json), as_json=as_json)


@cost_app.command(epilog=examples("djp cost anomalies --days 90"))
def anomalies(tenant: _Tenant = "", days: _Days = 30, gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Print the days on which a tenant spent unusually much, against the four weeks before each.

    The JSON document has `days` and `anomalies`, each with what the day cost, the mean and the standard deviation of
    its baseline, and how many deviations it is above the mean.
    """
    from djp.cli.cost import print_anomalies
    from djp.cli.session import execute

    execute(lambda: print_anomalies(gateway, tenant=tenant, days=days, as_json=as_json), as_json=as_json)


@budgets_app.command("list", epilog=examples("djp budgets list"))
def list_budgets(gateway: Gateway = None, as_json: AsJson = False) -> None:
    """List budgets: their limits, what is spent, held and left now, and when they reset.

    The JSON document has `budgets`, each with its four limits (null: none), their `origin`, and its `windows` now.
    """
    from djp.cli.budgets import print_budgets
    from djp.cli.session import execute

    execute(lambda: print_budgets(gateway, as_json=as_json), as_json=as_json)


@budgets_app.command(
    "set",
    epilog=examples(
        'djp budgets set tenant:team-a --daily-usd 20 --reason "the quarter ends"',
        'djp budgets set global --monthly-usd none --reason "no limit this year"',
    ),
)
def set_budget(
    scope: _Scope,
    reason: _Reason,
    daily_usd: _Usd = None,
    monthly_usd: _Usd = None,
    daily_tokens: _Tokens = None,
    monthly_tokens: _Tokens = None,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Set limits of a budget: at once, everywhere, until `djp budgets unset`.

    A limit that is not given stays as it is now. All four are then those of run time: what the file and the environment
    say about this budget counts no more. With --json the document has the `budget` as it is afterwards.
    """
    from djp.cli import budgets
    from djp.cli.session import execute

    given = {
        "--daily-usd": daily_usd,
        "--monthly-usd": monthly_usd,
        "--daily-tokens": daily_tokens,
        "--monthly-tokens": monthly_tokens,
    }
    execute(lambda: budgets.set_budget(gateway, scope, given, reason=reason, as_json=as_json), as_json=as_json)


@budgets_app.command("unset", epilog=examples('djp budgets unset tenant:team-a --reason "the quarter is over"'))
def unset_budget(scope: _Scope, reason: _Reason, gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Take back what was set: the configured limits of the budget count again."""
    from djp.cli import budgets
    from djp.cli.session import execute

    execute(lambda: budgets.unset_budget(gateway, scope, reason=reason, as_json=as_json), as_json=as_json)


@budgets_app.command(epilog=examples("djp budgets check --since 1d"))
def check(
    since: Annotated[str, typer.Option(metavar="SPAN", help="How far back: 12h, 7d or 4w.")] = "7d",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Exit with 1 if a budget reached its soft threshold or refused a run since then, and say which and when.

    The JSON document has `since` and `passed`, the events with their `threshold`, soft or hard, newest first.
    """
    from djp.cli.budgets import check_budgets
    from djp.cli.session import execute

    execute(lambda: check_budgets(gateway, since=since, as_json=as_json), as_json=as_json)
