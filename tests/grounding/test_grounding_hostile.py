"""A folder full of hostile files, and a text full of invented titles: bounded, complete, and told clearly."""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from djp.corpus_files import CorpusFile, SkippedFile, iter_corpus_files
from djp_grounding.limits import Limits
from djp_grounding.model import Skipped
from djp_grounding.pdf import PdfLimits
from tests.grounding.hostile_files import KINDS, fill, kept

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD, OF_A_KIND = 500, 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "handbook"
    fill(made, GOOD, OF_A_KIND)
    return made


def test_a_corpus_with_hostile_files_is_built_of_the_good_ones(make_library: Any, folder: Path) -> None:
    library = make_library(Limits(pdf=PdfLimits(seconds=1, memory_bytes=512 * 2**20)))
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
    there = {document.path for document in library.corpora.get("acme", "docs")[1].documents}
    named = kept(OF_A_KIND)
    assert {path for path in there if path.startswith("bad/")} == named
    assert len(there) == GOOD + len(named)
    assert all(reasons.values())
    assert len(reasons) == (KINDS - 2) * OF_A_KIND
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
