"""Random programs for governance: which requests of whom come in which order, and at once, while time passes."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration

from djp.v1 import common_pb2, governance_pb2
from tests.governance.ledger_words import Caller, Limits, RunLimit

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

ACME, GLOBEX, OPERATOR = Caller("acme"), Caller("globex"), Caller("ops", "operator")
CALLERS = (ACME, GLOBEX, OPERATOR)
WORKFLOWS = ("", "weekly", "x" * 120)  # of the last one's name there can be no budget

# What the budgets file may say (in dollars), and what it makes of the limits of scopes and of runs.
EVERYBODY = Limits(200, 500, origin="environment")
TENANT = Limits(100, 260, origin="environment")
FILES: tuple[tuple[str, dict[str, Limits], dict[str, RunLimit]], ...] = (
    ("# nothing", {"global": EVERYBODY}, {}),
    (
        "global: {monthly: 0.000000300}\n"
        "tenants: {acme: {daily: 0.000000060, daily_tokens: 150}, globex: {daily: none}}",
        {
            "global": EVERYBODY._replace(monthly=300, origin="file"),
            "tenant:acme": TENANT._replace(daily=60, daily_tokens=150, origin="file"),
            "tenant:globex": TENANT._replace(daily=None, origin="file"),
        },
        {},
    ),
    (
        "workflows: {weekly: {daily: 0.000000080, monthly_tokens: 200, run: 0.000000070, run_tokens: 120}}",
        {"global": EVERYBODY, "workflow:weekly": Limits(daily=80, monthly_tokens=200, origin="file")},
        {"weekly": RunLimit(70, 120)},
    ),
)
BROKEN = ("tenants: {acme: {daily: lots}}", "tenants: [")

ALL, MORE, SOFT = -1, -2, -3  # what is left, one more than that, and what is left up to the soft threshold
STRANGE = ("its own",) * 9 + ("a stranger",)
SCOPES = ("global", "tenant:acme", "tenant:globex", "workflow:weekly", "workflow:Überblick")
MODELS = ("a/m", "b/m")
# What comes how often.
CHANGES = {
    "reserve": 30,
    "charge": 18,
    "tell": 8,
    "extend": 12,
    "settle": 6,
    "release": 4,
    "set": 4,
    "delete": 3,
    "set by a tenant": 1,
    "sweep": 6,
    "again": 6,
    "its id again": 3,
}
LOOKS = {"reservation": 4, "reservations": 2, "budget": 3, "budgets": 1, "report": 3, "anomalies": 1}
STEPS = {
    "one": 36,
    "at once": 30,
    "the last money": 4,
    "a lost holder": 5,
    "an ended run": 4,
    "limits that change": 3,
    "time": 18,
    "file": 4,
    "restart": 2,
    "tidy": 4,
    "anomalies are told": 2,
    "watch": 2,
}


def program(chance: random.Random, steps: int) -> list[Any]:
    """At least so many steps: commands that come at once, or something that comes alone."""
    told: list[Any] = [("file", chance.randrange(3)), ("at once", [_change(chance, "reserve") for _ in range(2)])]
    stories = {"a lost holder": _lost_holder, "an ended run": _ended_run, "limits that change": _changing_limits}
    while len(told) < steps:
        what = _of(chance, STEPS)
        told += stories[what](chance) if what in stories else [_step(chance, what)]
    return told


def _lost_holder(chance: random.Random) -> list[Any]:
    """Its lease ends with calls under way, and what they came to is told after all."""
    which = chance.randrange(2)
    under_way, truth = (
        (what, which, "its own", [_call(chance) for _ in range(chance.randint(1, 3))]) for what in ("extend", "tell")
    )
    return [("at once", [under_way]), ("time", 24), ("at once", [("sweep",)]), ("at once", [truth])]


def _ended_run(chance: random.Random) -> list[Any]:
    """It is ended again, in another way, or charged, too."""
    which = chance.randrange(2)
    kinds = (("charge",), ("settle", "release"), ("settle", "release"), ("charge", "extend", "settle"))
    told = [_change(chance, chance.choice(kind)) for kind in kinds]
    return [("at once", [(what, which, "its own", *of[2:])]) for what, *of in told]


def _changing_limits(chance: random.Random) -> list[Any]:
    """A limit is set and taken back, and what is left is asked for."""
    chosen, scope = _change(chance, "set"), chance.choice(SCOPES[:2])
    ask = _step(chance, "the last money")
    return [("at once", [("set", scope, chosen[2])]), ask, ("at once", [("delete", scope)]), ask]


def _step(chance: random.Random, what: str) -> tuple[Any, ...]:
    if what == "one":
        return "at once", [_command(chance, CHANGES)]
    if what == "at once":
        return what, [_command(chance, CHANGES | LOOKS) for _ in range(chance.randint(2, 4))]
    if what == "the last money":
        who, workflow = chance.choice((ACME, GLOBEX)), chance.choice(WORKFLOWS)
        amounts = chance.choice(((ALL, 0), (0, ALL), (MORE, 0), (0, MORE), (SOFT, 0), (0, SOFT)))
        return "at once", [("reserve", who, n, *amounts, workflow, "", 0, None) for n in range(chance.choice((1, 3)))]
    if what == "time":
        return what, chance.choice((1, 2, 3, 5, 8, 13, 24, 30, -2, 24 * 12))
    if what == "file":
        return what, chance.randrange(len(FILES) + len(BROKEN))
    if what == "watch":
        return what, chance.randrange(10)
    return what, chance.randrange(2)  # at one of the servers


def _command(chance: random.Random, weights: Mapping[str, int]) -> tuple[Any, ...]:
    what, tenant, which = _of(chance, weights), chance.choice((ACME, GLOBEX)), chance.choice((0, 0, 0, 1, 1, 2, 3, 5))
    if what in CHANGES:
        return _change(chance, what)
    if what == "reservation":
        return what, which, chance.choice(STRANGE)
    if what == "reservations":
        return what, tenant, chance.randint(0, 4)
    if what == "budget":
        return what, chance.choice(CALLERS), chance.choice((*SCOPES, "tenant"))
    if what == "budgets":
        return what, chance.choice(CALLERS)
    return what, chance.choice(CALLERS), chance.choice(("", "acme", "globex")), chance.choice((0, 1, 2, 400))


def _change(chance: random.Random, what: str) -> tuple[Any, ...]:
    tenant, which = chance.choice((ACME, GLOBEX)), chance.choice((0, 0, 0, 1, 1, 2, 3, 5))
    if what == "reserve":
        amount, tokens = (chance.choice((0, chance.randint(1, 60), ALL, MORE, SOFT)) for _ in range(2))
        tags = chance.choice(WORKFLOWS), chance.choice(("", "fast"))
        lease_s, most = chance.choice((0, 3600, 72_000)), chance.choice((None, None, None, 40))
        return what, tenant, chance.randrange(3), amount, tokens, *tags, lease_s, most
    if what in ("charge", "extend", "tell"):
        return what, which, chance.choice(STRANGE), [_call(chance) for _ in range(chance.randint(what != "extend", 3))]
    if what in ("settle", "release"):
        return what, which, chance.choice(STRANGE)
    if what == "set":
        return what, chance.choice(SCOPES), [chance.choice((None, chance.randint(0, 300))) for _ in range(4)]
    if what in ("delete", "set by a tenant"):
        return what, chance.choice(SCOPES)
    return (what,) if what == "sweep" else (what, which, which)


def _call(chance: random.Random) -> tuple[int, str, int, int, bool]:
    """Few ids of calls, so that they come again, in other reservations, too. The last says: usage unknown."""
    return (
        chance.randrange(40),
        chance.choice(MODELS),
        chance.randint(0, 30),
        chance.randint(0, 30),
        chance.random() < 0.3,
    )


def _of(chance: random.Random, weights: Mapping[str, int]) -> str:
    return chance.choices(list(weights), list(weights.values()))[0]


def new_id() -> str:
    return str(uuid.uuid4())


@dataclass
class Author:
    """Writes the requests of a program; `names` are the reservations, and `sent` the requests that may come again.

    `left` says what a tenant's run of a workflow could still be granted of so many tenths of the limits, in
    nano-dollars and tokens.
    """

    left: Callable[[str, str, int], tuple[int, int]]
    names: list[tuple[str, Caller]] = field(default_factory=list)
    sent: list[tuple[Caller, Any]] = field(default_factory=list)
    run_ids: list[str] = field(default_factory=lambda: [new_id() for _ in range(3)])
    under_way: dict[str, list[str]] = field(default_factory=dict)  # of each reservation, by its last Extend
    call_ids: list[str] = field(default_factory=lambda: [new_id() for _ in range(40)])

    def write(self, what: str, *of: Any) -> tuple[Caller, Any] | None:
        """Who sends which request; None where there is nothing yet that it could be about."""
        if what == "again":
            return self.sent[-1 - of[0] % len(self.sent)] if self.sent else None
        told = self._change(what, *of)
        if told:
            self.sent.append(told)
        return told or self._look(what, *of)

    def _change(self, what: str, *of: Any) -> tuple[Caller, Any] | None:
        pb, request_id = governance_pb2, new_id()
        if what == "reserve":
            caller, run, amount, tokens, workflow, preset, lease_s, most = of
            tags = {"workflow": workflow} if workflow else {}
            amount, tokens = (
                one if one >= 0 else self.left(caller.tenant, workflow, 8 if one == SOFT else 10)[unit] + (one == MORE)
                for unit, one in enumerate((amount, tokens))
            )
            return caller, pb.ReserveRequest(
                request_id=request_id,
                run_id=self.run_ids[run],
                amount_nano_usd=amount,
                tokens=tokens,
                tags={**tags, "preset": preset},
                lease=Duration(seconds=lease_s) if lease_s else None,
                run_limit_nano_usd=most,
                run_limit_tokens=most,
            )
        if what in ("set", "set by a tenant", "delete"):
            caller = ACME if what == "set by a tenant" else OPERATOR
            if what == "delete":
                return caller, pb.DeleteBudgetRequest(request_id=request_id, scope=of[0], reason=f"delete {request_id}")
            names = ("daily_nano_usd", "monthly_nano_usd", "daily_tokens", "monthly_tokens")
            budget = pb.Budget(**dict(zip(names, of[1], strict=True))) if what == "set" else pb.Budget(scope=of[0])
            return caller, pb.SetBudgetRequest(
                request_id=request_id, scope=of[0], budget=budget, reason=f"set {request_id}"
            )
        if what == "its id again":
            if not self.sent or not self.names:
                return None
            caller, first = self.sent[-1 - of[0] % len(self.sent)]
            name, _ = self.names[-1 - of[1] % len(self.names)]
            return caller, pb.ReleaseRequest(request_id=first.request_id, reservation_id=name, reason="reused")
        if what not in ("charge", "tell", "extend", "settle", "release") or not self.names:
            return None
        name, caller = self._named(*of[:2])
        if what in ("charge", "tell"):
            calls = self._calls(of[2])
            for call, call_id in zip(calls, self.under_way.get(name, ()) if what == "tell" else (), strict=False):
                call.call_id = call_id
            return caller, pb.ChargeRequest(request_id=request_id, reservation_id=name, calls=calls)
        if what == "extend":
            calls = self._calls(of[2])
            self.under_way[name] = [one.call_id for one in calls]
            return caller, pb.ExtendRequest(request_id=request_id, reservation_id=name, open_calls=calls)
        kind = pb.SettleRequest if what == "settle" else pb.ReleaseRequest
        return caller, kind(request_id=request_id, reservation_id=name)

    def _look(self, what: str, *of: Any) -> tuple[Caller, Any] | None:
        pb = governance_pb2
        if what == "reservation" and self.names:
            name, caller = self._named(*of)
            return caller, pb.GetReservationRequest(reservation_id=name)
        if what == "reservations":
            return of[0], pb.ListReservationsRequest(state=of[1], page_size=1000)
        if what == "budget":
            return of[0], pb.GetBudgetRequest(scope=of[1])
        if what == "budgets":
            return of[0], pb.ListBudgetsRequest(page_size=1000)
        if what == "report":
            return of[0], pb.ReportRequest(tenant=of[1], days=of[2])
        if what == "anomalies":
            return of[0], pb.ListAnomaliesRequest(tenant=of[1], days=of[2])
        return None

    def _named(self, place: int, whose: str) -> tuple[str, Caller]:
        name, owner = self.names[-1 - place % len(self.names)]
        stranger = GLOBEX if owner == ACME else ACME
        return name, owner if whose == "its own" else stranger

    def _calls(self, told: list[Any]) -> list[common_pb2.ModelCall]:
        return [
            common_pb2.ModelCall(
                call_id=self.call_ids[number],
                stage=common_pb2.STAGE_DEBATE,
                model=model,
                cost_nano_usd=cost // 2 if unknown else cost,
                bound_nano_usd=cost,
                usage=common_pb2.TokenUsage(input_tokens=tokens, output_tokens=tokens // 3),
                usage_unknown=unknown,
                attempt=1,
            )
            for number, model, cost, tokens, unknown in told
        ]
