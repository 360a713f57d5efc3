"""The service over a real socket: every RPC, its bad input, its errors on the wire."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from djp.mesh.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    Unavailable,
)
from djp.v1 import common_pb2, grounding_pb2
from djp_grounding.folder import CorpusFolder
from tests.grounding.conftest import refused

if TYPE_CHECKING:
    from pathlib import Path

DOCS = {
    "budgets.md": "# Budgets\n\nMoney is reserved before a model is called.",
    "sub/jury.md": "# The Jury\n\nJurors see drafts without names.",
}


async def test_a_corpus_from_files_to_checked_citations(client: Any, pdf: Any) -> None:
    created = await client.create({**DOCS, "a.pdf": pdf("Page one", "Page two about whales"), "x.md": b"\0"}, part=20)
    version = created.version
    assert (version.corpus, version.documents, version.passages, version.current) == ("docs", 3, 4, True)
    assert version.bytes > 0
    assert version.created_at.seconds > 0
    assert [(one.path, one.reason) for one in created.skipped] == [("x.md", "binary: it holds NUL bytes")]

    found = await client.call("Search", corpus="docs", query="how is money reserved?")
    assert found.version == version.version
    assert found.passages[0].title == "Budgets"
    assert found.passages[0].path == "budgets.md"
    assert found.passages[0].score > 0
    whales = (await client.call("Search", corpus="docs", query="whales", top_k=1)).passages[0]
    assert (whales.page, whales.start, whales.text) == (2, 10, "Page two about whales")

    text = "😀 Before a call money is reserved [Budgets] [budgets!] [the jury] [Nope] [1]"
    checked = await client.call("VerifyCitations", corpus="docs", text=text)
    assert [(text[one.start : one.end], one.status, one.path) for one in checked.citations] == [
        ("[Budgets]", common_pb2.CITATION_STATUS_RESOLVED, "budgets.md"),
        ("[budgets!]", common_pb2.CITATION_STATUS_RESOLVED, "budgets.md"),
        ("[the jury]", common_pb2.CITATION_STATUS_UNSUPPORTED, "sub/jury.md"),
        ("[Nope]", common_pb2.CITATION_STATUS_UNRESOLVED, ""),
    ]
    assert checked.resolved_documents == 1
    backed, _, unbacked, unknown = checked.citations
    assert (backed.document_id, backed.passage_id) == (found.passages[0].document_id, found.passages[0].passage_id)
    assert (backed.support, unbacked.support, unknown.HasField("support")) == (pytest.approx(1), 0, False)
    assert unbacked.reason
    assert unknown.reason

    got = await client.call("GetCorpus", corpus="docs")
    assert [(one.path, one.title, one.pages) for one in got.documents] == [
        ("a.pdf", "a", 2),
        ("budgets.md", "Budgets", 0),
        ("sub/jury.md", "The Jury", 0),
    ]
    assert got.version == version
    assert [one.path for one in got.skipped] == ["x.md"]


async def test_a_run_that_pins_its_version_sees_the_same_documents(client: Any) -> None:
    first = (await client.create(DOCS)).version.version
    second = (await client.create({"other.md": "# Other\n\nMoney is spent."})).version.version
    pinned = await client.call("Search", corpus="docs", version=first, query="money")
    assert [passage.title for passage in pinned.passages] == ["Budgets"]
    text = "Money is reserved before calls [Budgets] [Other]"
    checked = await client.call("VerifyCitations", corpus="docs", version=first, text=text)
    assert (checked.resolved_documents, checked.version) == (1, first)
    rolled = await client.call("RollbackCorpus", corpus="docs", version=first)
    assert (rolled.version.version, rolled.version.current) == (first, True)
    assert (await client.call("Search", corpus="docs", query="money")).version == first
    versions = (await client.call("ListCorpusVersions", corpus="docs")).versions
    assert [(one.version, one.current) for one in versions] == [(second, False), (first, True)]
    await client.call("DeleteCorpus", corpus="docs")
    assert isinstance(await refused(client.call("GetCorpus", corpus="docs")), NotFound)


async def test_the_same_files_are_reused_and_a_request_id_is_for_one_request(client: Any) -> None:
    request_id = str(uuid.uuid4())
    first = await client.create(DOCS, request_id=request_id)
    assert await client.create(DOCS, request_id=request_id) == first
    assert (await client.create(DOCS)).reused is True
    error = await refused(client.create({"a.md": "other"}, request_id=request_id))
    assert isinstance(error, AlreadyExists)
    assert error.reason == "REQUEST_ID_REUSED"


async def test_tenants_see_their_own_only(client: Any) -> None:
    await client.create(DOCS, tenant="acme")
    await client.create({"a.md": "# Alpha\n\nmoney"}, tenant="umbrella")
    found = await client.call("Search", corpus="docs", query="money", tenant="umbrella")
    assert [passage.title for passage in found.passages] == ["Alpha"]
    assert isinstance(await refused(client.call("Search", corpus="docs", query="money", tenant="third")), NotFound)
    assert not (await client.call("ListCorpora", tenant="third")).corpora


async def test_lists_page(client: Any) -> None:
    names = [f"corpus-{number}" for number in range(5)]
    for name in names:
        await client.create({"a.md": name}, corpus=name)
    for number in range(4):
        await client.create({"a.md": f"version {number}"}, corpus="corpus-0")

    async def pages(method: str, field: str, **fields: Any) -> list[list[str]]:
        token, listed = "", []
        while True:
            page = await client.call(method, page_size=2, page_token=token, **fields)
            listed.append([one.version if fields else one.corpus for one in getattr(page, field)])
            token = page.next_page_token
            if not token:
                return listed

    assert await pages("ListCorpora", "corpora") == [names[:2], names[2:4], names[4:]]
    versions = await pages("ListCorpusVersions", "versions", corpus="corpus-0")
    assert [len(page) for page in versions] == [2, 2, 1]
    assert len({version for page in versions for version in page}) == 5
    for token in ("garbage!", "bm90LW91cnM="):
        error = await refused(client.call("ListCorpusVersions", corpus="corpus-0", page_token=token))
        assert error.field == "page_token"
    assert (await refused(client.call("ListCorpora", page_token="%%%"))).field == "page_token"


@pytest.mark.parametrize(
    ("method", "fields", "field"),
    [
        ("Search", {"corpus": "docs", "query": ""}, "query"),
        ("Search", {"corpus": "docs", "query": "x", "top_k": 101}, "top_k"),
        ("Search", {"corpus": "docs", "query": "x", "top_k": -1}, "top_k"),
        ("Search", {"corpus": "docs", "query": "x", "token_budget": -1}, "token_budget"),
        ("Search", {"corpus": "docs", "query": "x", "passages_per_document": -1}, "passages_per_document"),
        ("Search", {"corpus": "../docs", "query": "x"}, "corpus"),
        ("Search", {"corpus": "", "query": "x"}, "corpus"),
        ("Search", {"corpus": "docs", "query": "x" * 1_048_577}, "query"),
        ("VerifyCitations", {"corpus": "docs", "text": "[a]" * 20_001}, "text"),
        ("ListCorpora", {"page_size": 1001}, "page_size"),
        ("RollbackCorpus", {"corpus": "docs", "version": ""}, "version"),
        ("RollbackCorpus", {"corpus": "docs", "version": "x", "request_id": "no uuid"}, "request_id"),
        ("DeleteCorpus", {"corpus": "docs", "request_id": ""}, "request_id"),
    ],
)
async def test_bad_fields_are_named(client: Any, method: str, fields: dict[str, Any], field: str) -> None:
    await client.create(DOCS)
    error = await refused(client.call(method, **fields))
    assert isinstance(error, InvalidInput)
    assert field in [violation.field for violation in error.violations]


@pytest.mark.parametrize("corpus", ["", "../etc", "UPPER", "a b", "a" * 101])
async def test_bad_corpus_names_are_refused_before_any_file(client: Any, corpus: str, tmp_path: Path) -> None:
    error = await refused(client.create(DOCS, corpus=corpus))
    assert isinstance(error, InvalidInput)
    assert "corpus" in error.field
    assert [path.name for path in (tmp_path / "grounding").rglob("*")] == []


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ([], "header"),
        (["file"], "header"),
        (["header", "header"], "file"),
        (["header", "nothing"], "file"),
        (["header", "headless"], "file.path"),
    ],
)
async def test_messages_out_of_order(client: Any, parts: list[str], field: str) -> None:
    kinds = {
        "header": {"header": {"request_id": str(uuid.uuid4()), "corpus": "docs"}},
        "file": {"file": {"path": "a.md", "content": b"text"}},
        "headless": {"file": {"content": b"text"}},
        "nothing": {},
    }
    requests = [grounding_pb2.CreateCorpusRequest(**kinds[part]) for part in parts]  # type: ignore[arg-type]
    error = await refused(client.stub.CreateCorpus(iter(requests)))
    assert isinstance(error, InvalidInput)
    assert error.field == field


async def test_an_empty_corpus_says_why(client: Any) -> None:
    error = await refused(client.create({"a.md": b"\0", "b.xyz": "text"}, skipped={"c.jpg": "an image"}))
    assert error.reason == "CORPUS_EMPTY"
    assert "a.md: binary" in error.message
    assert "c.jpg: an image" in error.message
    assert error.field == "corpus"


async def test_a_busy_corpus_says_when_to_come_back(serve: Any, tmp_path: Path) -> None:
    client = await serve(build_wait_s=0)
    with CorpusFolder(tmp_path / "grounding" / "acme", "docs").locked(0):
        error = await refused(client.create(DOCS))
    assert isinstance(error, Unavailable)
    assert (error.reason, error.retry_after_s) == ("CORPUS_BUSY", 5.0)
    assert (await client.create(DOCS)).reused is False


async def test_two_services_share_a_folder(serve: Any) -> None:
    one, other = await serve(), await serve()
    answers = await asyncio.gather(*(client.create(DOCS) for client in (one, other, one, other)))
    assert sorted(answer.reused for answer in answers) == [False, True, True, True]
    assert (await other.call("Search", corpus="docs", query="jurors")).passages[0].title == "The Jury"
    await one.call("DeleteCorpus", corpus="docs")
    assert isinstance(await refused(other.call("Search", corpus="docs", query="jurors")), NotFound)


async def test_an_upload_that_falls_silent_is_given_up(serve: Any, tmp_path: Path) -> None:
    client = await serve(idle_s=0.05)

    async def requests() -> Any:
        header = grounding_pb2.CorpusHeader(request_id=str(uuid.uuid4()), corpus="docs")
        yield grounding_pb2.CreateCorpusRequest(header=header)
        await asyncio.Event().wait()

    assert (await refused(client.stub.CreateCorpus(requests()))).code == "DEADLINE_EXCEEDED"
    assert not (tmp_path / "grounding" / "default").exists()


async def test_half_an_upload_is_no_corpus(client: Any, tmp_path: Path) -> None:
    for _ in range(30):  # the end of the stream and the cancellation race each other to the server
        sent = asyncio.Event()

        async def requests(sent: asyncio.Event = sent) -> Any:
            header = grounding_pb2.CorpusHeader(request_id=str(uuid.uuid4()), corpus="docs")
            yield grounding_pb2.CreateCorpusRequest(header=header)
            yield grounding_pb2.CreateCorpusRequest(file=grounding_pb2.CorpusFileChunk(path="a.md", content=b"half a"))
            sent.set()
            await asyncio.Event().wait()

        call = client.stub.CreateCorpus(requests())
        await sent.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert not (await client.call("ListCorpora", tenant="default")).corpora
    assert not (tmp_path / "grounding" / "default").exists()


async def test_a_call_given_up_in_the_middle_of_a_build_leaves_the_last_version(client: Any, tmp_path: Path) -> None:
    await client.create(DOCS)
    corpus = tmp_path / "grounding" / "acme" / "docs"
    large = {f"{number}.md": "words " * 50 for number in range(2_000)}
    call = asyncio.create_task(client.create(large))

    def wait_for_the_build() -> None:
        while not list(corpus.glob(".building-*")) and not call.done():
            time.sleep(0.001)

    await asyncio.to_thread(wait_for_the_build)
    call.cancel()
    await asyncio.wait([call])
    assert (await client.call("Search", corpus="docs", query="money")).passages
    await client.create({"a.md": "the next build works"})
    assert not list(corpus.glob(".*"))
    assert (await client.call("Search", corpus="docs", query="works")).passages


async def test_a_damaged_index_names_the_remedy_on_the_wire(client: Any, serve: Any, tmp_path: Path) -> None:
    await client.create(DOCS)
    for path in (tmp_path / "grounding").rglob("*.idx"):
        os.truncate(path, 10)
    error = await refused((await serve()).call("Search", corpus="docs", query="money"))
    assert isinstance(error, NotFound)
    assert "add the folder again to rebuild it" in error.message


async def test_a_data_folder_that_is_a_file_stops_the_start(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedPrecondition, match="name another folder in DJP_GROUNDING_DATA_DIR"):
        await serve(data_dir=tmp_path / "file" / "below")


async def test_searches_go_on_while_a_corpus_builds(client: Any) -> None:
    await client.create(DOCS)
    building = asyncio.create_task(
        client.create({f"{number}.md": f"# N{number}\n\n" + "words " * 50 for number in range(2_000)}, corpus="large")
    )
    searched = 0
    while not building.done():
        assert (await client.call("Search", corpus="docs", query="money")).passages
        searched += 1
    assert (await building).version.documents == 2_000
    assert searched > 1
