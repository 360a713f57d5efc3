"""Prices are exact or refused, and a bound is never less than what a call can cost."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djp.llm.bounds import Bound, bound_call
from djp.llm.calls import Usage
from djp.llm.errors import UnpricedModel
from djp.llm.offline import DEBATER_MODELS, JUROR_MODELS
from djp.llm.prices import Price, PriceBook
from djp.mesh.errors import FailedPrecondition

if TYPE_CHECKING:
    from pathlib import Path

_amounts = st.decimals(min_value=0, max_value=999_999, places=9, allow_nan=False, allow_infinity=False)
_prices = st.builds(Price, _amounts, _amounts, _amounts)
_tokens = st.integers(0, 10**9)


def _book(folder: Path, text: str | bytes) -> Path:
    path = folder / "prices.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_every_offline_model_has_a_price() -> None:
    book = PriceBook.load()
    assert all(book.price(model).output > 0 for model in (*DEBATER_MODELS, *JUROR_MODELS))


def test_a_price_is_read_as_written_quoted_or_not(tmp_path: Path) -> None:
    book = PriceBook.load(_book(tmp_path, 'models: {a/b: {input: 0.1, cached_input: "0.05", output: 0.300000001}}'))
    assert book.price("a/b") == Price(Decimal("0.1"), Decimal("0.05"), Decimal("0.300000001"))


def test_without_a_price_for_cached_input_it_costs_what_input_costs(tmp_path: Path) -> None:
    assert PriceBook.load(_book(tmp_path, "models: {a/b: {input: 2, output: 3}}")).price("a/b").cached_input == 2


def test_a_cost_is_exact_and_rounded_up_once() -> None:
    price = Price(Decimal("0.0001"), Decimal("0.0001"), Decimal("0.0001"))  # a tenth of a nano-dollar each
    assert price.cost(Usage(3, 1, 4)) == 1
    assert price.cost(Usage(10, 0, 0)) == 1
    assert price.cost(Usage(10, 0, 1)) == 2
    assert price.cost(Usage(0)) == 0


@given(_prices, _tokens, _tokens, _tokens)
def test_a_cost_is_the_exact_sum_rounded_up(price: Price, fresh: int, cached: int, output: int) -> None:
    cost = price.cost(Usage(fresh + cached, cached, output, output))
    exact = 1000 * (
        Fraction(price.input) * fresh + Fraction(price.cached_input) * cached + Fraction(price.output) * output
    )
    assert 0 <= cost - exact < 1


@given(_prices, st.integers(0, 10**6), st.integers(0, 10**6), st.data())
def test_no_call_within_its_limits_costs_more_than_its_bound(
    price: Price, prompt_bytes: int, max_output: int, data: st.DataObject
) -> None:
    tokens = data.draw(st.integers(0, prompt_bytes))
    usage = Usage(tokens, data.draw(st.integers(0, tokens)), data.draw(st.integers(0, max_output)))
    bound = bound_call(price, prompt_bytes, max_output)
    assert price.cost(usage) <= bound.nano_usd
    assert usage.input_tokens + usage.output_tokens <= bound.tokens
    assert bound.calls == 1


def test_bounds_add_up() -> None:
    assert sum([Bound(1, 2, 3), Bound(10, 20, 30)], start=Bound()) == Bound(11, 22, 33)


def test_a_model_without_a_price_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = _book(tmp_path, "models: {}")
    with pytest.raises(UnpricedModel, match="acme/giant") as refused:
        PriceBook.load(path).price("acme/giant")
    assert refused.value.code == "FAILED_PRECONDITION"
    assert refused.value.reason == "UNPRICED_MODEL"
    assert str(path) in refused.value.message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "models"),
        ("[]", "models"),
        ("models: 3", "models"),
        ("models: {}\nmodel: {}", "models"),
        ("models: {a/b: 3}", "a/b"),
        ("models: {a/b: {input: 1}}", "a/b"),
        ("models: {a/b: {input: 1, output: 1, out: 2}}", "a/b"),
        ("models: {a/b: {input: -1, output: 1}}", "a/b', input"),
        ("models: {a/b: {input: 1, output: 1e3}}", "a/b', output"),
        ("models: {a/b: {input: .inf, output: 1}}", "a/b', input"),
        ("models: {a/b: {input: 1, output: 1, cached_input: ''}}", "a/b', cached_input"),
        ("models: {a/b: {input: 9999999, output: 1}}", "a/b', input"),
        ("models: {a/b: {input: 0.1234567891, output: 1}}", "a/b', input"),
        ("models: {a/b: {input: 1, output: [1]}}", "a/b', output"),
        ("models: {a/b: {input: \u0663, output: 1}}", "a/b', input"),
        ("models:\n  a/b: {input: 1, output: 1}\n  a/b: {input: 2, output: 2}", "a/b' is there twice"),
        ("models: {a/b: {input: 1, input: 2, output: 1}}", "input' is there twice"),
        ("models: {a/b: !!python/object/apply:os.system [true]}", "not YAML|a/b"),
        ("models: {", "not YAML"),
        ("[" * 500, "not YAML"),
        (b"models: \xff", "not YAML"),
    ],
)
def test_a_bad_price_file_is_one_line_that_names_the_file_and_the_entry(
    tmp_path: Path, text: str | bytes, named: str
) -> None:
    path = _book(tmp_path, text)
    with pytest.raises(FailedPrecondition, match=named) as refused:
        PriceBook.load(path)
    assert str(path) in refused.value.message
    assert "\n" not in refused.value.message


def test_a_price_file_that_is_missing_or_a_folder_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(FailedPrecondition, match=r"cannot be read .*DJP_PRICES"):
            PriceBook.load(path)
