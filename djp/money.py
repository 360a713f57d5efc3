"""Money: whole nano-dollars inside, decimal dollars at the edges, never a float."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from djp.mesh.errors import InvalidInput

NANO_PER_USD = 1_000_000_000
MAX_NANO_USD = 2**63 - 1
"""What an int64 on the wire can hold: about nine thousand million dollars."""


def parse_usd(amount: str | Decimal, *, field: str = "amount") -> int:
    """Nano-dollars of an amount in dollars, exactly.

    Raises:
        InvalidInput: no number, negative, beyond an int64, or finer than a nano-dollar.
    """
    text = str(amount)
    try:
        value = Decimal(text.strip())
    except InvalidOperation as error:
        raise InvalidInput(f"{text[:40]!r} is not an amount of dollars; write for example 0.05", field=field) from error
    if not value.is_finite() or value < 0:
        raise InvalidInput(
            f"{text[:40]!r} is not an amount of dollars; give a number that is not negative", field=field
        )
    if value > Decimal(MAX_NANO_USD) / NANO_PER_USD:
        raise InvalidInput(f"{text[:40]!r} is more dollars than can be counted; give at most 9 digits", field=field)
    nano = value * NANO_PER_USD
    if nano != nano.to_integral_value():
        raise InvalidInput(f"{text[:40]!r} is finer than a nano-dollar; give at most 9 decimals", field=field)
    return int(nano)


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
