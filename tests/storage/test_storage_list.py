"""Listing artifacts and adding them up, over a real socket."""

from __future__ import annotations

import base64
import json
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import common_pb2


async def refused_field(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = error_from_rpc(caught.value)
    assert error.code == "INVALID_ARGUMENT"
    return error.field


async def all_pages(client: Any, **request: Any) -> list[list[str]]:
    pages, token = [], ""
    while True:
        page = await client.list(page_token=token, **request)
        pages.append([one.key.artifact for one in page.artifacts])
        token = page.next_page_token
        if not token:
            return pages


async def test_pages_hold_every_artifact_once_newest_first(client: Any) -> None:
    for name in "abcde":
        await client.put(name.encode(), artifact=name)
    assert await client.names() == list("edcba")
    assert await all_pages(client, page_size=2) == [["e", "d"], ["c", "b"], ["a"]]
    assert await all_pages(client, page_size=5) == [list("edcba")]


async def test_what_is_put_while_paging_repeats_and_hides_nothing(client: Any) -> None:
    for name in "abcd":
        await client.put(artifact=name)
    page = await client.list(page_size=2)
    await client.put(artifact="z")
    assert await client.names(page_size=2, page_token=page.next_page_token) == ["b", "a"]


async def test_the_longest_names_page(client: Any) -> None:
    workflow, names = "\U00020000" * 200, [letter * 200 for letter in "\U00020000\U00020001\U00020002"]
    for name in names:
        await client.put(artifact=name, workflow=workflow)
    assert await all_pages(client, page_size=1) == [[name] for name in reversed(names)]


async def test_largest_first_also_where_sizes_are_equal(client: Any) -> None:
    for name, size in {"a": 5, "b": 9, "c": 5, "d": 0, "e": 5}.items():
        await client.put(bytes(size), artifact=name)
    pages = await all_pages(client, page_size=2, largest_first=True)
    assert [name for page in pages for name in page] == ["b", "e", "c", "a", "d"]


@pytest.mark.parametrize("few", [1, 100])
async def test_the_largest_of_a_span_of_time(client: Any, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr("djp_storage.adapters.sql_lists._FEW", few)
    put = [await client.put(bytes(size), artifact=f"{size:02}") for size in (50, 4, 9, 5, 7, 60)]
    span = {"created": common_pb2.TimeRange(since=put[1].created_at, until=put[5].created_at)}
    for more in ({}, {"workflow": "w"}, {"tier": common_pb2.TIER_HOT}):
        pages = await all_pages(client, page_size=3, largest_first=True, **span, **more)
        assert pages == [["09", "07", "05"], ["04"]]


async def test_filters_join(client: Any) -> None:
    first = await client.put(artifact="a", workflow="one", run_id="r1")
    second = await client.put(artifact="b", workflow="one", run_id="r2")
    await client.put(artifact="c", workflow="two", run_id="r1")
    assert await client.names(workflow="one") == ["b", "a"]
    assert await client.names(run_id="r1") == ["c", "a"]
    assert await client.names(workflow="one", run_id="r1") == ["a"]
    assert await client.names(workflow="on") == []
    assert await client.names(tier=common_pb2.TIER_HOT) == ["c", "b", "a"]
    assert await client.names(tier=common_pb2.TIER_COLD) == []
    since_second = common_pb2.TimeRange(since=second.created_at)
    until_second = common_pb2.TimeRange(since=first.created_at, until=second.created_at)
    assert await client.names(created=since_second) == ["c", "b"]
    assert await client.names(created=until_second) == ["a"]


@pytest.mark.parametrize(
    "place",
    [
        None,
        [],
        ["x"] * 4,
        [False, 1, "w"],
        [False, 2**70, "w", "a"],
        [False, 1.5, "w", "a"],
        [False, "1", "w", "a"],
        {"a": 1},
        [True, 1, "w", "a"],
        [False, True, "w", "\ud800"],
    ],
)
async def test_a_token_of_another_list_is_refused(client: Any, place: Any) -> None:
    token = base64.urlsafe_b64encode(json.dumps(place).encode()).decode()
    assert await refused_field(client.list(page_token=token)) == "page_token"


@pytest.mark.parametrize("token", ["!", "AAAA", "é", "[" * 900, "W1tb", "9" * 1000])
async def test_a_token_that_is_none_is_refused(client: Any, token: str) -> None:
    assert await refused_field(client.list(page_token=token)) == "page_token"


async def test_spans_of_time_that_are_none_are_refused(client: Any) -> None:
    span = common_pb2.TimeRange(since=Timestamp(seconds=10), until=Timestamp(seconds=10))
    assert await refused_field(client.list(created=span)) == "created"
    for seconds in (2**62, -(2**62), 253402300800):
        span = common_pb2.TimeRange(until=Timestamp(seconds=seconds))
        assert await refused_field(client.list(created=span)) == "created.until"
    span = common_pb2.TimeRange(since=Timestamp(seconds=0, nanos=-5))
    assert await refused_field(client.list(created=span)) == "created.since"


async def test_totals(client: Any) -> None:
    assert await client.stats() == []
    first = await client.put(b"12345", artifact="a", workflow="one")
    await client.put(b"123", artifact="b", workflow="one")
    await client.put(b"1", artifact="c", workflow="two")
    await client.of("other").put(b"1234567")
    (total,) = await client.stats()
    assert (total.tenant, total.tier, total.workflow, total.count, total.bytes) == (
        "acme",
        common_pb2.TIER_HOT,
        "",
        3,
        9,
    )
    assert total.oldest == first.created_at
    assert [(one.workflow, one.count, one.bytes) for one in await client.stats(by_workflow=True)] == [
        ("one", 2, 8),
        ("two", 1, 1),
    ]
