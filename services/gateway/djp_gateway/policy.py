"""From a ranking to what is published: the policy decides whose text may go out."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from djp.llm.offline import NO_ANSWER

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence


@dataclass(frozen=True)
class Ranked:
    """A draft in the verdict's ranking, best first."""

    draft_id: str
    model: str
    mean: float
    safety_flags: Collection[str] = ()


@dataclass(frozen=True)
class Publication:
    """What becomes of a run's drafts; `draft_id` is empty when nothing is shown."""

    status: Literal["published", "advisory", "none"]
    draft_id: str
    reason: str


def choose(
    policy: Mapping[str, Any], ranking: Sequence[Ranked], *, contested: bool, no_winner_reason: str
) -> Publication:
    """Pick the best-ranked draft whose model may publish; else show the best one as advice.

    `policy` is a document of schemas/policy.json: `allowed_models` and `preferred_models` hold shell patterns of model
    ids; the preferred ones win among drafts with the same mean. A contested verdict is advice unless the policy has
    `publish_contested`. A draft that says itself that it is no answer is advice, whatever its rank.
    """
    if not ranking:
        return Publication("none", "", no_winner_reason or "no draft is left")
    allowed = [entry for entry in ranking if _matches(policy["allowed_models"], entry.model)]
    if not allowed:
        best = ranking[0]
        return Publication("advisory", best.draft_id, f"policy {policy['name']} does not let {best.model} publish")
    answers = [entry for entry in allowed if NO_ANSWER not in entry.safety_flags]
    if not answers:
        return Publication("advisory", allowed[0].draft_id, "the draft itself says that it does not answer the task")
    tied = [entry for entry in answers if entry.mean == answers[0].mean]
    preferred = [entry for entry in tied if _matches(policy.get("preferred_models", []), entry.model)]
    chosen = (preferred or tied)[0]
    if contested and not policy.get("publish_contested", False):
        return Publication("advisory", chosen.draft_id, "the verdict is contested")
    stopped = "" if _matches(policy["allowed_models"], ranking[0].model) else ranking[0].model
    reason = (
        f"the best-ranked draft that may; policy {policy['name']} does not let {stopped} publish" if stopped else ""
    )
    return Publication("published", chosen.draft_id, reason)


def _matches(patterns: Iterable[str], model: str) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in patterns)
