"""A corpus of 20,000 files, among them 500 hostile ones: that it is built, how long it takes, and what is told of it.

The files are those of the tests: zip bombs under other names, PDFs that unpack to 200 MB, that have themselves as
pages, 20,000 pages or a million operators, or are cut off, 1 GB of zeros, other encodings, symbolic links that go
round, away or nowhere, named pipes, and names with line breaks or without UTF-8. They go through the client to a
service in a process of its own, which meanwhile is asked for passages of another corpus. A PDF may take three seconds,
a tenth of the usual.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from djp.client import DjpClient
from djp.mesh.channel import open_channel
from tests.grounding.hostile_files import KINDS, fill, kept

if TYPE_CHECKING:
    from djp.client import Corpus

PDF_SECONDS = 3
_NUMBER = re.compile(r"\d[\d,.]*")


def peak_bytes(process: int) -> int:
    """The most memory that a process had in RAM, memory-mapped files with it."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def trial(address: str, folder: Path, process: int) -> dict[str, Any]:
    """Sends the folder twice, while a small corpus is searched."""
    (folder.parent / "small").mkdir()
    (folder.parent / "small" / "a.md").write_text("# Alpha\n\napples")
    async with open_channel(address) as channel:
        await asyncio.wait_for(channel.channel_ready(), 60)
        client = DjpClient(channel)
        await client.create_corpus(folder.parent / "small", name="small")
        told, waits = await _watched(client, folder)
        began = time.perf_counter()
        await client.create_corpus(folder, name="hostile")
        again = time.perf_counter() - began
        hits = (await client.corpora.search("hostile", "subject7 whales", top_k=1)).passages
    return {**told, "again_s": again, "waits": waits, "found": hits[0].title, "peak": peak_bytes(process)}


async def _watched(client: DjpClient, folder: Path) -> tuple[dict[str, Any], list[float]]:
    async def create() -> tuple[Corpus, float]:
        began = time.perf_counter()
        corpus = await client.create_corpus(folder, name="hostile")
        return corpus, time.perf_counter() - began

    building, waits = asyncio.create_task(create()), []
    while not building.done():
        began = time.perf_counter()
        await client.corpora.search("small", "apples")
        waits.append(time.perf_counter() - began)
        await asyncio.sleep(0.01)
    corpus, seconds = await building
    paths = {one.path for one in (await client.corpora.get("hostile")).documents}
    return {"build_s": seconds, "skipped": corpus.skipped, "paths": paths}, waits


def main() -> None:
    """Measure, print tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 files with one hostile one of each kind")
    flags = parser.parse_args()
    files, of_a_kind = (1_000, 1) if flags.quick else (20_000, 30)
    good = files - of_a_kind * KINDS
    with tempfile.TemporaryDirectory(prefix="djp-") as name:
        folder, address = Path(name) / "files", f"unix:{name}/g.sock"
        fill(folder, good, of_a_kind)
        environment = {
            **os.environ,
            "DJP_GROUNDING_DATA_DIR": f"{name}/data",
            "DJP_GROUNDING_PDF_SECONDS": str(PDF_SECONDS),
        }
        command = [str(Path(sys.executable).with_name("djp")), "serve", "grounding", "--listen", address]
        server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            told = asyncio.run(trial(address, folder, server.pid))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=60)
    expected = good + len(kept(of_a_kind))
    wrong = len(told["paths"] ^ (kept(of_a_kind) | {f"part{n % 40}/note{n}.md" for n in range(good)}))
    reasons = Counter(_NUMBER.sub("N", one.reason) for one in told["skipped"])
    print(f"{files:,} files, {of_a_kind * KINDS} hostile")
    print(f"built in {told['build_s']:.0f} s, the same again in {told['again_s']:.0f} s")
    print(f"{len(told['paths']):,} documents of the {expected:,} expected, {wrong} wrong; left out:")
    for reason, count in reasons.most_common():
        print(f"  {count:>6}  {reason[:100]}")
    print(
        f"most memory: the service {told['peak'] / 1e6:.0f} MB, the client "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB; searches meanwhile: the longest of "
        f"{len(told['waits']):,} took {max(told['waits']) * 1e3:.0f} ms"
    )
    figures = {
        "files": files,
        "hostile": of_a_kind * KINDS,
        "build_s": round(told["build_s"], 1),
        "again_s": round(told["again_s"], 1),
        "documents": len(told["paths"]),
        "documents_wrong": wrong,
        "left_out": len(told["skipped"]),
        "service_mb": round(told["peak"] / 1e6),
        "search_longest_s": round(max(told["waits"]), 3),
    }
    print(json.dumps({"benchmark": "grounding_hostile", "figures": figures}))


if __name__ == "__main__":
    main()
