"""Replicas that share an object store: who sees what, who builds, and what happens when the store or a builder dies."""

from __future__ import annotations

import io
import json
import random
import tarfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from djp.mesh.errors import NotFound, Unavailable
from djp_grounding import replica as replica_module
from djp_grounding.adapters.folder_store import FolderStore
from djp_grounding.corpora import Corpora
from djp_grounding.folder import CorpusFolder
from djp_grounding.limits import Limits
from djp_grounding.ports import StoreAway
from djp_grounding.replica import Replica
from tests.grounding.builder_process import DOCUMENTS, kill_a_builder, store_at
from tests.grounding.conftest import Library
from tests.grounding.replica_processes import outages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ONE = {"a.md": "# Alpha\n\napples", "b.md": "# Beta\n\nbananas"}
TWO = {"a.md": "# Alpha\n\napricots", "b.md": "# Beta\n\nbananas"}


@pytest.fixture
def folder_store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture(params=["folder", "minio"])
def replicas(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Two libraries with folders of their own over one store."""
    if request.param == "folder":
        store: Any = FolderStore(tmp_path / "store")
    else:
        store = request.getfixturevalue("make_s3")()
    return [replica(tmp_path, store, name) for name in "ab"]


def replica(tmp_path: Path, store: Any, name: str, **limits: Any) -> Library:
    return Library(Corpora(tmp_path / name, Limits(**limits), store, refresh_s=0.05))


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def current(library: Library) -> str:
    version: str = library.corpora.search("acme", "docs", "x")[0]
    return version


# -- who sees what ---------------------------------------------------------------------------------------------------


def test_what_one_replica_does_the_other_sees(replicas: list[Library]) -> None:
    a, b = replicas
    with pytest.raises(NotFound, match="does not exist"):
        b.search("apples")
    first = a.add(ONE).version.version
    assert b.found("apples") == ["Alpha"]
    second = b.add(TWO).version.version
    until(lambda: a.found("apricots") == ["Alpha"])
    assert a.found("apples", version=first) == ["Alpha"]
    assert b.add(TWO).reused
    assert [one.version for one in a.corpora.versions("acme", "docs")] == [second, first]
    a.corpora.rollback("acme", "docs", first, str(uuid.uuid4()))
    until(lambda: current(b) == first)
    assert [(one.corpus, one.version) for one in b.corpora.list_corpora("acme", "", 10)] == [("docs", first)]
    b.corpora.delete("acme", "docs", str(uuid.uuid4()))

    def gone() -> bool:
        try:
            a.search("apples")
        except NotFound:
            return True
        return False

    until(gone)
    assert a.corpora.list_corpora("acme", "", 10) == []
    assert a.add(ONE).version.version == first
    assert b.found("apples") == ["Alpha"]


def test_a_new_replica_has_everything(replicas: list[Library]) -> None:
    a, b = replicas
    first, second = a.add(ONE).version.version, a.add(TWO).version.version
    a.add(ONE, corpus="other")
    assert [one.corpus for one in b.corpora.list_corpora("acme", "", 10)] == ["docs", "other"]
    assert [one.version for one in b.corpora.versions("acme", "docs")] == [second, first]
    assert b.found("apples", version=first) == ["Alpha"]
    assert b.titles(version=first) == {"a.md": "Alpha", "b.md": "Beta"}
    with pytest.raises(NotFound, match="has no version"):
        b.search("apples", version="0" * 16)
    with pytest.raises(NotFound):
        b.search("apples", version="../../../etc")
    assert b.corpora.list_corpora("umbrella", "", 10) == []


def test_the_same_files_on_the_other_replica_cost_nothing(tmp_path: Path, folder_store: FolderStore) -> None:
    a, b = (replica(tmp_path, folder_store, name) for name in "ab")
    made = a.add(ONE).version
    again = b.add(ONE)
    assert (again.reused, again.version) == (True, made)


# -- the store is away -----------------------------------------------------------------------------------------------


async def test_no_query_of_three_processes_fails_while_versions_come_and_minio_goes(short_folder: Path) -> None:
    load = await outages(short_folder, turns=2, documents=10)
    assert load.failed == []
    assert min(load.answered) > 100


def test_a_corpus_that_is_not_here_while_the_store_is_away(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file, no folder")
    alone = replica(tmp_path, FolderStore(tmp_path / "store"), "a")
    with pytest.raises(StoreAway, match="object store"):
        alone.add(ONE)
    assert alone.corpora.list_corpora("acme", "", 10) == []


# -- damage and malice -----------------------------------------------------------------------------------------------


def packed(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "store" / "acme" / "docs").glob("*.tar")
    return found


def test_a_damaged_version_is_never_served_and_adding_it_again_mends_it(
    tmp_path: Path, folder_store: FolderStore
) -> None:
    a, b = (replica(tmp_path, folder_store, name) for name in "ab")
    a.add(ONE)
    content = bytearray(packed(tmp_path).read_bytes())
    for at in range(2_000, len(content), 500):
        content[at] ^= 1
    packed(tmp_path).write_bytes(content)
    with pytest.raises(NotFound, match="damaged or missing in the object store; add its folder again"):
        b.search("apples")
    assert a.found("apples") == ["Alpha"]
    assert b.add(ONE).reused is False
    assert replica(tmp_path, folder_store, "c").found("apples") == ["Alpha"]


def test_the_last_good_version_is_served_while_the_new_one_is_damaged(
    tmp_path: Path, folder_store: FolderStore
) -> None:
    a, b = (replica(tmp_path, folder_store, name) for name in "ab")
    first = a.add(ONE).version.version
    assert b.found("apples") == ["Alpha"]
    second = a.add(TWO).version.version
    broken = tmp_path / "store" / "acme" / "docs" / f"{second}.tar"
    broken.write_bytes(broken.read_bytes()[:1000])
    looked = threading.Event()
    for _ in range(20):
        assert current(b) in (first, second)
        looked.wait(0.05)
    assert b.found("apples") == ["Alpha"]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff", b"[]", json.dumps({"version": "../../x", "manifest": ""}).encode()]
)
def test_a_damaged_pointer_hides_nothing_that_is_here(
    tmp_path: Path, folder_store: FolderStore, content: bytes
) -> None:
    a = replica(tmp_path, folder_store, "a")
    a.add(ONE)
    (tmp_path / "store" / "acme" / "docs" / "CURRENT").write_bytes(content)
    for _ in range(10):
        assert a.found("apples") == ["Alpha"]
        time.sleep(0.05)
    a.add(ONE)
    assert replica(tmp_path, folder_store, "b").found("apples") == ["Alpha"]


def hostile(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = "/etc/passwd"
        member.size = 4 if kind == tarfile.REGTYPE else 0
        tar.addfile(member, io.BytesIO(b"evil"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        hostile("../../../../evil"),
        hostile("/tmp/evil"),
        hostile("index/../../evil"),
        hostile("index/link", tarfile.SYMTYPE),
        hostile("index/link", tarfile.LNKTYPE),
        hostile("index/device", tarfile.CHRTYPE),
        hostile("index/pipe", tarfile.FIFOTYPE),
        b"no tar at all" * 100,
        b"",
    ],
)
def test_what_is_unpacked_stays_where_it_belongs(tmp_path: Path, folder_store: FolderStore, content: bytes) -> None:
    replica(tmp_path, folder_store, "a").add(ONE)
    packed(tmp_path).write_bytes(content)
    b = replica(tmp_path, folder_store, "b")
    with pytest.raises(NotFound, match="damaged"):
        b.search("apples")
    assert not list(tmp_path.rglob("evil"))
    assert not list((tmp_path / "b").rglob("link"))


# -- builders --------------------------------------------------------------------------------------------------------


def test_builders_of_several_replicas_take_turns(tmp_path: Path, folder_store: FolderStore) -> None:
    libraries = [replica(tmp_path, folder_store, name) for name in "abc"]
    with ThreadPoolExecutor(3) as threads:
        made = list(
            threads.map(
                lambda number: libraries[number % 3].add({"a.md": f"# Alpha\n\nedition{number}"}).version.version,
                range(9),
            )
        )
    assert len(set(made)) == 9
    assert len(list((tmp_path / "store" / "acme" / "docs").glob("*.tar"))) == 9
    last = replica(tmp_path, folder_store, "d")
    assert current(last) in made
    until(lambda: len({current(one) for one in [*libraries, last]}) == 1)


def test_a_builder_that_waits_too_long_is_told(tmp_path: Path, folder_store: FolderStore) -> None:
    other = Replica(folder_store)
    with other.turn("acme/docs", "docs", 0), pytest.raises(Unavailable, match="being built by someone else"):
        replica(tmp_path, folder_store, "a", build_wait_s=0.5).add(ONE)
    replica(tmp_path, folder_store, "a", build_wait_s=0.5).add(ONE)


def test_a_builder_that_was_thought_dead_publishes_nothing(
    tmp_path: Path, folder_store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = (replica(tmp_path, folder_store, name) for name in "ab")
    a.add(ONE)
    folder = CorpusFolder(tmp_path / "a" / "acme", "docs")
    slow = Replica(folder_store)
    before = slow.pointer("acme/docs")
    second = b.add(TWO).version.version
    with pytest.raises(Unavailable, match="published by someone else"):
        slow.publish("acme/docs", folder, folder.current(), before._replace(manifest=""), built=False)
    assert current(replica(tmp_path, folder_store, "c")) == second


def test_whenever_a_builder_is_killed_the_current_version_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_module, "LEASE_S", 0.5)
    monkeypatch.setattr(replica_module, "_SHOWS_S", 0.05)
    rng, seen, place = random.Random(7), set(), str(tmp_path / "store")
    for trial in range(6):
        kill_a_builder(tmp_path, trial, place, rng)
        fresh = replica(tmp_path, store_at(place), f"reader{trial}")
        assert len(fresh.found("bananas", top_k=50)) == DOCUMENTS
        seen.add(current(fresh))
    made = replica(tmp_path, store_at(place), "last").add({"a.md": "# Alpha\n\nafter all"})
    assert made.version.current
    assert len(seen) == 6
