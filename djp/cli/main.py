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
from djp.cli.configuring import config_app, init
from djp.cli.corpora import corpus_app
from djp.cli.db import db_app
from djp.cli.dead_letters import dlq_app
from djp.cli.env_file import read_env_file
from djp.cli.kept_batches import batches_app
from djp.cli.kept_runs import replay_run, runs_app
from djp.cli.options import EXIT_CODES, AsJson, Gateway, RunId, a_path, examples
from djp.cli.running import batch, run
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
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={
        "token_normalize_func": lambda name: name.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
    },
)
app.command(
    epilog=examples(
        'djp run --task "How do refunds work?" --grounded-corpus ./handbook --grounded-required 2',
        "djp run --template weekly_report --inputs @inputs.json --output report.docx",
        "djp run --task @question.txt --preset thorough --dry-run",
    )
    + "\n\n"
    + EXIT_CODES
)(run)
app.command(epilog=examples("djp batch --template weekly_report --input batch.csv --output results/ --max-cost 0.50"))(
    batch
)
app.command(epilog=examples("djp init", "djp init ./settings", "djp init --server http://localhost:8000/v1"))(init)
app.add_typer(config_app, name="config")
app.add_typer(batches_app, name="batches")
app.add_typer(runs_app, name="runs")
app.command("replay", epilog=examples("djp replay --latest --dry-run", "djp replay --replay 3f2b8c1e"))(replay_run)
app.add_typer(cost_app, name="cost")
app.add_typer(budgets_app, name="budgets")
app.add_typer(corpus_app, name="corpus")
app.add_typer(storage_app, name="storage")
app.add_typer(lifecycle_app, name="lifecycle")
app.add_typer(db_app, name="db")
app.add_typer(scale_app, name="scale")
app.command(epilog=examples("djp load --profile burst --rate 4 --seconds 120 --gateway localhost:7100"))(load)
app.add_typer(templates_app, name="templates")
app.add_typer(presets_app, name="presets")
app.add_typer(policies_app, name="policies")
app.add_typer(dlq_app, name="dlq")
app.add_typer(keys_app, name="keys")


class Strategy(StrEnum):
    """What stands in the place of a finding."""

    LABEL = "label"
    MASK = "mask"
    PARTIAL = "partial"
    PSEUDONYM = "pseudonym"


def main() -> None:
    """The entry point."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core writes past our logging, straight into the progress
    forgiving_streams()
    read_env_file()
    app()


@app.callback(
    invoke_without_command=True,
    epilog=examples(
        'djp run --task "How do refunds work?" --grounded-corpus ./handbook',
        "djp runs show latest",
        "djp doctor",
        "djp --install-completion",
    ),
)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    if version:
        _print_version()
        raise typer.Exit


@app.command(epilog=examples("djp models --provider openai"))
def models(
    provider: Annotated[str | None, typer.Option(metavar="NAME", help="Only this provider's.")] = None,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """List the models that a run may name: whether they can be used now, and what they cost."""
    from djp.cli.models import list_models
    from djp.cli.session import execute

    execute(lambda: list_models(gateway, provider=provider or "", as_json=as_json), as_json=as_json)


@app.command(epilog=examples("djp redact letter.txt > clean.txt", "djp redact --check-rules rules.json"))
def redact(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A UTF-8 text; default: standard input.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Mark what was replaced, and count it.")] = False,
    strategy: Annotated[Strategy | None, typer.Option(help="What stands in the place of a finding.")] = None,
    strategy_for: Annotated[
        list[str] | None, typer.Option(metavar="TYPE=STRATEGY", help="Another one for a type, repeatable.")
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(parser=a_path, metavar="FILE.json", help="Rules beside those in force.")
    ] = None,
    keep_title: Annotated[
        list[str] | None, typer.Option(metavar="TITLE", help="Leave [TITLE] as it is, repeatable.")
    ] = None,
    check_rules: Annotated[
        Path | None, typer.Option(parser=a_path, metavar="FILE.json", help="Only say whether these rules can be used.")
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


_Share = Annotated[float, typer.Option(metavar="SHARE", min=0, max=1, help="Of the runs that it can be told of.")]


@app.command(epilog=examples("djp alerts --since 7d", "djp alerts --since 24h --threshold-advisory 0.4 --json"))
def alerts(
    since: Annotated[str, typer.Option(metavar="SPAN", help="How far back: 12h, 7d or 4w.")] = "7d",
    threshold_advisory: _Share = 0.3,
    threshold_cost: Annotated[str, typer.Option(metavar="DOLLARS", help="What a run may cost on average.")] = "0.01",
    threshold_failure: _Share = 0.2,
    threshold_grounded: _Share = 0.6,
    threshold_redacted: _Share = 0.1,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Exit with 1 if the runs of a time are not as they should be, and say in what.

    Too many advisory, failed or redacted runs, too few of the grounded ones with their citations, or too high a cost.
    What is told is also sent to the address in WEBHOOK_URL, in the form that Slack takes. The JSON document has
    `since`, `runs`, and `figures`, each with its `value`, `threshold` and `alert`.
    """
    from djp.cli.alerts import Thresholds, watch_over
    from djp.cli.session import execute

    thresholds = Thresholds(
        advisory=threshold_advisory,
        cost_usd=threshold_cost,
        failure=threshold_failure,
        grounded=threshold_grounded,
        redacted=threshold_redacted,
    )
    execute(lambda: watch_over(gateway, since, thresholds, as_json=as_json), as_json=as_json)


@app.command(epilog=examples("djp trace latest"))
def trace(run: RunId, as_json: AsJson = False) -> None:
    """Draw a run's trace across the services, as kept in DJP_HOME."""
    from djp.cli.session import execute
    from djp.cli.trace import show_trace

    execute(lambda: show_trace(run, as_json=as_json), as_json=as_json)


@app.command(epilog=examples("djp validate", "djp validate presets/quick.json"))
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


@app.command(epilog=examples("djp doctor", "djp doctor --gateway localhost:7100 --json"))
def doctor(gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Say what is configured, what is missing, and how to mend it."""
    from djp.cli.doctor import examine
    from djp.cli.session import execute

    execute(lambda: examine(gateway, as_json=as_json), as_json=as_json)


@app.command(epilog=examples("djp serve all", "djp serve debate --listen localhost:7101"))
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


@app.command(epilog=examples("djp up"))
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


@app.command(epilog=examples("djp dashboard --gateway localhost:7100", "djp dashboard --port 8600"))
def dashboard(
    port: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=65535, help="On localhost; default: 8501, or the next free one."),
    ] = None,
    gateway: Gateway = None,
) -> None:
    """Show runs, costs, approvals, workers and more in a browser, until Ctrl-C.

    Whoever may open localhost on this machine acts there with the key in DJP_API_KEY. While it has a mesh of its own,
    no other command may use the data folder: with `djp up` and --gateway all of them can.
    """
    from djp.cli.dashboard import serve_dashboard
    from djp.cli.session import execute

    execute(lambda: serve_dashboard(gateway, port))


@app.command(epilog=examples("djp version"))
def version() -> None:
    """Print the version."""
    _print_version()


def _print_version() -> None:
    from djp import __version__

    print(f"djp {__version__} (Python {sys.version.split()[0]})")
