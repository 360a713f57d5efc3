"""Corpora from a prefix: the contract of sources, for a folder and for MinIO, and the RPC with hostile prefixes."""

from __future__ import annotations

import io
import os
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from djp.corpus_files import MAX_FILE_BYTES
from djp.mesh.errors import InvalidInput
from djp_grounding.adapters.folder_source import FolderSource
from djp_grounding.adapters.s3_source import S3Source
from djp_grounding.model import Skipped
from djp_grounding.ports import StoreAway
from tests.grounding.conftest import bucket_of, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from djp_grounding.ports import CorpusSource

    Filled = Callable[[Mapping[str, bytes]], CorpusSource]

FILES = {
    "acme/handbook/b.md": b"# Beta\n\nbananas",
    "acme/handbook/deep/a.txt": "Ünïcode apples".encode(),
    "acme/handbook/photo.jpg": b"\xff",
    "acme/handbook/empty.md": b"",
    "acme/handbook/.git/config.md": b"hidden",
    "acme/handbook-2/c.md": b"# Gamma\n\ncherries",
    "umbrella/handbook/secret.md": b"# Secret\n\nof another tenant",
}


@pytest.fixture(params=["folder", "minio"])
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Filled:
    """Makes a source with files of these names in it."""

    def folder(files: Mapping[str, bytes]) -> CorpusSource:
        for name, content in files.items():
            file = tmp_path / "source" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return FolderSource(tmp_path / "source")

    def bucket(files: Mapping[str, bytes]) -> CorpusSource:
        made = bucket_of(request.getfixturevalue("minio").endpoint, f"test-{uuid.uuid4().hex[:12]}")
        made.client.make_bucket(made.name)
        for name, content in files.items():
            made.client.put_object(made.name, name, io.BytesIO(content), len(content))
        return S3Source(made)

    return folder if request.param == "folder" else bucket


def test_what_lies_below_a_prefix_and_nothing_else(filled: Filled) -> None:
    source = filled(FILES)
    found = list(source.files("acme", "handbook"))
    assert {one.path: one.read() for one in found if not isinstance(one, Skipped)} == {
        "b.md": FILES["acme/handbook/b.md"],
        "deep/a.txt": FILES["acme/handbook/deep/a.txt"],
    }
    skipped = {one.path: one.reason for one in found if isinstance(one, Skipped)}
    assert skipped["empty.md"] == "empty"
    assert "not supported" in skipped["photo.jpg"]
    assert any(path.startswith(".git") and "hidden" in reason for path, reason in skipped.items())
    whole = [one.path for one in source.files("acme", "") if not isinstance(one, Skipped)]
    assert sorted(whole) == ["handbook-2/c.md", "handbook/b.md", "handbook/deep/a.txt"]


@pytest.mark.parametrize("prefix", ["none", "hand", "handbook/b.md", "umbrella", "handbook/b.md/x"])
def test_a_prefix_that_is_no_folder_of_the_tenant(filled: Filled, prefix: str) -> None:
    with pytest.raises(InvalidInput, match="no folder") as refused:
        list(filled(FILES).files("acme", prefix))
    assert refused.value.field == "prefix"


def test_a_large_file_is_left_out_unread_and_a_flood_is_refused(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = filled({"acme/x/huge.txt": bytes(MAX_FILE_BYTES + 1), "acme/x/y.md": b"y", "acme/x/z.md": b"z"})
    assert [one.path for one in source.files("acme", "x") if isinstance(one, Skipped)] == ["huge.txt"]
    monkeypatch.setattr("djp.corpus_files.MAX_ENTRIES", 2)
    monkeypatch.setattr("djp_grounding.adapters.s3_source.MAX_ENTRIES", 2)
    with pytest.raises(InvalidInput, match=r"prefix: 'x' holds more than .* files"):
        list(source.files("acme", "x"))


def test_a_source_that_is_away_says_so(tmp_path: Path) -> None:
    secret = uuid.uuid4().hex
    for source in (S3Source(bucket_of("127.0.0.1:1", "docs", secret)), FolderSource(tmp_path / "none")):
        with pytest.raises(StoreAway) as refused:
            list(source.files("acme", ""))
        assert secret not in str(refused.value)


def test_links_lead_nowhere_else(tmp_path: Path) -> None:
    own = tmp_path / "source" / "acme" / "handbook"
    other = tmp_path / "source" / "umbrella"
    for folder in (own, other):
        folder.mkdir(parents=True)
        (folder / "a.md").write_text("# A")
    (own.parent / "loop").symlink_to(own.parent / "loop")
    (own.parent / "theirs").symlink_to(other)
    (own.parent / "mine").symlink_to(own)
    (own / "out.md").symlink_to(other / "a.md")
    (own / "etc").symlink_to("/etc")
    source = FolderSource(tmp_path / "source")
    for prefix in ("theirs", "loop", "handbook/etc"):
        with pytest.raises(InvalidInput, match="no folder") as refused:
            list(source.files("acme", prefix))
        assert str(tmp_path) not in str(refused.value)
    for prefix in ("handbook", "mine"):
        assert [one.path for one in source.files("acme", prefix) if not isinstance(one, Skipped)] == ["a.md"]


# -- the RPC ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def client(serve: Any, tmp_path: Path) -> Any:
    for name, content in FILES.items():
        file = tmp_path / "source" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return await serve(source=str(tmp_path / "source"))


def _import(client: Any, prefix: str, *, request_id: str = "", tenant: str = "acme", corpus: str = "docs") -> Any:
    fields = {"request_id": request_id or str(uuid.uuid4()), "corpus": corpus, "prefix": prefix}
    return client.call("ImportCorpus", tenant=tenant, **fields)


async def test_a_corpus_from_a_prefix(client: Any, tmp_path: Path) -> None:
    request_id = str(uuid.uuid4())
    made = await _import(client, "handbook/", request_id=request_id)
    assert (made.version.documents, made.reused) == (2, False)
    assert {one.path for one in made.skipped} == {".git", "photo.jpg", "empty.md"}
    found = await client.call("Search", corpus="docs", query="bananas")
    assert [one.title for one in found.passages] == ["Beta"]
    assert (await _import(client, "handbook")).reused
    (tmp_path / "source/acme/handbook/b.md").write_text("# Beta\n\nno fruit")
    again = await _import(client, "handbook/", request_id=request_id)
    assert again.version.version == made.version.version, "a repeated request gets its first answer"
    assert not (await _import(client, "handbook")).reused
    assert (await refused(_import(client, "handbook-2", request_id=request_id))).reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    "prefix", ["../umbrella", "handbook/../../umbrella", "/etc", "..", "a\nb", "a\0b", "..\\umbrella", "x" * 900, "//"]
)
async def test_hostile_prefixes(client: Any, prefix: str, tmp_path: Path) -> None:
    error = await refused(_import(client, prefix))
    assert (error.code, error.field) == ("INVALID_ARGUMENT", "prefix")
    assert str(tmp_path) not in error.message
    assert not (tmp_path / "grounding" / "acme").exists()


async def test_tenants_import_their_own(client: Any) -> None:
    await _import(client, "", tenant="umbrella")
    assert [one.title for one in (await client.call("GetCorpus", tenant="umbrella", corpus="docs")).documents] == [
        "Secret"
    ]
    assert (await refused(_import(client, "", tenant="nobody"))).field == "prefix"


async def test_nothing_is_imported_unless_a_source_is_set(serve: Any) -> None:
    error = await refused(_import(await serve(), "handbook"))
    assert error.code == "FAILED_PRECONDITION"
    assert "DJP_GROUNDING_SOURCE" in error.message


async def test_a_full_corpus_reads_no_more(serve: Any, tmp_path: Path) -> None:
    folder = tmp_path / "source" / "acme"
    folder.mkdir(parents=True)
    (folder / "a.md").write_text("# A")
    for number in range(3):
        (folder / f"big{number}.txt").touch()
        os.truncate(folder / f"big{number}.txt", 2**20)
    made = await _import(await serve(source=str(tmp_path / "source"), max_corpus_mib=1), "")
    assert made.version.documents == 1
    assert {one.path for one in made.skipped if "corpus is full" in one.reason} == {f"big{n}.txt" for n in range(3)}
