"""Money: whole nano-dollars inside, decimal dollars at the edges, never a float."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation

from djp.mesh.errors import InvalidInput

NANO_PER_USD = 1_000_000_000
MAX_NANO_USD = 2**63 - 1
"""What an int64 on the wire can hold: about nine thousand million dollars."""

_MAX_DIGITS = 100  # of an amount as written; none that can be counted needs more than 19
_EXACT = Context(prec=_MAX_DIGITS, traps=[Inexact, InvalidOperation])


def parse_usd(amount: str | Decimal, *, field: str = "amount") -> int:
    """Nano-dollars of an amount in dollars, exactly.

    Raises:
        InvalidInput: no number, negative, beyond an int64, or finer than a nano-dollar.
    """
    if not isinstance(amount, str | Decimal):
        raise TypeError("an amount of money is a text or a Decimal: a float has lost digits already")
    text = str(amount).strip()
    shown = repr(text if len(text) <= 40 else f"{text[:40]}…")
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise _refused(field, f"{shown} is not an amount of dollars; write for example 0.05") from error
    if not value.is_finite() or value < 0:
        raise _refused(field, f"{shown} is not an amount of dollars; give a number that is not negative")
    if value > Decimal(MAX_NANO_USD) / NANO_PER_USD:
        raise _refused(field, f"{shown} is more dollars than can be counted; give at most 9 digits")
    try:
        return int(_EXACT.to_integral_exact(_EXACT.multiply(value, Decimal(NANO_PER_USD))))
    except Inexact as error:
        raise _refused(field, f"{shown} is finer than a nano-dollar; give at most 9 decimals") from error


def format_usd(nano_usd: int, places: int = 4) -> str:
    """Dollars for people, for example "$0.0021", rounded half up.

    An amount that would round to zero but is not keeps its first significant digit ("$0.000003"), so that nothing that
    cost money looks free.
    """
    value = Decimal(nano_usd) / NANO_PER_USD
    rounded = value.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)
    if not rounded and value:
        rounded = value.quantize(Decimal(1).scaleb(value.adjusted()), rounding=ROUND_HALF_UP)
    sign, digits = ("-", -rounded) if rounded < 0 else ("", rounded)
    return f"{sign}${digits:f}"


def _refused(field: str, why: str) -> InvalidInput:
    return InvalidInput(f"{field}: {why}", field=field)
