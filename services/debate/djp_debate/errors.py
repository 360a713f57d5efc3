"""The one error of a debate as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.mesh.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Sequence


class AllDebatersFailed(FailedPrecondition):
    """No debater wrote a draft, so there is nothing to judge. The same request would fail again."""

    reason = "ALL_DEBATERS_FAILED"

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__(f"every debater failed: {'; '.join(dict.fromkeys(messages))}")
