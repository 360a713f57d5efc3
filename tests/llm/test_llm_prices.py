"""Prices are exact or refused, and a bound is never less than what a call can cost."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from djp.llm.bounds import Bound, bound_call
from djp.llm.calls import Usage
from djp.llm.errors import UnpricedModel
from djp.llm.offline import DEBATER_MODELS, JUROR_MODELS
from djp.llm.prices import Price, PriceBook, Rates, Special
from djp.llm.published_prices import published_price
from djp.mesh.errors import FailedPrecondition

if TYPE_CHECKING:
    from pathlib import Path

_amounts = st.decimals(min_value=0, max_value=999_999, places=9, allow_nan=False, allow_infinity=False)
_prices = st.builds(Price, _amounts, _amounts, _amounts)
_tokens = st.integers(0, 10**9)
_rates = st.builds(Rates, _amounts, _amounts, _amounts, st.none() | _amounts)
_NIGHT = Special(Rates(Decimal("0.5"), Decimal("0.1"), Decimal(1)), active=lambda at: at.hour < 8)
_LARGE = Special(Rates(Decimal(4), Decimal("0.4"), Decimal(20)), above=200_000)


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


@given(_rates, st.lists(st.tuples(_rates, st.integers(-1, 2000), st.booleans()), max_size=3), st.data())
def test_no_call_costs_more_than_its_bound_whatever_tier_or_hour_it_ends_in(
    rates: Rates, specials: list[tuple[Rates, int, bool]], data: st.DataObject
) -> None:
    price = Price(
        rates.input,
        rates.cached_input,
        rates.output,
        rates.cache_write,
        tuple(Special(special, above, lambda _, active=active: active) for special, above, active in specials),
    )
    input_bound, output_bound = data.draw(st.integers(0, 3000)), data.draw(st.integers(0, 3000))
    used = data.draw(st.integers(0, input_bound))
    cached = data.draw(st.integers(0, used))
    usage = Usage(used, cached, data.draw(st.integers(0, output_bound)), 0, data.draw(st.integers(0, used - cached)))
    assert price.cost(usage) <= price.highest_cost(input_bound, output_bound)


def test_all_of_a_large_prompt_costs_the_large_prompts_price() -> None:
    price = Price(Decimal(2), Decimal("0.2"), Decimal(10), specials=(_LARGE,))
    assert price.cost(Usage(200_000, 0, 10)) == 2000 * 200_000 + 10_000 * 10
    assert price.cost(Usage(200_001, 1, 10)) == 4000 * 200_000 + 400 + 20_000 * 10
    assert price.highest_cost(200_000, 10) == 2000 * 200_000 + 10_000 * 10
    assert price.highest_cost(200_001, 10) == 4000 * 200_001 + 20_000 * 10


def test_the_hour_in_which_a_call_ends_decides_and_the_bound_is_of_the_dearest() -> None:
    price = Price(Decimal(1), Decimal("0.2"), Decimal(2), specials=(_NIGHT,))
    usage = Usage(1000, 0, 1000)
    assert price.cost(usage, datetime(2026, 1, 1, 7, 59, tzinfo=UTC)) == 1_500_000
    assert price.cost(usage, datetime(2026, 1, 1, 8, 0, tzinfo=UTC)) == 3_000_000
    assert price.highest_cost(1000, 1000) == 3_000_000


def test_what_is_written_to_the_cache_has_its_own_price() -> None:
    price = Price(Decimal(2), Decimal("0.2"), Decimal(10), Decimal("2.5"))
    assert price.cost(Usage(1000, 300, 0, 0, 600)) == 100 * 2000 + 300 * 200 + 600 * 2500
    assert price.highest_cost(1000, 0) == 1000 * 2500
    assert Price(Decimal(2), Decimal("0.2"), Decimal(10)).cost(Usage(1000, 300, 0, 0, 600)) == 700 * 2000 + 300 * 200


@pytest.mark.parametrize("usage", [(10, 0, 0, 0, 11), (10, 5, 0, 0, 6), (10, 0, 0, 0, -1)])
def test_no_more_is_written_to_the_cache_than_was_read_afresh(usage: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        Usage(*usage)


OPENAI, ANTHROPIC = "https://api.openai.com/v1", "https://api.anthropic.com"


def test_published_prices_are_those_of_the_providers_own_service() -> None:
    price = published_price(OPENAI, "gpt-4o", writes_cache=True)
    assert price == Price(Decimal("2.5"), Decimal("1.25"), Decimal(10))
    assert published_price("https://api.openai.com:443/v1/", "gpt-4o", writes_cache=True) == price
    dated = published_price(ANTHROPIC, "claude-sonnet-4-5-20250929", writes_cache=False)
    assert dated == published_price(ANTHROPIC, "claude-sonnet-4-5", writes_cache=False)
    assert dated is not None
    assert (dated.input, dated.specials[0].above, dated.specials[0].rates.input) == (3, 200_000, 6)
    assert dated.cache_write is None
    old = published_price(OPENAI, "gpt-4o-2024-05-13", writes_cache=True)
    assert old is not None
    assert old.input == 5


@pytest.mark.parametrize(
    ("url", "model"),
    [
        ("http://localhost:8000/v1", "gpt-4o"),  # somebody else's model of the same name
        ("https://openai.example.com/v1", "gpt-4o"),
        ("https://api.openai.com.example.com/v1", "gpt-4o"),
        ("https://api.openai.community/v1", "gpt-4o"),
        ("http://api.openai.com/v1", "gpt-4o"),
        (OPENAI, "claude-sonnet-4-5"),
        (OPENAI, "ft:gpt-4o-2024-08-06:acme::x"),  # fuzzy in genai-prices
        (OPENAI, "ft:gpt-4o"),
        (OPENAI, "gpt-4o-2099-01-01"),
        (OPENAI, "gpt-5-nano-of-mine"),
        (OPENAI, "gpt-4o "),
        (OPENAI, ""),
        (OPENAI, "whisper-1"),  # paid by the hour
        (OPENAI, "text-embedding-3-small"),  # has no output
        (ANTHROPIC, "claude-sonnet-4-5-turbo"),
        (ANTHROPIC, "claude"),
        ("https://api.perplexity.ai", "sonar-deep-research"),  # also paid by the search and the citation
        ("https://my.openai.azure.com/openai/v1", "gpt-99"),
    ],
)
def test_what_is_not_known_for_sure_has_no_published_price(url: str, model: str) -> None:
    assert published_price(url, model, writes_cache=True) is None


def test_a_model_that_is_cheaper_by_night_is_bounded_by_its_day() -> None:
    price = published_price("https://api.deepseek.com/v1", "deepseek-chat", writes_cache=True)
    assert price is not None
    usage = Usage(1_000_000, 0, 1_000_000)
    costs = {price.cost(usage, datetime(2026, 1, 1, hour, 45, tzinfo=UTC)) for hour in range(24)}
    assert costs == {135_000_000 + 550_000_000, 270_000_000 + 1_100_000_000}
    assert price.highest_cost(1_000_000, 1_000_000) == max(costs)


def test_prices_that_are_over_do_not_raise_the_bound() -> None:
    price = published_price(OPENAI, "o3", writes_cache=True)  # it was five times as dear until June 2025
    assert price is not None
    assert (price.input, price.output, price.specials) == (2, 8, ())


def test_automatic_cache_writes_are_priced_where_a_service_makes_them() -> None:
    writes = published_price(OPENAI, "gpt-6-sol", writes_cache=True)
    assert writes is not None
    assert writes.cache_write is not None
    assert writes.cache_write > writes.input
    assert writes.highest_cost(1000, 0) == 1000 * writes.cache_write * 1000


def test_published_prices_agree_with_the_library_for_every_model_they_are_found_for() -> None:
    now, usage = datetime.now(UTC), Usage(150_000, 50_000, 10_000)
    theirs = genai_prices.Usage(input_tokens=150_000, cache_read_tokens=50_000, output_tokens=10_000)
    providers = {provider.id: provider for provider in get_snapshot().providers}
    found = 0
    for url, name in ((OPENAI, "openai"), (ANTHROPIC, "anthropic"), ("https://api.deepseek.com", "deepseek")):
        for info in providers[name].models:
            price = published_price(url, info.id, writes_cache=False)
            if price is not None:
                found += 1
                told = info.calc_price(theirs, providers[name], genai_request_timestamp=now)
                assert price.cost(usage, now) == math.ceil(Fraction(told.total_price) * 10**9), info.id
    assert found > 80


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
