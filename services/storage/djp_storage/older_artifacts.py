"""Run artifacts of schema 1.1, of the older single-process system: what is in one. `conversion.py` makes ours of it."""

from __future__ import annotations

import json
from datetime import datetime  # noqa: TC003  pydantic reads the types at run time
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from djp.mesh.errors import InvalidInput

OLDER_VERSION = "1.1"

_MAX_MESSAGE = 300

_Count = Annotated[int, Field(ge=0, le=10**15)]
_Unit = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    """Fields that we do not know are left alone: 1.1 allowed any."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class OlderParameters(_Part):
    """The flags of the run. `allowed_models` and others of them have no place in our artifacts."""

    max_tokens: Annotated[int, Field(ge=1)]
    temperature: Annotated[float, Field(ge=0, le=2)]
    policy: str = "openai_only"  # its writer left this one out
    preset_name: str | None = None
    seed: int | None = None
    grounded_corpus: str | None = None
    redact: bool = True


class OlderMetadata(_Part):
    """`timestamp` is when the artifact was made; without a zone it is the clock of a machine that we do not know."""

    timestamp: datetime
    task: Annotated[str, Field(min_length=1)]
    trace_name: str
    parameters: OlderParameters


class OlderDraft(_Part):
    """`provider` is a model, as in openai/gpt-4o."""

    provider: Annotated[str, Field(min_length=1)]
    answer: str
    evidence: list[str]
    confidence: _Unit
    safety_flags: list[str]


class OlderSubscores(_Part):
    """Parts of a score; 1.1 asked for none of them."""

    task_fit: Annotated[float, Field(ge=0, le=4)] | None = None
    support: Annotated[float, Field(ge=0, le=4)] | None = None
    clarity: Annotated[float, Field(ge=0, le=2)] | None = None


class OlderRankedDraft(OlderDraft):
    """A draft with the judge's marks."""

    score: Annotated[float, Field(ge=0, le=10)]
    reasons: str
    subscores: OlderSubscores | None = None


class OlderDebate(_Part):
    """Drafts of one round."""

    drafts: Annotated[list[OlderDraft], Field(min_length=1, max_length=16)]


class OlderJudge(_Part):
    """The one judge's ranking, best first."""

    ranked_drafts: Annotated[list[OlderRankedDraft], Field(max_length=16)]
    winner_provider: str


class OlderRedaction(_Part):
    """How often something of a kind was replaced."""

    type: str = "unknown"
    count: _Count = 1


class OlderPublish(_Part):
    """What came of the run."""

    status: Literal["published", "advisory_only", "none"]
    provider: str
    text: str
    reason: str = ""
    redacted: bool = False
    redaction_events: list[OlderRedaction] = []


class OlderCitation(_Part):
    """A document that the text cites; where in the text was not kept."""

    doc_id: str = ""
    title: str = ""
    path: str = ""


class OlderGrounding(_Part):
    """What the run stood on."""

    enabled: bool
    required_citations: Annotated[int, Field(ge=0, le=100)] = 0
    citations: list[OlderCitation] = []
    grounded_fail_reason: str | None = None


class OlderUsage(_Part):
    """Sums of a model."""

    calls: _Count
    tokens_in: _Count
    tokens_out: _Count


class OlderProvenance(_Part):
    """`estimated_costs` are dollars by model."""

    git_sha: str
    model_usage: dict[str, OlderUsage]
    estimated_costs: dict[str, Annotated[Decimal, Field(ge=0, le=1_000_000)]]
    duration_seconds: Annotated[float, Field(ge=0, le=10_000_000)] = 0


class OlderArtifact(_Part):
    """A run of the older system."""

    schema_version: Literal["1.1"]
    run_metadata: OlderMetadata
    debate: OlderDebate
    judge: OlderJudge
    publish: OlderPublish
    grounding: OlderGrounding
    provenance: OlderProvenance


def read_older(content: bytes) -> OlderArtifact:
    """The artifact in a file of schema 1.1. Raises InvalidInput that names the first bad fields."""
    try:
        document = json.loads(content, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"is no JSON document in UTF-8: {str(error)[:_MAX_MESSAGE]}") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != OLDER_VERSION:
        told = f"has schema_version {str(version)[:20]!r}" if version else "has no schema_version"
        raise InvalidInput(f"{told}; only run artifacts of schema {OLDER_VERSION} are converted")
    try:
        return OlderArtifact.model_validate(document)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, one['loc'][:8]))[:100]}: {one['msg'][:_MAX_MESSAGE]}"
            for one in error.errors(include_input=False, include_url=False)[:5]
        ]
        raise InvalidInput(f"is no run artifact of schema {OLDER_VERSION}: {'; '.join(problems)}") from None
