"""Files offered by their hashes: what is known is not sent again, and what is not known is asked for."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from djp.mesh.identity import Identity, identity_scope
from djp.v1 import grounding_pb2
from tests.grounding.conftest import refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DOCS = {f"{number}.md": f"# Note {number}\n\nabout subject{number}" for number in range(20)}


async def offer(
    client: Any, files: Mapping[str, str], *sent: str, tenant: str = "acme", request_id: str = ""
) -> grounding_pb2.CreateCorpusResponse:
    """All files by their hashes but those that are `sent`."""

    def requests() -> Iterator[grounding_pb2.CreateCorpusRequest]:
        header = grounding_pb2.CorpusHeader(request_id=request_id or str(uuid.uuid4()), corpus="docs")
        yield grounding_pb2.CreateCorpusRequest(header=header)
        hashes = grounding_pb2.CorpusFileHashes()
        for path, text in files.items():
            content = text.encode()
            if path in sent:
                yield grounding_pb2.CreateCorpusRequest(file=grounding_pb2.CorpusFileChunk(path=path, content=content))
            else:
                hashes.files.add(path=path, sha256=hashlib.sha256(content).digest(), bytes=len(content))
        yield grounding_pb2.CreateCorpusRequest(hashes=hashes)

    with identity_scope(Identity(tenant)):
        answer: grounding_pb2.CreateCorpusResponse = await client.stub.CreateCorpus(requests())
    return answer


async def test_what_is_known_is_not_sent_again(client: Any) -> None:
    request_id = str(uuid.uuid4())
    unknown = await offer(client, DOCS, request_id=request_id)
    assert sorted(unknown.missing) == sorted(DOCS)
    assert not unknown.HasField("version")
    assert not (await client.call("ListCorpora")).corpora
    made = await offer(client, DOCS, *unknown.missing, request_id=request_id)
    assert (list(made.missing), made.reused, made.version.documents) == ([], False, 20)
    again = await offer(client, DOCS)
    assert (list(again.missing), again.reused, again.version.version) == ([], True, made.version.version)

    changed = {**DOCS, "3.md": "# Note 3\n\nabout whales", "new.md": "# New\n\nabout ships"}
    del changed["4.md"]
    asked = await offer(client, changed)
    assert sorted(asked.missing) == ["3.md", "new.md"]
    later = await offer(client, changed, *asked.missing)
    assert (list(later.missing), later.version.documents) == ([], 20)
    for query, titles in {"whales": ["Note 3"], "ships": ["New"], "subject4": [], "subject5": ["Note 5"]}.items():
        found = await client.call("Search", corpus="docs", query=query)
        assert [one.title for one in found.passages] == titles


async def test_a_title_that_changes_with_others_needs_its_file(client: Any) -> None:
    files = {**DOCS, "b.md": "# Same\n\nthe second", "z.md": "# Same\n\nthe last"}
    await offer(client, files, *files)
    asked = await offer(client, files := {**files, "a.md": "# Same\n\nthe first"})
    assert list(asked.missing) == ["a.md"]
    asked = await offer(client, files, "a.md")
    assert "b.md" in asked.missing
    made = await offer(client, files, "a.md", *asked.missing)
    assert made.version.documents == 23
    titles = {one.path: one.title for one in (await client.call("GetCorpus", corpus="docs")).documents}
    assert (titles["a.md"], titles["b.md"], titles["z.md"]) == ("Same", "Same (2)", "Same (3)")


async def test_hashes_show_nothing_of_another_tenant(client: Any) -> None:
    await offer(client, DOCS, *DOCS)
    assert sorted((await offer(client, DOCS, tenant="umbrella")).missing) == sorted(DOCS)


async def test_a_hash_that_is_none_is_refused_by_its_place(client: Any) -> None:
    def requests(**fields: Any) -> Iterator[grounding_pb2.CreateCorpusRequest]:
        header = grounding_pb2.CorpusHeader(request_id=str(uuid.uuid4()), corpus="docs")
        yield grounding_pb2.CreateCorpusRequest(header=header)
        hashes = grounding_pb2.CorpusFileHashes(files=[grounding_pb2.CorpusFileHash(path="a.md", **fields)])
        yield grounding_pb2.CreateCorpusRequest(hashes=hashes)

    for fields in ({"sha256": b"short", "bytes": 1}, {"sha256": bytes(32), "bytes": -1}):
        error = await refused(client.stub.CreateCorpus(requests(**fields)))
        assert (error.code, error.field) == ("INVALID_ARGUMENT", "hashes.files[0]")


@pytest.mark.parametrize(
    ("path", "size", "reason"), [("../a.md", 5, "leaves"), ("a.md", 2**40, "larger"), ("a.md", 0, "empty")]
)
async def test_bounds_hold_for_offers_too(client: Any, path: str, size: int, reason: str) -> None:
    def requests() -> Iterator[grounding_pb2.CreateCorpusRequest]:
        header = grounding_pb2.CorpusHeader(request_id=str(uuid.uuid4()), corpus="docs")
        yield grounding_pb2.CreateCorpusRequest(header=header)
        hash_ = grounding_pb2.CorpusFileHash(path=path, sha256=bytes(32), bytes=size)
        yield grounding_pb2.CreateCorpusRequest(hashes=grounding_pb2.CorpusFileHashes(files=[hash_]))

    error = await refused(client.stub.CreateCorpus(requests()))
    assert error.reason == "CORPUS_EMPTY"
    assert reason in error.message
