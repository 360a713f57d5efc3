"""`djp corpus`: made from a folder, looked into, searched, checked against, rolled back and deleted."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from djp.cli import corpus as command
from djp.cli.corpora import corpus_app
from djp.mesh.errors import InvalidInput, NotFound
from djp.mesh.server import MeshServer
from djp_grounding.server import open_service
from djp_grounding.settings import GroundingSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def grounding(tmp_path: Path, short_folder: Path) -> AsyncIterator[str]:
    """The address of a grounding service with nothing in it."""
    async with (
        open_service(GroundingSettings(data_dir=tmp_path / "data", source=str(tmp_path / "source"))) as service,
        MeshServer(service, f"unix:{short_folder}/grounding.sock") as server,
    ):
        yield server.address


@pytest.fixture
def handbook(tmp_path: Path) -> Path:
    folder = tmp_path / "handbook"
    folder.mkdir()
    (folder / "refunds.md").write_text("# Refunds\n\nRefunds are paid within ten working days to the same card.")
    (folder / "evil.md").write_text("# Evil \x1b[31m title\n\nNothing about money.")
    (folder / "photo.jpg").write_bytes(b"\xff")
    return folder


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


async def test_a_corpus_from_its_folder_to_its_end(
    grounding: str, handbook: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await command.add_corpus(grounding, handbook, "", as_json=False) == 0
    told = said(capsys)
    assert told.startswith("handbook-")
    assert "2 documents, 2 passages" in told
    assert "skipped photo.jpg: type '.jpg' is not supported" in told
    name = told.partition(":")[0]

    await command.add_corpus(grounding, handbook, "", as_json=True)
    assert json.loads(said(capsys))["reused"] is True
    (handbook / "refunds.md").write_text("# Refunds\n\nRefunds are paid within twenty working days to the same card.")
    await command.add_corpus(grounding, handbook, "", as_json=False)
    said(capsys)

    for given in (name, str(handbook)):
        assert await command.list_versions(grounding, given, as_json=True) == 0
        versions = json.loads(said(capsys))["versions"]
        assert [one["current"] for one in versions] == [True, False]
    await command.rollback(grounding, str(handbook), versions[1]["version"], as_json=False)
    assert versions[1]["version"] in said(capsys)

    assert await command.show_stats(grounding, str(handbook), "", as_json=False) == 0
    told = said(capsys)
    assert "Refunds" in told
    assert "refunds.md" in told
    assert "\x1b[31m" not in told
    assert "skipped photo.jpg" in told

    await command.list_corpora(grounding, as_json=False)
    assert name in said(capsys)
    assert await command.delete(grounding, name, as_json=False) == 0
    said(capsys)
    await command.list_corpora(grounding, as_json=False)
    assert "djp corpus add FOLDER" in said(capsys)


async def test_a_corpus_from_a_prefix_that_the_service_reads(
    grounding: str, handbook: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await asyncio.to_thread(shutil.copytree, handbook, tmp_path / "source" / "default" / "handbook")
    assert await command.import_corpus(grounding, "handbook", "books", as_json=False) == 0
    told = said(capsys)
    assert told.startswith("books: 2 documents")
    assert "skipped photo.jpg" in told
    await command.import_corpus(grounding, "handbook/", "books", as_json=True)
    assert json.loads(said(capsys))["reused"] is True
    with pytest.raises(InvalidInput, match="prefix: there is no folder"):
        await command.import_corpus(grounding, "books", "books", as_json=False)


async def test_titles_that_change_with_a_new_file_have_their_files_sent_again(
    grounding: str, handbook: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b", "c"):
        (handbook / f"{name}.md").write_text(f"# Same\n\nthe text of {name}")
    await command.add_corpus(grounding, handbook, "books", as_json=False)
    (handbook / "a.md").write_text("# Same\n\nthe text of a")
    await command.add_corpus(grounding, handbook, "books", as_json=False)
    said(capsys)
    await command.show_stats(grounding, "books", "", as_json=True)
    titles = {one["path"]: one["title"] for one in json.loads(said(capsys))["documents"]}
    assert [titles[f"{name}.md"] for name in "abc"] == ["Same", "Same (2)", "Same (3)"]


@pytest.mark.parametrize("given", [(), ("docs", "--from-prefix", "x", "--name", "n"), ("--from-prefix", "x")])
def test_a_folder_or_a_prefix_with_a_name(given: tuple[str, ...]) -> None:
    ended = CliRunner().invoke(corpus_app, ["add", *given])
    assert ended.exit_code == 2
    assert "--from-prefix" in ended.output


async def test_a_search_shows_passages_with_their_documents(
    grounding: str, handbook: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await command.add_corpus(grounding, handbook, "handbook", as_json=False)
    said(capsys)
    options: dict[str, Any] = {"top_k": 5, "per_document": 1, "version": ""}
    assert await command.search(grounding, "handbook", "when are refunds paid?", **options, as_json=False) == 0
    told = said(capsys)
    assert told.startswith("1. [Refunds]")
    assert "within ten working days" in told
    await command.search(grounding, "handbook", "(((", **options, as_json=False)
    assert "Nothing found" in said(capsys)
    await command.search(grounding, "handbook", "refunds", **options, as_json=True)
    assert json.loads(said(capsys))["passages"][0]["path"] == "refunds.md"


async def test_a_text_is_checked_citation_by_citation(
    grounding: str, handbook: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await command.add_corpus(grounding, handbook, "handbook", as_json=False)
    said(capsys)
    file = tmp_path / "draft.md"
    file.write_text("Refunds are paid within ten days [Refunds].\n\nKings live on the moon [refund]. So [Dragons\x07].")
    assert await command.check_file(grounding, "handbook", file, "", as_json=False) == 1
    lines = said(capsys).splitlines()
    assert lines[0].startswith("1:34 resolved 1.00 [Refunds]")
    assert lines[1].startswith("3:24 unsupported 0.00 [refund] = Refunds: ")
    assert lines[2].startswith("3:37 unresolved [Dragons␇]: ")
    assert lines[3] == "1 of 3 citations hold, of 1 document"
    file.write_text("Refunds are paid within ten days [Refunds].")
    assert await command.check_file(grounding, "handbook", file, "", as_json=True) == 0
    assert json.loads(said(capsys))["resolved_documents"] == 1
    file.write_text("Nothing.")
    assert await command.check_file(grounding, "handbook", file, "", as_json=False) == 0
    assert "no citation" in said(capsys)


async def test_what_is_refused_says_how_to_mend_it(grounding: str, handbook: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"top_k": 5, "per_document": 0, "version": "", "as_json": False}
    with pytest.raises(NotFound, match="'nope' does not exist; add it") as refused:
        await command.search(grounding, "nope", "x", **options)
    assert not refused.value.violations
    with pytest.raises(NotFound, match="no corpus was made from the folder"):
        await command.search(grounding, str(handbook), "x", **options)
    with pytest.raises(InvalidInput, match="UPPER"):
        await command.search(grounding, "UPPER", "x", **options)
    with pytest.raises(InvalidInput, match="does not exist"):
        await command.add_corpus(grounding, tmp_path / "none", "", as_json=False)
    file = tmp_path / "draft.md"
    for content, reason in ((b"\xff", "not UTF-8"), (b"x" * (4 * 2**20 + 1), "4 MiB")):
        file.write_bytes(content)
        with pytest.raises(InvalidInput, match=reason):
            await command.check_file(grounding, "nope", file, "", as_json=False)
