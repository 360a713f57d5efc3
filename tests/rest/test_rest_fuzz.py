"""The running bridge, fuzzed by schemathesis from its own OpenAPI document: no 5xx, and nothing else than it tells."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.rest.djp_up import Up

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance"
)
EXAMPLES = 3
"""Of made-up requests for each RPC, beside those that schemathesis derives from the bounds in the document."""
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "djp-tools"


def test_every_answer_is_one_of_the_document(tmp_path: Path) -> None:
    found = sorted(_CACHE.glob("schemathesis-*/bin/st"))
    if not found:
        pytest.fail("this test needs schemathesis: run `make test` once, which installs it")
    with ExitStack() as stack:
        up = Up(stack)
        run = up.start(preset="quick")["runId"]
        list(up.watch(run))
        batch = {"requestId": str(uuid.uuid4()), "batchId": "known", "runs": [{"task": "x", "preset": "quick"}]}
        assert up.client.post("/v1/batches", json=batch).status_code == 200
        document = tmp_path / "openapi.json"
        # Schemathesis does not read dots in the names of a path's parts.
        text = up.client.get("/openapi.json").text
        document.write_text(text.replace("key.workflow", "workflow").replace("key.artifact", "artifact"))
        known = {"runId": run, "batchId": "known", "name": "weekly_report", "scope": "tenant:default"}
        fuzzed = subprocess.run(
            [
                *(str(found[-1]), "run", str(document), "--url", f"http://{up.rest}"),
                *("--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES)),
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
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert fuzzed.returncode == 0, fuzzed.stdout + fuzzed.stderr
        made = re.search(r"(\d+) generated", fuzzed.stdout)
        assert made, fuzzed.stdout
        assert int(made[1]) > 1000
