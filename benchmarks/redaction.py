"""How fast texts are redacted: us, Presidio, Python `re`, google-re2 and Hyperscan's bare scan on the same documents.

The documents are generated (`redaction_peers/texts.py`): 2 KB of prose with a finding about every 1,000 characters
(realistic) or every 100 (dense), of the eleven kinds that every side looks for. Everyone takes a text and gives the
redacted text and what was found, except Presidio, whose replacing is not counted, and Hyperscan's bare scan: it reads
bytes that are already there and tells nobody: the limit of what is built on it. What each peer runs, and why, stands in
`redaction_peers/engines.py` and `presidio_worker.py`. The run fails if we, `re` or RE2 leave a planted value, or if
we take what was not planted; Presidio's misses are shown.

Speed is bytes of UTF-8 a second of CPU time of the measuring thread, so that other work on the machine does not count;
medians over turns in which every side takes its turn, in another order each time. Latency in process is that of one
call on a 4 KB document: wall time as a caller sees it, and CPU time. The service is `djp serve redaction`, a process of
its own over loopback, beside a process with the same server whose Redact gives the text back: the cost of an RPC of
that size that does nothing.

`--worst` looks for slow texts and rules instead (`redaction_peers/worst.py`).
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.redaction_peers import engines
from benchmarks.redaction_peers.presidio import presidio
from benchmarks.redaction_peers.service import IN_FLIGHT, measure_service, percentile
from benchmarks.redaction_peers.texts import KINDS, documents
from benchmarks.redaction_peers.worst import measure_worst
from djp_redaction.redactor import Redactor
from djp_redaction.rule_file import load_rules
from djp_redaction.settings import RedactionSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.redaction_peers.engines import Finder, Span
    from benchmarks.redaction_peers.presidio import Presidio
    from benchmarks.redaction_peers.texts import Document

SEED = 20_251
DOCUMENT_BYTES, LATENCY_BYTES = 2048, 4096
DENSITIES = {"realistic": 1000, "dense": 100}
PRESIDIO_SHARE = 10  # it gets every tenth document: it takes that much longer
GOALS = {"to_presidio": 250.0, "to_best_re2": 1.8, "p99_ms": 0.2}


def ours(types: Sequence[str] | None = None) -> Finder:
    """Our redactor with the built-in rules, or with those of these types alone."""
    document = json.loads(RedactionSettings().rules.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rules.json"
        if types is not None:
            document["rules"] = [rule for rule in document["rules"] if rule["type"] in types]
        path.write_text(json.dumps(document), encoding="utf-8")
        redactor = Redactor(load_rules(path))

    def find(text: str) -> tuple[str, list[Span]]:
        redacted = redactor.redact(text)
        kinds = [rule.type for rule in redacted.rules]
        return redacted.text, list(zip(kinds, redacted.starts, redacted.ends, strict=True))

    return find


def left(docs: Sequence[Document], found: Sequence[Sequence[tuple[Any, ...]]]) -> list[str]:
    """The planted values that no finding covers whole."""
    return [
        document.text[start:end]
        for document, spans in zip(docs, found, strict=True)
        for _, start, end in document.planted
        if not any(span[1] <= start and end <= span[2] for span in spans)
    ]


def false_finds(docs: Sequence[Document], found: Sequence[Sequence[tuple[Any, ...]]]) -> int:
    """How many findings touch nothing that was planted."""
    return sum(
        not any(span[1] < end and start < span[2] for _, start, end in document.planted)
        for document, spans in zip(docs, found, strict=True)
        for span in spans
    )


def throughput(
    docs: Sequence[Document], turns: int, presidios: Mapping[str, Presidio]
) -> tuple[dict[str, float], float]:
    """Megabytes a second of CPU time by name, and the share of the planted values that Presidio's recognisers find."""
    size = sum(len(document.text.encode()) for document in docs)
    finders = {"ours": ours(KINDS), "ours_all_kinds": ours(), "re": engines.with_re()}
    finders |= engines.re2_variants()
    for name, finder in finders.items():  # also the warm-up
        found = [finder(document.text)[1] for document in docs]
        if missed := left(docs, found):
            raise RuntimeError(f"{name} leaves {len(missed)} planted values, the first is {missed[0]!r}")
        if name.startswith("ours") and (wrong := false_finds(docs, found)):
            raise RuntimeError(f"{name} finds {wrong} times what was not planted")
    scan, encoded = engines.hyperscan_scan(), [document.text.encode() for document in docs]
    few = docs[::PRESIDIO_SHARE]
    texts = [document.text for document in few]
    few_size = sum(len(text.encode()) for text in texts)
    of_peers = {name: peer.find(texts)[1] for name, peer in presidios.items()}
    share = 1 - len(left(few, of_peers["presidio"])) / sum(len(document.planted) for document in few)
    samples: dict[str, list[float]] = {}
    gc.collect()
    gc.freeze()  # what the measuring holds is nobody's garbage
    order = [*finders, "hyperscan_scan", *presidios]
    shuffled = random.Random(SEED)
    for _ in range(turns):
        shuffled.shuffle(order)  # who comes behind Presidio's long turn finds the caches cold
        for name in order:
            if name in presidios:
                samples.setdefault(name, []).append(few_size / presidios[name].find(texts)[0])
                continue
            before = time.process_time()
            if name in finders:
                for document in docs:
                    finders[name](document.text)
            else:
                for data in encoded:
                    scan(data)
            samples.setdefault(name, []).append(size / (time.process_time() - before))
    return {name: statistics.median(rates) / 1e6 for name, rates in samples.items()}, share


def latency(docs: Sequence[Document], calls: int) -> dict[str, float]:
    """Milliseconds of one call of ours with every built-in rule, at the median and the 99th percentile."""
    finder = ours()
    wall, cpu = [], []
    for number in range(calls + len(docs)):
        text = docs[number % len(docs)].text
        began, before = time.perf_counter_ns(), time.thread_time_ns()
        finder(text)
        used, took = time.thread_time_ns() - before, time.perf_counter_ns() - began
        if number >= len(docs):  # the first round is the warm-up
            wall.append(took / 1e6)
            cpu.append(used / 1e6)
    return {"p50_ms": percentile(wall, 50), "p99_ms": percentile(wall, 99), "p99_cpu_ms": percentile(cpu, 99)}


TITLES = {
    "ours": "DJP Mesh, the eleven kinds",
    "ours_all_kinds": "DJP Mesh, all built-in kinds",
    "presidio": "Presidio, its own recognisers",
    "presidio_patterns": "Presidio, short patterns",
    "re": "Python re, one by one",
    "re2_alone": "RE2, one by one",
    "re2_union": "RE2, one alternation",
    "re2_set": "RE2 Set, then those present",
    "re2_alone_our_rules": "RE2 with our rules, one by one",
    "re2_set_our_rules": "RE2 with our rules, Set",
    "hyperscan_scan": "Hyperscan, bare scan",
}


def measure_in_process(count: int, turns: int, calls: int) -> dict[str, float]:
    """Speed beside the peers and latency, with a table for people on the way."""
    figures: dict[str, float] = {}
    own = {kind: engines.PATTERNS[kind] for kind in KINDS if kind not in engines.OF_PRESIDIO}
    with presidio(KINDS, own) as recognizers, presidio(KINDS, engines.PATTERNS) as patterns:
        for density, apart in DENSITIES.items():
            docs = documents(SEED, count, DOCUMENT_BYTES, apart)
            rates, share = throughput(docs, turns, {"presidio": recognizers, "presidio_patterns": patterns})
            planted = sum(len(document.planted) for document in docs)
            print(f"{density}: {count} documents of 2 KB, {planted / count:.1f} findings each")
            print(f"  {'MB/s of CPU time':<34}{'MB/s':>9}{'ours is':>12}")
            for name, title in TITLES.items():
                print(f"  {title:<34}{rates[name]:>9.2f}{rates['ours'] / rates[name]:>10.2f} x")
            print(f"  Presidio's own recognisers find {share:.1%} of what was planted; all others find all of it.")
            re2 = {name: rate for name, rate in rates.items() if name.startswith("re2_")}
            took = latency(documents(SEED, 100, LATENCY_BYTES, apart), calls)
            print("  one call on 4 KB: " + ", ".join(f"{name} {value:.3f}" for name, value in took.items()), flush=True)
            figures |= {f"{density}_{name}_mb_s": round(rate, 3) for name, rate in rates.items()}
            figures |= {f"{density}_4kb_{name}": round(value, 4) for name, value in took.items()}
            figures[f"{density}_to_presidio"] = round(rates["ours"] / rates["presidio"], 1)
            figures[f"{density}_to_best_re2"] = round(rates["ours"] / max(re2.values()), 2)
            same = max(rate for name, rate in re2.items() if name.endswith("_our_rules"))
            figures[f"{density}_to_best_re2_our_rules"] = round(rates["ours"] / same, 2)
            figures[f"{density}_presidio_finds"] = round(share, 4)
    return figures


def measure(quick: bool) -> dict[str, float]:
    """Everything."""
    count, turns = (200, 9) if quick else (1000, 9)
    figures = measure_in_process(count, turns, 500 if quick else 5000)
    docs = documents(SEED, count, DOCUMENT_BYTES, DENSITIES["realistic"])
    served = measure_service([document.text for document in docs], turns)
    print(f"through gRPC, 2 KB, realistic, {IN_FLIGHT} calls in flight (in brackets: one at a time)")
    for name, title in (("service", "redaction service"), ("empty", "an empty RPC of that size")):
        print(
            f"  {title:<34}{served[f'{name}_docs_per_s']:>7.0f} documents/s, p99 {served[f'{name}_p99_ms']:.2f} ms "
            f"({served[f'{name}_alone_p50_ms']:.2f} ms, p99 {served[f'{name}_alone_p99_ms']:.2f} ms)"
        )
    figures |= {f"grpc_{name}": round(value, 3) for name, value in served.items()}
    print(
        f"goals: {GOALS['to_presidio']:.0f} x Presidio: {figures['realistic_to_presidio']}; "
        f"{GOALS['to_best_re2']} x the best RE2: {figures['realistic_to_best_re2']} "
        f"({figures['realistic_to_best_re2_our_rules']} with our rules); "
        f"4 KB p99 {GOALS['p99_ms']} ms: {figures['realistic_4kb_p99_ms']}"
    )
    return figures


def main() -> None:
    """Measure, print tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200 documents instead of 1,000")
    parser.add_argument("--worst", action="store_true", help="look for slow texts and rules instead")
    options = parser.parse_args()
    figures = measure_worst(*((5, 3) if options.quick else (120, 8))) if options.worst else measure(options.quick)
    print(json.dumps({"benchmark": "redaction", "figures": figures}))


if __name__ == "__main__":
    main()
