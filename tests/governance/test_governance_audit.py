"""The audit of a ledger finds every kind of mistake, else it would prove nothing."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from djp.database import open_engine
from djp_governance.adapters.sql_closing import Closing
from djp_governance.adapters.sql_ledger import SqlLedger
from djp_governance.adapters.tables import metadata
from djp_governance.limits import Budget, Limits
from djp_governance.model import Call, Order, RequestKey, RunLimits
from djp_governance.server import MIGRATIONS
from tests.governance.ledger_audit import NOBODYS, audit, mistakes

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 3, 31, 22, 0, tzinfo=UTC)

# What is wrong, and how it could have come about.
MISTAKES = [
    ("a request has no answer", "UPDATE requests SET answer = ''"),
    (
        "a reservation is not the sum of its journal",
        "UPDATE entries SET spent_nano = spent_nano + 1 WHERE kind = 'charge'",
    ),
    ("a reservation is not the sum of its journal", "DELETE FROM entries WHERE kind = 'lapsed'"),
    ("a reservation is not the sum of its journal", "UPDATE entries SET kind = 'released' WHERE kind = 'settled'"),
    ("a reservation is not the sum of its journal", "UPDATE reservations SET closed_us = 1 WHERE state = 'held'"),
    ("a journal does not begin with what was reserved", "UPDATE entries SET kind = 'charge' WHERE kind = 'reserve'"),
    ("a reservation is not the sum of its calls", "UPDATE calls SET cost_nano = cost_nano + 1"),
    ("a reservation is not the sum of its calls", "DELETE FROM calls WHERE model = 'b'"),
    ("a call is another tenant's, or a bound of a lapse that never was", "UPDATE calls SET by_lapse = 1"),
    ("a call is another tenant's, or a bound of a lapse that never was", "UPDATE calls SET tenant = 'globex'"),
    (NOBODYS[0], "DELETE FROM reservations"),
    (
        "a reservation is not held in the windows of its tenant, its workflow and everybody",
        """UPDATE reservations SET scopes = '["tenant:acme"]'""",
    ),
    (
        "a window is not the sum of the journals of its reservations",
        "UPDATE windows SET spent_nano = spent_nano + 1 WHERE scope = 'tenant:acme' AND period = 'month'",
    ),
    (
        "a window is not the sum of the journals of its reservations",
        "DELETE FROM windows WHERE scope = 'tenant:acme' AND period = 'day'",
    ),
    ("a window is below nothing", "UPDATE windows SET reserved_tokens = -1 WHERE scope = 'tenant:acme'"),
    ("a roll-up is below nothing", "UPDATE rollups SET runs = -9"),
    ("a roll-up is not the sum of its calls", "UPDATE rollups SET input_tokens = input_tokens + 1 WHERE model = ''"),
    ("a roll-up is not the sum of its calls", "DELETE FROM rollups WHERE model = 'b'"),
    ("a run is counted with other calls than it has", "UPDATE counted_runs SET calls = calls + 1"),
    ("a run is counted with other calls than it has", "DELETE FROM counted_runs WHERE model = 'b'"),
    ("a run counts where it has no reservation", "UPDATE counted_runs SET preset = 'slow'"),
    ("a roll-up counts other runs than there are", "UPDATE rollups SET runs = runs + 1 WHERE model = 'a'"),
    ("a closed day is not the sum of its tenants", "UPDATE closed_days SET cost_nano = cost_nano + 1"),
    ("a closed day is not the sum of its tenants", "DELETE FROM closed_days WHERE model = 'b'"),
    ("a tenant's closed day is not the sum of its roll-ups", "UPDATE closed_tenant_days SET calls = calls + 1"),
    ("a tenant's closed day is not the sum of its roll-ups", "DELETE FROM closed_tenant_days"),
    ("a closed month is not the sum of its days", "UPDATE closed_months SET runs = runs + 1 WHERE model = ''"),
    ("a tenant's closed day is not the sum of its roll-ups", "UPDATE closed_tenant_days SET calls = calls + 1"),
    ("a tenant's closed day is not the sum of its roll-ups", "DELETE FROM closed_tenant_days"),
    ("a closed month is not the sum of its days", "DELETE FROM closed_months WHERE model = 'a'"),
    ("a roll-up is not the sum of its calls", "UPDATE closed_rollups SET calls = calls + 1 WHERE model = 'a'"),
    ("a roll-up is not the sum of its calls", "DELETE FROM closed_rollups WHERE model = 'b'"),
    ("a lapse or an excess was told by no event", "DELETE FROM events WHERE kind = 'lease_lapsed'"),
    ("a lapse or an excess was told by no event", "DELETE FROM events WHERE kind = 'over_reservation'"),
]


async def busy_ledger(url: str) -> None:
    """A ledger in which one of everything has happened."""

    def key() -> RequestKey:
        return RequestKey("acme", str(uuid.uuid4()), "body")

    engine = await open_engine(url, MIGRATIONS, metadata)
    ledger, limits = SqlLedger(engine), Limits(Budget(), Budget())
    tags = {"workflow": "weekly", "preset": "quick"}
    names = [
        (
            await ledger.reserve(key(), Order(run, 10, 10, RunLimits(), tags, lease), limits, NOW)
        ).reservation.reservation_id
        for run, lease in (("first", 0), ("first", 0), ("second", 60), ("third", 0))
    ]
    lost = Call(str(uuid.uuid4()), "a", 5, 1, 1, usage_unknown=True)
    for name, calls in zip(names, ((3, 4), (8, 9), (), ()), strict=True):
        await ledger.charge(
            key(), name, [Call(str(uuid.uuid4()), "b" if cost % 2 else "a", cost, 1, 2) for cost in calls or (1,)], NOW
        )
    await ledger.close(key(), names[0], "settled", NOW)
    await ledger.extend(key(), names[2], [lost], 60, NOW)
    assert len(await ledger.lapse(NOW + timedelta(minutes=5))) == 1
    await Closing(ledger.transactions).close_days(NOW.date() + timedelta(days=30))
    last = (await ledger.reserve(key(), Order("third", 10, 10, RunLimits(), tags), limits, NOW)).reservation
    await ledger.charge(key(), last.reservation_id, [Call(str(uuid.uuid4()), "ab"[n], 3, 1, 2) for n in (0, 1)], NOW)
    await engine.dispose()


@pytest.mark.parametrize(("wrong", "mistake"), MISTAKES)
async def test_a_mistake_is_found(wrong: str, mistake: str, tmp_path: Path, make: Any) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/ledger.db"
    await busy_ledger(url)
    assert await asyncio.to_thread(mistakes, url) == {}
    assert await make.sql(url, mistake)
    assert wrong in await asyncio.to_thread(mistakes, url)
    if wrong not in (*NOBODYS, "a call is another tenant's, or a bound of a lapse that never was"):
        assert wrong in await asyncio.to_thread(mistakes, url, ["acme", "globex"])
    assert await asyncio.to_thread(mistakes, url, ["initech"]) == {}
    with pytest.raises(AssertionError, match=wrong):
        audit(url)
