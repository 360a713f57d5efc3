"""What a judgement can cost at most, before its drafts are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.llm.bounds import Bound
from djp_judge.orders import different_orders

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djp_judge.jury import Juror


def project(jurors: Iterable[Juror], drafts: int, draft_max_tokens: int, orders: int) -> Bound:
    """The most that all ballots of a judgement can cost: every juror, every order, every draft as long as it may be.

    What debate writes beyond `djp.llm.tokens.drafts_bound` is cut off. A judgement of longer drafts, which came from
    elsewhere, can cost more.
    """
    shown = min(orders, max(different_orders(size) for size in range(1, drafts + 1)))
    total = Bound()
    for juror in jurors:
        one = juror.bound(drafts, drafts * draft_max_tokens)
        total += Bound(one.nano_usd * shown, one.tokens * shown, one.calls * shown)
    return total
