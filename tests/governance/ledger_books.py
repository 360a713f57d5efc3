"""The rules of the ledger in plain Python, one request at a time and without a database: what money does."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from djp.mesh.errors import DjpError
from djp.v1 import governance_pb2
from tests.governance.ledger_windows import Windows, scopes_of
from tests.governance.ledger_words import (
    DELETED,
    DENIED,
    ENDED,
    HELD,
    LAPSED,
    OVER,
    PERIODS,
    RELEASED,
    SET,
    SETTLED,
    THROTTLED,
    Caller,
    Event,
    Held,
    Limits,
    Paid,
    Place,
    Refused,
    RunLimit,
    flat,
    refusal,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _near(amount: int, tokens: int, limit: RunLimit) -> list[str]:
    """What the warnings of a run are about. Raises Refused for one beyond its limit."""
    pairs = [(amount, limit.nano_usd, "cost"), (tokens, limit.tokens, "tokens")]
    for asked, most, _ in pairs:
        if most is not None and asked > most:
            raise refusal("RUN_BUDGET_EXCEEDED")
    return [what for asked, most, what in pairs if most is not None and asked and asked * 10 >= most * 9]


@dataclass
class Books(Windows):
    """All that a ledger has been told. Of `runs` the keys are workflows of the budgets file."""

    runs: dict[str, RunLimit] = field(default_factory=dict)
    answered: dict[tuple[str, str], tuple[bytes, datetime, Any]] = field(default_factory=dict)
    in_use: set[tuple[str, date]] = field(default_factory=set)  # scopes and the months in which somebody asked for them
    events: dict[str, Event] = field(default_factory=dict)
    counted: dict[tuple[str, str, str], tuple[Place, int]] = field(default_factory=dict)  # by tenant, run and model
    gone: list[Held] = field(default_factory=list)  # from the ledger; reports remember them
    counted_and_gone: list[tuple[str, str, Place]] = field(default_factory=list)

    def copy(self) -> Books:
        """Another set of books with the same in it."""
        values = {name: value.copy() for name, value in vars(self).items() if isinstance(value, dict | list | set)}
        return replace(self, **values)

    def told(self, caller: Caller, request: Any, answer: Any) -> None:
        """Do what the request does. Raises AssertionError when that is not how the rules answer it."""
        kind = type(request).__name__.removesuffix("Request").lower()
        try:
            expected = self._once(caller, request, answer, kind)
        except Refused as refused:
            expected = refused.args
        got = answer
        if isinstance(answer, DjpError):
            got = answer.reason, answer.field, tuple(one.subject for one in answer.quota)
        assert got == expected, f"{type(request).__name__} of {caller.tenant}\n{got}\nbut the rules say\n{expected}"

    def _once(self, caller: Caller, request: Any, answer: Any, kind: str) -> Any:
        """The first answer where the request was answered before; what is refused leaves nothing that is remembered."""
        work: Callable[..., Any] = getattr(self, f"_{kind}")
        if not hasattr(request, "request_id"):
            return work(caller, request, answer)
        if kind in ("setbudget", "deletebudget") and caller.role == "tenant":
            raise refusal("PERMISSION_DENIED")
        if kind == "reserve":  # the run's own limits need no ledger
            _near(request.amount_nano_usd, request.tokens, _own(request))
        key, body = (caller.tenant, request.request_id), kind.encode() + request.SerializeToString(deterministic=True)
        if key in self.answered:
            first, _, answered = self.answered[key]
            if first != body:
                raise refusal("REQUEST_ID_REUSED", "request_id")
            return answered
        expected = work(caller, request, answer)
        self.answered[key] = body, self.now, expected
        return expected

    # What requests do.

    def _reserve(self, caller: Caller, request: Any, answer: Any) -> Any:
        tenant, tags = caller.tenant, dict(request.tags)
        amount, tokens, workflow = request.amount_nano_usd, request.tokens, tags.get("workflow", "")
        scopes = scopes_of(tenant, workflow)
        self.in_use |= {(scope, self.today.replace(day=1)) for scope in scopes}
        about = _near(amount, tokens, _own(request))
        windows = [(scope, period) for scope in scopes for period in PERIODS]
        full = [
            (*one, unit)
            for one in windows
            for unit, asked, used, limit in self._amounts(*one, amount, tokens)
            if asked and used + asked > limit
        ]
        if full:
            for scope, period, unit in full:
                self._tell_threshold(DENIED, scope, period, unit, request.run_id)
            raise refusal("BUDGET_EXCEEDED", "", tuple(f"{scope}/{period[0]}" for scope, period, _ in full))
        of_run = [one for one in self.held.values() if (one.tenant, one.run_id) == (tenant, request.run_id)]
        so_far = sum(one.charged + one.rest for one in of_run)
        so_far_tokens = sum(one.charged_tokens + one.rest_tokens for one in of_run)
        about += _near(so_far + amount, so_far_tokens + tokens, self.runs.get(workflow, RunLimit()))
        assert isinstance(answer, governance_pb2.ReserveResponse), f"{answer}, but there is room"
        name = answer.reservation.reservation_id
        assert name not in self.held
        lease_s = request.lease.seconds
        lease = self.now + timedelta(seconds=lease_s) if lease_s else None
        held = Held(
            name, tenant, request.run_id, amount, tokens, tags, tuple(scopes), self.today, self.now, lease_s, lease
        )
        self.held[name] = held
        pace = 0
        slow = False
        for scope, period in windows:
            for unit, asked, used, limit in self._amounts(scope, period, amount, tokens):
                if asked and used * 10 >= limit * 8:
                    slow = True
                    rest_ms = (self._span(period[1], self.today)[1] - self.now) // timedelta(milliseconds=1)
                    pace = max(pace, rest_ms if limit - used <= asked else rest_ms * asked // (limit - used))
                    self._tell_threshold(THROTTLED, scope, period, unit, request.run_id)
        assert [one.split()[1] for one in answer.warnings] == about
        return governance_pb2.ReserveResponse(
            reservation=held.told(), outcome=2 if slow else 1, warnings=answer.warnings, pace_ms=pace
        )

    def _charge(self, caller: Caller, request: Any, _: Any) -> Any:
        before = self._find(caller, request.reservation_id)
        calls = {one.call_id: _paid(one) for one in reversed(request.calls)}
        new = {one: call for one, call in calls.items() if not self._knows(caller.tenant, one)}
        truths = {one: call for one, call in calls.items() if (paid := before.calls.get(one)) and paid.owed}
        after, over = self._pay(before, new, truths)
        return governance_pb2.ChargeResponse(reservation=after.told(), over_reservation=over)

    def _pay(self, before: Held, new: Mapping[str, Paid], truths: Mapping[str, Paid]) -> tuple[Held, bool]:
        """The reservation with more calls and truer ones, and whether that passed what was held for it."""
        after = replace(before, calls={**before.calls, **new, **truths})
        self.held[after.name] = after
        change = Counter(one.model for one in (*new.values(), *truths.values()))
        change.subtract(before.calls[one].model for one in truths)
        change[""] = len(new)
        for model, more in change.items():
            key = after.tenant, after.run_id, model
            place, so_far = self.counted.get(key, (after.place, 0))
            self.counted[key] = place, so_far + more
            if so_far + more <= 0:
                del self.counted[key]
        uncovered = sum(one.cost for one in new.values()) > before.rest - after.rest
        uncovered |= (
            sum(one.input_tokens + one.output_tokens for one in new.values()) > before.rest_tokens - after.rest_tokens
        )
        over = uncovered or after.charged > after.amount or after.charged_tokens > after.tokens
        if over:
            self._tell_of(OVER, after)
        return after, over

    def _extend(self, caller: Caller, request: Any, _: Any) -> Any:
        held = self._find(caller, request.reservation_id)
        if held.state == HELD:
            lease_s = held.lease_s or self.rules.lease_s
            open_calls = {one.call_id: _paid(one, bound=True) for one in reversed(request.open_calls)}
            held = replace(held, lease=self.now + timedelta(seconds=lease_s), open=open_calls)
            self.held[held.name] = held
        return governance_pb2.ExtendResponse(reservation=held.told())

    def _settle(self, caller: Caller, request: Any, _: Any) -> Any:
        held = self._end(caller, request.reservation_id, SETTLED)
        return governance_pb2.SettleResponse(reservation=held.told(), totals=held.totals(), total_nano_usd=held.charged)

    def _release(self, caller: Caller, request: Any, _: Any) -> Any:
        held = self._end(caller, request.reservation_id, RELEASED)
        return governance_pb2.ReleaseResponse(reservation=held.told(), total_nano_usd=held.charged)

    def _end(self, caller: Caller, name: str, state: int) -> Held:
        held = self._find(caller, name)
        if held.state == HELD:
            self.held[name] = held = replace(held, state=state, closed=self.now)
        return held

    def _setbudget(self, caller: Caller, request: Any, _: Any) -> Any:
        asked = request.budget
        names = ("daily_nano_usd", "monthly_nano_usd", "daily_tokens", "monthly_tokens")
        amounts = [getattr(asked, name) if asked.HasField(name) else None for name in names]
        self.chosen[request.scope] = Limits(*amounts, origin="set")
        self._tell_change(SET, caller, request)
        return governance_pb2.SetBudgetResponse(budget=self._limits_told(request.scope))

    def _deletebudget(self, caller: Caller, request: Any, _: Any) -> Any:
        if request.scope not in self.chosen:
            raise refusal("NOT_FOUND", "scope")
        del self.chosen[request.scope]
        self._tell_change(DELETED, caller, request)
        return governance_pb2.DeleteBudgetResponse()

    def lapse(self, name: str) -> None:
        """A sweep ends a reservation. Raises AssertionError where it may not."""
        held = self.held[name]
        assert held in self.due(), f"{held} lapsed"
        owed = {one: call for one, call in held.open.items() if not self._knows(held.tenant, one)}
        after, _ = self._pay(held, owed, {})
        self.held[name] = replace(after, state=LAPSED, closed=self.now)
        self._tell_of(ENDED, after)

    def due(self) -> list[Held]:
        """Whose leases are over."""
        return [one for one in self.held.values() if one.state == HELD and one.lease and one.lease <= self.now]

    def retire(self) -> None:
        """Forget what is old: whole months, up to one in which something is still held."""
        forgotten = self.now - timedelta(days=self.rules.request_days)
        self.answered = {key: one for key, one in self.answered.items() if one[1] >= forgotten}
        first = self.rules.day(self.now - timedelta(days=self.rules.retention_days)).replace(day=1)
        first = min([first, *(one.day.replace(day=1) for one in self.held.values() if one.state == HELD)])
        self.gone += [one for one in self.held.values() if one.day < first]
        self.held = {name: one for name, one in self.held.items() if one.day >= first}
        self.in_use = {(scope, month) for scope, month in self.in_use if month >= first}
        self.events = {key: one for key, one in self.events.items() if one.at >= self.rules.midnight(first)}
        of_runs = {(one.tenant, one.run_id) for one in self.held.values()}
        for (tenant, run_id, model), (place, _) in list(self.counted.items()):
            if place[0] < first and (tenant, run_id) not in of_runs:
                del self.counted[tenant, run_id, model]
                self.counted_and_gone.append((tenant, model, place))

    # What requests ask.

    def _getreservation(self, caller: Caller, request: Any, _: Any) -> Any:
        held = self._find(caller, request.reservation_id)
        return governance_pb2.GetReservationResponse(reservation=held.told(), totals=held.totals())

    def _find(self, caller: Caller, name: str) -> Held:
        held = self.held.get(name)
        if held is None or held.tenant != caller.tenant:
            raise refusal("NOT_FOUND", "reservation_id")
        return held

    def _knows(self, tenant: str, call_id: str) -> bool:
        return any(call_id in one.calls for one in self.held.values() if one.tenant == tenant)

    # What is told once.

    def tell(self, key: str, event: Event) -> None:
        """Unless it was told before."""
        self.events.setdefault(key, event)

    def _tell_threshold(self, kind: int, scope: str, period: tuple[str, int], unit: str, run_id: str) -> None:
        window = self.window(scope, period[1])
        tenant = scope.removeprefix("tenant:") if scope.startswith("tenant:") else ""
        event = Event(self.now, kind, scope, tenant, run_id, about=unit, window=flat(window))
        self.tell(threshold_key(kind, window, unit), event)

    def _tell_of(self, kind: int, held: Held) -> None:
        event = Event(self.now, kind, f"tenant:{held.tenant}", held.tenant, held.run_id, about=held.name)
        self.tell(f"{kind}|{held.name}", event)

    def _tell_change(self, kind: int, caller: Caller, request: Any) -> None:
        tenant = request.scope.removeprefix("tenant:") if request.scope.startswith("tenant:") else ""
        event = Event(self.now, kind, request.scope, tenant, "", f"{caller.role} of {caller.tenant}", request.reason)
        self.tell(f"{kind}|{request.request_id}|{self.now}", event)


def threshold_key(kind: int, window: governance_pb2.BudgetWindow, unit: str) -> str:
    """What a threshold is told once for: a window and a limit."""
    limit = window.limit_tokens if unit == "tokens" else window.limit_nano_usd
    return f"{kind}|{window.scope}|{window.period}|{window.starts_at.seconds}|{unit}|{limit}"


def _own(request: Any) -> RunLimit:
    has = request.HasField
    return RunLimit(
        request.run_limit_nano_usd if has("run_limit_nano_usd") else None,
        request.run_limit_tokens if has("run_limit_tokens") else None,
    )


def _paid(call: Any, *, bound: bool = False) -> Paid:
    """A call as it is charged: at its bound where its usage is unknown, or while it is under way."""
    at_bound = bound or call.usage_unknown
    cost = max(call.cost_nano_usd, call.bound_nano_usd) if at_bound else call.cost_nano_usd
    return Paid(call.model, cost, call.usage.input_tokens, call.usage.output_tokens, at_bound, bound)
