"""The running bridge, fuzzed by schemathesis from its own OpenAPI document: no 5xx, and nothing else than it tells."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rest.djp_up import Up

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance"
)
EXAMPLES = 3
"""Of made-up requests for each RPC, beside those that schemathesis derives from the bounds in the document."""
CHAINS = 60
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "djp-tools"


@dataclass
class Fuzzed:
    """A bridge with runs and a batch, the document that it gives, and a folder to work in."""

    up: Up
    run_id: str
    folder: Path

    def by(self, *flags: str) -> str:
        """Let schemathesis fuzz it; what it tells. Fails when it finds anything."""
        found = sorted(_CACHE.glob("schemathesis-*/bin/st"))
        if not found:
            pytest.fail("this test needs schemathesis: run `make test` once, which installs it")
        document = self.folder / "openapi.json"
        # Schemathesis does not read dots in the names of a path's parts.
        text = self.up.client.get("/openapi.json").text
        document.write_text(text.replace("key.workflow", "workflow").replace("key.artifact", "artifact"))
        known = {"runId": self.run_id, "batchId": "known", "name": "weekly_report", "scope": "tenant:default"}
        fuzzed = subprocess.run(
            [
                *(str(found[-1]), "run", str(document), "--url", f"http://{self.up.rest}", "--checks", CHECKS, *flags),
                *("--seed", "1", "--generation-deterministic", "--no-shrink"),
                *("--exclude-operation-id", "GovernanceService_WatchEvents"),  # which does not end
                *("--continue-on-failure", "--request-timeout", "60", "--warnings", "off", "--no-color"),
            ],
            env={
                **os.environ,
                "SCHEMATHESIS_HOOKS": "fuzz_hooks",
                "PYTHONPATH": str(Path(__file__).parent),
                "FUZZ_KNOWN": json.dumps(known),
            },
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert fuzzed.returncode == 0, fuzzed.stdout + fuzzed.stderr
        return fuzzed.stdout


@pytest.fixture
def fuzzed(tmp_path: Path) -> Iterator[Fuzzed]:
    with ExitStack() as stack:
        up = Up(stack)
        run = up.start(preset="quick")["runId"]
        list(up.watch(run))
        batch = {"requestId": str(uuid.uuid4()), "batchId": "known", "runs": [{"task": "x", "preset": "quick"}]}
        assert up.client.post("/v1/batches", json=batch).status_code == 200
        yield Fuzzed(up, run, tmp_path)


def test_every_answer_is_one_of_the_document(fuzzed: Fuzzed) -> None:
    told = fuzzed.by("--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES))
    made = re.search(r"(\d+) generated", told)
    assert made, told
    assert int(made[1]) > 1000


def test_every_answer_in_a_chain_of_requests_is_one_of_the_document(fuzzed: Fuzzed) -> None:
    """Requests about what the answers before them named, in any order: a run is cancelled, replayed, watched, …"""
    for _ in range(2):
        fuzzed.up.start(preset="quick", requireApproval=True)
    of_what_lives = ("--include-path-regex", "^/v1/(runs|batches)")
    told = fuzzed.by("--phases", "stateful", "--max-examples", str(CHAINS), *of_what_lives)
    links = re.search(r"(\d+) covered / (\d+) selected", told)
    assert links, told
    assert int(links[1]) > 25, told
