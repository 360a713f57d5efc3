"""What is checked beyond a pattern, by the name that a rule's `validation` gives."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# First digits (as a range) and lengths of the numbers that each brand issues: ISO/IEC 7812 and the brands' own tables.
_BRANDS: tuple[tuple[int, int, frozenset[int]], ...] = (
    (4, 4, frozenset({13, 16, 19})),  # Visa
    (51, 55, frozenset({16})),  # Mastercard
    (2221, 2720, frozenset({16})),
    (34, 34, frozenset({15})),  # American Express
    (37, 37, frozenset({15})),
    (6011, 6011, frozenset({16, 17, 18, 19})),  # Discover
    (644, 659, frozenset({16, 17, 18, 19})),
    (622126, 622925, frozenset({16, 17, 18, 19})),
)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)  # twice a digit, its digits added
_SEPARATORS = b" .-"
_SCHEME_END = b"://"


def luhn(value: bytes) -> int:
    """A card number of a known brand and length that passes the Luhn test.

    Three more digits behind a grouped number may be its own (Visa has numbers of 19 digits) or the card's code.
    """
    if _is_card(value.translate(None, _SEPARATORS)):
        return len(value)
    last = max(value.rfind(bytes([separator])) for separator in _SEPARATORS)
    return last if last > 0 and _is_card(value[:last].translate(None, _SEPARATORS)) else 0


def _is_card(digits: bytes) -> bool:
    branded = any(
        low <= int(digits[: len(str(low))]) <= high and len(digits) in lengths for low, high, lengths in _BRANDS
    )
    numbers = [digit - 48 for digit in reversed(digits)]
    return branded and (sum(numbers[::2]) + sum(_DOUBLED[number] for number in numbers[1::2])) % 10 == 0


def ssn(value: bytes) -> int:
    """A number that can have been issued: area neither 000, 666 nor 900 and above, group and serial not zero."""
    digits = value.translate(None, b" -")
    area, group, serial = int(digits[:3]), int(digits[3:5]), int(digits[5:])
    return len(value) if 0 < area < 900 and area != 666 and group and serial else 0


def ipv4(value: bytes) -> int:
    """Four numbers of at most 255."""
    return len(value) if max(map(int, value.split(b"."))) <= 255 else 0


def jwt_header(value: bytes) -> int:
    """The first part is the Base64url of a JSON object that names its algorithm."""
    encoded = value.split(b".", 1)[0].rstrip(b"=")
    try:
        header = json.loads(base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)))
    except (ValueError, RecursionError):
        return 0
    return len(value) if isinstance(header, dict) and isinstance(header.get("alg"), str) else 0


def url_end(value: bytes) -> int:
    """The address without the punctuation behind it, if more than its scheme is left."""
    end = len(value.rstrip(b".,;:!?*'~([{"))
    return end if value[:end].rstrip(b"/").find(_SCHEME_END) > 0 else 0


# Each says how many bytes of a match are the finding, from its start; 0 refuses the match.
VALIDATORS: Mapping[str, Callable[[bytes], int]] = {
    "luhn": luhn,
    "ssn": ssn,
    "ipv4": ipv4,
    "jwt_header": jwt_header,
    "url_end": url_end,
}
