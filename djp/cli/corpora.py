"""`djp corpus`: its subcommands with their options. What they do is imported when they are called."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  Typer reads the types
from typing import Annotated

import typer

from djp.cli.options import AsJson, Gateway, examples

corpus_app = typer.Typer(
    help="Look after corpora: the documents that runs are grounded in.", no_args_is_help=True, rich_markup_mode=None
)

_Corpus = Annotated[str, typer.Argument(metavar="CORPUS", help="A corpus's name, or the folder it was made from.")]
_Version = Annotated[str, typer.Option(metavar="VERSION", help="Default: the current one.")]


@corpus_app.command(epilog=examples("djp corpus add ./handbook", "djp corpus add ./handbook --name handbook"))
def add(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Its .md, .txt and .pdf files, at any depth.")
    ] = None,
    from_prefix: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX", help="Instead of FOLDER: a folder of the store that the service reads; needs --name."
        ),
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Default: made from the folder's path.")] = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Make a corpus from a folder, or a new version of it. Files that did not change are neither sent nor read again.

    The JSON document has `name`, `version`, `documents`, `passages`, `reused` (the same files were there already) and
    `skipped` (every file that was left out, with its reason).
    """
    from djp.cli.corpus import add_corpus, import_corpus
    from djp.cli.session import execute

    if (folder is None) == (from_prefix is None):
        raise typer.BadParameter("give either FOLDER or --from-prefix PREFIX")
    if from_prefix is not None:
        if not name:
            raise typer.BadParameter("--from-prefix needs the corpus's --name")
        execute(lambda: import_corpus(gateway, from_prefix, name, as_json=as_json), as_json=as_json)
    elif folder is not None:
        execute(lambda: add_corpus(gateway, folder, name, as_json=as_json), as_json=as_json)


@corpus_app.command("list", epilog=examples("djp corpus list"))
def list_corpora(gateway: Gateway = None, as_json: AsJson = False) -> None:
    """List corpora with their current versions."""
    from djp.cli.corpus import list_corpora
    from djp.cli.session import execute

    execute(lambda: list_corpora(gateway, as_json=as_json), as_json=as_json)


@corpus_app.command(epilog=examples("djp corpus stats ./handbook"))
def stats(corpus: _Corpus, version: _Version = "", gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Show what a corpus holds: its documents with their titles, and the files left out with the reasons."""
    from djp.cli.corpus import show_stats
    from djp.cli.session import execute

    execute(lambda: show_stats(gateway, corpus, version, as_json=as_json), as_json=as_json)


@corpus_app.command(epilog=examples('djp corpus search ./handbook "How do refunds work?" --top 3'))
def search(
    corpus: _Corpus,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Words or a question; it has no operators.")],
    top_k: Annotated[int, typer.Option("--top", metavar="N", min=1, max=100, help="How many passages.")] = 5,
    per_document: Annotated[
        int, typer.Option(metavar="N", min=0, max=100, help="Of one document at most so many; 0: no limit.")
    ] = 0,
    version: _Version = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Print the passages that answer a question best."""
    from djp.cli.corpus import search
    from djp.cli.session import execute

    execute(
        lambda: search(
            gateway, corpus, query, top_k=top_k, per_document=per_document, version=version, as_json=as_json
        ),
        as_json=as_json,
    )


@corpus_app.command(epilog=examples("djp corpus versions handbook"))
def versions(corpus: _Corpus, gateway: Gateway = None, as_json: AsJson = False) -> None:
    """List the versions of a corpus, the newest first."""
    from djp.cli.corpus import list_versions
    from djp.cli.session import execute

    execute(lambda: list_versions(gateway, corpus, as_json=as_json), as_json=as_json)


@corpus_app.command(epilog=examples("djp corpus rollback handbook 20260301T100000-3f2b8c1e"))
def rollback(
    corpus: _Corpus,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="As `djp corpus versions` lists it.")],
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Make an earlier version of a corpus the current one."""
    from djp.cli.corpus import rollback
    from djp.cli.session import execute

    execute(lambda: rollback(gateway, corpus, version, as_json=as_json), as_json=as_json)


@corpus_app.command(epilog=examples("djp corpus delete handbook"))
def delete(corpus: _Corpus, gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Delete a corpus with all its versions. The folder it was made from is left alone."""
    from djp.cli.corpus import delete
    from djp.cli.session import execute

    execute(lambda: delete(gateway, corpus, as_json=as_json), as_json=as_json)


@corpus_app.command(epilog=examples("djp corpus check ./handbook answer.md"))
def check(
    corpus: _Corpus,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A UTF-8 text with [Title] citations; - reads a pipe.")],
    version: _Version = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Check every [Title] in a text: whether the document exists, and whether it says what the text says.

    Ends with 1 when a citation does not hold.
    """
    from djp.cli.corpus import check_file
    from djp.cli.session import execute

    execute(lambda: check_file(gateway, corpus, file, version, as_json=as_json), as_json=as_json)
