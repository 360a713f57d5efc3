"""Three servers on one Postgres, many clients on one cap: it is never overdrawn, and all of it can be used.

The small form of benchmarks/overdraft.py.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.governance.ledger_fleet import Fleet
from tests.governance.ledger_trials import Trials, Wrong

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any


@pytest.fixture
def fleet(postgres_url: str, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(postgres_url, str(tmp_path), servers=3, crews=3)
    yield fleet
    fleet.close()


@pytest.fixture
def trials(fleet: Fleet, postgres_url: str) -> Iterator[Trials]:
    trials = Trials(fleet, postgres_url, random.Random(0), clients=8, fit=20, lease_s=2)
    yield trials
    trials.close()


def test_no_cap_is_overdrawn_and_all_of_it_can_be_used(trials: Trials) -> None:
    told = trials.calm(
        4
    ).figures()  # each kind of cap, in turn with calls that cost what they reserved and with cheaper
    assert told["trials"] == 4
    assert told["grants"] > 4 * 20
    assert told["refusals"] == 4 * 24  # each client goes on until it is refused
    assert told["observations"] > 4
    assert 0.95 < told["largest_share_seen"] <= 1
    assert trials.versions() > told["grants"]


def test_nor_when_servers_and_clients_are_killed_and_what_the_dead_held_comes_back(trials: Trials) -> None:
    told = trials.killing(3).figures()
    assert told["trials"] == told["server_kills"] == 3
    assert told["client_kills"] >= 8
    assert told["lowest_use"] >= 0.95
    assert told["largest_share_seen"] <= 1
    assert told["slowest_lapse_s"] <= 30


def test_the_witnesses_see_an_overdraft(trials: Trials, fleet: Fleet, postgres_url: str, sql: Any, audit: Any) -> None:
    trials.calm(1)
    fleet.set_budget("tenant:trial-1", daily_nano_usd=10**12)
    sql(postgres_url, "UPDATE windows SET spent_nano = 1000000000001 WHERE scope = 'tenant:trial-1'")
    while not (seen := fleet.watch(["tenant:trial-1"])).overdrawn:
        pass
    assert set(seen.overdrawn) == {"tenant:trial-1: 1000000000001 of 1000000000000"}
    assert seen.share > 1
    with pytest.raises(Wrong, match="overdrawn"):
        trials.versions()
    with pytest.raises(AssertionError):
        audit(postgres_url)
