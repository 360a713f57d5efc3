"""`djp runs`: its subcommands with their options. What they do is imported when they are called."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path  # noqa: TC003  Typer reads the types
from typing import Annotated

import typer

from djp.cli.options import EXIT_CODES, AsJson, Gateway, RunId, a_path, examples, preset_names

runs_app = typer.Typer(
    help="Look at runs; cancel, approve, reject and replay them.", no_args_is_help=True, rich_markup_mode=None
)


class State(StrEnum):
    """The states of runs, as people write them."""

    QUEUED = "queued"
    RUNNING = "running"
    PENDING_APPROVAL = "pending-approval"
    PUBLISHED = "published"
    ADVISORY = "advisory"
    NO_RESULT = "no-result"
    DENIED = "denied"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


@runs_app.command("list", epilog=examples("djp runs list --state failed --limit 50"))
def list_runs(
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="How many, newest first.")] = 20,
    state: Annotated[
        list[State] | None,
        typer.Option(metavar="STATE", help=f"Only runs in this state, repeatable: {', '.join(State)}."),
    ] = None,
    preset: Annotated[str | None, typer.Option(metavar="NAME", help="Only runs with this preset.")] = None,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    from djp.cli import runs
    from djp.cli.session import execute

    execute(
        lambda: runs.list_runs(gateway, limit=limit, states=state or [], preset=preset or "", as_json=as_json),
        as_json=as_json,
    )


@runs_app.command("show", epilog=examples("djp runs show latest", "djp runs show 3f2b8c1e --output report.docx"))
def show_run(
    run: RunId,
    restore_values: Annotated[
        bool, typer.Option("--restore-values", help="Of a run with --redact all: with the hidden values put back.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(parser=a_path, metavar="FILE", help="Write the text there, too: a .md, .html or .docx file."),
    ] = None,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Show a run: its text, verdict, citations and costs."""
    from djp.cli import runs
    from djp.cli.session import execute

    execute(
        lambda: runs.show_run(gateway, run, restore_values=restore_values, output=output, as_json=as_json),
        as_json=as_json,
    )


@runs_app.command(
    "export",
    epilog=examples(
        "djp runs export --output runs.csv",
        "djp runs export --since 2026-10-01 --until 2026-10-07 --output weekly.csv",
        "djp runs export --since 7d --json",
    ),
)
def export_runs(
    output: Annotated[
        Path | None, typer.Option(parser=a_path, metavar="FILE.csv", help="Default: standard output.")
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="SPAN", help="How far back: 12h, 7d or 4w, or the first day, as 2026-10-01.")
    ] = "",
    until: Annotated[str, typer.Option(metavar="DAY", help="The last day, in UTC; default: today.")] = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Write a row about every run, oldest last, with the columns of `djp run --metrics`; all of them unless told.

    The file is there whole, or not at all. The JSON document has `runs`, each an object with these columns.
    """
    from djp.cli import export
    from djp.cli.session import execute

    if as_json and output is not None:
        raise typer.BadParameter("--output is for a CSV file, and --json goes to standard output; give one")
    execute(
        lambda: export.export_runs(gateway, output, since=since, until=until, as_json=as_json),
        as_json=as_json,
    )


@runs_app.command("cancel", epilog=examples('djp runs cancel 3f2b8c1e --reason "asked twice"'))
def cancel_run(
    run: RunId,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with the run.")] = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Stop a run: the calls that it has begun are charged, the rest of its money is given back."""
    from djp.cli import runs
    from djp.cli.session import execute

    execute(lambda: runs.cancel_run(gateway, run, reason=reason, as_json=as_json), as_json=as_json)


@runs_app.command("approve", epilog=examples("djp runs approve latest") + "\n\n" + EXIT_CODES)
def approve_run(
    run: RunId,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with the run.")] = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Let a run be published that waits for approval, and show it."""
    from djp.cli import runs
    from djp.cli.session import execute

    execute(lambda: runs.decide_run(gateway, run, approve=True, reason=reason, as_json=as_json), as_json=as_json)


@runs_app.command("reject", epilog=examples('djp runs reject 3f2b8c1e --reason "the figures are old"'))
def reject_run(
    run: RunId,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with the run.")],
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """End a run that waits for approval: its text is not published, and no artifact of it is stored."""
    from djp.cli import runs
    from djp.cli.session import execute

    execute(lambda: runs.decide_run(gateway, run, approve=False, reason=reason, as_json=as_json), as_json=as_json)


def replay_run(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, its first characters, `latest`, or its artifact's file.")
    ] = "",
    replay: Annotated[str, typer.Option(metavar="RUN", help="The same as the argument.")] = "",
    latest: Annotated[bool, typer.Option("--latest", help="The newest run.")] = False,
    task: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Another task; @FILE reads it, - is standard input.")
    ] = None,
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="Another preset; what was asked for wins.", autocompletion=preset_names)
    ] = "",
    trace_name: Annotated[str, typer.Option(metavar="TEXT", help="Another name to find the run by.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the command and what has changed.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the newest runs and leave.")] = False,
    show: Annotated[str, typer.Option(metavar="RUN", help="Show this run and leave.")] = "",
    gateway: Gateway = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the text: no progress, summary or costs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run an earlier run once more, by the very settings that it had.

    It reads the same version of its corpus, and its models see the same placeholders. What differs in configuration
    since then is listed.
    """
    from djp.cli import replay as command
    from djp.cli import runs
    from djp.cli.session import execute

    wanted = [one for one in (run, replay, "latest" if latest else "") if one]
    if len(wanted) + list_ + bool(show) != 1:
        raise typer.BadParameter("say what: RUN, --replay RUN, --latest, --list or --show RUN; one of them")
    if list_:
        execute(lambda: runs.list_runs(gateway, limit=20, states=[], preset="", as_json=as_json), as_json=as_json)
    if show:
        execute(lambda: runs.show_run(gateway, command.run_of(show), as_json=as_json), as_json=as_json)
    flags = command.ReplayFlags(
        run=wanted[0],
        task=task,
        preset=preset,
        trace_name=trace_name,
        dry_run=dry_run,
        quiet=quiet,
        as_json=as_json,
        gateway=gateway,
    )
    execute(lambda: command.replay(flags), as_json=as_json)


runs_app.command(
    "replay",
    epilog=examples("djp runs replay latest --dry-run", "djp runs replay 3f2b8c1e --preset thorough")
    + "\n\n"
    + EXIT_CODES,
)(replay_run)
