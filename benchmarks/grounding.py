"""How fast grounding finds passages, beside scikit-learn's TF-IDF and bm25s: queries, build, memory, and through gRPC.

The passages are generated: a hundred words each, from a vocabulary with the frequencies of Zipf's law between English
function words, in documents of twenty sections. Two kinds of queries: content words only, and natural questions full of
function words. Every query asks for ten passages with their texts, one after another. Peers run in processes of their
own (`grounding_peers`). Memory is what a process alone holds more after it has built, or opened, an index and has
answered: not the peers' texts, which they are given, nor our mapped files, which the system can take back.
The service runs in a process of its own; while it is measured under a build, a second corpus is sent to it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.grounding_peers.peers import ask
from benchmarks.grounding_peers.worker import memory_bytes
from djp.mesh.channel import open_channel
from djp.v1 import grounding_pb2, grounding_pb2_grpc
from djp_grounding.analysis import STOP_WORDS
from djp_grounding.corpora import Corpora
from djp_grounding.folder import CorpusFolder
from djp_grounding.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PEERS = ("tfidf", "bm25s", "bm25s-numba")
SECTIONS = 20
WORDS = 100
IN_FLIGHT = 8


class Texts:
    """Passages and queries, the same ones every time."""

    def __init__(self, passages: int) -> None:
        rng = random.Random(7)
        letters = "bcdfghklmnprstvw"
        self.content = [
            "".join(rng.choice(letters) + rng.choice("aeiou") for _ in range(rng.randrange(2, 5)))
            for _ in range(50_000)
        ]
        weights = [1 / (rank + 10) for rank in range(len(self.content))]
        functional = STOP_WORDS.split()
        words = rng.choices(self.content, weights, k=passages * WORDS * 6 // 10)
        stops = rng.choices(functional, k=passages * WORDS * 4 // 10)
        at_words, at_stops = iter(words), iter(stops)
        self.passages = [
            " ".join(next(at_words if place % 5 < 3 else at_stops) for place in range(WORDS)) + "."
            for _ in range(passages)
        ]
        middle = self.content[50:5_000]
        self.queries = {
            "content": [" ".join(rng.choices(middle, k=4)) for _ in range(300)],
            "question": [
                "what is the {} of a {} and how does it have an effect on the {} which {} with these".format(
                    *rng.choices(middle, k=4)
                )
                for _ in range(300)
            ],
        }

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Documents of twenty sections: each section is cut to one passage."""
        for number in range(0, len(self.passages), SECTIONS):
            sections = self.passages[number : number + SECTIONS]
            text = "\n\n".join(f"## {at}\n\n{section}" for at, section in enumerate(sections))
            yield f"{number // SECTIONS}.md", f"---\ntitle: Document {number // SECTIONS}\n---\n{text}\n".encode()


def ours(texts: Texts, folder: Path) -> dict[str, Any]:
    """Seconds to build, then those of every query and the memory of a process that only opens and answers."""
    corpora = Corpora(folder)
    began = time.perf_counter()
    with corpora.intake() as intake:
        intake.add_all(texts.files())
        made = corpora.create("default", "big", intake, str(uuid.uuid4())).version
    built = time.perf_counter() - began
    began = time.perf_counter()
    with corpora.intake() as intake:
        files = dict(texts.files())
        files["0.md"] += b"\n## New\n\nAnother section.\n"
        intake.add_all(files.items())
        corpora.create("default", "big", intake, str(uuid.uuid4()))
    changed = time.perf_counter() - began
    (folder / "queries.json").write_text(json.dumps(texts.queries))
    command = [sys.executable, __file__, "--answer", str(folder), made.version]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return {"build_s": built, "change_s": changed, "passages": made.passages, **json.loads(ended.stdout)}


def answer(folder: Path, version: str) -> None:
    """The process that opens a version and answers, as `ours` asks for it."""
    queries = json.loads((folder / "queries.json").read_text())
    import tantivy  # what loading the library takes is no part of the index

    assert tantivy
    before, before_mapped = memory_bytes(), memory_bytes("VmRSS")
    snapshot = Snapshot(CorpusFolder(folder / "default", "big"), version)
    told: dict[str, Any] = {}
    for kind, asked in queries.items():
        for query in asked[:5]:
            snapshot.search(query, 10)
        took = []
        for query in asked:
            began = time.perf_counter()
            snapshot.search(query, 10)
            took.append(time.perf_counter() - began)
        told[kind] = took
    memory = {"rss": memory_bytes() - before, "rss_mapped": memory_bytes("VmRSS") - before_mapped}
    print(json.dumps({**told, **memory}))


def service(folder: Path, queries: Sequence[str], build: Sequence[tuple[str, bytes]]) -> dict[str, float]:
    """Through gRPC: p50 alone, calls a second with eight in flight, and p50 and the longest wait during a build."""
    address = f"unix:{folder}/g.sock"
    environment = {**os.environ, "DJP_GROUNDING_DATA_DIR": str(folder)}
    command = [str(Path(sys.executable).with_name("djp")), "serve", "grounding", "--listen", address]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return asyncio.run(_through_grpc(address, queries, build))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)


async def _through_grpc(address: str, queries: Sequence[str], build: Sequence[tuple[str, bytes]]) -> dict[str, float]:
    async with open_channel(address) as channel:
        await asyncio.wait_for(channel.channel_ready(), 60)
        stub = grounding_pb2_grpc.GroundingServiceStub(channel)

        async def search(query: str) -> float:
            began = time.perf_counter()
            await stub.Search(grounding_pb2.SearchRequest(corpus="big", query=query, top_k=10), timeout=60)
            return time.perf_counter() - began

        async def create() -> None:
            def parts() -> Iterator[grounding_pb2.CreateCorpusRequest]:
                header = grounding_pb2.CorpusHeader(request_id=str(uuid.uuid4()), corpus="other")
                yield grounding_pb2.CreateCorpusRequest(header=header)
                for path, content in build:
                    chunk = grounding_pb2.CorpusFileChunk(path=path, content=content)
                    yield grounding_pb2.CreateCorpusRequest(file=chunk)

            await stub.CreateCorpus(parts(), timeout=300)

        for query in queries[:20]:
            await search(query)
        alone = [await search(query) for query in queries]
        began = time.perf_counter()
        waiting = iter(queries * 3)

        async def one_of_many() -> None:
            for query in waiting:
                await search(query)

        await asyncio.gather(*(one_of_many() for _ in range(IN_FLIGHT)))
        rate = 3 * len(queries) / (time.perf_counter() - began)
        building, during = asyncio.create_task(create()), []
        while not building.done():
            during += [await search(query) for query in queries[:50]]
        await building
    return {
        "alone_s": statistics.median(alone),
        "calls_per_s": rate,
        "building_s": statistics.median(during),
        "building_longest_s": max(during),
    }


def main() -> None:
    """Measure, print tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 passages instead of 100,000")
    parser.add_argument("--answer", nargs=2, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.answer:
        answer(Path(flags.answer[0]), flags.answer[1])
        return
    texts = Texts(10_000 if flags.quick else 100_000)
    with tempfile.TemporaryDirectory(prefix="djp-") as name:
        folder = Path(name)
        (folder / "passages.json").write_text(json.dumps(texts.passages))
        both = [*texts.queries["content"], *texts.queries["question"]]
        (folder / "queries.json").write_text(json.dumps(both))
        rows: dict[str, dict[str, float]] = {}
        for peer in PEERS:
            told = ask(peer, folder / "passages.json", folder / "queries.json")
            rows[peer] = _row(told["seconds"][:300], told["seconds"][300:], told["build_s"], told["rss"])
        (folder / "data").mkdir()
        told = ours(texts, folder / "data")
        rows["ours"] = _row(told["content"], told["question"], told["build_s"], told["rss"])
        through = service(folder / "data", texts.queries["content"], list(texts.files()))
    print(f"{told['passages']:,} passages; p50 of the top 10 with their texts, in milliseconds")
    print(f"{'':<14}{'content':>10}{'question':>10}{'build s':>10}{'MB':>8}")
    for who, row in rows.items():
        print(f"{who:<14}{row['content_ms']:>10.2f}{row['question_ms']:>10.2f}{row['build_s']:>10.1f}{row['mb']:>8.0f}")
    print(f"with the files that it maps, ours is {told['rss_mapped'] / 1e6:.0f} MB")
    print(f"one document of {told['passages'] // SECTIONS:,} changed: {told['change_s']:.1f} s with the sending")
    print(
        f"Search through gRPC: p50 {through['alone_s'] * 1e3:.2f} ms, {through['calls_per_s']:.0f} calls a second with "
        f"{IN_FLIGHT} in flight; while the same corpus is built once more: p50 {through['building_s'] * 1e3:.2f} ms, "
        f"longest {through['building_longest_s'] * 1e3:.0f} ms"
    )
    figures: dict[str, float] = {
        f"{who.replace('-', '_')}_{name}": round(value, 3) for who, row in rows.items() for name, value in row.items()
    }
    figures |= {f"grpc_{name}": round(value, 5) for name, value in through.items()}
    figures |= {
        "ours_mapped_mb": round(told["rss_mapped"] / 1e6, 1),
        "change_s": round(told["change_s"], 2),
        "passages": told["passages"],
    }
    print(json.dumps({"benchmark": "grounding", "figures": figures}))


def _row(content: Sequence[float], question: Sequence[float], build_s: float, rss: float) -> dict[str, float]:
    return {
        "content_ms": statistics.median(content) * 1e3,
        "question_ms": statistics.median(question) * 1e3,
        "build_s": build_s,
        "mb": rss / 1e6,
    }


if __name__ == "__main__":
    main()
