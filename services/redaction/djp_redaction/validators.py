"""What is checked beyond a pattern, by the name that a rule's `validation` gives."""

from __future__ import annotations

import json
import re
import socket
from binascii import a2b_base64
from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# First and last of the numbers that each brand issues, as their first six digits, and how long they are: ISO/IEC 7812
# and the brands' own tables. Sorted, so that the brand of a number is found by bisection.
_BRANDS: tuple[tuple[int, int, frozenset[int]], ...] = (
    (100000, 199999, frozenset({15})),  # UATP
    (222100, 272099, frozenset({16})),  # Mastercard
    (300000, 305999, frozenset({14, 16})),  # Diners Club
    (309500, 309599, frozenset({14, 16})),
    (340000, 349999, frozenset({15})),  # American Express
    (352800, 358999, frozenset({16, 17, 18, 19})),  # JCB
    (360000, 369999, frozenset({14})),  # Diners Club
    (370000, 379999, frozenset({15})),  # American Express
    (380000, 399999, frozenset({14, 16})),  # Diners Club
    (400000, 499999, frozenset({13, 16, 19})),  # Visa
    (500000, 509999, frozenset(range(12, 20))),  # Maestro, Dankort
    (510000, 559999, frozenset({16})),  # Mastercard
    (560000, 589999, frozenset(range(12, 20))),  # Maestro
    (601100, 601199, frozenset({16, 17, 18, 19})),  # Discover
    (620000, 629999, frozenset({16, 17, 18, 19})),  # UnionPay
    (630000, 639999, frozenset(range(12, 20))),  # Maestro
    (644000, 659999, frozenset({16, 17, 18, 19})),  # Discover
    (660000, 699999, frozenset(range(12, 20))),  # Maestro
)
_FIRSTS = [first for first, _last, _lengths in _BRANDS]
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")  # twice a digit, its digits added
_SEPARATORS = b" .-"
_NUMBER = re.compile(rb"[+0-9 .()/-]*")  # without its extension
_BASE64 = bytes.maketrans(b"-_", b"+/")
_HOST = re.compile(rb"://[^/0-9A-Za-z\x80-\xff]*[0-9A-Za-z\x80-\xff]")

# How long the account numbers of a country are, check digits included: SWIFT's IBAN registry, release 99.
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FK FI FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}
# Country codes of the telephone network (ITU-T E.164); those that begin with another digit have one, two or three.
_CALLING_CODES = re.compile(
    rb"1|7|2(?:0|7|1[1-368]|2\d|3\d|4\d|5[0-8]|6\d|9[0179])|3(?:[0-469]|5\d|7[0-8]|8[0-35-79])|4(?:[013-9]|2[013])"
    rb"|5(?:[1-8]|0\d|9\d)|6(?:[0-6]|7[02-9]|8[0-35-9]|9[0-2])|8(?:[1246]|0[08]|5[02356]|7[08]|8[0-368])|9(?:[0-58]|6[0-8]"
    rb"|7[0-79]|9[2-68])"
)


# `${NAME}`, `$NAME`, `{{ name }}`, `<name>`, `%(name)s`; `name(`, `name.other[`, `name.other`.
_REFERENCE = re.compile(rb"\$\{[^}]*\}?$|\$[A-Za-z_.]+$|\{\{|<[^>]*>$|%[({]")
_CALL = re.compile(rb"[A-Za-z_][\w.]*[\[(]|[A-Za-z_.]+$")
# What closes something that was opened before the value, and by what; the others end a sentence or a part of one.
_CLOSING = {b")": b"(", b"]": b"[", b"}": b"{", b">": b"<", b",": b"\n", b";": b"\n", b".": b"\n", b"`": b"\n"}
_ODD_MARKS = re.compile(rb"[!#$%&*+<=>?@^`{|}~\\][^\s]*[!#$%&*+<=>?@^`{|}~\\]")


def luhn(value: bytes) -> int:
    """A card number of a known brand and length that passes the Luhn test.

    Three more digits behind a grouped number may be its own (Visa has numbers of 19 digits) or the card's code.
    """
    if _is_card(value.translate(None, _SEPARATORS)):
        return len(value)
    grouped = value[-4:-3] in {b" ", b".", b"-"}
    return len(value) - 4 if grouped and _is_card(value[:-4].translate(None, _SEPARATORS)) else 0


def _is_card(number: bytes) -> bool:
    beginning = int(number[:6])
    first, last, lengths = _BRANDS[bisect_right(_FIRSTS, beginning) - 1]
    return (
        first <= beginning <= last
        and len(number) in lengths
        and (sum(number[-1::-2]) + sum(number[-2::-2].translate(_DOUBLED)) - 48 * len(number)) % 10 == 0
    )


def iban(value: bytes) -> int:
    """As much as the country's account numbers have, if the check digits are right (ISO 13616, ISO 7064 MOD 97-10)."""
    length = _IBAN_LENGTHS.get(value[:2].decode())
    compact = value.replace(b" ", b"")
    if length is None or len(compact) < length:
        return 0
    number = compact[4:length] + compact[:4]
    if int("".join(str(int(chr(character), 36)) for character in number)) % 97 != 1:
        return 0
    end = count = 0
    for end, character in enumerate(value, 1):  # noqa: B007
        count += character != 0x20
        if count == length:
            break
    return end if value[end : end + 1] in {b"", b" "} else 0


def e164(value: bytes) -> int:
    """A telephone number with the code of a country and 8 to 15 digits, its extension not counted."""
    number = _NUMBER.match(value)
    digits = number[0].translate(None, b"+ .()/-") if number else b""
    return len(value) if 8 <= len(digits) <= 15 and _CALLING_CODES.match(digits) else 0


def ssn(value: bytes) -> int:
    """A number that can have been issued: area neither 000, 666 nor 900 and above, group and serial not zero."""
    digits = value.translate(None, b" .-")
    area = digits[:3]
    issued = b"000" < area < b"900" and area != b"666" and digits[3:5] != b"00" and digits[5:] != b"0000"
    return len(value) if issued and len(digits) == 9 and digits.isdigit() else 0


def ipv4(value: bytes) -> int:
    """Four numbers of at most 255, whatever follows a slash."""
    return len(value) if max(map(int, value.partition(b"/")[0].split(b"."))) <= 255 else 0


def ipv6(value: bytes) -> int:
    """An address that the system takes, and not only colons; the zone and the prefix are not checked."""
    address = value.partition(b"%")[0].partition(b"/")[0]
    try:
        socket.inet_pton(socket.AF_INET6, address.decode())
    except (OSError, ValueError):
        return 0
    return len(value) if address.strip(b":") else 0


def jwt_header(value: bytes) -> int:
    """The first part is the Base64url of a JSON object that names its algorithm."""
    encoded = value.partition(b".")[0].rstrip(b"=").translate(_BASE64)
    try:
        header = json.loads(a2b_base64(encoded + b"=" * (-len(encoded) % 4)).decode())
    except (ValueError, RecursionError):
        return 0
    return len(value) if isinstance(header, dict) and isinstance(header.get("alg"), str) else 0


def has_digit(value: bytes) -> int:
    """Not only letters and marks."""
    return len(value) if value.translate(None, b"0123456789") != value else 0


def secret_text(value: bytes) -> int:
    """What a person put into quotes: no reference to where it stands, and not the same mark again and again."""
    return len(value) if len(set(value)) >= 4 and not _REFERENCE.match(value) else 0


def secret_value(value: bytes) -> int:
    """What a person set, without quotes: no variable, call or word, and digits or odd marks in it."""
    while value[-1:] in _CLOSING and value.count(value[-1:]) > value.count(_CLOSING[value[-1:]]):
        value = value[:-1]
    odd = value.translate(None, b"0123456789") != value or _ODD_MARKS.search(value)
    return secret_text(value) if len(value) >= 8 and odd and not _CALL.match(value) else 0


def url_end(value: bytes) -> int:
    """The address without the punctuation behind it, if its host has a letter or a digit."""
    end = len(value.rstrip(b".,;:!?*'~([{"))
    host = value.find(b"://")
    plain = host >= 0 and value[host + 3 : host + 4].isalnum()
    return end if plain or _HOST.search(value, 0, end) else 0


def host_end(value: bytes) -> int:
    """The name of a host without the punctuation behind it."""
    return len(value.rstrip(b".,;:!?*'"))


# Each says how many bytes of a match are the finding, from its start; 0 refuses the match.
VALIDATORS: Mapping[str, Callable[[bytes], int]] = {
    "luhn": luhn,
    "ssn": ssn,
    "ipv4": ipv4,
    "ipv6": ipv6,
    "iban": iban,
    "e164": e164,
    "has_digit": has_digit,
    "host_end": host_end,
    "secret_text": secret_text,
    "secret_value": secret_value,
    "jwt_header": jwt_header,
    "url_end": url_end,
}
