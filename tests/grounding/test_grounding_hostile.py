"""A folder full of hostile files, and a text full of invented titles: bounded, complete, and told clearly."""

from __future__ import annotations

import io
import os
import random
import uuid
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from djp.corpus_files import CorpusFile, SkippedFile, iter_corpus_files
from djp_grounding.limits import Limits
from djp_grounding.model import Skipped
from djp_grounding.pdf import PdfLimits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD, HOSTILE_OF_A_KIND = 500, 3


def zip_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(20_000_000))
    return buffer.getvalue()


def bomb_in_a_pdf() -> bytes:
    """A page whose content is 200 MB of zeros when it is unpacked."""
    packed = zlib.compressobj(9)
    content = b"".join([packed.compress(bytes(1_000_000)) for _ in range(200)]) + packed.flush()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R>>",
        b"<</Length %d/Filter/FlateDecode>>stream\n" % len(content) + content + b"\nendstream",
    ]
    written = b"%PDF-1.4\n"
    for number, one in enumerate(objects, start=1):
        written += b"%d 0 obj" % number + one + b"endobj\n"
    return written + b"trailer<</Root 1 0 R/Size 5>>\n%%EOF"


def endless_pdf() -> bytes:
    """Pages that are their own children."""
    return (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[2 0 R 2 0 R]/Count 999999999>>endobj\n"
        b"trailer<</Root 1 0 R/Size 3>>\n%%EOF"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "handbook"
    for number in range(GOOD):
        file = made / f"part{number % 40}" / f"note{number}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# Note {number}\n\nAbout subject{number} and whales.")
    bad = made / "bad"
    bad.mkdir()
    bombs = {"md": zip_bomb(), "pdf": zip_bomb(), "txt": zip_bomb()}
    for number in range(HOSTILE_OF_A_KIND):
        for suffix, content in bombs.items():
            (bad / f"bomb{number}.{suffix}").write_bytes(content)
        (bad / f"endless{number}.pdf").write_bytes(endless_pdf())
        (bad / f"cut{number}.pdf").write_bytes(b"%PDF-1.7\n" + os.urandom(5_000))
        (bad / f"unpacks{number}.pdf").write_bytes(bomb_in_a_pdf())
        (bad / f"latin{number}.txt").write_bytes("Ma\xdf und Gr\xf6\xdfe".encode("latin-1"))
        (bad / f"wide{number}.txt").write_bytes("text".encode("utf-16"))
        (bad / f"line\nbreak{number}.md").write_text("named with a line break")
        (bad / f"huge{number}.txt").touch()
        os.truncate(bad / f"huge{number}.txt", 2**30)
        (bad / f"loop{number}").symlink_to(bad)
        (bad / f"self{number}.md").symlink_to(bad / f"self{number}.md")
        (bad / f"out{number}.md").symlink_to("/etc/passwd")
        os.mkfifo(bad / f"pipe{number}.md")
        (bad / os.fsdecode(b"not\xffutf8%d.md" % number)).write_text("whales in a file with a bad name")
    return made


def test_a_corpus_with_hostile_files_is_built_of_the_good_ones(make_library: Any, folder: Path) -> None:
    library = make_library(Limits(pdf=PdfLimits(seconds=5, memory_bytes=512 * 2**20)))
    entries = list(iter_corpus_files(folder))
    skipped = [Skipped(one.path, one.reason) for one in entries if isinstance(one, SkippedFile)]

    def files() -> Iterator[tuple[str, bytes]]:
        for one in entries:
            if isinstance(one, CorpusFile):
                yield one.path, one.read()

    with library.corpora.intake() as intake:
        intake.add_all(files(), skipped)
        created = library.corpora.create("acme", "docs", intake, str(uuid.uuid4()))
    reasons = {one.path: one.reason for one in created.skipped}
    kept = {document.path for document in library.corpora.get("acme", "docs")[1].documents}
    named = {f"bad/line\\nbreak{number}.md" for number in range(HOSTILE_OF_A_KIND)}
    named |= {f"bad/not\\xffutf8{number}.md" for number in range(HOSTILE_OF_A_KIND)}
    assert {path for path in kept if path.startswith("bad/")} == named
    assert len(kept) == GOOD + len(named)
    assert all(reasons.values())
    assert len(reasons) == 13 * HOSTILE_OF_A_KIND
    assert library.found("subject499") == ["Note 499"]


def test_none_of_a_thousand_invented_titles_is_accepted(library: Any) -> None:
    rng = random.Random(7)
    words = ["annual", "budget", "report", "finance", "office", "travel", "costs", "returns", "staff", "winter"]
    real = {" ".join(rng.choices(words, k=rng.randrange(3, 6))).capitalize() for _ in range(200)}
    said = "Travel costs are paid back within ten working days"
    library.add({f"{number}.md": f"# {title}\n\n{said}." for number, title in enumerate(sorted(real))})
    known = {title.casefold() for title in library.titles().values()}
    invented = set[str]()
    while len(invented) < 1_000:
        title = " ".join(rng.choices([*words, "marine", "dragon", "secret", "2019"], k=rng.randrange(3, 6)))
        if title.casefold() not in known:
            invented.add(title)
    for start in range(0, 1_000, 250):  # a text has at most 500 unknown ones compared
        part = sorted(invented)[start : start + 250]
        found = library.check("\n\n".join(f"{said} [{title}]." for title in part))
        assert len(found) == 250
        wrong = [one.mention.text for one in found if one.document]
        assert wrong == []
