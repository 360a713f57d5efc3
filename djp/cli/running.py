"""`djp run` and `djp batch`: their options. What they do is imported when they are called."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  Typer reads the types
from typing import Annotated

import typer

from djp.cli.flags import RunFlags
from djp.cli.options import AsJson, Gateway, Redact, Verbose, a_path, policy_names, preset_names, template_names


def run(
    task: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The task; @FILE reads it, - is standard input.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A template that makes the task; see `djp templates list`.",
            autocompletion=template_names,
        ),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="The template's inputs; @FILE reads JSON or YAML, - is standard input."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A named set of settings; flags win over it.", autocompletion=preset_names),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which models may publish.", autocompletion=policy_names)
    ] = None,
    grounded_corpus: Annotated[
        Path | None,
        typer.Option(parser=a_path, metavar="DIR", help="Folder of .md, .txt and .pdf files to answer from."),
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
        Path | None, typer.Option(parser=a_path, metavar="FILE.json", help="Rules of redaction beside those in force.")
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
        typer.Option(parser=a_path, metavar="FILE", help="Write the text there, too: a .md, .html or .docx file."),
    ] = None,
    metrics: Annotated[
        Path | None, typer.Option(parser=a_path, metavar="FILE.csv", help="Append a row about the run.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it can cost at most.")] = False,
    list_presets: Annotated[bool, typer.Option("--list-presets", help="List the presets and leave.")] = False,
    gateway: Gateway = None,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Show the drafts while they are written, redacted; with --json a line an event."),
    ] = False,
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
        stream=stream,
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


def batch(
    source: Annotated[
        Path,
        typer.Option("--input", parser=a_path, metavar="FILE.csv", help="A row a run; a heading names the columns."),
    ],
    output: Annotated[Path, typer.Option(parser=a_path, metavar="DIR", help="Where texts and summary.csv go.")],
    template: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Columns are its inputs; without one there is a single column, task.",
            autocompletion=template_names,
        ),
    ] = "",
    max_cost: Annotated[
        str | None, typer.Option(metavar="DOLLARS", help="Take no further row when this could be passed.")
    ] = None,
    concurrency: Annotated[int, typer.Option(metavar="N", min=1, max=100, help="Rows that run at once.")] = 3,
    batch_id: Annotated[
        str, typer.Option(metavar="NAME", help="To go on with later; default: from what the rows ask for.")
    ] = "",
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="A named set of settings.", autocompletion=preset_names)
    ] = "",
    policy: Annotated[
        str, typer.Option(metavar="NAME", help="Which models may publish.", autocompletion=policy_names)
    ] = "",
    grounded_corpus: Annotated[
        Path | None, typer.Option(parser=a_path, metavar="DIR", help="Folder of documents that all rows answer from.")
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
    from djp.cli.batch_rows import BatchFlags
    from djp.cli.session import execute

    flags = BatchFlags(
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
