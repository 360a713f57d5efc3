"""What the REST bridge costs: the same 200 calls by gRPC, by gRPC through Envoy, and by REST, in turns, in one run.

They are the calls of tests/rest/test_rest_both_ways.py, refusals among them, made one after the other by one client.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import grpc
from google.protobuf import message_factory

from tests.rest.both_ways import by_grpc, by_rest
from tests.rest.djp_up import Up
from tests.rest.test_rest_both_ways import calls

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 15")
    rounds = 3 if parser.parse_args().quick else 15
    took: dict[str, list[float]] = {"grpc": [], "grpc_through_envoy": [], "rest": []}
    with ExitStack() as stack:
        up = Up(stack)
        runs = [up.start(preset="quick", task=f"Task {number}")["runId"] for number in range(3)]
        for run in runs:
            list(up.watch(run))
        through = stack.enter_context(grpc.insecure_channel(up.rest))
        made = calls(runs)
        for turn in range(rounds + 1):
            for (service, stub), method, request in made:
                empty = message_factory.GetMessageClass(service.methods_by_name[method].output_type)()
                ways: dict[str, Callable[[], object]] = {
                    "grpc": lambda s=stub, m=method, r=request: by_grpc(s(up.channel), m, r),
                    "grpc_through_envoy": lambda s=stub, m=method, r=request: by_grpc(s(through), m, r),
                    "rest": lambda s=service, m=method, r=request, e=empty: by_rest(up.client, s, m, r, e),
                }
                for name, way in ways.items():
                    began = time.perf_counter()
                    way()
                    if turn:  # the first round warms everything up
                        took[name].append(time.perf_counter() - began)
    figures: dict[str, float] = {"calls": len(made), "rounds": rounds}
    print(f"{'way':<22}{'p50':>10}{'p95':>10}{'over gRPC':>12}")
    base = statistics.median(took["grpc"]) * 1000
    for name, values in took.items():
        p50, p95 = statistics.median(values) * 1000, statistics.quantiles(values, n=20)[-1] * 1000
        print(f"{name:<22}{p50:>7.2f} ms{p95:>7.2f} ms{p50 - base:>+9.2f} ms")
        figures |= {f"{name}_p50_ms": round(p50, 2), f"{name}_p95_ms": round(p95, 2)}
    print(json.dumps({"benchmark": "rest", "figures": figures}))


if __name__ == "__main__":
    main()
