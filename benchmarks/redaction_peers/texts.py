"""Generated documents: prose with planted findings of the eleven kinds, the same for the same seed."""

from __future__ import annotations

import base64
import json
import random
from dataclasses import dataclass

KINDS = (
    "API_KEY",
    "AWS_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "EMAIL",
    "PHONE",
    "SSN",
    "CREDIT_CARD",
    "IP",
    "URL",
    "JWT",
    "PRIVATE_KEY",
)
# How often each kind stands in business texts, by judgement: contact data most, secrets now and then.
_WEIGHTS = (2, 1, 1, 10, 6, 2, 3, 5, 12, 1, 1)

_VOCABULARY = (
    "the the the the of of of and and and to to to a a a in in is is that that it it for for on with as be by this was "
    "are or an at from not have which will can their has were all one more when been other than its would may these "
    "customer contract delivery invoice service request report meeting budget project review agreement account team "
    "payment quarter market system version release document office supplier schedule answer question change risk order "
    "should must between before after during because however although therefore without within several important "
    "prepared approved confirmed received considered described available required possible different current "
    "increase reduce compare explain improve measure deliver provide support include follow continue expect decide"
)
_PEOPLE = "anna boris carla deniz emil fatima george hanna ivan julia kenji laura miguel nadia omar petra"
_WORDS, _NAMES = _VOCABULARY.split(), _PEOPLE.split()
_TITLES = ("Budgets", "Operations Guide", "Q3 Report", "Terms of Delivery", "Architecture")
_ALNUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_DOMAINS = ("example.com", "mail.example.org", "firma.example.de", "shop.example.co.uk", "example.io")


@dataclass(frozen=True)
class Document:
    """A text, and what was planted in it: kind, and offsets in code points."""

    text: str
    planted: tuple[tuple[str, int, int], ...]


def documents(seed: int, count: int, size: int, apart: int) -> list[Document]:
    """`count` documents of about `size` bytes with a planted finding about every `apart` characters.

    A quarter of them holds typographic quotes and dashes, accents or another script; the rest is ASCII.
    """
    source = random.Random(seed)
    return [_document(source, size, apart, plain=number % 4 != 0) for number in range(count)]


def _document(source: random.Random, size: int, apart: int, *, plain: bool) -> Document:
    parts: list[str] = []
    planted: list[tuple[str, int, int]] = []
    length, due = 0, source.expovariate(1 / apart)
    taken = 0

    def add(text: str) -> None:
        nonlocal length, taken
        parts.append(text)
        length += len(text)
        taken += len(text.encode())

    while taken < size:
        if length >= due:
            kind = source.choices(KINDS, _WEIGHTS)[0]
            before, value, after = _finding(source, kind)
            if taken + len(value) > size + 400:
                break
            add(before)
            planted.append((kind, length, length + len(value)))
            add(value)
            add(after)
            due = length + source.expovariate(1 / apart)
        add(_sentence(source, plain=plain))
    return Document("".join(parts), tuple(planted))


def _sentence(source: random.Random, *, plain: bool) -> str:
    words = source.choices(_WORDS, k=source.randint(6, 18))
    if source.random() < 0.5:  # what numbers a text holds beside those that are findings
        number = source.choice(
            (
                f"{source.randint(1990, 2030)}",
                f"{source.randint(1, 99)}%",
                f"${source.randint(1, 999)},{source.randint(100, 999)}.{source.randint(10, 99)}",
                f"{source.randint(0, 23):02}:{source.randint(0, 59):02}",
                f"{source.randint(2019, 2027)}-{source.randint(1, 12):02}-{source.randint(1, 28):02}",
                f"{source.randint(0, 9)}.{source.randint(0, 20)}.{source.randint(0, 9)}",
                f"#{source.randint(1000, 99999)}",
                f"[{source.choice(_TITLES)}]",
                "`max_tokens`",
                "follow-up",
            )
        )
        words.insert(source.randrange(1, len(words)), number)
    text = " ".join(words)
    text = text[0].upper() + text[1:]
    if source.random() < 0.3:
        text = text.replace(" and ", ", and ", 1)
    if not plain:
        text = source.choice(
            (
                f"“{text}”",
                text.replace(" which ", " \u2013 which "),
                text.replace("e", "é", 1),
                f"{text} (Größe, naïve)",
            )
        )
        if source.random() < 0.1:
            text += " 请在付款之前确认合同的条款"
    return text + source.choice((". ", ". ", ". ", "? ", ".\n", ".\n\n- "))


def _finding(source: random.Random, kind: str) -> tuple[str, str, str]:
    """What stands before a value, the value, and what stands behind it."""
    before, after = source.choice((("Write to ", ". "), ("It is (", "). "), ("See: ", ", "), ("Use ", " today. ")))
    if kind == "AWS_SECRET_KEY":
        before, after = "\naws_secret_access_key = ", "\n"
    elif kind == "PRIVATE_KEY":
        before, after = "\n", "\n"
    return before, _value(source, kind), after


def _value(source: random.Random, kind: str) -> str:
    def letters(length: int, alphabet: str = _ALNUM) -> str:
        return "".join(source.choices(alphabet, k=length))

    def digits(length: int) -> str:
        return letters(length, "0123456789")

    def encoded(text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    match kind:
        case "API_KEY":
            return source.choice((f"sk-{letters(48)}", f"sk-proj-{letters(64)}", f"sk-ant-api03-{letters(80)}"))
        case "AWS_ACCESS_KEY":
            return source.choice(("AKIA", "ASIA")) + letters(16, _ALNUM[:26] + "234567")
        case "AWS_SECRET_KEY":
            return letters(40, _ALNUM + "/+")
        case "EMAIL":
            return f"{source.choice(_NAMES)}.{source.choice(_NAMES)}{digits(2)}@{source.choice(_DOMAINS)}"
        case "PHONE":
            area, line = f"{source.randint(201, 989)}", f"{source.randint(200, 999)}"
            form = source.choice(("({0}) {1}-{2}", "{0}-{1}-{2}", "{0}.{1}.{2}", "+1 {0} {1} {2}"))
            return form.format(area, line, digits(4))
        case "SSN":
            return f"{source.randint(100, 665)}-{source.randint(10, 99)}-{source.randint(1000, 9999)}"
        case "CREDIT_CARD":
            return _card(source)
        case "IP":
            return ".".join(str(source.randint(1, 254)) for _ in range(4))
        case "URL":
            path = "/".join(source.choices(_NAMES, k=source.randint(1, 4)))
            return f"https://{source.choice(_DOMAINS)}/{path}?id={digits(6)}"
        case "JWT":
            header = encoded('{"alg":"HS256","typ":"JWT"}')
            claims = encoded(json.dumps({"sub": digits(10), "name": letters(8)}))
            return f"{header}.{claims}.{letters(43)}"
        case _:
            body = "\n".join(letters(64, _ALNUM + "+/") for _ in range(6))
            return f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----"


def _card(source: random.Random) -> str:
    start, length = source.choice((("4", 16), ("51", 16), ("37", 15), ("6011", 16)))
    body = start + "".join(source.choices("0123456789", k=length - len(start) - 1))
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in body[::-1][::2])
    number = body + str(-(doubled + sum(map(int, body[::-1][1::2]))) % 10)
    grouped = " ".join(number[at : at + 4] for at in range(0, 16, 4)) if length == 16 else number
    return source.choice((number, grouped, grouped.replace(" ", "-")))
