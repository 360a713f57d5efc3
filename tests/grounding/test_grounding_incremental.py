"""A new version takes over what did not change: read, cut and indexed are only the files that did."""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from djp_grounding import build as build_module
from djp_grounding.extract import extract
from djp_grounding.index import index_digest
from djp_grounding.texts import text_files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the files that were read since the list was emptied."""
    paths: list[str] = []

    def counted(path: str, *rest: Any) -> Any:
        paths.append(path)
        return extract(path, *rest)

    monkeypatch.setattr(build_module, "extract", counted)
    return paths


def notes(count: int = 20) -> dict[str, str]:
    return {f"{number:02}.md": f"# Note {number}\n\nAbout subject{number} and whales." for number in range(count)}


def test_only_what_changed_is_read(library: Any, read: list[str]) -> None:
    files = notes()
    library.add(files)
    assert len(read) == 20
    read.clear()
    files["03.md"] = "# Note 3\n\nNow about lions."
    del files["07.md"]
    files["new.md"] = "# New\n\nAbout tigers."
    changed = library.add(files).version
    assert read == ["03.md", "new.md"]
    assert (changed.documents, changed.passages) == (20, 20)
    assert library.found("lions") == ["Note 3"]
    assert library.found("subject3") == []
    assert library.found("subject7") == []
    assert library.found("tigers") == ["New"]
    assert library.found("subject19") == ["Note 19"]
    assert len(library.found("whales", top_k=50)) == 18


def test_the_version_before_is_left_as_it_was(library: Any) -> None:
    first = library.add(notes()).version.version
    folder: Path = library.folder / first / "index"
    digest = index_digest(folder)
    for number in range(4):
        made = library.add({**notes(), "00.md": f"# Note 0\n\nedition{number}"}).version.version
        assert len(text_files(library.folder / made / "index")) <= 4
    assert index_digest(folder) == digest
    assert library.found("subject0", version=first) == ["Note 0"]
    assert library.found("edition3") == ["Note 0"]
    assert library.found("edition2") == []


def test_a_title_that_another_file_takes_over_changes(library: Any, read: list[str]) -> None:
    files = {f"{number:02}.md": f"# Plan\n\nAbout subject{number}." for number in range(1, 12)}
    library.add(files)
    assert library.titles()["02.md"] == "Plan (2)"
    del files["01.md"]
    read.clear()
    library.add(files)
    assert library.titles()["02.md"] == "Plan"
    assert library.found("subject2") == ["Plan"]
    assert sorted(set(library.titles().values())) == sorted(["Plan", *(f"Plan ({number})" for number in range(2, 11))])


def test_what_is_mostly_new_is_built_anew(library: Any, read: list[str]) -> None:
    library.add(notes())
    read.clear()
    files = {path: text if path < "15" else f"{text} More." for path, text in notes().items()}
    library.add(files)
    assert len(read) == 20, "a quarter of it would be stale"


def test_a_damaged_version_is_no_base(library: Any, read: list[str]) -> None:
    first = library.add(notes()).version.version
    for file in (library.folder / first / "index").iterdir():
        file.write_bytes(b"damaged")
    read.clear()
    library.add({**notes(), "00.md": "# Note 0\n\nlions"})
    assert len(read) == 20
    assert library.found("lions") == ["Note 0"]


def test_another_extractor_reads_everything_again(
    library: Any, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add(notes())
    monkeypatch.setattr("djp_grounding.manifest.EXTRACTOR_VERSION", 999)
    read.clear()
    library.add({**notes(), "00.md": "# Note 0\n\nlions"})
    assert len(read) == 20


def test_many_small_changes_find_what_a_whole_build_finds(library: Any) -> None:
    rng = random.Random(7)
    words = [f"word{number}" for number in range(60)]
    files: dict[str, str] = {}
    for step in range(25):
        for _ in range(rng.randrange(1, 4)):
            path = f"{rng.randrange(25):02}.md"
            if path in files and rng.random() < 0.3:
                del files[path]
            else:
                files[path] = f"# Title {rng.randrange(8)}\n\n" + " ".join(rng.choices(words, k=20))
        if not files:
            continue
        made = library.add(files).version
        whole = library.add(files, corpus=f"whole{step}").version
        assert made.version == whole.version
        assert library.titles() == library.titles(f"whole{step}")
        query = " ".join(rng.choices(words, k=2))
        found = {(hit.document.path, hit.passage.text) for hit in library.search(query, top_k=100)}
        assert found == {
            (hit.document.path, hit.passage.text) for hit in library.search(query, f"whole{step}", top_k=100)
        }
        library.corpora.delete("acme", f"whole{step}", str(uuid.uuid4()))


def test_pdf_files_that_did_not_change_start_no_process(
    library: Any, pdf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: dict[str, Any] = {f"{number}.pdf": pdf(f"Report {number} about whales") for number in range(6)}
    library.add(files)
    monkeypatch.setattr("djp_grounding.pdf.PdfWorker._start", lambda _self: pytest.fail("a process was started"))
    library.add({**files, "a.md": "lions"})
    assert library.found("lions") == ["a"]
    assert len(library.search("whales", top_k=50)) == 6
