"""How right redaction is, kind by kind, on other projects' test tables: ours and Presidio in the same run.

The tables (`redaction_peers/cases.yaml`, with sources and licences) say what stands where in a text. A value counts as
hidden if findings cover all of it, whatever kind they name; recall is the share of values that are hidden. Precision is
the share of the findings of a kind, in the texts of that kind, that touch a value. Presidio runs its own recognisers
(patterns and its telephone recogniser, every score counts); it has none for secrets, and its column says so. `--show`
lists every miss and every false find.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchmarks.redaction_peers.presidio import presidio
from djp_redaction.redactor import Redactor
from djp_redaction.rule_file import load_rules
from djp_redaction.settings import RedactionSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

CASES = Path(__file__).with_name("redaction_peers") / "cases.yaml"
# Secrets that everyone calls by other names: what names none of the other kinds counts for them.
_OTHERS = {"TOKEN", "PASSWORD"}
Span = tuple[int, int]
Findings = list[tuple[Any, ...]]
"""Of one text: kind, start and end in code points, and what else a side says of a finding."""


@dataclass(frozen=True)
class Case:
    """A text of a table, and where its values stand, in code points."""

    source: str
    kind: str
    group: str
    text: str
    values: tuple[Span, ...]


@dataclass
class Score:
    """What was found of a kind."""

    values: int = 0
    hidden: int = 0
    finds: int = 0
    right: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def recall(self) -> float:
        """The share of the values that are hidden whole; 1 if there is none."""
        return self.hidden / self.values if self.values else 1.0

    @property
    def precision(self) -> float:
        """The share of the findings that touch a value; 1 if there is none."""
        return self.right / self.finds if self.finds else 1.0


def cases() -> Iterator[Case]:
    """All tables."""
    for table in yaml.safe_load(CASES.read_text(encoding="utf-8")):
        lines = table.get("texts", "").splitlines()
        for number in table.get("each_iban", "").split():
            grouped = " ".join(number[at : at + 4] for at in range(0, len(number), 4))
            wrong = "1" if number[-1] == "0" else "0" if number[-1].isdigit() else "X"
            lines += f"«{number}»", f"«{grouped}»", grouped[:-1] + wrong
        own = table["source"].startswith("microsoft/presidio")
        group = "presidios_tables" if own else "held_out_tables" if table.get("held_out") else "other_tables"
        for line in lines:
            yield _case(table["source"], table["kind"], group, line.replace("⏎", "\n"))


def _case(source: str, kind: str, group: str, marked: str) -> Case:
    text, values = "", []
    for part in marked.split("«"):
        value, end, rest = part.partition("»")
        if end:
            values.append((len(text), len(text) + len(value)))
        text += value + rest
    return Case(source, kind, group, text, tuple(values))


def score(tables: Sequence[Case], found: Iterable[Findings], kinds: set[str]) -> dict[str, Score]:
    """By kind; `kinds` are those that have tables."""
    scores: dict[str, Score] = defaultdict(Score)
    for case, findings in zip(tables, found, strict=True):
        of_kind = scores[case.kind]
        covered = {at for _, start, end, *_ in findings for at in range(start, end)}
        for start, end in case.values:
            of_kind.values += 1
            if covered.issuperset(range(start, end)):
                of_kind.hidden += 1
            else:
                of_kind.wrong.append(f"left   {case.text[start:end]!r} in {case.text!r}")
        for name, start, end, *_ in findings:
            if name == case.kind or (case.kind in _OTHERS and name not in kinds - _OTHERS):
                of_kind.finds += 1
                if any(start < value_end and value_start < end for value_start, value_end in case.values):
                    of_kind.right += 1
                else:
                    of_kind.wrong.append(f"taken  {case.text[start:end]!r} in {case.text!r}")
    return scores


def ours(texts: Iterable[str]) -> list[Findings]:
    """What our built-in rules find."""
    redactor = Redactor(load_rules(RedactionSettings().rules))
    return [
        [(finding.rule.type, finding.start, finding.end) for finding in redactor.redact(text).findings]
        for text in texts
    ]


def _print_kinds(own: dict[str, Score], theirs: dict[str, Score], known: set[str]) -> dict[str, float]:
    """The table by kind, and its figures."""
    figures: dict[str, float] = {}
    print(f"{'kind':<16}{'values':>7}{'recall':>9}{'Presidio':>10}{'precision':>12}{'Presidio':>10}")
    for kind, mine in sorted(own.items()):
        other = theirs[kind]
        recall, precision = (f"{other.recall:.1%}", f"{other.precision:.1%}") if kind in known else ("none", "none")
        print(f"{kind:<16}{mine.values:>7}{mine.recall:>9.1%}{recall:>10}{mine.precision:>12.1%}{precision:>10}")
        figures |= {f"{kind}_recall": round(mine.recall, 4), f"{kind}_precision": round(mine.precision, 4)}
        if kind in known:
            figures[f"presidio_{kind}_recall"] = round(other.recall, 4)
            figures[f"presidio_{kind}_precision"] = round(other.precision, 4)
    return figures


def main() -> None:
    """Measure, print tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the same: it is quick")
    parser.add_argument("--show", action="store_true", help="list what is left and what is taken wrongly")
    options = parser.parse_args()
    tables = list(cases())
    texts = [case.text for case in tables]
    kinds = {case.kind for case in tables}
    with presidio(sorted(kinds), {}) as peer:
        found: dict[str, list[Findings]] = {"ours": ours(texts), "presidio": peer.find(texts)[1]}
        known = set(peer.kinds)
    scores = {name: score(tables, spans, kinds) for name, spans in found.items()}
    figures = _print_kinds(scores["ours"], scores["presidio"], known)
    print("\nwhat Presidio has a recogniser for, on")
    for group in ("presidios_tables", "other_tables", "held_out_tables"):
        some = [at for at, case in enumerate(tables) if case.kind in known and case.group == group]
        line = f"  {group.replace('_', ' '):<18}"
        for side, spans in found.items():
            of_some = score([tables[at] for at in some], [spans[at] for at in some], kinds).values()
            hidden, values = sum(each.hidden for each in of_some), sum(each.values for each in of_some)
            false = sum(each.finds - each.right for each in of_some)
            line += f"  {side}: {hidden} of {values} hidden, {false} false finds"
            figures |= {f"{side}_{group}_recall": round(hidden / values, 4), f"{side}_{group}_false": false}
        print(line)
    for side, of_side in scores.items() if options.show else ():
        print(f"\n{side}")
        for kind in sorted(kinds if side == "ours" else known):
            for line in of_side[kind].wrong:
                print(f"  {kind:<15} {line}")
    print(f"\n{len(tables)} texts from")
    print("\n".join(f"  {source}" for source in sorted({case.source for case in tables})))
    print(json.dumps({"benchmark": "redaction_accuracy", "figures": figures}))


if __name__ == "__main__":
    main()
