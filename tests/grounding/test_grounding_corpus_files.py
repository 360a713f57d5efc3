"""The folder a corpus is made from: what is sent, what is left out and why, and that no walk leaves it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from djp import corpus_files
from djp.corpus_files import MAX_DEPTH, MAX_FILE_BYTES, CorpusFile, SkippedFile, iter_corpus_files, printable
from djp.mesh.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path


def sent(folder: Path) -> dict[str, bytes]:
    return {one.path: one.read() for one in iter_corpus_files(folder) if isinstance(one, CorpusFile)}


def left_out(folder: Path) -> dict[str, str]:
    return {one.path: one.reason for one in iter_corpus_files(folder) if isinstance(one, SkippedFile)}


def test_files_of_a_folder_and_below_in_order(tmp_path: Path) -> None:
    for path in ("b.md", "a/z.txt", "a/deep/er/x.PDF", "c.md"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    assert list(sent(tmp_path)) == ["a/deep/er/x.PDF", "a/z.txt", "b.md", "c.md"]
    assert sent(tmp_path)["a/z.txt"] == b"a/z.txt"
    assert left_out(tmp_path) == {}


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.md").touch()
    (tmp_path / "photo.jpg").write_bytes(b"x")
    (tmp_path / "README").write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "inside.md").write_text("x")
    (tmp_path / ".hidden.md").write_text("x")
    os.mkfifo(tmp_path / "pipe.md")
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert left_out(tmp_path) == {
        ".git": "hidden: its name starts with a dot",
        ".hidden.md": "hidden: its name starts with a dot",
        "README": "a name without a type is not supported: only .md, .txt, .pdf are read",
        "empty.md": "empty",
        "huge.txt": "larger than 32 MiB: split it",
        "photo.jpg": "type '.jpg' is not supported: only .md, .txt, .pdf are read",
        "pipe.md": "not a regular file",
    }
    assert sent(tmp_path) == {}


def test_links(tmp_path: Path) -> None:
    (tmp_path / "outside.md").write_text("secret")
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "real.md").write_text("text")
    for name, target in {
        "sub/to-real.md": "../real.md",
        "out.md": "../outside.md",
        "passwd.txt": "/etc/passwd",
        "up": "..",
        "sub/cycle": "../sub",
        "self.md": "self.md",
        "nowhere.md": "missing",
    }.items():
        (root / name).symlink_to(target)
    assert sent(root) == {"real.md": b"text", "sub/to-real.md": b"text"}
    reasons = left_out(root)
    assert reasons["out.md"] == reasons["passwd.txt"] == reasons["up"] == "symbolic link out of the folder"
    assert reasons["sub/cycle"] == "symbolic link to a folder"
    assert reasons["self.md"].startswith("cannot be read: ")
    assert reasons["nowhere.md"] == "cannot be read: No such file or directory"


def test_a_link_to_the_folder_itself_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.md").write_text("text")
    (tmp_path / "link").symlink_to("real")
    assert sent(tmp_path / "link") == {"a.md": b"text"}


def test_deep_nesting_ends(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*"d" * (MAX_DEPTH + 5))
    deep.mkdir(parents=True)
    (deep / "a.md").write_text("text")
    (deep.parents[4] / "b.md").write_text("text")
    assert list(sent(tmp_path)) == ["/".join("d" * MAX_DEPTH) + "/b.md"]
    assert list(left_out(tmp_path).values()) == [f"nested deeper than {MAX_DEPTH} folders"]


def test_strange_names_become_one_line_of_unicode(tmp_path: Path) -> None:
    for name in (b"caf\xe9.md", b"line\nbreak.md", "ü😀.md".encode(), b"tab\t.md", b"esc\x1b[31m.md"):
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            file.write(b"text")
    assert set(sent(tmp_path)) == {"caf\\xe9.md", "line\\nbreak.md", "ü😀.md", "tab\\t.md", "esc\\x1b[31m.md"}
    assert printable("a\u2028b\u202e") == "a\\u2028b\u202e"


def test_strange_names_reach_a_corpus(tmp_path: Path, library: object) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    for name in (b"caf\xe9.md", b"line\nbreak.md"):
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:
            file.write(b"text")
    assert library.add(sent(folder)).skipped == ()  # type: ignore[attr-defined]


def test_a_path_too_long_for_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_files, "MAX_PATH_CHARS", 20)
    (tmp_path / ("x" * 30 + ".md")).write_text("text")
    assert left_out(tmp_path) == {"x" * 20: "path longer than 20 characters"}


def test_a_file_that_grows_shrinks_or_goes_while_it_is_read(tmp_path: Path) -> None:
    for name in ("a.md", "b.md", "c.md"):
        (tmp_path / name).write_text("text")
    grown, shrunk, gone = (one for one in iter_corpus_files(tmp_path) if isinstance(one, CorpusFile))
    os.truncate(tmp_path / "a.md", MAX_FILE_BYTES + 1000)
    os.truncate(tmp_path / "b.md", 0)
    (tmp_path / "c.md").unlink()
    assert len(grown.read()) == MAX_FILE_BYTES + 1
    assert shrunk.read() == b""
    with pytest.raises(FileNotFoundError):
        gone.read()


def test_a_whole_disk_is_no_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_files, "MAX_ENTRIES", 10)
    for number in range(11):
        (tmp_path / f"{number}.jpg").touch()
    with pytest.raises(InvalidInput, match="holds more than 10 files; give the folder that holds the documents only"):
        list(iter_corpus_files(tmp_path))
    (tmp_path / "0.jpg").unlink()
    assert len(list(iter_corpus_files(tmp_path))) == 10


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("missing", "does not exist; check the path"),
        ("a.md", "is a file; give the folder that holds it"),
        ("loop", "cannot be opened"),
        ("nul\0", "cannot be opened"),
        ("x" * 300, "cannot be opened"),
    ],
)
def test_a_folder_that_is_none(tmp_path: Path, path: str, says: str) -> None:
    (tmp_path / "a.md").write_text("text")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InvalidInput, match=says) as refused:
        iter_corpus_files(tmp_path / path)
    assert refused.value.field == "grounded_corpus"
    assert refused.value.message.startswith("grounded_corpus: ")
    with pytest.raises(InvalidInput) as refused:
        iter_corpus_files(tmp_path / path, field="folder")
    assert refused.value.field == "folder"


def test_an_empty_folder_has_nothing(tmp_path: Path) -> None:
    assert list(iter_corpus_files(tmp_path)) == []


def test_a_socket_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may have 103 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.md")
        assert left_out(tmp_path) == {"s.md": "not a regular file"}
