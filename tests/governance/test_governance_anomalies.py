"""Anomalies: days that stand out, and those that do not, however odd the days before them were."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from djp.v1 import governance_pb2
from djp_governance.anomalies import AnomalyRules, find_anomalies, judge
from djp_governance.reports import DaySpend

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from djp_governance.anomalies import Anomaly
    from tests.governance.conftest import Governance

USD = 10**9
TODAY = date(2026, 3, 31)
RULES = AnomalyRules(3.0, 3 * USD, 10)


def day(ago: int, cost: int, calls: int = 10, tenant: str = "acme") -> DaySpend:
    return DaySpend(tenant, TODAY - timedelta(days=ago), calls, cost)


def judged(cost: int, *before: int, calls: int = 10) -> Anomaly | None:
    """Today against the days right before it, oldest first."""
    return judge(day(0, cost), [day(len(before) - n, one, calls) for n, one in enumerate(before)], RULES)


@pytest.mark.parametrize(
    ("cost", "before", "stands_out"),
    [
        (10 * USD, [1 * USD, 2 * USD, 1 * USD, 2 * USD], True),
        (2 * USD, [1, 2, 1, 2], False),  # a thousand million deviations, and no money
        (0, [5 * USD, 5 * USD], False),  # a quiet day is none
        (4 * USD + 1, [4 * USD] * 20, False),  # a cent above days that were all alike
        (103 * USD + 1, [100 * USD] * 20, False),  # above by the dollars, but not by what steady spending varies
        (130 * USD, [100 * USD] * 20, True),
        (130 * USD - 1, [100 * USD] * 20, False),
        (3 * USD, [0] * 20, True),  # a baseline of zeros, and the least that counts
        (3 * USD - 1, [0] * 20, False),
        (1, [0] * 20, False),
        (40 * USD, [0, 30 * USD, 0, 30 * USD], False),  # uneven days
        (2**62, [1], True),
    ],
)
def test_what_stands_out(cost: int, before: list[int], stands_out: bool) -> None:
    assert (judged(cost, *before) is not None) == stands_out


def test_without_enough_before_there_is_nothing_to_compare_with() -> None:
    assert judged(100 * USD) is None
    assert judged(100 * USD, 0, calls=9) is None
    assert judged(100 * USD, 0, calls=10) is not None


def test_days_without_a_call_count_as_nothing_spent() -> None:
    anomaly = judge(day(0, 9 * USD), [day(4, 4 * USD)], RULES)
    assert anomaly is not None
    assert (anomaly.mean, anomaly.events) == (1 * USD, 10)
    assert anomaly.stddev == 1732050807  # of 4, 0, 0, 0 dollars
    assert anomaly.sigmas == pytest.approx(8 / 3**0.5)


async def test_a_day_is_judged_the_same_however_far_back_one_looks() -> None:
    spends = [day(ago, 1 * USD) for ago in range(60, 0, -1)] + [day(0, 50 * USD), day(3, 70 * USD, tenant="globex")]
    spends = [*spends[:57], day(3, 20 * USD), *spends[58:]]

    class Store:
        async def days(self, _tenant: Any, first: date, *_rest: Any) -> AsyncGenerator[DaySpend]:
            for one in spends:
                if one.day >= first:
                    yield one

    store: Any = Store()
    found = [await find_anomalies(store, None, TODAY - timedelta(days=n), TODAY, RULES) for n in (0, 5, 30)]
    assert [[(one.tenant, (TODAY - one.day).days) for one in some] for some in found] == [
        [("acme", 0)],
        [("acme", 0), ("acme", 3)],
        [("acme", 0), ("acme", 3)],
    ]
    assert {some[0] for some in found} == {found[0][0]}


async def spend(client: Any, make: Any, *costs: int) -> None:
    for cost in costs:
        run = (await client.reserve(cost)).reservation.reservation_id
        await client.charge(run, *(make.model_call(cost if n == 0 else 0, "a/m") for n in range(5)))
        await client.settle(run)


async def test_a_day_that_stands_out_is_listed_and_told_once(governance: Governance, make: Any) -> None:
    await governance.start()
    acme, globex = governance.client("acme"), governance.client("globex")
    for cost in (USD, USD // 2, USD):
        await spend(acme, make, cost)
        await spend(globex, make, cost)
        governance.clock.turn(days=1)
    await spend(acme, make, 4 * USD + USD // 2)
    await spend(globex, make, USD)
    (found,) = (await acme.call("ListAnomalies", governance_pb2.ListAnomaliesRequest())).anomalies
    assert (found.tenant, found.day, found.spent_nano_usd) == ("acme", "2026-04-03", 4_500_000_000)
    assert (found.baseline_mean_nano_usd, found.baseline_events) == (833_333_333, 15)
    assert found.baseline_stddev_nano_usd == 235_702_260
    assert (await acme.call("Report", governance_pb2.ReportRequest(days=1))).anomalies[0] == found
    operator = governance.client("admin", "operator")
    assert [
        one.tenant for one in (await operator.call("ListAnomalies", governance_pb2.ListAnomaliesRequest())).anomalies
    ]
    assert not (await globex.call("ListAnomalies", governance_pb2.ListAnomaliesRequest())).anomalies
    for _ in range(2):  # upkeep looks when it starts, and each minute
        await governance.restart()

        async def told() -> Any:
            return await governance.client("acme").events(kind=governance_pb2.GOVERNANCE_EVENT_KIND_ANOMALY)

        (event,) = await make.until(told)
        assert event.scope == "tenant:acme"
        assert "$4.5000 on 2026-04-03" in event.message
    assert not await governance.client("globex").events(kind=governance_pb2.GOVERNANCE_EVENT_KIND_ANOMALY)


async def test_sensitivity_is_the_deployments(governance: Governance, make: Any) -> None:
    await governance.start(anomaly_min_dollars="0.5", anomaly_min_events=5, anomaly_sigma=1.0)
    acme = governance.client("acme")
    await spend(acme, make, USD)
    governance.clock.turn(days=1)
    await spend(acme, make, 2 * USD)
    assert len((await acme.call("ListAnomalies", governance_pb2.ListAnomaliesRequest(days=1))).anomalies) == 1
