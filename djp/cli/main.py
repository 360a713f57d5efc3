"""The `djp` command: every subcommand with its options. What they do is imported when they are called, not before."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from djp.cli.ageing import lifecycle_app
from djp.cli.api_keys import keys_app
from djp.cli.catalogue import policies_app, presets_app, templates_app
from djp.cli.corpora import corpus_app
from djp.cli.db import db_app
from djp.cli.dead_letters import dlq_app
from djp.cli.exits import MEANINGS
from djp.cli.flags import RunFlags
from djp.cli.options import AsJson, Gateway
from djp.cli.scaling import load, scale_app
from djp.cli.spending import budgets_app, cost_app
from djp.cli.storing import storage_app
from djp.cli.terminal import forgiving_streams

# The flags of the operations guide have underscores; ours have hyphens, and both work. No Rich in the help: importing
# it takes longer than everything else that `djp --help` does.
app = typer.Typer(
    name="djp",
    help="Models debate a task, a blind jury judges, and the winner is published within budget.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={
        "token_normalize_func": lambda name: name.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
    },
)
runs_app = typer.Typer(
    help="Look at runs; cancel, approve and reject them.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(runs_app, name="runs")
app.add_typer(cost_app, name="cost")
app.add_typer(budgets_app, name="budgets")
app.add_typer(corpus_app, name="corpus")
app.add_typer(storage_app, name="storage")
app.add_typer(lifecycle_app, name="lifecycle")
app.add_typer(db_app, name="db")
app.add_typer(scale_app, name="scale")
app.command()(load)
app.add_typer(templates_app, name="templates")
app.add_typer(presets_app, name="presets")
app.add_typer(policies_app, name="policies")
app.add_typer(dlq_app, name="dlq")
app.add_typer(keys_app, name="keys")

RunId = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, 8 or more of its first characters, or `latest`.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Show what the services log: little, unless something is wrong.")
]


def _path(given: str) -> Path:
    if not given:  # of a script whose variable is empty; as a path it would be the current folder
        raise typer.BadParameter("is empty; name a path")
    return Path(given)


class Redact(StrEnum):
    """What of a run is redacted."""

    ON = "on"
    OFF = "off"
    ALL = "all"


class Strategy(StrEnum):
    """What stands in the place of a finding."""

    LABEL = "label"
    MASK = "mask"
    PARTIAL = "partial"
    PSEUDONYM = "pseudonym"


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


_EXIT_CODES = "Exit codes:\n\n\b\n" + "\n".join(f"  {int(code):>3}  {meaning}" for code, meaning in MEANINGS.items())


def main() -> None:
    """The entry point."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core writes past our logging, straight into the progress
    forgiving_streams()
    app()


_EXAMPLES = """Examples:

\b
  djp run --task "How do refunds work?" --grounded-corpus ./handbook
  djp runs show latest
"""


@app.callback(invoke_without_command=True, epilog=_EXAMPLES)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    if version:
        _print_version()
        raise typer.Exit


@app.command(epilog=_EXIT_CODES)
def run(
    task: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The task; @FILE reads it, - is standard input.")
    ] = None,
    template: Annotated[
        str | None, typer.Option(metavar="NAME", help="A template that makes the task; see `djp templates list`.")
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="The template's inputs; @FILE reads JSON or YAML, - is standard input."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="A named set of settings; flags win over it.")
    ] = None,
    policy: Annotated[str | None, typer.Option(metavar="NAME", help="Which models may publish.")] = None,
    grounded_corpus: Annotated[
        Path | None,
        typer.Option(parser=_path, metavar="DIR", help="Folder of .md, .txt and .pdf files to answer from."),
    ] = None,
    grounded_required: Annotated[
        int | None, typer.Option(metavar="N", help="Citations a draft needs; with fewer it is disqualified.")
    ] = None,
    passage_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Tokens of the corpus that debaters read; 2560 unless given.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", help="Tokens a draft may have.")] = None,
    temperature: Annotated[float | None, typer.Option(metavar="T", help="Sampling temperature, 0 to 2.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Fixes every choice that is not a model's own.")] = None,
    budget_usd: Annotated[str | None, typer.Option(metavar="DOLLARS", help="Refuse a run that can cost more.")] = None,
    budget_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Refuse a run that can use more tokens.")
    ] = None,
    debater: Annotated[
        list[str] | None,
        typer.Option(metavar="PROVIDER/MODEL", help="A model that debates, repeatable; see `djp models`."),
    ] = None,
    juror: Annotated[
        list[str] | None, typer.Option(metavar="PROVIDER/MODEL", help="A model that judges, repeatable.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(metavar="N", help="Rounds of debate, 1 to 8.")] = None,
    redact: Annotated[
        Redact,
        typer.Option(help="Redact what comes out; with `all`, models see no personal data and secrets either."),
    ] = Redact.ON,
    redaction_rules: Annotated[
        Path | None, typer.Option(parser=_path, metavar="FILE.json", help="Rules of redaction beside those in force.")
    ] = None,
    restore_values: Annotated[
        bool, typer.Option("--restore-values", help="With --redact all: show the text with the values put back.")
    ] = False,
    require_approval: Annotated[
        bool, typer.Option("--require-approval", help="Publish nothing before somebody approves it.")
    ] = False,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="How long the models may take.")] = None,
    workflow: Annotated[str | None, typer.Option(metavar="NAME", help="Groups runs for reports and artifacts.")] = None,
    trace_name: Annotated[str | None, typer.Option(metavar="TEXT", help="A name to find the run by.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(parser=_path, metavar="FILE", help="Write the text there, too: a .md, .html or .docx file."),
    ] = None,
    metrics: Annotated[
        Path | None, typer.Option(parser=_path, metavar="FILE.csv", help="Append a row about the run.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it can cost at most.")] = False,
    list_presets: Annotated[bool, typer.Option("--list-presets", help="List the presets and leave.")] = False,
    gateway: Gateway = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the text: no progress, summary or costs.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Take a task through debate, judge and publish.

    The text and a summary go to standard output, progress and errors to standard error. With --metrics the task's
    first 80 characters, redacted, go into the row. Every flag may be written with underscores too.
    """
    from djp.cli.session import execute

    flags = RunFlags(
        task=task,
        template=template,
        inputs=inputs,
        preset=preset,
        policy=policy,
        grounded_corpus=grounded_corpus,
        grounded_required=grounded_required,
        passage_tokens=passage_tokens,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        budget_usd=budget_usd,
        budget_tokens=budget_tokens,
        redact=redact.value,
        redaction_rules=redaction_rules,
        restore_values=restore_values,
        require_approval=require_approval,
        timeout=timeout,
        debaters=tuple(debater or ()),
        jurors=tuple(juror or ()),
        rounds=rounds,
        workflow=workflow,
        trace_name=trace_name,
        dry_run=dry_run,
        quiet=quiet,
        verbose=verbose,
        as_json=as_json,
        metrics=metrics,
        output=output,
        gateway=gateway,
    )
    if list_presets:
        from djp.cli.presets import show_presets

        execute(lambda: show_presets(gateway, as_json=as_json), as_json=as_json)
    from djp.cli import run as command

    execute(lambda: command.run(flags), as_json=as_json, verbose=verbose)


@app.command()
def batch(
    source: Annotated[
        Path,
        typer.Option("--input", parser=_path, metavar="FILE.csv", help="A row a run; a heading names the columns."),
    ],
    output: Annotated[Path, typer.Option(parser=_path, metavar="DIR", help="Where texts and summary.csv go.")],
    template: Annotated[
        str, typer.Option(metavar="NAME", help="Columns are its inputs; without one there is a single column, task.")
    ] = "",
    max_cost: Annotated[
        str | None, typer.Option(metavar="DOLLARS", help="Take no further row when this could be passed.")
    ] = None,
    concurrency: Annotated[int, typer.Option(metavar="N", min=1, max=100, help="Rows that run at once.")] = 3,
    batch_id: Annotated[
        str, typer.Option(metavar="NAME", help="To go on with later; default: from what the rows ask for.")
    ] = "",
    preset: Annotated[str, typer.Option(metavar="NAME", help="A named set of settings.")] = "",
    policy: Annotated[str, typer.Option(metavar="NAME", help="Which models may publish.")] = "",
    grounded_corpus: Annotated[
        Path | None, typer.Option(parser=_path, metavar="DIR", help="Folder of documents that all rows answer from.")
    ] = None,
    grounded_required: Annotated[int | None, typer.Option(metavar="N", help="Citations a draft needs.")] = None,
    redact: Annotated[Redact, typer.Option(help="As for `djp run`.")] = Redact.ON,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Run every row of a CSV file, under one cost cap.

    All rows are checked before the first is run. The same command goes on where it stopped: a row that was started
    before is not started again. A number in `--max-cost` is what the rows may cost together, with those under way at
    the most that they can cost.
    """
    from djp.cli import batch as command
    from djp.cli.session import execute

    flags = command.BatchFlags(
        source=source,
        output=output,
        template=template,
        preset=preset,
        policy=policy,
        max_cost=max_cost,
        concurrency=concurrency,
        batch_id=batch_id,
        grounded_corpus=grounded_corpus,
        grounded_required=grounded_required,
        redact=redact.value,
        as_json=as_json,
        gateway=gateway,
    )
    execute(lambda: command.batch(flags), as_json=as_json)


@runs_app.command("list")
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


@runs_app.command("show")
def show_run(
    run: RunId,
    restore_values: Annotated[
        bool, typer.Option("--restore-values", help="Of a run with --redact all: with the hidden values put back.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(parser=_path, metavar="FILE", help="Write the text there, too: a .md, .html or .docx file."),
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


@runs_app.command("cancel")
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


@runs_app.command("approve", epilog=_EXIT_CODES)
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


@runs_app.command("reject")
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


@app.command()
def models(
    provider: Annotated[str | None, typer.Option(metavar="NAME", help="Only this provider's.")] = None,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """List the models that a run may name: whether they can be used now, and what they cost."""
    from djp.cli.models import list_models
    from djp.cli.session import execute

    execute(lambda: list_models(gateway, provider=provider or "", as_json=as_json), as_json=as_json)


@app.command()
def redact(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A UTF-8 text; default: standard input.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Mark what was replaced, and count it.")] = False,
    strategy: Annotated[Strategy | None, typer.Option(help="What stands in the place of a finding.")] = None,
    strategy_for: Annotated[
        list[str] | None, typer.Option(metavar="TYPE=STRATEGY", help="Another one for a type, repeatable.")
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(parser=_path, metavar="FILE.json", help="Rules beside those in force.")
    ] = None,
    keep_title: Annotated[
        list[str] | None, typer.Option(metavar="TITLE", help="Leave [TITLE] as it is, repeatable.")
    ] = None,
    check_rules: Annotated[
        Path | None, typer.Option(parser=_path, metavar="FILE.json", help="Only say whether these rules can be used.")
    ] = None,
    list_rules: Annotated[bool, typer.Option("--list-rules", help="List the rules in force and leave.")] = False,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Print a text without personal data and secrets.

    Text comes out as soon as it can no longer change. The JSON document has `text`, `findings` (offsets in code points
    of the original), `counts` by type and `rules_version`; its text may have 8 MiB. --check-rules ends with 1 when
    a rule cannot be used.
    """
    from djp.cli import redact as command
    from djp.cli.session import execute

    if sum((check_rules is not None, list_rules, file is not None)) > 1:
        raise typer.BadParameter("FILE, --check-rules and --list-rules exclude each other; give one")
    if check_rules is not None:
        execute(lambda: command.check_rules(check_rules, gateway, as_json=as_json), as_json=as_json)
    if list_rules:
        execute(lambda: command.list_rules(gateway, as_json=as_json), as_json=as_json)
    flags = command.RedactFlags(
        file=file,
        show=show,
        strategy=strategy or "",
        strategies=tuple(strategy_for or ()),
        rules=rules,
        titles=tuple(keep_title or ()),
        gateway=gateway,
        as_json=as_json,
    )
    execute(lambda: command.redact(flags), as_json=as_json)


@app.command()
def trace(run: RunId, as_json: AsJson = False) -> None:
    """Draw a run's trace across the services, as kept in DJP_HOME."""
    from djp.cli.session import execute
    from djp.cli.trace import show_trace

    execute(lambda: show_trace(run, as_json=as_json), as_json=as_json)


@app.command()
def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", help="Artifacts, policies or presets; default: all known.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check schemas, policies, presets and stored artifacts."""
    from djp.cli.session import execute
    from djp.cli.validate import validate_files

    execute(lambda: validate_files(files or [], as_json=as_json), as_json=as_json)


@app.command()
def doctor(gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Say what is configured, what is missing, and how to mend it."""
    from djp.cli.doctor import examine
    from djp.cli.session import execute

    execute(lambda: examine(gateway, as_json=as_json), as_json=as_json)


@app.command()
def serve(
    service: Annotated[
        str,
        typer.Argument(
            metavar="SERVICE", help="all, or one of gateway, debate, judge, redaction, grounding, governance, storage."
        ),
    ],
    listen: Annotated[str | None, typer.Option(metavar="ADDRESS", help="host:port or unix:/path to listen on.")] = None,
) -> None:
    """Run one service, or the whole mesh, until SIGTERM or Ctrl-C."""
    from djp.cli.serve import run_service

    run_service(service, listen)


@app.command()
def up(
    listen: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="host:port for gRPC; default: localhost:7100.")
    ] = None,
) -> None:
    """Run the whole mesh with its REST bridge, until SIGTERM or Ctrl-C.

    REST and gRPC-Web are on localhost:7180 (DJP_REST_LISTEN), where /docs explains the API and /openapi.json is its
    document.
    """
    from djp.cli.serve import run_service

    run_service("all", listen, rest=True)


@app.command()
def version() -> None:
    """Print the version."""
    _print_version()


def _print_version() -> None:
    from djp import __version__

    print(f"djp {__version__} (Python {sys.version.split()[0]})")
