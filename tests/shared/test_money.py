"""Money: what people write becomes nano-dollars exactly or not at all, and what people read hides no cost."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djp.mesh.errors import InvalidInput
from djp.money import MAX_NANO_USD, format_usd, parse_usd

nano = st.integers(min_value=0, max_value=MAX_NANO_USD)


def dollars(amount: int) -> str:
    """The exact decimal writing of an amount."""
    return f"{amount // 10**9}.{amount % 10**9:09d}"


@given(nano)
def test_every_amount_survives_being_written_and_read(amount: int) -> None:
    assert parse_usd(dollars(amount)) == amount
    assert parse_usd(Decimal(dollars(amount))) == amount
    assert parse_usd(dollars(amount) + "0" * 50) == amount


@given(nano, st.integers(min_value=1, max_value=9), st.integers(min_value=0, max_value=60))
def test_a_fraction_of_a_nano_dollar_is_refused_however_small(amount: int, digit: int, zeros: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_usd(f"{dollars(amount)}{'0' * zeros}{digit}")
    assert refused.value.field == "amount"


@given(st.decimals(allow_nan=True, allow_infinity=True))
def test_any_decimal_is_read_exactly_or_refused(value: Decimal) -> None:
    try:
        amount = parse_usd(value)
    except InvalidInput:
        return
    assert 0 <= amount <= MAX_NANO_USD
    assert Decimal(dollars(amount)) == value


@given(st.text(max_size=50))
def test_any_text_is_read_or_refused_with_one_line(text: str) -> None:
    message = ""
    try:
        assert 0 <= parse_usd(text, field="budget_usd") <= MAX_NANO_USD
    except InvalidInput as refused:
        message = refused.message
    assert not message or message.startswith("budget_usd: ")
    assert len(message.splitlines()) <= 1
    assert len(message) < 400


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("0.05", 50_000_000),
        (" 5 ", 5 * 10**9),
        ("1e-9", 1),
        ("25.0", 25 * 10**9),
        ("-0", 0),
        (".5", 5 * 10**8),
    ],
)
def test_amounts_that_people_write(text: str, expected: int) -> None:
    assert parse_usd(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "five",
        "$5",
        "5,00",
        "-1",
        "-0.000000001",
        "nan",
        "snan",
        "inf",
        "-inf",
        "1e-10",
        "1e-999999",
        "1e999999",
        "9223372036.854775808",
        "9" * 100_000,
        "0." + "0" * 100_000 + "1",
    ],
)
def test_amounts_that_cannot_be_counted(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_usd(text)


def test_the_largest_amount_is_what_an_int64_holds() -> None:
    assert parse_usd("9223372036.854775807") == MAX_NANO_USD


@pytest.mark.parametrize("amount", [0.1, 1.0, True])
def test_a_float_is_a_programming_error(amount: object) -> None:
    with pytest.raises(TypeError):
        parse_usd(amount)  # type: ignore[arg-type]


@given(st.integers(min_value=-MAX_NANO_USD - 1, max_value=MAX_NANO_USD), st.integers(min_value=0, max_value=9))
def test_dollars_for_people_are_rounded_half_up_and_never_look_free(amount: int, places: int) -> None:
    shown = format_usd(amount, places)
    assert shown.startswith("-$" if amount < 0 else "$")
    value = Decimal(shown.replace("$", ""))
    exact = Decimal(amount) / 10**9
    rounded = exact.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)
    assert (value == 0) == (amount == 0)
    if rounded:
        assert value == rounded
    else:
        assert abs(value - exact) <= abs(exact) / 2
    assert "E" not in shown


@given(nano)
def test_nine_places_lose_nothing(amount: int) -> None:
    assert parse_usd(format_usd(amount, 9).removeprefix("$")) == amount


@pytest.mark.parametrize(
    ("amount", "places", "expected"),
    [
        (0, 4, "$0.0000"),
        (2_100_000, 4, "$0.0021"),
        (15_000_000, 3, "$0.015"),
        (50_000, 4, "$0.0001"),
        (3_000, 4, "$0.000003"),
        (1, 4, "$0.000000001"),
        (9_990, 4, "$0.000010"),
        (-1, 4, "-$0.000000001"),
        (25 * 10**9, 2, "$25.00"),
        (1_500_000_000, 0, "$2"),
    ],
)
def test_amounts_that_people_read(amount: int, places: int, expected: str) -> None:
    assert format_usd(amount, places) == expected
