"""All RPCs in any order, several at once at two servers, against a plain model: windows, ledger and reports agree.

Of requests that come one by one every answer is the model's; of those that come at once, some order explains all
answers. LEDGER_EXAMPLES multiplies the number of programs that are tried.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from djp.mesh.errors import DjpError
from djp.v1 import governance_pb2
from djp_governance.adapters.tables import metadata as tables
from tests.governance.ledger_audit import mistakes
from tests.governance.ledger_model import Model
from tests.governance.ledger_orders import distinct, explained, seen, shown
from tests.governance.ledger_pair import Pair, metadata
from tests.governance.ledger_programs import (
    ACME,
    BROKEN,
    CALLERS,
    EVERYBODY,
    FILES,
    GLOBEX,
    OPERATOR,
    TENANT,
    Author,
    program,
)
from tests.governance.ledger_words import LAPSED, Rules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.governance.ledger_orders import Step
    from tests.governance.ledger_words import Caller

EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "1"))
STARTS = (
    (datetime(2026, 12, 30, 20, tzinfo=UTC), "UTC"),
    (datetime(2026, 3, 28, 21, tzinfo=UTC), "Europe/Berlin"),  # the night in which summer time begins
    (datetime(2028, 2, 28, 22, tzinfo=UTC), "America/New_York"),  # a leap year
)
PROGRAMS = {"sqlite": 9, "postgres": 4}


@dataclass
class Life:
    """A program as it runs, next to the model; to more than one, while the answers leave open in which order commands
    that came at once were done."""

    pair: Pair
    models: list[Model]
    author: Author = field(init=False)
    content: str = ""
    good: str = FILES[0][0]
    journal: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.author = Author(lambda *of: self.models[0].left(*of))

    async def step(self, what: str, *of: Any) -> None:
        if what == "at once":
            await self.at_once(*of)
        elif what == "time":
            self.pair.now += timedelta(hours=of[0])
            for model in self.models:
                model.now = self.pair.now
        elif what == "file":
            await self.write_file(*of)
        elif what == "restart":
            if self.content in BROKEN:  # such a file stops the service at its start
                await self.write(self.good)
            await self.pair.start(of[0])
        elif what == "tidy":
            await self.pair.upkeeps[of[0]].tidy()
            for model in self.models:
                model.retire()
        elif what == "anomalies are told":
            await self.pair.upkeeps[of[0]].tell_anomalies()
            for model in self.models:
                model.tell_anomalies()
        elif what == "watch":
            await self.watch(*of)

    async def at_once(self, commands: Sequence[Any]) -> None:
        """Send them, each to the next server, and find an order in which the model answers the same."""
        written = [(one, self.author.write(*one)) for one in commands if one[0] != "sweep"]
        requests = [told for _, told in written if told]
        sweeps = [self.pair.upkeeps[n % 2].sweep() for n, one in enumerate(commands) if one[0] == "sweep"]
        asked = [self.pair.ask(n % 2, *told) for n, told in enumerate(requests)]
        answers = await asyncio.gather(*asked, *sweeps)
        after = await self.states() if sweeps else {}
        model = self.models[0]
        lapsed = [name for name, one in model.held.items() if one.state != LAPSED == after.get(name)]
        if sweeps and not requests:
            assert set(lapsed) == {one.name for one in model.due()}

        def did(caller: Caller, request: Any, answer: Any) -> Step:
            return lambda model: model.told(caller, request, answer)

        def ended(name: str) -> Step:
            return lambda model: model.lapse(name)

        steps = [did(*told, answer) for told, answer in zip(requests, answers, strict=False)]
        fresh = [seen(one) for one in (await self.events(OPERATOR))[len(model.events) :]]
        refused = {
            told[1].run_id
            for told, answer in zip(requests, answers, strict=False)
            if isinstance(answer, DjpError) and answer.reason == "BUDGET_EXCEEDED"
        }
        steps += [ended(name) for name in lapsed]
        why: list[str] = []
        found = [after for model in self.models for after in explained(model, steps, fresh, refused, why)]
        assert found, "no order explains what was answered:\n" + "\n--\n".join(dict.fromkeys(why))
        self.models = distinct(found)
        for (caller, _), answer in zip(requests, answers, strict=False):
            if isinstance(answer, governance_pb2.ReserveResponse):
                name = answer.reservation.reservation_id, caller
                self.author.names += [name] if name not in self.author.names else []

    async def states(self) -> dict[str, int]:
        return {
            one.reservation_id: one.state
            for caller in (ACME, GLOBEX)
            for one in await self.pair.pages(caller, governance_pb2.ListReservationsRequest(), "reservations")
        }

    async def events(self, caller: Caller, size: int = 1000) -> list[Any]:
        """Oldest first."""
        found = await self.pair.pages(caller, governance_pb2.ListEventsRequest(), "events", size)
        return found[::-1]

    async def write_file(self, number: int) -> None:
        """Change the budgets file; the servers take it over, or keep to the one before."""
        await self.write([*(one for one, _, _ in FILES), *BROKEN][number])
        if self.content in BROKEN:
            for model in self.models:
                model.reject_file(self.content)
        else:
            for model in self.models:
                self.good, model.named, model.runs = FILES[number]

    async def write(self, content: str) -> None:
        self.content = content
        (self.pair.folder / "budgets.yaml").write_text(content, encoding="utf-8")
        for _ in range(2):  # it has to rest
            for upkeep in self.pair.upkeeps:
                await upkeep.look_around()

    async def watch(self, start: int) -> None:
        """From an event on, whoever is asked, the stream has what the list has."""
        for caller, stub in zip((ACME, OPERATOR), self.pair.stubs, strict=True):
            listed = await self.events(caller)
            rest = listed[start % (len(listed) + 1) :]
            after = listed[-len(rest) - 1].sequence if len(rest) < len(listed) else 0
            request = governance_pb2.WatchEventsRequest(after_sequence=after)
            stream = stub.WatchEvents(request, metadata=metadata(caller))
            assert [(await stream.read()).event for _ in rest] == rest
            stream.cancel()

    async def agree(self, callers: Sequence[Caller] = CALLERS, size: int = 1000) -> None:
        """All that these callers can see is as a model has it, read so many at a time."""
        pair, pb, report = self.pair, governance_pb2, governance_pb2.ReportRequest()
        views = []
        for place, caller in enumerate(callers):
            budgets = await pair.pages(caller, pb.ListBudgetsRequest(), "budgets", size)
            events = await self.events(caller, size)
            listed = await pair.pages(caller, pb.ListReservationsRequest(), "reservations", size)
            views.append((caller, budgets, events, listed, await pair.ask(place % 2, caller, report)))
        self.models, wrong = apart(self.models, lambda model: agrees(model, views))
        if not self.models:
            raise wrong[0]
        assert await asyncio.to_thread(mistakes, pair.url) == {}
        await self.what_was_written_stays_written()

    async def what_was_written_stays_written(self) -> None:
        """An entry of the journal is never changed, and goes only with its reservation."""
        journal = {row["entry_id"]: dict(row) for row in await asyncio.to_thread(rows, self.pair.url)}
        assert all(journal[number] == row for number, row in self.journal.items() if number in journal)
        gone = {row["reservation_id"] for number, row in self.journal.items() if number not in journal}
        assert gone <= {one.name for one in self.models[0].gone}
        self.journal = journal


def agrees(model: Model, views: Sequence[Any]) -> None:
    """Raises AssertionError where what callers see is not as the model has it."""
    for caller, budgets, events, listed, report in views:
        assert budgets == model.budgets(caller)
        assert [one.sequence for one in events] == sorted({one.sequence for one in events})
        assert [seen(one) for one in events] == [shown(one) for one in model.seen_events(caller)]
        assert listed == model.reservations(caller.tenant)
        model.told(caller, governance_pb2.ReportRequest(), report)


def apart(models: Sequence[Model], check: Callable[[Model], None]) -> tuple[list[Model], list[AssertionError]]:
    """The models that pass the check, and what is wrong with the others."""
    passed, wrong = [], []
    for model in models:
        try:
            check(model)
            passed.append(model)
        except AssertionError as error:
            wrong.append(error)
    return passed, wrong


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_windows_ledger_and_reports_agree_with_the_rules_whatever_happens(
    kind: str, request: pytest.FixtureRequest, short_folder: Path
) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else ""
    with asyncio.Runner() as runner:

        def fails(program: list[Any], start: tuple[datetime, str]) -> Exception | None:
            with tempfile.TemporaryDirectory(dir=short_folder) as folder:
                try:
                    runner.run(live(url or f"sqlite+aiosqlite:///{folder}/ledger.db", Path(folder), program, *start))
                except Exception as error:
                    return error
            return None

        for number in range(PROGRAMS[kind] * EXAMPLES):
            chance = random.Random(f"{kind} {number}")
            one, start = program(chance, 24), chance.choice(STARTS)
            if wrong := fails(one, start):
                shorter, wrong = shortened(one, wrong, partial(fails, start=start))
                wrong.add_note(f"program {number} from {start}, shortened to\n" + "\n".join(map(str, shorter)))
                raise wrong


def shortened(
    steps: list[Any], wrong: Exception, fails: Callable[[list[Any]], Exception | None]
) -> tuple[list[Any], Exception]:
    """What still fails of a program without the steps that it does not need, as far as one look at each can tell."""
    for place in reversed(range(len(steps))):
        without = [*steps[:place], *steps[place + 1 :]]
        if again := fails(without):
            steps, wrong = without, again
    return steps, wrong


async def live(url: str, folder: Path, program: list[Any], start: datetime, zone: str) -> None:
    """A program from its start on an empty ledger to its end."""
    os.environ["DJP_HOME"] = str(folder)
    if url.startswith("postgresql"):
        await asyncio.to_thread(empty, url)
    rules = Rules(EVERYBODY, TENANT, ZoneInfo(zone))
    async with AsyncExitStack() as stack:
        pair = Pair(url, folder, rules, start)
        for place in range(2):
            await pair.start(place)
            stack.push_async_callback(pair.stop, place)
        life = Life(pair, [Model(rules, start)])
        for number, one in enumerate(program):
            await life.step(*one)
            await life.agree((OPERATOR, (ACME, GLOBEX)[number % 2]))
        await life.agree(size=2)


def rows(url: str) -> Sequence[Any]:
    """The journal."""
    engine = sa.create_engine(url.replace("+aiosqlite", ""), poolclass=sa.NullPool)
    with engine.connect() as connection:
        return connection.execute(sa.text("SELECT * FROM entries")).mappings().all()


def empty(url: str) -> None:
    """As a new database is, in a fraction of the time."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        if sa.inspect(connection).has_table("entries"):
            names = ", ".join(tables.tables)
            connection.execute(sa.text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
    engine.dispose()
