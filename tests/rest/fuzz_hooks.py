"""What schemathesis is told about the bridge: names of things that are there, and request ids that are none."""

from __future__ import annotations

import json
import os
import uuid
from typing import Any

import schemathesis  # type: ignore[import-not-found]  # it has an environment of its own

KNOWN: dict[str, str] = json.loads(os.environ["FUZZ_KNOWN"])


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Put them into every second request: what nobody has is answered alike, however it is called."""
    for fields in (case.path_parameters, case.body):
        if not isinstance(fields, dict) or len(str(case.body)) % 2:
            continue
        fields.update({name: KNOWN[name] for name in fields if name in KNOWN})
        if isinstance(fields.get("requestId"), str):
            fields["requestId"] = str(uuid.uuid4())
