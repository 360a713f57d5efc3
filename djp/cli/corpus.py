"""What `djp corpus` does: corpora made from folders, looked into, searched, checked against, rolled back, deleted."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from djp.cli.bars import transfer_bar
from djp.cli.documents import corpus_document, document
from djp.cli.exits import Exit
from djp.cli.session import connected
from djp.cli.tables import Column, print_table
from djp.cli.terminal import clean, one_line, out, say
from djp.client import corpus_name
from djp.mesh.errors import InvalidInput, NotFound
from djp.v1 import common_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from djp.client import Corpus, DjpClient
    from djp.v1 import grounding_pb2

MAX_CHECKED_BYTES = 4 * 2**20
"""The contract's limit for `VerifyCitationsRequest.text`."""

_SKIPPED_SHOWN = 20


async def add_corpus(gateway: str | None, folder: Path, name: str, *, as_json: bool) -> int:
    """Send a folder and say what became of it."""
    async with connected(gateway) as client:
        with transfer_bar("sending", then="building", silent=as_json) as sent:
            corpus = await client.create_corpus(folder, name=name, sent=sent)
    return _say_made(corpus, as_json=as_json)


async def import_corpus(gateway: str | None, prefix: str, name: str, *, as_json: bool) -> int:
    """Have a prefix read and say what became of it."""
    async with connected(gateway) as client:
        corpus = await client.import_corpus(prefix, name=name)
    return _say_made(corpus, as_json=as_json)


def _say_made(corpus: Corpus, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(corpus_document(corpus), indent=2))
        return Exit.OK
    known = ", known already" if corpus.reused else ""
    say(
        f"{corpus.name}: {_count(corpus.documents, 'document')}, {_count(corpus.passages, 'passage')}, "
        f"version {corpus.version}{known}"
    )
    _say_skipped((one.path, one.reason) for one in corpus.skipped)
    return Exit.OK


async def list_corpora(gateway: str | None, *, as_json: bool) -> int:
    """Print all corpora."""
    async with connected(gateway) as client:
        found = await client.corpora.list()
    if as_json:
        print(json.dumps({"corpora": [document(one) for one in found]}, indent=2))
    elif found:
        _print_versions("corpus", [one.corpus for one in found], found)
    else:
        say("There are no corpora; make one with: djp corpus add FOLDER")
    return Exit.OK


async def list_versions(gateway: str | None, corpus: str, *, as_json: bool) -> int:
    """Print the versions of a corpus."""
    async with _named(gateway, corpus) as (client, name):
        found = await client.corpora.versions(name)
    if as_json:
        print(json.dumps({"versions": [document(one) for one in found]}, indent=2))
    else:
        _print_versions("", ["current" if one.current else "" for one in found], found)
    return Exit.OK


async def show_stats(gateway: str | None, corpus: str, version: str, *, as_json: bool) -> int:
    """Print what a version holds."""
    async with _named(gateway, corpus) as (client, name):
        found = await client.corpora.get(name, version)
    if as_json:
        print(json.dumps(document(found), indent=2))
        return Exit.OK
    told = found.version
    say(
        f"{told.corpus}, version {told.version}{'' if told.current else ' (not current)'}: "
        f"{_count(told.documents, 'document')}, {_count(told.passages, 'passage')}, {told.bytes:,} bytes"
    )
    print_table(
        Column("title", [one.title for one in found.documents]),
        Column("passages", [f"{one.passages:,}" for one in found.documents], rank=1),
        Column("pages", [f"{one.pages:,}" if one.pages else "" for one in found.documents], rank=2),
        Column("bytes", [f"{one.bytes:,}" for one in found.documents], rank=3),
        Column("path", [one_line(one.path, 60) for one in found.documents], rank=4, align="left"),
    )
    _say_skipped((one.path, one.reason) for one in found.skipped)
    return Exit.OK


async def search(
    gateway: str | None, corpus: str, query: str, *, top_k: int, per_document: int, version: str, as_json: bool
) -> int:
    """Print the best passages with their documents."""
    async with _named(gateway, corpus) as (client, name):
        found = await client.corpora.search(name, query, top_k=top_k, per_document=per_document, version=version)
    if as_json:
        print(json.dumps(document(found), indent=2))
        return Exit.OK
    for number, passage in enumerate(found.passages, start=1):
        page = f", page {passage.page}" if passage.page else ""
        head = Text(f"{number}. [{one_line(passage.title)}]", style="bold")
        say(head.append(f"  {passage.score:.2f}  {one_line(passage.path)}{page}", style="not bold dim"))
        say("   " + one_line(passage.text, 400))
    if not found.passages:
        say("Nothing found: no document has a word of the query (words such as 'the' or 'how' do not count).")
    return Exit.OK


async def rollback(gateway: str | None, corpus: str, version: str, *, as_json: bool) -> int:
    """Make a version current."""
    async with _named(gateway, corpus) as (client, name):
        told = await client.corpora.rollback(name, version)
    if as_json:
        print(json.dumps(document(told), indent=2))
    else:
        say(f"{told.corpus}: version {told.version} is current, {_count(told.documents, 'document')}")
    return Exit.OK


async def delete(gateway: str | None, corpus: str, *, as_json: bool) -> int:
    """Delete a corpus."""
    async with _named(gateway, corpus) as (client, name):
        await client.corpora.delete(name)
    if as_json:
        print(json.dumps({"deleted": name}))
    else:
        say(f"{name}: deleted")
    return Exit.OK


async def check_file(gateway: str | None, corpus: str, file: Path, version: str, *, as_json: bool) -> int:
    """Print how every citation of a text fared; PROBLEM unless all hold."""
    text = await asyncio.to_thread(_read, file)
    async with _named(gateway, corpus) as (client, name):
        found = await client.corpora.check(name, text, version)
    held = [one.status == common_pb2.CITATION_STATUS_RESOLVED for one in found.citations]
    if as_json:
        print(json.dumps(document(found), indent=2))
    else:
        for good, citation in zip(held, found.citations, strict=True):
            say(Text(_told(text, citation), style="" if good else "red"))
        say(
            f"{sum(held)} of {_count(len(held), 'citation')} hold, of {_count(found.resolved_documents, 'document')}"
            if held
            else "The text has no citation: a document is cited by its title in square brackets."
        )
    return Exit.OK if all(held) else Exit.PROBLEM


@asynccontextmanager
async def _named(gateway: str | None, given: str) -> AsyncIterator[tuple[DjpClient, str]]:
    """A client, and the name of a corpus: as given, or that of the folder given."""
    made = await asyncio.to_thread(_name_of_folder, given)
    try:
        async with connected(gateway) as client:
            try:
                if made:
                    await client.corpora.versions(made)
            except NotFound:
                if "/" in given:
                    told = f"no corpus was made from the folder {one_line(given)}; make it with: djp corpus add"
                    raise NotFound(told) from None
                made = ""  # a corpus may have the name of a folder that is here by chance
            yield client, made or given
    except (InvalidInput, NotFound) as error:  # its fields have other names in `djp run`
        raise type(error)(error.message, reason=error.reason) from error


def _name_of_folder(given: str) -> str:
    folder = Path(given)
    return corpus_name(folder.resolve()) if given and folder.is_dir() else ""


def _read(file: Path) -> str:
    try:
        source = sys.stdin.buffer if str(file) == "-" else file.open("rb")
        with source:
            content = source.read(MAX_CHECKED_BYTES + 1)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"FILE: not UTF-8 (byte {error.start} is wrong); save it as UTF-8", field="FILE") from None
    except OSError as error:
        raise InvalidInput(f"FILE: {file} cannot be read ({error.strerror}); check the path", field="FILE") from None
    if len(content) > MAX_CHECKED_BYTES:
        raise InvalidInput("FILE: larger than 4 MiB; check it in parts", field="FILE")
    return text


def _told(text: str, citation: common_pb2.Citation) -> str:
    line = text.count("\n", 0, citation.start) + 1
    column = citation.start - text.rfind("\n", 0, citation.start)
    status = common_pb2.CitationStatus.Name(citation.status).removeprefix("CITATION_STATUS_").lower()
    support = f" {citation.support:.2f}" if citation.HasField("support") else ""
    named = f" = {citation.title}" if citation.title and citation.title != citation.text else ""
    reason = f": {citation.reason}" if citation.reason else ""
    return one_line(f"{line}:{column} {status}{support} [{clean(citation.text)}]{named}{reason}")


def _print_versions(heading: str, names: Sequence[str], found: Sequence[grounding_pb2.CorpusVersion]) -> None:
    print_table(
        Column(heading, names),
        Column("version", [one.version for one in found], align="left"),
        Column("documents", [f"{one.documents:,}" for one in found], rank=1),
        Column("passages", [f"{one.passages:,}" for one in found], rank=2),
        Column("bytes", [f"{one.bytes:,}" for one in found], rank=4),
        Column("built (UTC)", [one.created_at.ToDatetime().strftime("%Y-%m-%d %H:%M") for one in found], rank=3),
    )


def _say_skipped(skipped: Iterable[tuple[str, str]]) -> None:
    told = list(skipped)
    for path, reason in told[:_SKIPPED_SHOWN]:
        out().print(Text(f"skipped {one_line(path, 200)}: {one_line(reason, 200)}", style="yellow"), soft_wrap=True)
    if len(told) > _SKIPPED_SHOWN:
        say(f"and {len(told) - _SKIPPED_SHOWN} more skipped; --json lists them all", "yellow")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
