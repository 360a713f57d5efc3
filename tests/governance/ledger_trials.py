"""Trials whether a budget can be overdrawn: many clients draw on one cap, while servers and clients may be killed.

In a trial every client reserves, charges and settles until it is refused; then all is checked: what the clients saw,
what the observer and the trigger saw of the windows, and the journal. Raises Wrong, or AssertionError of the audit.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tests.governance.ledger_audit import audit
from tests.governance.ledger_clients import Tally, Task
from tests.governance.ledger_fleet import SERVER
from tests.governance.ledger_observer import WITNESS, Seen

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from tests.governance.ledger_fleet import Fleet

LEAST_USE = 0.95
LAPSE_S = 30.0
"""How long after its end a lease may take to lapse: the service's promise."""
ROUND = 25
"""Trials with kills after which the leases of the dead are waited for."""
FIRST_S = 1.0
"""How long the first trial with kills is taken to last; later ones as long as those before."""
FORMS = (("tenant", "daily_nano_usd"), ("tenant", "monthly_nano_usd"), ("tenant", "daily_tokens"))
OF_EVERYBODY = ("global", "daily_nano_usd")


@dataclass
class Trial:
    """One cap and those who spend it. `before` is what its window had in it; `use` is the share of the cap, or of what
    the dead left of it, that could be used."""

    scope: str
    limit: str
    tenants: Sequence[str]
    amount: int
    cap: int
    exact: bool
    before: int = 0
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    use: float = 0.0


@dataclass
class Phase:
    """The sums of many trials."""

    tally: Tally = field(default_factory=Tally)
    seen: Seen = field(default_factory=Seen)
    uses: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    server_kills: int = 0
    client_kills: int = 0
    latest_lapse_s: float = 0.0
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def figures(self) -> dict[str, float]:
        """What is told of them. Shares are of a cap; a `lapsed` call was not made, for its lease was over."""
        return {
            "trials": len(self.uses),
            "grants": self.tally.grants,
            "refusals": self.tally.refusals,
            "largest_share_seen": round(self.seen.share, 6),
            "lowest_use": round(min(self.uses), 4),
            "observations": self.seen.looks,
            "windows_observed": self.seen.windows,
            "server_kills": self.server_kills,
            "client_kills": self.client_kills,
            "cut_off_and_asked_again": self.tally.cut_off,
            "lapsed_before_the_call": self.tally.lapsed,
            "slowest_lapse_s": round(self.latest_lapse_s, 1),
            "seconds": round(self.seconds, 1),
            "median_trial_s": round(statistics.median(self.took), 2),
        }

    def going_on(self) -> Phase:
        """The same, and its time runs on from now."""
        self.began = time.monotonic() - self.seconds
        return self

    def saw(self, seen: Seen) -> None:
        """Add what the observer saw."""
        self.seen.looks += seen.looks
        self.seen.windows += seen.windows
        self.seen.share = max(self.seen.share, seen.share)
        if seen.overdrawn:
            raise Wrong(f"overdrawn: {seen.overdrawn[0]}")


class Wrong(Exception):  # noqa: N818
    """The ledger did what it must not."""


class Trials:
    """Runs trials on the fleet of a new ledger, each crew of so many clients, each cap with room for `fit` calls."""

    def __init__(
        self, fleet: Fleet, url: str, chance: random.Random, *, clients: int, fit: int = 100, lease_s: float = 8
    ) -> None:
        self._fleet = fleet
        self._url = url
        self._clients = clients
        self._fit = fit
        self._lease_s = lease_s
        self._chance = chance
        self._engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        self._query(WITNESS)
        self._made = 0
        self._watched: list[str] = []

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def calm(self, trials: int, phase: Phase | None = None) -> Phase:
        """Trials in which nobody dies: all that was granted is known. Adds to a phase, or begins one."""
        phase = (phase or Phase()).going_on()
        for number in range(len(phase.uses), len(phase.uses) + trials):
            scope, limit = (*FORMS, OF_EVERYBODY)[number % 4]
            trial = self._begin(phase, scope, limit, exact=(number + number // 4) % 2 == 0)
            self._spend(trial, self._task(trial))
            self._check(trial)
            self._end(trial, phase)
        return phase

    def killing(self, trials: int, phase: Phase | None = None) -> Phase:
        """Trials in each of which a server and a crew of clients die; their rounds end when all leases have lapsed."""
        phase = (phase or Phase()).going_on()
        done: list[Trial] = []
        end = len(phase.uses) + trials
        for number in range(len(phase.uses), end):
            # The budget of everybody comes last in a round, and when the older trials have given back what their dead
            # held: that would disturb its sums.
            last = len(done) == ROUND - 1 or number == end - 1
            if last:
                phase.latest_lapse_s = max(phase.latest_lapse_s, self._wait_for_lapses(done))
            scope, limit = OF_EVERYBODY if last else FORMS[number % 3]
            trial = self._begin(phase, scope, limit, exact=(number + number // 4) % 2 == 0)
            usual = statistics.median(one.seconds for one in done) if done else FIRST_S
            moments = sorted(self._chance.uniform(0, usual) for _ in range(2))
            kills = self._chance.sample((self._kill_server, self._kill_crew), 2)
            crews = self._spend(trial, self._task(trial, self._lease_s), list(zip(moments, kills, strict=True)))
            phase.server_kills += 1
            phase.client_kills += (len(self._fleet.crews) - crews) * self._clients
            done.append(trial)
            if last:
                phase.latest_lapse_s = max(phase.latest_lapse_s, self._wait_for_lapses(done))
                for one in reversed(done):
                    self._use_the_rest(one)
                    self._end(one, phase)
                done = []
        return phase

    def versions(self) -> int:
        """How many versions of windows' rows the trigger has checked. Raises Wrong when one was beyond its limit."""
        for row in self._query("SELECT * FROM overdrawn LIMIT 1"):
            raise Wrong(f"overdrawn: {dict(row)}")
        return int(self._query("SELECT last_value FROM versions")[0]["last_value"])

    def _begin(self, phase: Phase, scope: str, limit: str, *, exact: bool) -> Trial:
        self._made += 1
        name = f"trial-{self._made}"
        amount = self._chance.randint(10_000, 1_000_000)
        tenants = [f"{name}-{number}" for number in range(8)] if scope == "global" else [name]
        trial = Trial(
            scope=scope if scope == "global" else f"tenant:{name}",
            limit=limit,
            tenants=tenants,
            amount=amount,
            cap=self._fit * amount + self._chance.randrange(amount),
            exact=exact,
        )
        trial.before = sum(self._window(trial))
        self._fleet.set_budget(trial.scope, **{limit: trial.before + trial.cap})
        self._watched.append(trial.scope)
        phase.saw(self._fleet.watch(self._watched))
        return trial

    def _kill_server(self) -> None:
        self._fleet.kill_server(self._chance.randrange(len(self._fleet.servers)))

    def _kill_crew(self) -> None:
        self._fleet.kill_crew(self._chance.randrange(len(self._fleet.crews)))

    def _task(self, trial: Trial, lease_s: float = 0) -> Task:
        seed = self._chance.randrange(2**32)
        return Task(trial.tenants, trial.amount, trial.exact, lease_s, self._clients, seed)

    def _end(self, trial: Trial, phase: Phase) -> None:
        self._fleet.set_budget(trial.scope)
        self._watched.remove(trial.scope)
        phase.saw(self._fleet.watch(self._watched))
        phase.tally.add(trial.tally)
        phase.uses.append(trial.use)
        if sys.stderr.isatty():
            print(f"\r{self._made} trials", end="", file=sys.stderr)
        phase.took.append(trial.seconds)
        phase.seconds = time.monotonic() - phase.began
        self.versions()
        audit(self._url, trial.tenants)
        if trial.use < LEAST_USE:
            raise Wrong(f"{trial}: only {trial.use:.1%} could be used")

    def _spend(self, trial: Trial, task: Task, deaths: Sequence[tuple[float, Callable[[], None]]] = ()) -> int:
        """All crews at once; `deaths` are done after so many seconds each, in their order. How many crews lived."""
        began = time.monotonic()
        for crew in self._fleet.crews:
            crew.pipe.send(task)
        waiting = [crew.pipe for crew in self._fleet.crews]
        due = list(deaths)
        lived = 0
        while waiting or due:
            left = max(0.0, due[0][0] + began - time.monotonic()) if due else None
            for pipe in wait(waiting, left):
                trial.tally.add(pipe.recv())
                waiting.remove(pipe)
                lived += 1
            if due and (not waiting or time.monotonic() >= began + due[0][0]):
                due.pop(0)[1]()
                waiting = [pipe for pipe in waiting if not pipe.closed]
        trial.seconds = time.monotonic() - began
        return lived

    def _check(self, trial: Trial) -> None:
        """Of a trial in which nobody died, everything is known."""
        self.versions()
        reserved, spent = self._window(trial)
        grown = spent - trial.before
        if reserved or grown != trial.tally.charged:
            raise Wrong(f"{trial}: {reserved} reserved, {grown} spent")
        if trial.exact and (trial.tally.grants, grown) != (self._fit, self._fit * trial.amount):
            raise Wrong(f"{trial}: not exactly {self._fit} grants, {grown} spent")
        trial.use = grown / trial.cap

    def _wait_for_lapses(self, trials: Sequence[Trial]) -> float:
        """Until nothing is reserved; how many seconds the slowest lapse came after its lease's end.

        A server goes on with what a client asked for that died. So that nothing is reserved later, all servers die
        first, each with its connections to the database: what was not committed is undone.
        """
        self._fleet.restart(self._wait_for_the_last_connection)
        tenants = [tenant for one in trials for tenant in one.tenants]
        deadline = time.monotonic() + self._lease_s + LAPSE_S + 10
        held = "SELECT count(*) AS many FROM reservations WHERE tenant = ANY(:tenants) AND state = 'held'"
        while self._query(held, tenants=tenants)[0]["many"]:
            if time.monotonic() > deadline:
                raise Wrong("reservations of the dead are still held")
            time.sleep(0.1)
        took = (
            "SELECT max(closed_us - lease_us) AS us FROM reservations WHERE tenant = ANY(:tenants) AND state = 'lapsed'"
        )
        latest = (self._query(took, tenants=tenants)[0]["us"] or 0) / 1e6
        if latest > LAPSE_S:
            raise Wrong(f"a lease lapsed {latest:.1f} s after its end")
        return float(latest)

    def _wait_for_the_last_connection(self) -> None:
        deadline = time.monotonic() + LAPSE_S
        connected = "SELECT count(*) AS many FROM pg_stat_activity WHERE application_name = :name"
        while self._query(connected, name=SERVER)[0]["many"]:
            if time.monotonic() > deadline:
                raise Wrong("transactions of dead servers go on")
            time.sleep(0.02)

    def _use_the_rest(self, trial: Trial) -> None:
        """What the dead gave back can be spent."""
        reserved, spent = self._window(trial)
        left = trial.before + trial.cap - spent
        if reserved or left < 0 or spent - trial.before < trial.tally.charged:
            raise Wrong(f"{trial}: {reserved} reserved, {left} left")
        crew = self._fleet.crews[0]
        crew.pipe.send(Task(trial.tenants, max(1, left // 20), exact=True, clients=len(trial.tenants)))
        mopped: Tally = crew.pipe.recv()
        reserved, after = self._window(trial)
        if reserved or after - spent != mopped.charged:
            raise Wrong(f"{trial}: {reserved} reserved, {after - spent} spent of what was left")
        trial.use = (after - spent) / left if left else 1.0
        trial.tally.add(mopped)

    def _window(self, trial: Trial) -> tuple[int, int]:
        """Reserved and spent. Tokens are always as many as nano-dollars."""
        period = "month" if trial.limit.startswith("monthly") else "day"
        rows = self._query(
            "SELECT reserved_nano, spent_nano FROM windows WHERE scope = :scope AND period = :period",
            scope=trial.scope,
            period=period,
        )
        return (rows[0]["reserved_nano"], rows[0]["spent_nano"]) if rows else (0, 0)

    def _query(self, statement: str, **values: Any) -> Sequence[Any]:
        with self._engine.connect() as connection:
            result = connection.execute(sa.text(statement), values)
            return result.mappings().all() if result.returns_rows else []
