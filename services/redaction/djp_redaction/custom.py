"""Custom rules: what is refused, and why; compiled once for the same rules of the same tenant."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput, Violation
from djp_redaction.beginnings import least_length
from djp_redaction.model import RuleSet
from djp_redaction.patterns import RuleRefused, compiled
from djp_redaction.plain_rules import PlainRules
from djp_redaction.redactor import Redactor
from djp_redaction.validators import VALIDATORS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from djp_redaction.model import Rule

MAX_RULES = 24
"""Of a request and its tenant's own together, like all bounds on what rules may have together."""
MIN_LENGTH = 3
"""Characters of the shortest finding that a custom rule may have: shorter ones would be nearly everything."""
MAX_PROGRAM = 1000
"""Instructions of one compiled pattern. A class of characters costs about 1 to 10, a repeat {n} n times as many."""
MAX_PROGRAMS = 10_000
"""Instructions of all patterns together: what one text costs grows with them."""
MAX_AUTOMATA = 4 * 2**20
"""Bytes of the automata of all patterns together, which are built when the rules are taken."""
MAX_TRIED = 160
"""How often a byte of a text may be read for rules whose automaton for one pass would be too large: their matches are
tried everywhere. A read takes about a nanosecond."""
KEPT = 64
"""Sets of rules that stay compiled; each takes a few MiB at most."""

MAX_CHARACTERS = 32_768
"""Of all patterns together: reading and compiling them takes time, too."""
_FEWER = "give fewer or smaller rules"
_TRIED_REMEDY = (
    "shorten what is counted, repeat without a count (* or +), or begin a pattern with a character that does not occur "
    "in what follows"
)
_PROBE = 128 * 1024  # bytes: RE2 gives up at about five times MAX_PROGRAM, not after all of a huge program is built
_TOLD = 20  # problems; whoever has more mends these first

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,99}")
_TYPE = re.compile(r"[A-Za-z][0-9A-Za-z_]{0,63}")


def problems(rules: Sequence[Rule], base: Sequence[Rule] = (), own: Sequence[Rule] = ()) -> list[RuleRefused]:
    """Why these rules cannot be custom rules beside those of all and of a tenant's own; empty when they can."""
    found: list[RuleRefused] = []
    if len(rules) > (most := max(0, MAX_RULES - len(own))):
        beside = f" beside the {len(own)} of the tenant's own" if own else ""
        remedy = f"give at most {most}" if most else "leave them out, or take some out of the tenant's file"
        return [RuleRefused(rules[most].name[:100], f"{len(rules)} rules{beside}", remedy)]
    together = "together with the tenant's own" if own else "together"
    if (characters := sum(len(rule.pattern) for rule in (*own, *rules))) > MAX_CHARACTERS:
        size = f"patterns of {characters} characters {together}"
        return [
            RuleRefused(rules[-1].name[:100], size, f"at most {MAX_CHARACTERS} are taken; give fewer or shorter ones")
        ]
    names = {rule.name for rule in (*base, *own)}
    instructions = automata = tried = 0
    if own:
        instructions = sum(map(_size, own))
        engine = PlainRules(dict(enumerate(own))).engine
        automata, tried = engine.bytes, engine.tried
    for number, rule in enumerate(rules, 1):
        try:
            _check(rule, number, names)
            instructions += _size(rule)
            _check_length(rule)
            if instructions > MAX_PROGRAMS or automata > MAX_AUTOMATA or tried > MAX_TRIED:
                continue  # to compile more would only take time
            engine = PlainRules({0: rule}).engine
            automata, tried = automata + engine.bytes, tried + engine.tried
            _try_examples(rule)
        except RuleRefused as problem:
            found.append(problem)
            if len(found) == _TOLD:
                break
        names.add(rule.name)
    for count, size, most, remedy in (
        (instructions, f"programs of {instructions} instructions {together}", MAX_PROGRAMS, _FEWER),
        (automata, f"automata of {automata} bytes or more {together}", MAX_AUTOMATA, _FEWER),
        (
            tried,
            f"matches of {tried} bytes or more {together} that may begin inside of each other",
            MAX_TRIED,
            _TRIED_REMEDY,
        ),
    ):
        if count > most:
            found.append(RuleRefused(rules[-1].name, size, f"at most {most} are taken; {remedy}"))
            break
    return found


def _check_length(rule: Rule) -> None:
    least = least_length(rule.pattern)
    if least < MIN_LENGTH:
        construct = "a finding of no character" if not least else f"a finding of {least} characters or fewer"
        raise RuleRefused(rule.name, construct, f"make it ask for at least {MIN_LENGTH}")


def _size(rule: Rule) -> int:
    size: int = compiled(rule, _PROBE).programsize
    if size > MAX_PROGRAM:
        raise RuleRefused(
            rule.name,
            f"a program of {size} instructions",
            f"at most {MAX_PROGRAM} are taken; use shorter repeats and fewer classes",
        )
    return size


def _check(rule: Rule, number: int, names: set[str]) -> None:
    if not _NAME.fullmatch(rule.name):
        raise RuleRefused(f"rule {number}", "name", "use 1 to 100 letters, digits, _, . and -, first a letter or digit")
    if rule.name in names:
        raise RuleRefused(rule.name, "name", "a rule before it or a built-in one has this name; choose another")
    if not _TYPE.fullmatch(rule.type):
        raise RuleRefused(rule.name, "type", "use 1 to 64 letters, digits and _, first a letter, as in EMPLOYEE_ID")
    if rule.trigger:
        raise RuleRefused(rule.name, "trigger", "only the rules of DJP_REDACTION_RULES have triggers; leave it out")
    if rule.validation and rule.validation not in VALIDATORS:
        raise RuleRefused(rule.name, "validation", f"choose one of {', '.join(sorted(VALIDATORS))}, or leave it out")


def _try_examples(rule: Rule) -> None:
    if rule.examples or rule.counter_examples:
        alone = Redactor(RuleSet((rule,)))
        for number, example in enumerate(rule.examples, 1):
            if not alone.redact(example).findings:
                raise RuleRefused(rule.name, f"example {number}", "the pattern does not find it; mend one of them")
        for number, example in enumerate(rule.counter_examples, 1):
            if alone.redact(example).findings:
                raise RuleRefused(rule.name, f"counter-example {number}", "the pattern finds it; mend one of them")


class Redactors:
    """The redactor of each tenant, and of each set of custom rules beside it."""

    def __init__(self, base: RuleSet, of_tenants: Mapping[str, RuleSet]) -> None:
        """`of_tenants`: tenants with rules of their own. Raises RuleRefused if an engine refuses a rule."""
        self._tenants = of_tenants
        self._base = Redactor(base)
        self._compiled = lru_cache(maxsize=KEPT)(self._compile)
        for tenant in of_tenants:
            self.of(tenant)

    def of(self, tenant: str, custom: tuple[Rule, ...] = ()) -> Redactor:
        """The redactor for a text of that tenant.

        Raises:
            InvalidInput: custom rules that cannot be used; every one is named with its construct and the remedy.
        """
        own = tenant if tenant in self._tenants else ""
        return self._compiled(own, custom) if own or custom else self._base

    def problems(self, tenant: str, custom: Sequence[Rule]) -> list[RuleRefused]:
        """Why these custom rules would be refused for that tenant."""
        base = self._base.rule_set.rules
        return problems(custom, base, self._rule_set(tenant).rules[len(base) :])

    def _rule_set(self, tenant: str) -> RuleSet:
        return self._tenants.get(tenant, self._base.rule_set)

    def _compile(self, tenant: str, custom: tuple[Rule, ...]) -> Redactor:
        rule_set = self._rule_set(tenant)
        if custom:
            refused = self.problems(tenant, custom)
            if refused:
                raise InvalidInput(
                    f"options.custom_rules: {'; '.join(str(problem) for problem in refused[:5])}",
                    violations=[Violation("options.custom_rules", str(problem)) for problem in refused[:20]],
                )
            rule_set = RuleSet((*rule_set.rules, *custom), rule_set.label, rule_set.strategy)
        return Redactor(rule_set, self._base.matcher)
