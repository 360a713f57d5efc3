"""Starts a run by gRPC, watches it to its end and prints its text and cost. Needs `pip install djp-workflow`.

    python examples/python/run.py localhost:7100 "Why do blind juries judge better?" [MAX_NANO_USD]

Standard output has the text, standard error the events. The exit code is 1 when the run was refused or has no text.
DJP_API_KEY has the key where one is asked for; DJP_TLS_CA, DJP_TLS_CERT and DJP_TLS_KEY name the files of TLS.
"""

from __future__ import annotations

import os
import sys

from djp.mesh.errors import DjpError
from djp.sync_client import connect
from djp.v1 import common_pb2, run_pb2


def main(address: str, task: str, most_nano_usd: str | None = None) -> int:
    """Returns the exit code."""
    request = run_pb2.RunRequest(task=task, budget_nano_usd=int(most_nano_usd) if most_nano_usd else None)
    try:
        with connect(address, api_key=os.environ.get("DJP_API_KEY", "")) as client:
            run = client.start_run(request)  # made again with the same request_id if the answer is lost
            for event in client.watch(run.run_id):  # takes a stream that breaks up again, and misses nothing
                print(event.sequence, event.WhichOneof("event"), file=sys.stderr)
            run = client.get_run(run.run_id)
    except DjpError as error:  # decide by the reason, never by the text
        print(f"refused: {error.reason}: {error.message}", file=sys.stderr)
        return 1
    if run.result.text:
        print(run.result.text)
    state = run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_")
    print(f"{state}, cost: {run.result.total_nano_usd} nano-dollars", file=sys.stderr)
    if run.HasField("error"):
        reason = common_pb2.ErrorReason.Name(run.error.reason).removeprefix("ERROR_REASON_")
        print(f"{reason}: {run.error.message}", file=sys.stderr)
    return 0 if run.result.text else 1


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
