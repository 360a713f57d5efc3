"""The contract of object stores, for a shared folder and for MinIO."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from djp_grounding.adapters.folder_store import FolderStore
from djp_grounding.adapters.s3_store import S3Store
from djp_grounding.ports import ChangedError, StoreAway
from djp_grounding.settings import GroundingSettings
from tests.grounding.conftest import bucket_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["folder", "minio"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    return request.getfixturevalue("make_s3")()


def test_a_small_object_is_written_on_a_condition(store: Any) -> None:
    assert store.read("acme/docs/CURRENT") is None
    first = store.write("acme/docs/CURRENT", b"one", None)
    assert store.read("acme/docs/CURRENT") == (b"one", first)
    with pytest.raises(ChangedError):
        store.write("acme/docs/CURRENT", b"other", None)
    second = store.write("acme/docs/CURRENT", b"two", first)
    assert second != first
    with pytest.raises(ChangedError):
        store.write("acme/docs/CURRENT", b"late", first)
    assert store.read("acme/docs/CURRENT") == (b"two", second)
    store.remove("acme/docs/CURRENT")
    with pytest.raises(ChangedError):
        store.write("acme/docs/CURRENT", b"late", second)
    assert store.read("acme/docs/CURRENT") is None


def test_of_many_writers_one_wins(store: Any) -> None:
    def write(number: int) -> bool:
        try:
            store.write("acme/docs/CURRENT", str(number).encode(), None)
        except ChangedError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(write, range(16)))
    assert won.count(True) == 1
    assert store.read("acme/docs/CURRENT").content == str(won.index(True)).encode()


def test_files_go_up_and_come_down(store: Any, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(bytes(range(256)) * 30_000)
    store.upload("acme/docs/v.tar", tmp_path / "up")
    assert store.download("acme/docs/v.tar", tmp_path / "down") is True
    assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()
    assert store.download("acme/docs/none.tar", tmp_path / "none") is False
    store.upload("acme/other/v.tar", tmp_path / "up")
    assert store.names("acme/docs/") == ["acme/docs/v.tar"]
    assert store.names("acme/") == ["acme/docs/v.tar", "acme/other/v.tar"]
    assert store.names("umbrella/") == []
    store.remove("acme/docs/v.tar")
    store.remove("acme/docs/v.tar")
    assert store.names("acme/docs/") == []


def test_a_store_that_is_away_says_so(tmp_path: Path) -> None:
    secret = uuid.uuid4().hex
    away = S3Store(bucket_of("127.0.0.1:1", "docs", secret))
    (tmp_path / "file").write_text("not a folder")
    for store in (away, FolderStore(tmp_path / "file")):
        for call in (
            lambda store=store: store.write("a/b/c", b"", None),
            lambda store=store: store.upload("a/b/c", tmp_path / "file"),
        ):
            with pytest.raises(StoreAway, match="object store") as refused:
                call()
            assert secret not in str(refused.value)
    with pytest.raises(StoreAway):
        away.read("a/b/c")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("store", "docs"),
        ("store", "s3://"),
        ("store", "s3://UP"),
        ("source", "../docs"),
        ("s3_endpoint", "localhost:9000"),
    ],
)
def test_settings_that_name_no_store(field: str, value: str) -> None:
    with pytest.raises(ValueError, match=field):
        GroundingSettings(**{field: value})  # type: ignore[arg-type]
