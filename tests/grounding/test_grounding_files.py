"""What becomes of the files given: which are used, and the reason for each that is left out."""

from __future__ import annotations

from typing import Any

import pytest

from djp.mesh.errors import InvalidInput
from djp_grounding.extract import unsafe_path
from djp_grounding.limits import Limits


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b" \n\t\r\n", "empty: white space only"),
        (b"\xef\xbb\xbf", "empty: white space only"),
        (b"---\ntitle: only this\n---\n\n", "empty: front matter only"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "binary: it holds NUL bytes"),
        (b"caf\xe9", "not UTF-8 (byte 3 is wrong): save it as UTF-8"),
        (b"\xed\xa0\x80", "not UTF-8 (byte 0 is wrong): save it as UTF-8"),
        ("text".encode("utf-16"), "UTF-16 or UTF-32 text: save it as UTF-8"),
        ("text".encode("utf-32"), "UTF-16 or UTF-32 text: save it as UTF-8"),
    ],
)
def test_unusable_contents(library: Any, content: bytes, reason: str) -> None:
    created = library.add({"bad.md": content, "good.md": "text"})
    assert {one.path: one.reason for one in created.skipped} == {"bad.md": reason}
    assert library.titles() == {"good.md": "good"}


def test_line_ends_and_byte_order_marks_make_no_difference(library: Any) -> None:
    library.add({"a.md": b"\xef\xbb\xbf# Title\r\n\r\nOne\rTwo\n"})
    assert library.titles() == {"a.md": "Title"}
    assert library.search("two")[0].passage.text == "# Title\n\nOne\nTwo"


@pytest.mark.parametrize("path", ["a.exe", "README", "a.md.zip", "a.docx"])
def test_other_types(library: Any, path: str) -> None:
    created = library.add({path: "text", "good.md": "text"})
    assert "only .md, .txt, .pdf are read" in created.skipped[0].reason


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd.md", "../a.md", "a/../../b.md", "a/..", "..\\a.md", "a\0.md", "a\nb.md", "a\u2028.md", " ", ""],
)
def test_paths_that_no_corpus_has(path: str) -> None:
    assert unsafe_path(path)


@pytest.mark.parametrize("path", ["a.md", "…/ü n/ö.md", "a..b.md", "caf\\xe9.md", "a/.../b.md", "😀.md"])
def test_paths_that_one_may_have(path: str) -> None:
    assert unsafe_path(path) == ""


def test_a_path_sent_twice_counts_once(library: Any) -> None:
    with library.corpora.intake() as intake:
        intake.add_all([("a.md", b"first"), ("a.md", b"second"), ("b.md", b"third")])
        assert [one.reason for one in intake.skipped()] == ["sent twice: only the first one counts"]
        assert list(map(intake.read, intake.files())) == [b"first", b"third"]


def test_a_file_over_the_limit_leaves_the_others_whole(make_library: Any) -> None:
    library = make_library(Limits(file_bytes=1_000))
    with library.corpora.intake() as intake:
        intake.begin("a.md")
        for _ in range(10):
            intake.write(b"x" * 300)
        intake.begin("b.md")
        intake.write(b"good")
        intake.finish()
        assert [(one.path, one.reason) for one in intake.skipped()] == [("a.md", "larger than 1000 bytes: split it")]
        assert list(map(intake.read, intake.files())) == [b"good"]


def test_a_corpus_over_its_limits_leaves_out_what_comes_last(make_library: Any) -> None:
    library = make_library(Limits(corpus_bytes=1_000, files=3))
    created = library.add({"a.md": "x" * 900, "b.md": "y" * 200, "c.md": "z", "d.md": "z", "e.md": "z"})
    assert created.version.documents == 3
    assert {one.path: one.reason for one in created.skipped} == {
        "b.md": "the corpus is full: its files exceed 1000 bytes",
        "e.md": "the corpus is full: it holds 3 files",
    }


def test_a_corpus_beyond_memory_spills_to_disk(library: Any) -> None:
    block = ("spill " * 200_000).encode()
    with library.corpora.intake() as intake:
        intake.add_all((f"{number}.txt", block) for number in range(20))
        assert [content == block for content in map(intake.read, intake.files())] == [True] * 20
    assert list(library.corpora.data_dir.iterdir()) == []


def test_nothing_usable_lists_the_first_reasons(library: Any) -> None:
    files = {f"{number}.md": b"\0" for number in range(9)}
    with pytest.raises(InvalidInput) as refused:
        library.add(files, skipped=[("photo.jpg", "type '.jpg' is not supported")])
    assert refused.value.reason == "CORPUS_EMPTY"
    assert refused.value.field == "corpus"
    assert "0.md: binary: it holds NUL bytes; 1.md: " in refused.value.message
    assert refused.value.message.endswith("; and 5 more")
    with pytest.raises(InvalidInput, match="no file was given"):
        library.add({})
    assert not library.folder.exists()


def test_a_flood_of_skipped_files_is_counted(library: Any) -> None:
    created = library.add({"a.md": "text"}, skipped=[(f"{number}/" + "x" * 100, "why") for number in range(10_000)])
    assert len(created.skipped) < 2_100
    assert created.skipped[-1].path == ""
    assert created.skipped[-1].reason == f"and {10_000 - len(created.skipped) + 1} more files"


def test_ten_thousand_small_files(library: Any) -> None:
    files = {f"{number % 100}/{number}.md": f"# Note {number}\n\nspecial{number} words" for number in range(10_000)}
    assert library.add(files).version.documents == 10_000
    assert library.found("special7777") == ["Note 7777"]
    assert library.resolved("[Note 1234]") == ["34/1234.md"]
    assert library.add(files).reused is True
