"""Texts that cost the most: what is known, and the recipe by which a search writes new ones."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Block(NamedTuple):
    """A piece, so many times."""

    piece: str
    times: int


Recipe = tuple[Block, ...]
"""A text's pattern: the blocks one after another, and all of them again until the text is long enough."""

KNOWN: dict[str, Recipe] = {
    name: tuple(Block(*block) for block in blocks)
    for name, blocks in {
        "prose": [("The ledger holds what a run may cost before it starts, and gives the rest back. ", 1)],
        "addresses": [("a@b.co ", 1)],
        "addresses, one name": [("a@b.co", 1)],
        "numbers with spaces": [("1 ", 1)],
        "BEGIN lines": [("-----BEGIN PRIVATE KEY-----\n", 1)],
        "BEGIN lines and a body": [("-----BEGIN PRIVATE KEY-----\n", 1), ("A", 64), ("\n", 1)],
        "a BEGIN line and hyphens": [("-----BEGIN PRIVATE KEY-----\n", 1), ("-", 100_000)],
        "an END far away": [("-----BEGIN PRIVATE KEY-----", 1), ("x", 50_000)],
        "dots": [(".", 1)],
        "at signs": [("@", 1)],
        "a name without end": [("a", 1_000_000), ("@b.co", 1)],
        "dots and at signs": [("a@a.", 1)],
        "digits": [("4", 1)],
        "cards that are none": [("4111111111111112 ", 1)],
        "cards": [("4111111111111111 ", 1)],
        "phones": [("(212) 555-0123", 1)],
        "phones with hyphens": [("212-555-0123-", 1)],
        "addresses of hosts": [("1.1.1.1.", 1)],
        "IPv6": [("1:2:", 1)],
        "colons": [(":", 1)],
        "short findings, and what nobody sees": [("[::1", 300), ("\u00ad\U0001f468", 1)],
        "brackets": [("[", 1)],
        "brackets of both kinds": [("[[a](", 1)],
        "deep URLs": [("http://a/((((", 1)],
        "a URL of brackets": [("http://a(", 1), ("(", 50_000), (")", 50_000)],
        "URLs": [("http://a.b ", 1)],
        "URLs in each other": [("http://", 1)],
        "tokens": [("eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UifQ. ", 1)],
        "token headers": [("eyJhbGciOiJub25lIn0.", 1)],
        "tokens that are none": [("-eyJaaaaaaaa", 1)],
        "keys": [("sk-aaaaaaaaaaaaaaaaaaaa ", 1)],
        "soft hyphens": [("\u00ad", 1)],
        "soft hyphens in addresses": [("a\u00ad@b.co ", 1)],
        "combining marks": [("e\u0301", 1)],
        "combining marks without end": [("e", 1), ("\u0301", 100_000)],
        "digits of full width": [("\uff11", 1)],
        "cards of full width": [("\uff14\uff11\uff11\uff11 ", 1)],
        "words before numbers": [("phone no no ", 1)],
        "secret keys": [("secret key ", 1)],
        "labels": [("[REDACTED:EMAIL]", 1)],
        "labels and addresses": [("[REDACTED:EMAIL]a@b.co", 1)],
        "findings that touch": [("078-05-1120http://x.y", 1)],
        "passwords": [("password=a ", 1)],
        "passwords behind keys": [("GOCSPX-abcdefghijklmnopqrstuvwxyz0", 5), ("\u00adAPI_KEY=", 1)],
        "passwords that are none": [("password=${", 1)],
        "URLs without a host": [("https:///", 1)],
        "plus signs": [("+1", 1)],
        "emoji": [("\U0001f468\u200d\U0001f469\u200d\U0001f467", 1)],
    }.items()
}


KNOWN_RULES: dict[str, str] = {
    "(?s)a.*b|c": "ac",
    "(?s)a.*b|cc": "acc",
    "(a|aa|aaa|aaaa)+b|aaa": "a",
    "(?:[ab]{0,30}c){3}|ab": "ab",
    "(?:x?){300}y|xx": "x",
    "[a-z]+@[a-z]+x": "a@",
    r"(?i)\bk.{0,100}\bz|ké": "ké ",
    "(?i).": "a0é",
    "....": "abcd",
    "a[ab]{200}c": "ab",
    "AIza[0-9A-Za-z]{35}": "AIza",
    "[a-z]*([a-z]{3,})[a-z]*1": "abc",
    r"(?:b){30}0\w\w|[^b]ab(?:b|\s)|b(?:\w){30}": "b",
    r"(?:\s|ab)\d(?:a|ab)(?:a){30}|ab.ab[a-z]?01": "0\n",
    r"\bab(?:(?:a|ab)|\s)[^b](?:(?:ab|\b))*": "ab",
}
"""Patterns of custom rules that are dear, each with a piece of the texts that make them so."""


DEAR_TO_COMPILE: tuple[str, ...] = (
    r"\pL{1000}",
    r"\pL{300}",
    r"\pL" * 600,
    "(?i)" + "k\u017f" * 900,
    "a?" * 900,
    "(?:(?:[a-z]{10}){10}){9}",
    "|".join(["ab", "cd", "ef"] * 200),
    "[^a]" * 490,
    "(" * 900 + "a" + ")" * 900,
    "a[ab]{900}c",
    "[ab]*a[ab]{10}[ab]*c",
    "(?s)a.{0,14}b.{0,14}c",
)
"""Patterns that an engine works on for long before it takes or refuses them."""


def write(recipe: Recipe, size: int, *, shuffled: bool = False) -> str:
    """The text of a recipe, with `size` bytes of UTF-8 or a few less; shuffled, its pieces stand in any order."""
    if shuffled:
        source, pieces, weights = random.Random(1), [piece for piece, _ in recipe], [times for _, times in recipe]
        length = max(1, sum(len(piece.encode()) * times for piece, times in recipe) // sum(weights))
        unit = "".join(source.choices(pieces, weights, k=size // length + 1)).encode()
    else:
        unit = "".join(piece * times for piece, times in recipe).encode()
    return (unit * (size // len(unit) + 1))[:size].decode(errors="ignore")


def pieces_of(rule_file: Path) -> list[str]:
    """What texts that trouble these rules may be made of: their examples, whole and in parts, and single characters."""
    pieces = {piece for recipe in KNOWN.values() for piece, _ in recipe}
    pieces |= set(" .,;:-_+@/\\|=#%&'\"()[]{}<>0159azAZ\n\t\x00\u200b\u00ad\u0301\u00a0\u2013\uff11\uff0eé日🙂")
    for rule in json.loads(rule_file.read_text(encoding="utf-8"))["rules"]:
        for example in (*rule.get("examples", ()), *rule.get("counter_examples", ())):
            pieces |= {example, example[: len(example) // 2], example[len(example) // 2 :], example[:-1], example + " "}
    return sorted(pieces - {""})


def draw(source: random.Random, pieces: Sequence[str]) -> Recipe:
    """A new recipe."""
    return tuple(_block(source, pieces) for _ in range(source.choice((1, 1, 2, 3, 5))))


def changed(recipe: Recipe, source: random.Random, pieces: Sequence[str]) -> Recipe:
    """A recipe with one change: a block more or less, another piece or count, or a character of a piece."""
    blocks = list(recipe)
    at = source.randrange(len(blocks))
    piece, times = blocks[at]
    match source.randrange(6):
        case 0:
            blocks.insert(at, _block(source, pieces))
        case 1 if len(blocks) > 1:
            del blocks[at]
        case 2:
            blocks[at] = Block(source.choice(pieces), times)
        case 3:
            blocks[at] = Block(piece, _times(source))
        case 4 if len(piece) > 1:
            cut = source.randrange(len(piece))
            blocks[at] = Block(piece[:cut] + piece[cut + 1 :], times)
        case _:
            cut = source.randrange(len(piece) + 1)
            blocks[at] = Block((piece[:cut] + source.choice(pieces)[:8] + piece[cut:])[:200], times)
    return tuple(blocks[:8])


def _block(source: random.Random, pieces: Sequence[str]) -> Block:
    return Block(source.choice(pieces), _times(source))


def _times(source: random.Random) -> int:
    return source.choice((1, 1, 1, 1, 2, 5, 20, 300, 5000))
