"""The rules that come before the jury: what stops a draft, whatever its merits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.llm.text import MAX_QUOTED_WORDS, word_count
from djp_judge.model import Disqualification
from djp_judge.quotes import Copies, longest_quote
from djp_judge.refusals import is_refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from djp_judge.model import Candidate, Passage, Rules


def apply_rules(
    candidates: Sequence[Candidate], rules: Rules, passages: Sequence[Passage] = ()
) -> tuple[list[Candidate], list[Disqualification]]:
    """The candidates that may win, and those that may not, both in the order given.

    A draft that breaks several rules is listed once: under the first of them in the order "empty_text", "refusal",
    "too_few_citations", "blocked_safety_flag", "long_quote", "too_short", "too_long", with the reasons of all. Reasons
    hold numbers and names of flags, and no words of the draft.
    """
    copies = Copies(passage.text for passage in passages)
    left: list[Candidate] = []
    out: list[Disqualification] = []
    for candidate in candidates:
        broken = list(_broken(candidate, rules, copies))
        if broken:
            reason = "; ".join(reason for _, reason in broken)
            out.append(Disqualification(candidate.draft_id, broken[0][0], reason))
        else:
            left.append(candidate)
    return left, out


def _broken(candidate: Candidate, rules: Rules, copies: Copies) -> Iterator[tuple[str, str]]:
    if not any(char.isalnum() for char in candidate.text):
        yield "empty_text", "the text is empty: it has no letter and no digit"
        return
    if is_refusal(candidate.text):
        yield "refusal", "it opens by refusing to answer"
    if candidate.resolved_citations < rules.required_citations:
        yield (
            "too_few_citations",
            f"{_count(candidate.resolved_citations, 'resolved citation')}, {rules.required_citations} required",
        )
    blocking = {_flag(flag) for flag in rules.blocking_safety_flags}
    flags = sorted({flag for flag in map(_flag, candidate.safety_flags) if flag in blocking})
    if flags:
        yield "blocked_safety_flag", f"blocked by its safety flag{'' if len(flags) == 1 else 's'} {', '.join(flags)}"
    quoted = longest_quote(candidate.text)
    if quoted > MAX_QUOTED_WORDS:
        yield "long_quote", f"it quotes {quoted} words in a row, at most {MAX_QUOTED_WORDS} allowed"
    elif copies.copied(candidate.text):
        yield "long_quote", f"it copies more than {MAX_QUOTED_WORDS} words in a row from a passage"
    if rules.min_words or rules.max_words:
        words = word_count(candidate.text)
        if words < rules.min_words:
            yield "too_short", f"{_count(words, 'word')}, at least {rules.min_words} required"
        if rules.max_words and words > rules.max_words:
            yield "too_long", f"{_count(words, 'word')}, at most {rules.max_words} allowed"


def _flag(flag: str) -> str:
    """Flags are names: case and surrounding space make no difference."""
    return flag.strip().casefold()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
