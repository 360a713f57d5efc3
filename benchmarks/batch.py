"""Is every row of a batch run once, whatever dies? `djp batch` and its gateway are killed with SIGKILL again and again.

The mesh is `djp serve all` with the offline models. Each time a further share of the rows has been started, the command
is killed, every second time the whole mesh too, and both go on; the last time they may end. Then the gateway is asked
how many runs there are; the summary names them.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from djp.client import connect
from djp.v1 import run_pb2

DJP = str(Path(sys.executable).with_name("djp"))


async def started(address: str) -> int:
    """How many runs the gateway knows."""
    count, token = 0, ""
    async with connect(address) as client:
        while True:
            page = await client.list_runs(run_pb2.ListRunsRequest(page_size=1000, page_token=token))
            count, token = count + len(page.runs), page.next_page_token
            if not token:
                return count


async def measure(rows: int, kills: int) -> dict[str, float]:
    """Kill so many commands over so many rows."""
    with tempfile.TemporaryDirectory(prefix="djp-") as name:
        folder = Path(name)
        environment = {**os.environ, "DJP_HOME": str(folder / "home"), "DJP_LOG_LEVEL": "INFO"}
        address = f"unix:{folder}/gateway.sock"
        source = folder / "batch.csv"
        source.write_text("task\n" + "".join(f"Why is row {number} here?\n" for number in range(rows)))

        async def start(*arguments: str, **pipes: int) -> asyncio.subprocess.Process:
            return await asyncio.create_subprocess_exec(DJP, *arguments, env=environment, **pipes)  # type: ignore[arg-type]

        pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL

        async def serve() -> asyncio.subprocess.Process:
            server = await start("serve", "all", "--listen", address, stderr=pipe)
            assert server.stderr is not None
            while b"listening on" not in (line := await server.stderr.readline()):
                assert line, "the mesh did not start"
            drains.append(asyncio.create_task(server.stderr.read()))
            return server

        drains: list[asyncio.Task[bytes]] = []
        server = await serve()
        try:
            command = ("batch", "--input", str(source), "--output", str(folder / "out"), "--gateway", address)
            began = time.monotonic()
            for kill in range(kills):
                process = await start(*command, "--concurrency", "12", stderr=nowhere, stdout=nowhere)
                while await started(address) < rows * (kill + 1) // (kills + 1):
                    assert process.returncode is None, "it ended too early"
                    await asyncio.sleep(0.05)
                process.kill()
                await process.wait()
                mesh_too = kill % 2 == 1
                print(f"killed after {await started(address)} of {rows} rows were started{', and the mesh' * mesh_too}")
                if mesh_too:
                    server.kill()
                    await server.wait()
                    server = await serve()
            process = await start(*command, "--concurrency", "12", "--json", stdout=pipe, stderr=nowhere)
            out, _ = await process.communicate()
            took = time.monotonic() - began
            told = json.loads(out)
            with (folder / "out" / "summary.csv").open(newline="") as file:
                named = {row["run_id"] for row in csv.DictReader(file)}
            runs = await started(address)
        finally:
            server.terminate()
            await server.wait()
            await asyncio.gather(*drains)
        assert runs == len(named) == rows, f"{runs} runs, {len(named)} named, {rows} rows"
    return {
        "rows": rows,
        "kills": kills,
        "runs": runs,
        "seconds": round(took, 1),
        "cost_nano_usd": told["cost_nano_usd"],
    }


def main() -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="60 rows and 3 kills instead of 1,000 and 10")
    options = parser.parse_args()
    figures = asyncio.run(measure(*((60, 3) if options.quick else (1000, 10))))
    print(json.dumps({"benchmark": "batch", "figures": figures}))


if __name__ == "__main__":
    main()
