"""Versions: built once, never changed, and what is left when a build dies, a disk fills or a file rots."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from djp.mesh.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound, ResourceExhausted, Unavailable
from djp_grounding import folder as folder_module
from djp_grounding.folder import CorpusFolder
from djp_grounding.limits import Limits
from djp_grounding.snapshot import Snapshot

if TYPE_CHECKING:
    from pathlib import Path

ONE = {"a.md": "# Alpha\n\napples", "b.md": "# Beta\n\nbananas"}
TWO = {"a.md": "# Alpha\n\napricots", "b.md": "# Beta\n\nbananas"}

BUILD = """
    import sys, uuid
    from pathlib import Path
    from djp_grounding.corpora import Corpora
    from djp_grounding.limits import Limits

    def add(files, **limits):
        corpora = Corpora(Path(sys.argv[1]), Limits(**limits))
        with corpora.intake() as intake:
            intake.add_all(files)
            return corpora.create("acme", "docs", intake, str(uuid.uuid4()))
"""


def start(library: Any, script: str) -> subprocess.Popen[str]:
    """A process of its own that builds the same corpus."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BUILD) + textwrap.dedent(script), str(library.corpora.data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- the same, changed, back ------------------------------------------------------------------------------------------


def test_the_same_files_cost_nothing(library: Any) -> None:
    first = library.add(ONE)
    before = files_of(library.folder)
    again = library.add(dict(reversed(ONE.items())))
    assert (first.reused, again.reused) == (False, True)
    assert again.version == first.version
    assert files_of(library.folder) == before


def test_a_changed_file_makes_a_version_and_the_old_one_stays(library: Any) -> None:
    first, second = library.add(ONE).version, library.add(TWO).version
    assert first.version != second.version
    assert library.found("apricots") == ["Alpha"]
    assert library.found("apples") == []
    assert library.found("apples", version=first.version) == ["Alpha"]
    listed = library.corpora.versions("acme", "docs")
    assert [(one.version, one.current) for one in listed] == [(second.version, True), (first.version, False)]


def test_going_back_to_old_files_reuses_their_version(library: Any) -> None:
    first = library.add(ONE).version.version
    library.add(TWO)
    back = library.add(ONE)
    assert (back.version.version, back.reused, back.version.current) == (first, True, True)
    assert library.found("apples") == ["Alpha"]


def test_an_unusable_file_more_is_the_same_version_with_its_own_report(library: Any) -> None:
    first = library.add(ONE)
    second = library.add({**ONE, "c.md": b"\0"}, skipped=[("d.jpg", "no text")])
    assert second.version.version == first.version.version
    assert second.reused
    assert [one.path for one in second.skipped] == ["c.md", "d.jpg"]


def test_a_renamed_file_is_another_version(library: Any) -> None:
    first = library.add({"a.md": "text"}).version.version
    assert library.add({"b.md": "text"}).version.version != first


def test_rollback_and_delete(library: Any) -> None:
    first = library.add(ONE).version.version
    library.add(TWO)
    corpora = library.corpora
    assert corpora.rollback("acme", "docs", first, str(uuid.uuid4())).current
    assert library.found("apples") == ["Alpha"]
    for wrong in ("0" * 16, "../..", "x" * 64):
        with pytest.raises(NotFound, match="has no version"):
            corpora.rollback("acme", "docs", wrong, str(uuid.uuid4()))
    gone = str(uuid.uuid4())
    corpora.delete("acme", "docs", gone)
    corpora.delete("acme", "docs", gone)
    with pytest.raises(NotFound, match="does not exist"):
        library.search("apples")
    with pytest.raises(NotFound, match="does not exist"):
        corpora.delete("acme", "docs", str(uuid.uuid4()))
    assert library.add(ONE).reused is False


def test_tenants_do_not_meet(make_library: Any) -> None:
    acme, other = make_library(), make_library(tenant="other")
    version = acme.add(ONE).version.version
    with pytest.raises(NotFound):
        other.search("apples")
    with pytest.raises(NotFound):
        other.search("apples", version=version)
    assert other.corpora.list_corpora("other", "", 10) == []
    other.add(TWO)
    assert acme.found("apples") == ["Alpha"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "A", "a" * 101, ".hidden", "a\n", "ä", "-a"])
def test_names_that_no_corpus_has(library: Any, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        library.add(ONE, corpus=name)
    assert refused.value.field == "corpus"


# -- repeated requests ------------------------------------------------------------------------------------------------


def test_a_repeated_request_gets_its_first_answer(library: Any) -> None:
    request_id = str(uuid.uuid4())
    first = library.add(ONE, request_id=request_id, skipped=[("c.jpg", "no text")])
    library.add(TWO)
    again = library.add(ONE, request_id=request_id, skipped=[("c.jpg", "no text")])
    assert again.reused is False
    assert again.skipped == first.skipped
    assert again.version.version == first.version.version
    assert library.found("apricots") == ["Alpha"], "repeating a request must not undo what came after it"


def test_a_request_id_is_for_one_request(library: Any) -> None:
    request_id = str(uuid.uuid4())
    library.add(ONE, request_id=request_id)
    for reuse in (
        lambda: library.add(TWO, request_id=request_id),
        lambda: library.add(ONE, corpus="other", request_id=request_id),
        lambda: library.corpora.delete("acme", "docs", request_id),
    ):
        with pytest.raises(AlreadyExists) as refused:
            reuse()
        assert refused.value.reason == "REQUEST_ID_REUSED"
    assert library.found("apples") == ["Alpha"]


def test_a_request_whose_answer_was_cut_short_is_done_again(library: Any) -> None:
    request_id = str(uuid.uuid4())
    library.add(ONE, request_id=request_id)
    (answer,) = (library.corpora.data_dir / "acme" / ".requests").iterdir()
    answer.write_bytes(answer.read_bytes()[:20])
    assert library.add(ONE, request_id=request_id).reused is True


def test_old_answers_are_forgotten(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("djp_grounding.requests._KEPT", 5)
    for _ in range(30):
        library.add(ONE)
    assert len(list((library.corpora.data_dir / "acme" / ".requests").iterdir())) <= 10


# -- several at once --------------------------------------------------------------------------------------------------


def test_two_processes_build_the_same_corpus_once(library: Any) -> None:
    script = """
        files = [(f"{n}.md", f"note {n} " .encode() * 50) for n in range(500)]
        print("ready", flush=True)
        sys.stdin.readline()
        created = add(files)
        print(created.version.version, created.reused)
    """
    builders = [start(library, script) for _ in range(2)]
    for builder in builders:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "ready\n"
    for builder in builders:
        assert builder.stdin is not None
        builder.stdin.write("go\n")
        builder.stdin.flush()
    answers = [builder.communicate()[0].split() for builder in builders]
    assert answers[0][0] == answers[1][0]
    assert sorted(answer[1] for answer in answers) == ["False", "True"]


def test_a_builder_that_waited_too_long_is_told_so(make_library: Any) -> None:
    library = make_library(Limits(build_wait_s=0))
    library.add(ONE)
    with CorpusFolder(library.folder.parent, "docs").locked(0):
        assert library.found("apples") == ["Alpha"], "readers never wait"
        with pytest.raises(Unavailable, match="is being built by someone else") as busy:
            library.add(TWO)
    assert busy.value.reason == "CORPUS_BUSY"
    assert busy.value.retry_after_s
    assert library.add(TWO).reused is False


def test_many_threads_search_while_versions_change(library: Any) -> None:
    library.add(ONE)

    def search(_number: int) -> str:
        version, hits = library.corpora.search("acme", "docs", "apples apricots")
        return f"{version} {hits[0].passage.text}"

    with ThreadPoolExecutor(8) as pool:
        searches = pool.map(search, range(400))
        for files in (TWO, ONE, TWO):
            library.add(files)
        assert len(set(searches)) <= 2


# -- death and decay --------------------------------------------------------------------------------------------------


def test_kill_in_the_middle_of_a_build_leaves_the_last_version(library: Any) -> None:
    first = library.add(ONE).version.version
    builder = start(
        library,
        """
        import djp_grounding.build as build
        whole = build.cut

        def cut(document):
            for passage in whole(document):
                yield passage
                if passage.text.startswith("stop"):
                    print("half way", flush=True)
                    sys.stdin.readline()

        build.cut = cut
        add([(f"{n:03}.md", b"stop here" if n == 250 else b"go on") for n in range(500)])
        """,
    )
    assert builder.stdout is not None
    assert builder.stdout.readline() == "half way\n"
    builder.kill()
    builder.communicate()
    assert any(path.name.startswith(".building-") for path in library.folder.iterdir())
    assert library.found("apples") == ["Alpha"]
    assert [one.version for one in library.corpora.versions("acme", "docs")] == [first]
    second = library.add(TWO).version.version
    assert library.found("apricots") == ["Alpha"]
    assert sorted(path.name for path in library.folder.iterdir()) == sorted(["CURRENT", first, second])


def test_a_limit_on_file_sizes_stops_the_build_and_nothing_else(library: Any) -> None:
    library.add(ONE)
    builder = start(
        library,
        """
        import random, resource
        from djp.mesh.errors import DjpError
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        words = random.Random(1)
        try:
            add([(f"{n}.md", " ".join(f"w{words.random()}" for _ in range(200)).encode()) for n in range(50)])
        except DjpError as error:
            print(error.code, error.message)
        """,
    )
    said = builder.communicate()[0]
    assert said.startswith(f"RESOURCE_EXHAUSTED disk full: no room in {library.corpora.data_dir} (File too large)")
    assert library.found("apples") == ["Alpha"]
    assert library.add(TWO).reused is False


@pytest.mark.parametrize("at", ["_write_synced", "sync_folder"])
def test_a_full_disk_is_named_and_loses_nothing(library: Any, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    library.add(ONE)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(folder_module, at, full)
        with pytest.raises(ResourceExhausted, match=r"disk full: .*; free some space") as refused:
            library.add(TWO)
    assert refused.value.reason == "DISK_FULL"
    assert library.found("apples") == ["Alpha"]
    library.add(TWO)
    assert library.found("apricots") == ["Alpha"]


def test_a_folder_that_cannot_be_written_names_the_remedy(library: Any) -> None:
    library.corpora.data_dir.mkdir(parents=True)
    (library.corpora.data_dir / "acme").write_text("a file where the tenant's folder should be")
    with pytest.raises(FailedPrecondition, match=r"a file where a folder belongs, is in the way of .*/acme"):
        library.add(ONE)


ROT = {
    "cut": lambda content: content[: len(content) // 2],
    "flipped": lambda content: (
        content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
    ),
    "gone": lambda content: None,
}


@pytest.mark.parametrize("rot", ROT)
@pytest.mark.parametrize("kind", ["manifest.json", "meta.json", ".term", ".idx", ".store", ".fast", ".fieldnorm"])
def test_a_damaged_version_is_named_and_built_again(make_library: Any, kind: str, rot: str) -> None:
    library = make_library()
    version = library.add(ONE).version.version
    (path,) = (path for path in (library.folder / version).rglob("*") if path.name.endswith(kind))
    rotten = ROT[rot](path.read_bytes())
    if rotten is None:
        path.unlink()
    else:
        path.write_bytes(rotten)

    fresh = make_library()
    with pytest.raises(NotFound, match=r"docs.*damaged.*add the folder again to rebuild it"):
        fresh.search("apples")
    rebuilt = fresh.add(ONE)
    assert (rebuilt.version.version, rebuilt.reused) == (version, False)
    assert fresh.found("apples") == ["Alpha"]


def test_a_damaged_version_hides_no_other(make_library: Any) -> None:
    library = make_library()
    first = library.add(ONE).version.version
    second = library.add(TWO).version.version
    (library.folder / first / "manifest.json").write_text(json.dumps({}))
    assert [one.version for one in make_library().corpora.versions("acme", "docs")] == [second]


@pytest.mark.parametrize("content", ["", "garbage", "../../../etc", "0" * 16])
def test_a_damaged_pointer(library: Any, content: str) -> None:
    library.add(ONE)
    (library.folder / "CURRENT").write_text(content)
    with pytest.raises(NotFound, match="add"):
        library.search("apples")
    assert library.add(ONE).reused is True
    assert library.found("apples") == ["Alpha"]


def test_a_search_under_way_survives_deletion(library: Any) -> None:
    version = library.add(ONE).version.version
    snapshot = Snapshot(CorpusFolder(library.folder.parent, "docs"), version)
    assert snapshot.search("apples", 8, 0)
    library.corpora.delete("acme", "docs", str(uuid.uuid4()))
    assert snapshot.search("bananas", 8, 0)[0].document.title == "Beta"
