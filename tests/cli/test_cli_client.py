"""The Python client: a stream that breaks, a gateway that is lost, and folders that become corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from djp import client_streams
from djp.client import connect, corpus_name
from djp.corpus_files import CorpusFile
from djp.mesh.errors import InvalidInput, NotFound, Unavailable
from djp.v1 import run_pb2


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_streams, "RESUME_WAITS_S", (0.0, 0.0))


async def test_a_broken_stream_is_taken_up_where_it_broke(gateway: Any) -> None:
    gateway.breaks = [2, 3, 7]
    async with connect(gateway.address) as client:
        seen = [event.sequence async for event in client.watch(gateway.run.run_id)]

    assert seen == list(range(1, 10))
    assert gateway.watched_after == [0, 2, 3, 7]


async def test_watching_can_begin_in_the_middle(gateway: Any) -> None:
    async with connect(gateway.address) as client:
        seen = [event.sequence async for event in client.watch(gateway.run.run_id, after_sequence=6)]

    assert seen == [7, 8, 9]


async def test_watching_a_run_that_has_ended_ends(gateway: Any) -> None:
    async with connect(gateway.address) as client:
        assert [event async for event in client.watch(gateway.run.run_id, after_sequence=9)] == []


async def test_a_stream_that_never_ends_the_run_is_given_up(gateway: Any) -> None:
    gateway.events = gateway.told(gateway.run)[:3]
    async with connect(gateway.address) as client:
        with pytest.raises(Unavailable, match=gateway.run.run_id):
            _ = [event async for event in client.watch(gateway.run.run_id)]

    assert gateway.watched_after == [0, 3, 3]


async def test_errors_keep_the_gateways_code_and_words(gateway: Any) -> None:
    async with connect(gateway.address) as client:
        with pytest.raises(NotFound, match="there is no run 12345678"):
            await client.get_run("12345678")


async def test_a_malformed_address_is_bad_input() -> None:
    with pytest.raises(InvalidInput, match="host:port"):
        async with connect("http://localhost"):
            pass


async def test_a_large_file_comes_whole_and_the_same_folder_is_free_again(gateway: Any, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096 * 3 + b"end"
    (tmp_path / "big.txt").write_bytes(content)
    async with connect(gateway.address) as client:
        first = await client.create_corpus(tmp_path)
        again = await client.create_corpus(tmp_path)
        assert gateway.sent_bytes == len(content)
        (tmp_path / "small.txt").write_text("one more")
        told: list[tuple[int, int]] = []
        await client.create_corpus(tmp_path, sent=lambda done, whole: told.append((done, whole)))

    assert gateway.corpora[first.name] == {"big.txt": content, "small.txt": b"one more"}
    assert (first.reused, again.reused) == (False, True)
    assert told == [(8, 8)]
    assert gateway.sent_bytes == len(content) + 8


async def test_a_file_that_vanishes_while_it_is_sent_is_skipped_with_the_reason(
    gateway: Any, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = CorpusFile.read

    def read_or_vanish(file: CorpusFile) -> bytes:
        if file.path == "budgets.md":
            file.source.unlink()
        return read(file)

    monkeypatch.setattr(CorpusFile, "read", read_or_vanish)
    async with connect(gateway.address) as client:
        corpus = await client.create_corpus(docs)

    assert list(gateway.corpora[corpus.name]) == ["deep/Ünïcode.txt"]
    assert {entry.path: entry.reason for entry in corpus.skipped}["budgets.md"].startswith("cannot be read")


async def test_a_flood_of_skipped_files_is_counted_in_the_upload(gateway: Any, tmp_path: Path) -> None:
    (tmp_path / "one.md").write_text("one")
    for number in range(1200):
        (tmp_path / f"{number:04}.png").touch()
    async with connect(gateway.address) as client:
        corpus = await client.create_corpus(tmp_path)

    assert len(corpus.skipped) == 1200
    assert gateway.told_skipped[-1].reason == "201 more were left out"


def test_folders_of_one_name_are_two_corpora_and_every_name_is_valid() -> None:
    names = [corpus_name(Path(folder)) for folder in ("/a/docs", "/b/docs", "/x/Ünï çode!", "/", "/y/" + "n" * 250)]

    assert len(set(names)) == len(names)
    assert names[0] == corpus_name(Path("/a/docs"))
    assert names[0].startswith("docs-")
    for name in names:
        assert len(name) <= 100
        assert run_pb2.RunRequest(corpus=name)
        assert name[0].isalnum()
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
