"""The gateway's memory, the same on SQLite and on Postgres: who gets which run, and who may still write to it."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, insert, select, text

import djp_gateway
from djp.database import DatabaseAwayError, open_engine
from djp.mesh.errors import FailedPrecondition, NotFound, RequestIdReused
from djp.transaction_threads import CommitUnansweredError
from djp.v1 import batch_pb2, dead_letter_pb2, run_pb2
from djp_gateway.adapters.sql_answers import SqlAnswers
from djp_gateway.adapters.sql_audit import SqlAudit
from djp_gateway.adapters.sql_batch_work import SqlBatchWork
from djp_gateway.adapters.sql_batches import SqlBatches
from djp_gateway.adapters.sql_dead import SqlDeadLetters
from djp_gateway.adapters.sql_keys import SqlKeyStore
from djp_gateway.adapters.sql_orders import SqlRunOrders
from djp_gateway.adapters.sql_queue import SqlRunQueue
from djp_gateway.adapters.sql_rates import SqlRates
from djp_gateway.adapters.sql_store import SqlRunStore
from djp_gateway.adapters.tables import executors, metadata, runs, token_rates
from djp_gateway.adapters.transactions import Transactions
from djp_gateway.batches.ports import BatchKey, Checked, Terms
from djp_gateway.callers import ApiKey
from djp_gateway.keeping import Keeper
from djp_gateway.ports import APPROVE, CANCEL, COMMAND, REJECT, Checkpoint, Claim, Order
from djp_gateway.seal import Seal
from djp_gateway.spec import SPEC_VERSION
from tests.governance.ledger_postgres import new_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy.ext.asyncio import AsyncConnection

MIGRATIONS = Path(djp_gateway.__file__).parent / "migrations"


@dataclass
class Base:
    """A database with the gateway's adapters on it."""

    tables: Transactions
    store: SqlRunStore
    queue: SqlRunQueue
    orders: SqlRunOrders
    dead: SqlDeadLetters
    keys: SqlKeyStore
    answers: SqlAnswers
    audit: SqlAudit
    batches: SqlBatches
    work: SqlBatchWork
    made: int = 0

    async def add(
        self, tenant: str = "t", executor: str = "a", priority: int = 0, spec_version: int = SPEC_VERSION
    ) -> str:
        """A run that waits; later ones are younger."""
        self.made += 1
        spec = run_pb2.RunSpec(task="Why?", priority=priority, spec_version=spec_version)
        run = run_pb2.Run(run_id=str(uuid.uuid4()), tenant=tenant, state=run_pb2.RUN_STATE_QUEUED, spec=spec, attempt=1)
        run.created_at.FromMicroseconds(1_700_000_000_000_000 + self.made)
        await self.queue.add(run, request_id=str(uuid.uuid4()), request_sha256="x", executor=executor)
        return run.run_id

    @property
    def newer(self) -> SqlRunQueue:
        """The same queue as a gateway of a later release sees it."""
        return SqlRunQueue(self.tables, self.store, knows=SPEC_VERSION + 1)

    async def claim(self, executor: str = "a", per_tenant: int = 5, **more: Any) -> Claim | None:
        return await self.queue.claim(executor, per_tenant=per_tenant, **more)

    async def order(self, count: int, **more: Any) -> list[str]:
        """The runs in which `count` claims are granted."""
        claims = [await self.claim(**more) for _ in range(count)]
        return [claim.run_id for claim in claims if claim]

    async def end(self, tenant: str, run_id: str) -> None:
        run = await self.store.get(tenant, run_id)
        run.state = run_pb2.RUN_STATE_FAILED
        run.finished_at.GetCurrentTime()
        await self.store.save(run, [])


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with new_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
async def base(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Base]:
    postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres") if postgres else f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}"
    engine = await open_engine(url, MIGRATIONS, metadata)
    if postgres:
        async with engine.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                await connection.execute(table.delete())
    seal = Seal(b"k" * 32)
    tables = Transactions(engine)
    store = SqlRunStore(tables, seal)
    yield Base(
        tables,
        store,
        SqlRunQueue(tables, store),
        SqlRunOrders(tables, seal),
        SqlDeadLetters(tables, store),
        SqlKeyStore(tables),
        SqlAnswers(tables, seal),
        SqlAudit(tables),
        SqlBatches(tables, seal),
        SqlBatchWork(tables, seal, store),
    )
    await engine.dispose()


async def test_every_run_is_claimed_once_however_many_ask_at_once(base: Base) -> None:
    runs = {await base.add(tenant) for tenant in ("a", "b", "c") for _ in range(4)}
    claims = await asyncio.gather(*(base.claim(f"executor-{number}", per_tenant=100) for number in range(20)))
    claimed = [claim.run_id for claim in claims if claim]
    assert len(claimed) == 12
    assert set(claimed) == runs
    assert await base.claim() is None


async def test_a_flood_of_one_tenant_does_not_delay_the_first_run_of_another(base: Base) -> None:
    flood = [await base.add("flood") for _ in range(20)]
    other = [await base.add("other") for _ in range(2)]
    assert await base.order(1) == flood[:1]
    assert await base.order(2) == [other[0], flood[1]]
    assert await base.order(2) == [other[1], flood[2]]


@pytest.mark.parametrize("base", ["postgres"], indirect=True)
async def test_a_run_begins_at_once_while_another_tenants_flood_is_being_stored(base: Base) -> None:
    await base.add("flood")
    await base.order(1)
    flood, other = [
        run_pb2.Run(run_id=str(uuid.uuid4()), tenant=tenant, spec=run_pb2.RunSpec(spec_version=SPEC_VERSION))
        for tenant in ("flood", "other")
    ]
    ids = {"request_id": str(uuid.uuid4()), "request_sha256": "x", "executor": "a"}
    async with base.tables.engine.begin() as connection:  # until this ends, nobody knows whether there is that run
        await connection.execute(insert(runs), base.store.row_of(flood, **ids))
        storing = asyncio.create_task(base.queue.add(flood, **ids, per_tenant=1))
        looked = select(func.count()).select_from(text("pg_locks")).where(text("NOT granted"))
        while not (await connection.execute(looked)).scalar_one():  # noqa: ASYNC110  the database rings no bell
            await asyncio.sleep(0.01)
        _, taken = await base.queue.add(other, **ids, per_tenant=1)
        assert taken
    assert (await storing)[1] is False


async def test_a_tenant_has_so_many_runs_in_work_and_no_more(base: Base) -> None:
    runs = [await base.add() for _ in range(4)]
    assert await base.order(4, per_tenant=2) == runs[:2]
    await base.end("t", runs[0])
    assert await base.order(4, per_tenant=2) == runs[2:3]


async def test_the_urgent_come_first_among_a_tenants_own_runs_only(base: Base) -> None:
    low, usual, high = [await base.add("a", priority=priority) for priority in (-5, 0, 5)]
    other = await base.add("b", priority=-100)
    assert await base.order(4) == [high, other, usual, low]


async def test_slowed_tenants_come_after_all_others(base: Base) -> None:
    slowed = await base.add("slowed")
    others = [await base.add("other") for _ in range(3)]
    replica = SqlRunQueue(base.tables, base.store)
    await base.queue.slow("gone", timedelta(hours=1))
    await base.queue.slow("slowed", timedelta(milliseconds=1))
    await base.queue.slow("slowed", timedelta(hours=1))
    assert (await replica.claim("b", per_tenant=5)) == Claim("other", others[0], attempt=1, takeovers=0)
    assert await base.order(3) == [*others[1:], slowed]


async def test_a_tenant_is_slowed_for_that_long_only(base: Base) -> None:
    await base.queue.slow("slowed", timedelta(hours=1))
    slowed, other = await base.add("slowed"), await base.add("other")
    await base.queue.slow("slowed", timedelta(0))
    assert await base.order(2) == [slowed, other]


async def test_ready_tells_who_waits_for_a_place_and_not_for_the_tenants_other_runs(base: Base) -> None:
    assert await base.queue.ready("a", per_tenant=2) == []
    for tenant in ("flood", "flood", "flood", "flood", "other"):
        await base.add(tenant)
    await base.add("command", executor=COMMAND)
    ages = await base.queue.ready("a", per_tenant=2)
    assert len(ages) == 3  # two of the flood, and the other
    assert min(ages) > 1_000_000  # they are from 2023
    claim = await base.claim(per_tenant=2)
    assert claim
    assert claim.waited_s > 1_000_000
    assert len(await base.queue.ready("a", per_tenant=2)) == 2
    await base.order(2, per_tenant=2)
    assert await base.queue.ready("a", per_tenant=2) == []
    assert (await base.queue.depth())[0] == 2  # the rest of the flood; the command's run is its own


async def test_a_run_that_had_begun_waits_since_it_was_given_back(base: Base) -> None:
    run_id = await base.add()
    await base.claim("leaving")
    await base.queue.hand_back("leaving")
    assert (await base.queue.depth())[1] < 1000  # it is from 2023
    await base.claim("dying")
    await base.queue.take_from("dying", None, taker="a")
    assert (await base.queue.depth())[1] < 1000
    await base.claim("parking")
    run = await base.store.get("t", run_id)
    await base.store.save(run, [], parked_until=datetime(2020, 1, 1, tzinfo=UTC))
    assert await base.queue.depth() == (0, 0.0)
    assert await base.queue.wake_parked("a") == 1
    count, age_s = await base.queue.depth()
    assert (count, age_s < 1000) == (1, True)
    claim = await base.claim()
    assert claim
    assert claim.waited_s < 1000


async def test_a_command_has_its_own_runs_and_nobody_elses(base: Base) -> None:
    its, ours = await base.add(executor=COMMAND), await base.add(executor="a")
    assert await base.order(2, executor="b") == [ours]
    assert await base.order(2, executor=COMMAND) == [its]


async def test_what_is_taken_from_an_executor_it_cannot_write_any_more(base: Base) -> None:
    run_id = await base.add()
    await base.claim("slow")
    slow = await base.store.get("t", run_id)
    await base.queue.beat("slow")
    (beat,) = (await base.queue.beats()).values()
    assert await base.queue.take_from("slow", beat + 1, taker="quick") == 0  # it has shown that it lives
    assert await base.queue.take_from("slow", beat, taker="quick") == 1
    with pytest.raises(FailedPrecondition, match="taken over"):
        await base.store.save(slow, [run_pb2.RunEvent(warning="I live")])
    assert await base.claim("quick") == Claim("t", run_id, attempt=2, takeovers=1)
    assert (await base.store.get("t", run_id)).attempt == 2
    assert await base.store.events_after(run_id, 0) == []


async def test_what_is_handed_back_counts_as_no_death(base: Base) -> None:
    run_id, waiting = await base.add(), await base.add()
    await base.claim("leaving")
    await base.queue.hand_back("leaving")
    assert await base.claim("other") == Claim("t", run_id, attempt=2, takeovers=0)
    assert await base.claim("other") == Claim("t", waiting, attempt=1, takeovers=0)


async def test_a_run_that_waits_can_be_claimed_out_of_turn_and_once(base: Base) -> None:
    first, second = await base.add(), await base.add()
    claims = await asyncio.gather(*(base.queue.claim_one(second, f"e{number}") for number in range(5)))
    assert [claim for claim in claims if claim] == [Claim("t", second, 1, 0)]
    assert await base.order(2) == [first]


async def test_an_older_gateway_leaves_runs_of_a_newer_spec_to_newer_ones(base: Base) -> None:
    newer, known = await base.add(spec_version=SPEC_VERSION + 1), await base.add()
    assert await base.order(2) == [known]  # though it is the younger one
    assert await base.queue.claim_one(newer, "a") is None
    assert (await base.queue.newer(), await base.newer.newer()) == (1, 0)
    assert await base.newer.claim("b", per_tenant=5) == Claim("t", newer, 1, 0)
    assert await base.queue.newer() == 0


async def test_a_newer_gateway_finishes_what_older_ones_have_begun(base: Base) -> None:
    begun, waiting = await base.add(), await base.add(spec_version=0)  # as before there were versions
    await base.queue.claim_one(begun, "old")
    await base.queue.hand_back("old")
    claims = [await base.newer.claim("new", per_tenant=5) for _ in range(3)]
    assert claims == [Claim("t", begun, 2, 0), Claim("t", waiting, 1, 0), None]


async def test_what_a_newer_gateway_hands_back_or_leaves_when_it_dies_waits_for_another_newer_one(base: Base) -> None:
    handed, left = [await base.add(spec_version=SPEC_VERSION + 1) for _ in range(2)]
    await base.newer.claim_one(handed, "new")
    await base.newer.hand_back("new")
    await base.newer.claim_one(left, "dead")
    await base.queue.beat("dead")
    assert await base.queue.take_from("dead", 1, taker="old") == 1
    assert await base.claim("old") is None
    assert (await base.queue.depth())[0] == 2
    claims = [await base.newer.claim("other", per_tenant=5) for _ in range(2)]
    assert claims == [Claim("t", handed, 2, 0), Claim("t", left, 2, 1)]


async def test_what_is_ordered_of_a_parked_run_of_a_newer_spec_reaches_a_newer_gateway(base: Base) -> None:
    run_id = await base.add(spec_version=SPEC_VERSION + 1)
    await base.newer.claim_one(run_id, "new")
    run = await base.store.get("t", run_id)
    await base.store.save(run, [], parked_until=datetime.now(UTC) + timedelta(days=1))
    order = Order(CANCEL, "tenant t", "")
    await base.orders.give("t", run_id, order, request_id=str(uuid.uuid4()), request_sha256="body")
    assert await base.queue.claim_one(run_id, "old") is None
    assert await base.queue.wake_parked("old") == 1
    assert await base.claim("old") is None
    assert await base.newer.claim("new", per_tenant=5) == Claim("t", run_id, 1, 0)


async def test_what_was_ordered_of_a_run_before_it_was_parked_need_not_wait(base: Base) -> None:
    ordered, other = [await base.add() for _ in range(2)]
    await base.order(2)
    order = Order(CANCEL, "tenant t", "")
    await base.orders.give("t", ordered, order, request_id=str(uuid.uuid4()), request_sha256="body")
    for run_id in (ordered, other):
        run = await base.store.get("t", run_id)
        await base.store.save(run, [], parked_until=datetime.now(UTC) + timedelta(days=1))
    assert await base.queue.wake_parked("a") == 1
    assert await base.order(2) == [ordered]


async def test_a_dead_letter_of_a_newer_spec_is_replayed_by_a_newer_gateway(base: Base) -> None:
    run_id = await base.add(spec_version=SPEC_VERSION + 1)
    await base.newer.claim_one(run_id, "new")
    await base.end("t", run_id)
    (replay,) = await base.dead.replay(
        "t", dead_letter_pb2.DeadLetterFilter(), window_share=0.5, executor="old", at_most=5
    )
    assert await base.claim("old") is None
    assert await base.newer.claim("new", per_tenant=5) == Claim("t", replay, 1, 0)


async def test_checkpoints_are_kept_in_order_until_the_run_ends(base: Base) -> None:
    run_id = await base.add()
    run = await base.store.get("t", run_id)
    kept = [Checkpoint("debate", b"one"), Checkpoint("judge", b""), Checkpoint("debate", b"\x00\xff" * 100_000)]
    await base.store.save(run, [], kept=kept[:2])
    await base.store.save(run, [run_pb2.RunEvent(warning="ünïcode 🙂")], kept=kept[2:])
    assert await base.store.checkpoints(run_id) == kept
    await base.end("t", run_id)
    assert await base.store.checkpoints(run_id) == []


async def test_depth_tells_how_many_wait_and_since_when(base: Base) -> None:
    assert await base.queue.depth() == (0, 0.0)
    await base.add()
    await base.add()
    count, age_s = await base.queue.depth()
    assert count == 2
    assert age_s > 1_000_000  # they are from 2023


async def test_an_order_is_given_once_and_the_first_counts(base: Base) -> None:
    run_id, other = await base.add(), await base.add()
    request = {"request_id": str(uuid.uuid4()), "request_sha256": "body"}
    first, second = Order(CANCEL, "tenant t", "first 🙂"), Order(CANCEL, "tenant t", "second")
    await asyncio.gather(*(base.orders.give("t", run_id, first, **request) for _ in range(5)))
    await base.orders.give("t", run_id, second, request_id=str(uuid.uuid4()), request_sha256="body")
    ((found, kept),) = (await base.orders.first([run_id, other], CANCEL)).items()
    assert (found, kept.by, kept.reason) == (run_id, first.by, first.reason)
    assert kept.at
    assert await base.orders.earlier("t", request["request_id"], "body") == run_id
    assert await base.orders.earlier("u", request["request_id"], "body") is None
    with pytest.raises(RequestIdReused):
        await base.orders.give("t", run_id, second, request_id=request["request_id"], request_sha256="another")


async def test_the_same_request_at_once_makes_one_run(base: Base) -> None:
    def run() -> run_pb2.Run:
        made = run_pb2.Run(run_id=str(uuid.uuid4()), tenant="t", state=run_pb2.RUN_STATE_QUEUED, attempt=1)
        made.created_at.GetCurrentTime()
        return made

    request = {"request_id": str(uuid.uuid4()), "request_sha256": "body", "executor": "a"}
    made = await asyncio.gather(*(base.queue.add(run(), per_tenant=5, **request) for _ in range(50)))
    assert len({one.run_id for one, _ in made}) == 1
    assert sum(taken for _, taken in made) <= 1
    with pytest.raises(NotFound):
        await base.store.get("u", made[0][0].run_id)


async def test_a_new_run_is_taken_at_once_if_it_would_be_claimed_next(base: Base) -> None:
    async def add(tenant: str, *, executor: str = "a", per_tenant: int = 2, version: int = SPEC_VERSION) -> bool:
        spec = run_pb2.RunSpec(task="Why?", spec_version=version)
        run = run_pb2.Run(run_id=str(uuid.uuid4()), tenant=tenant, state=run_pb2.RUN_STATE_QUEUED, spec=spec, attempt=1)
        run.created_at.GetCurrentTime()
        request = {"request_id": str(uuid.uuid4()), "request_sha256": "x", "executor": executor}
        stored, taken = await base.queue.add(run, per_tenant=per_tenant, **request)
        assert stored == run
        assert await base.queue.add(run, per_tenant=per_tenant, **request) == (run, False)
        return taken

    assert await add("t")
    assert not await add("t", version=SPEC_VERSION + 1)  # which is for newer gateways, and in nobody's way here
    assert await add("t")
    assert not await add("t")  # the tenant has as many in work as it may
    assert await add("u")  # whom that does not delay
    assert not await add("v", per_tenant=0)
    assert not await add("w")  # the one before comes first
    assert not await add("t", per_tenant=4)
    assert await add("c", executor=COMMAND)  # which works on its own only
    assert len(await base.queue.left_by_commands()) == 1
    assert {(await base.claim(per_tenant=2)).tenant for _ in range(2)} == {"v", "w"}  # type: ignore[union-attr]
    assert await base.claim(per_tenant=2) is None


async def test_a_new_run_of_who_has_fewer_in_work_comes_before_all_that_wait(base: Base) -> None:
    async def add(tenant: str) -> bool:
        run = run_pb2.Run(run_id=str(uuid.uuid4()), tenant=tenant, state=run_pb2.RUN_STATE_QUEUED, attempt=1)
        run.created_at.GetCurrentTime()
        request = {"request_id": str(uuid.uuid4()), "request_sha256": "x", "executor": "a"}
        return (await base.queue.add(run, per_tenant=3, **request))[1]

    flood = [await base.add("flood") for _ in range(9)]
    assert await base.order(2) == flood[:2]
    assert not await add("flood")  # its own older ones come first
    assert await add("other")
    assert await add("other")
    assert not await add("other")  # it has as many in work as the flood, whose runs are older
    assert await base.order(1) == flood[2:3]
    await base.queue.slow("late", timedelta(hours=1))
    assert not await add("late")  # the third one of the other tenant waits, and comes before any of a slowed one
    assert (await base.claim(per_tenant=3)).tenant == "other"  # type: ignore[union-attr]
    assert (await base.claim(per_tenant=3)).tenant == "late"  # type: ignore[union-attr]
    await base.add("late")
    assert await add("new")


async def test_the_dead_are_found_by_their_silence_and_the_living_left_alone(base: Base) -> None:
    dead, living = await base.add(), await base.add()
    await base.queue.claim("dead", per_tenant=5)
    await base.queue.claim("living", per_tenant=5)
    taken = asyncio.Event()
    watcher = Keeper(base.queue, "watcher", silence_s=0.5, taken=lambda _: taken.set())
    other = Keeper(base.queue, "living", silence_s=0.5, taken=lambda _: None)
    tasks = [asyncio.create_task(work) for work in (watcher.look(), other.beat())]
    async with asyncio.timeout(60):
        await taken.wait()
    assert await base.claim("watcher") == Claim("t", dead, attempt=2, takeovers=1)
    assert (await base.store.get("t", living)).attempt == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_dead_letter_is_replayed_once_by_however_many(base: Base) -> None:
    dead = [await base.add() for _ in range(7)]
    for run_id in dead:
        await base.end("t", run_id)
    others = await base.add("u")
    await base.end("u", others)
    everything = dead_letter_pb2.DeadLetterFilter()

    async def replay() -> list[str]:
        found = list[str]()
        while made := await base.dead.replay("t", everything, window_share=0.5, executor="a", at_most=2):
            found += made
        return found

    replayed = [run_id for made in await asyncio.gather(*(replay() for _ in range(4))) for run_id in made]
    assert len(replayed) == len(set(replayed)) == 7
    assert sorted(await base.dead.replayed("t", everything)) == sorted(replayed)
    assert {(await base.store.get("t", run_id)).replay.run_id for run_id in replayed} == set(dead)
    assert await base.dead.list("t", everything, page_size=10, page_token="") == ([], "")
    assert await base.dead.purge("t", dead_letter_pb2.DeadLetterFilter(include_replayed=True)) == 7
    with pytest.raises(NotFound):
        await base.dead.get("t", dead[0])
    assert (await base.dead.get("u", others)).run.run_id == others


async def test_replays_share_a_window_and_never_pass_their_part_of_it(base: Base) -> None:
    runs = [await base.store.get("t", await base.add()) for _ in range(6)]
    window = [(datetime(2020, 1, 1, tzinfo=UTC), 100)]
    answers = await asyncio.gather(*(base.dead.take_share(run, 30, window) for run in runs))
    assert sorted(answers, key=str) == [0, 0, 0, None, None, None]
    granted = [run for run, answer in zip(runs, answers, strict=True) if answer is None]
    assert [await base.dead.take_share(run, 30, window) for run in granted] == [None] * 3  # asked again
    later = await base.store.get("t", await base.add("t"))
    assert await base.dead.take_share(later, 1000, [(datetime.now(UTC) + timedelta(days=1), 100)]) is None


async def test_keys_are_found_by_their_hash_and_revoked_once(base: Base) -> None:
    now = datetime.now(UTC).replace(microsecond=7)
    key = ApiKey(str(uuid.uuid4()), "t", "operator", "ünïcode 🙂", now, None, None, None, 60)
    await base.keys.add(key, "a" * 64, by="admin")
    assert await base.keys.find("a" * 64) == key
    assert await base.keys.find("b" * 64) is None
    await base.keys.used(key.key_id)
    first = await base.keys.revoke(key.key_id, by="admin")
    assert first.revoked_at
    assert first.last_used_at
    assert await base.keys.revoke(key.key_id, by="another") == first
    assert await base.keys.list("", page_size=1, page_token="") == ([first], "")
    assert await base.keys.list("u", page_size=1, page_token="") == ([], "")


async def test_calls_of_a_key_are_counted_together(base: Base) -> None:
    key = ApiKey(str(uuid.uuid4()), "t", "tenant", "", datetime.now(UTC), None, None, None, 60)
    other = ApiKey(str(uuid.uuid4()), "t", "tenant", "", datetime.now(UTC), None, None, None, 60)
    await base.keys.add(key, "a" * 64, by="admin")
    await base.keys.add(other, "b" * 64, by="admin")
    begun = asyncio.get_running_loop().time()
    waits = await asyncio.gather(*(base.keys.take_calls(key.key_id, 2, 60) for _ in range(40)))
    taken = 2 * waits.count(0)
    assert 60 <= taken <= 60 + (asyncio.get_running_loop().time() - begun) + 1
    assert all(0 <= wait <= 1 for wait in waits)  # until there is room for one
    assert await base.keys.take_calls(other.key_id, 60, 60) == 0
    assert await base.keys.take_calls(str(uuid.uuid4()), 1, 60) > 0  # no such key


async def test_what_is_remembered_is_listed_newest_first(base: Base) -> None:
    run, refused = await base.add("t"), {("", "unknown key"): 7, ("t", "x" * 1000): 1}
    for kind in (CANCEL, APPROVE, REJECT):
        order, request_id = Order(kind, "Ünï", "because"), str(uuid.uuid4())
        for _ in range(2):
            await base.orders.give("t", run, order, request_id=request_id, request_sha256="x")
    await base.audit.refused(refused)
    events, more = await base.audit.list("t", page_size=2, page_token="")
    assert [(one.kind, one.subject, one.actor) for one in events] == [
        ("SIGN_IN_REFUSED", "x" * 300, ""),
        ("RUN_REJECTED", run, "Ünï"),
    ]
    (first,), end = await base.audit.list("t", page_size=2, page_token=more)
    assert (first.kind, first.count, end) == ("RUN_APPROVED", 1, "")
    everything, _ = await base.audit.list(None, page_size=100, page_token="")
    assert [one.count for one in everything if one.subject == "unknown key"] == [7]
    assert (await base.audit.list("u", page_size=100, page_token=""))[0] == []


async def test_a_request_has_one_answer(base: Base) -> None:
    request_id = str(uuid.uuid4())
    answers = await asyncio.gather(*(base.answers.keep("t", request_id, "body", b"%d" % n) for n in range(8)))
    assert len(set(answers)) == 1
    assert await base.answers.earlier("t", request_id, "body") == answers[0]
    assert await base.answers.earlier("u", request_id, "body") is None
    with pytest.raises(RequestIdReused):
        await base.answers.keep("t", request_id, "another", b"")


BATCH = BatchKey("t", "b")


async def checked_batch(base: Base, rows: int, *, concurrency: int = 100, cap: int | None = None) -> None:
    """A batch whose rows can cost 10 each."""
    terms = Terms(executor="a", max_cost_nano_usd=cap, concurrency=concurrency)
    await base.batches.collect(BATCH, 1, [run_pb2.RunRequest(task=f"{n}") for n in range(rows)], terms, more=False)
    found = [Checked(run_pb2.RunSpec(task=f"{number}"), 10) for number in range(rows)]
    assert await base.work.keep_checked(BATCH, 0, found)


async def end_all(base: Base, cost: int) -> None:
    for run in (await base.store.list("t", run_pb2.ListRunsRequest(page_size=1000))).runs:
        if run.state == run_pb2.RUN_STATE_QUEUED:
            run.state = run_pb2.RUN_STATE_PUBLISHED
            run.result.total_nano_usd = cost
            await base.store.save(run, [])


async def test_a_row_is_started_once_however_many_gateways_are_at_it(base: Base) -> None:
    await checked_batch(base, 30, concurrency=7)
    for _ in range(5):
        await asyncio.gather(*(base.work.advance(BATCH, f"executor-{number}") for number in range(8)))
        while await base.work.in_need("a"):  # who was refused the lock comes again
            await base.work.advance(BATCH, "a")
        await end_all(base, 4)
    await base.work.advance(BATCH, "a")
    batch = await base.batches.get(BATCH)
    assert (batch.state, batch.published, batch.cost_nano_usd) == (batch_pb2.BATCH_STATE_FINISHED, 30, 120)
    runs = (await base.store.list("t", run_pb2.ListRunsRequest(page_size=1000))).runs
    assert sorted(int(run.spec.task) for run in runs) == list(range(30))
    changes = await base.batches.changes(BATCH, 0, 1000)
    assert {change.row.state for change in changes} == {run_pb2.RUN_STATE_PUBLISHED}
    assert changes[-1].sequence == batch.last_sequence == 60
    assert not await base.work.in_need("a")


async def test_a_cap_counts_what_is_under_way_at_its_most(base: Base) -> None:
    await checked_batch(base, 10, cap=35)
    await base.work.advance(BATCH, "a")
    assert (await base.batches.get(BATCH)).running == 3
    assert not await base.work.in_need("a")
    await end_all(base, 9)
    await base.work.advance(BATCH, "a")
    batch = await base.batches.get(BATCH)
    assert (batch.state, batch.published, batch.cost_nano_usd, batch.queued) == (batch_pb2.BATCH_STATE_CAPPED, 3, 27, 7)
    await base.batches.resume(BATCH, executor="a", max_cost_nano_usd=37, concurrency=0)
    await base.work.advance(BATCH, "a")
    assert (await base.batches.get(BATCH)).running == 1


async def test_rows_that_two_have_checked_count_once(base: Base) -> None:
    terms = Terms(executor="a", max_cost_nano_usd=None, concurrency=1)
    requests = [run_pb2.RunRequest(task=f"{number}") for number in range(4)]
    await base.batches.collect(BATCH, 1, requests, terms, more=False)
    assert await base.work.unchecked("a") == [(BATCH, 0)]
    assert list(await base.work.rows_to_check(BATCH, 2, 10)) == requests[2:]
    good, bad = Checked(run_pb2.RunSpec(task="x"), 1), Checked(None, error="no \u2603")
    kept = await asyncio.gather(*(base.work.keep_checked(BATCH, 0, [good, bad]) for _ in range(3)))
    assert sorted(kept) == [False, False, True]
    assert await base.work.keep_checked(BATCH, 2, [good, bad])
    batch = await base.batches.get(BATCH)
    assert (batch.state, batch.checked, batch.refused) == (batch_pb2.BATCH_STATE_REFUSED, 4, 2)
    assert [change.row.error for change in await base.batches.changes(BATCH, 0, 10)] == ["no \u2603"] * 2
    assert not await base.work.unchecked("a")


async def test_a_batch_that_is_stopped_while_it_is_checked_is_checked_later(base: Base) -> None:
    terms = Terms(executor="a", max_cost_nano_usd=None, concurrency=1)
    await base.batches.collect(BATCH, 1, [run_pb2.RunRequest(task="x")] * 2, terms, more=False)
    await base.batches.pause(BATCH)
    assert not await base.work.keep_checked(BATCH, 0, [Checked(run_pb2.RunSpec(), 1)])
    await base.batches.resume(BATCH, executor="a", max_cost_nano_usd=None, concurrency=0)
    assert await base.work.unchecked("a") == [(BATCH, 0)]


async def test_a_commands_batch_is_that_commands(base: Base) -> None:
    await checked_batch(base, 2)
    terms = Terms(executor=COMMAND, max_cost_nano_usd=None, concurrency=1)
    await base.batches.collect(BATCH, 1, [run_pb2.RunRequest(task=f"{n}") for n in range(2)], terms, more=False)
    assert (await base.work.in_need("a"), await base.work.in_need(COMMAND)) == ([], [BATCH])
    await base.work.pause_left_over()
    assert not await base.work.in_need(COMMAND)


async def test_rows_sent_by_two_at_once_are_there_once(base: Base) -> None:
    terms = Terms(executor="a", max_cost_nano_usd=None, concurrency=1)
    requests = [run_pb2.RunRequest(task=f"{number}") for number in range(1200)]
    await asyncio.gather(*(base.batches.collect(BATCH, 1, requests[:500], terms, more=True) for _ in range(3)))
    await base.batches.collect(BATCH, 501, requests[500:], terms, more=False)
    assert (await base.batches.get(BATCH)).rows == 1200
    page, token = await base.batches.rows(BATCH, page_size=1000, page_token="")
    rest, last = await base.batches.rows(BATCH, page_size=1000, page_token=token)
    assert [row.run for row in (*page, *rest)] == requests
    assert (len(page), last) == (1000, "")


async def test_a_change_is_done_again_only_where_it_cannot_count_twice(postgres: str) -> None:
    """Postgres ends a connection in the middle of a transaction or of a commit, as it does when it stops."""
    engine = await open_engine(postgres, MIGRATIONS, metadata)
    tables = Transactions(engine)
    begun = 0

    async def break_when(connection: AsyncConnection, deferred: bool) -> None:
        ends = "BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END"
        await connection.execute(text(f"CREATE OR REPLACE FUNCTION go() RETURNS trigger LANGUAGE plpgsql AS '{ends}'"))
        await connection.execute(text("DROP TRIGGER IF EXISTS breaks ON executors"))
        when = "DEFERRABLE INITIALLY DEFERRED" if deferred else ""
        await connection.execute(
            text(
                f"CREATE CONSTRAINT TRIGGER breaks AFTER INSERT ON executors {when} FOR EACH ROW EXECUTE FUNCTION go()"
            )
        )

    async def add(connection: AsyncConnection) -> None:
        nonlocal begun
        begun += 1
        await connection.execute(insert(executors), {"executor": "x", "beat": 1})

    try:
        for deferred, times in ((False, 2), (True, 1)):
            begun = 0
            await tables.change(partial(break_when, deferred=deferred))
            with pytest.raises(DatabaseAwayError) as caught:
                await tables.change(add)
            assert begun == times
            assert isinstance(caught.value, CommitUnansweredError) == deferred
    finally:
        await tables.change(lambda connection: connection.execute(text("DROP TRIGGER breaks ON executors")))
        await engine.dispose()


async def test_what_a_subject_does_not_use_is_forgotten(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("djp_gateway.adapters.sql_rates._FORGET_S", 0.0)
    rates, others = SqlRates(base.tables), SqlRates(base.tables)
    for number in range(20):
        assert await rates.take(f"caller {number}", 1, 1_000_000) == 0  # room again after 60 microseconds
    assert await rates.take("busy", 2, 2) == 0
    assert 0 < await others.take("busy", 1, 2) <= 30
    assert [row.caller for row in await base.tables.rows(select(token_rates.c.caller))] == ["busy"]


async def test_gateways_that_count_and_forget_at_once_do_not_stand_still(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.adapters.sql_rates._FORGET_S", 0.0)
    gateways = [SqlRates(Transactions(base.tables.engine)) for _ in range(3)]
    callers = [f"caller {number}" for number in range(10)]
    waits = await asyncio.gather(*(one.take(caller, 1, 600_000) for one in gateways for caller in callers * 10))
    assert waits == [0] * 300
    assert await gateways[0].take("new", 60, 60) == 0
    first_come = await asyncio.gather(*(one.take("few", 1, 1) for one in gateways for _ in range(10)))
    assert first_come.count(0) == 1
