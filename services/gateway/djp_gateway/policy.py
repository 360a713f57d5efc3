"""From a ranking to what is published: the policy decides whose text may go out."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True)
class Ranked:
    """A draft in the verdict's ranking, best first."""

    draft_id: str
    model: str
    mean: float


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
    `publish_contested`.
    """
    if not ranking:
        return Publication("none", "", no_winner_reason or "no draft is left")
    allowed = [entry for entry in ranking if _matches(policy["allowed_models"], entry.model)]
    if not allowed:
        best = ranking[0]
        return Publication("advisory", best.draft_id, f"policy does not let {best.model} publish")
    tied = [entry for entry in allowed if entry.mean == allowed[0].mean]
    preferred = [entry for entry in tied if _matches(policy.get("preferred_models", []), entry.model)]
    chosen = (preferred or tied)[0]
    if contested and not policy.get("publish_contested", False):
        return Publication("advisory", chosen.draft_id, "the verdict is contested")
    stopped = "" if _matches(policy["allowed_models"], ranking[0].model) else ranking[0].model
    reason = f"the best-ranked draft that may; policy does not let {stopped} publish" if stopped else ""
    return Publication("published", chosen.draft_id, reason)


def _matches(patterns: Iterable[str], model: str) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in patterns)
