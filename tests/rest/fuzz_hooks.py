"""What schemathesis is told about the bridge: names of things that are there, and request ids that are none."""

from __future__ import annotations

import json
import os
import uuid
from typing import Any

import schemathesis  # type: ignore[import-not-found]  # it has an environment of its own

KNOWN: dict[str, str] = json.loads(os.environ["FUZZ_KNOWN"])
DEEDS = ("cancel", "pause", "resume", "approve", "reject", "replay")


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Let requests be about something: about what another answer named, or every second one about what there is."""
    if case.meta is not None and case.meta.phase.name == "stateful":
        _follow(case)
        return
    for fields in (case.path_parameters, case.body):
        if not isinstance(fields, dict) or len(str(case.body)) % 2:
            continue
        fields.update({name: KNOWN[name] for name in fields if name in KNOWN})
        if isinstance(fields.get("requestId"), str):
            fields["requestId"] = str(uuid.uuid4())


def _follow(case: Any) -> None:
    """Of a request in a chain only the names matter: what else may stand in it is tried on requests by themselves."""
    case.query.clear()
    fresh = {"requestId": str(uuid.uuid4())}
    if case.path.rpartition(":")[2] in DEEDS:
        case.body = fresh
    elif case.method == "POST" and case.path == "/v1/batches" and isinstance(case.body, dict):
        case.body = {**fresh, "batchId": case.body.get("batchId", ""), "runs": [{"task": "x", "preset": "quick"}]}
