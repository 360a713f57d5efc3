"""The prices that providers publish: the snapshot in the wheel of genai-prices, whose network updater is never used."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from djp.llm.prices import Price, Rates, Special

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from decimal import Decimal

    from genai_prices.types import ConditionalPrice, MatchLogic, ModelInfo, ModelPrice, Provider

OPENAI_URL = "https://api.openai.com/v1"
ANTHROPIC_URL = "https://api.anthropic.com"

_DATED = re.compile(r"[-@]20[0-9]{6}")
_PAID_BY_THE_TOKEN = {"input_mtok", "output_mtok"}
_ASKED_FOR = _PAID_BY_THE_TOKEN | {"cache_read_mtok", "cache_write_mtok"}
_NEVER_ASKED_FOR = re.compile(r"cache_write_1h_mtok|(web|storage)_searches_kcount|.*(audio|image|video).*")


def published_price(base_url: str, model: str, *, writes_cache: bool) -> Price | None:
    """What the service at an address publishes for one of its models; None where it is not known for sure.

    For sure means: the address is that service's own, so that a local server or a gateway never costs what another's
    model of the same name costs; the name is the model's own, one that its entry lists whole, or the begin of names
    that its entry lists with the day of a snapshot behind it, so that "ft:gpt-4o-2024-08-06:acme" has no price; and
    the model is paid by the token only.
    `writes_cache`: the service writes to its cache unasked, and bills it.
    """
    from genai_prices.data_snapshot import get_snapshot

    at_address = (provider for provider in get_snapshot().providers if _is_at(provider, base_url))
    provider = next(at_address, None)
    info = provider and _find(provider, model)
    return _price(info, writes_cache, datetime.now(UTC)) if info else None


def _is_at(provider: Provider, base_url: str) -> bool:
    """Whether the address is this provider's, and does not merely begin like it."""
    url = base_url.rstrip("/") + "/"
    found = re.match(provider.api_pattern, url)
    return found is not None and (found[0].endswith("/") or url[found.end()] in "/:")


def _find(provider: Provider, model: str) -> ModelInfo | None:
    own = (info for info in provider.models if info.id == model and info.is_match(model))
    return next(own, None) or next((info for info in provider.models if _names(info.match, model.lower())), None)


def _names(match: MatchLogic, model: str) -> bool:
    """Whether a rule names this model, and not only models that are called much like it."""
    from genai_prices import types

    match match:
        case types.ClauseEquals():
            return match.is_match(model)
        case types.ClauseRegex(regex=regex):
            return regex.startswith("^") and regex.endswith("$") and match.is_match(model)
        case types.ClauseStartsWith(starts_with=start):
            return match.is_match(model) and bool(_DATED.fullmatch(model[len(start) :]))
        case types.ClauseOr(or_=clauses):
            return any(_names(clause, model) for clause in clauses)
        case _:
            return False


def _price(info: ModelInfo, writes_cache: bool, now: datetime) -> Price | None:
    prices = list(_from_now_on(info.prices, now))
    if not all(_is_by_the_token(price) for _, price in prices):
        return None
    specials = []
    for active, price in prices:
        starts = {tier.start for value in price.__dict__.values() for tier in getattr(value, "tiers", ())}
        specials += [
            Special(_rates(price, above, writes_cache), above, active) for above in (*sorted(starts, reverse=True), -1)
        ]
    always = specials.pop().rates  # the last one has no condition
    return Price(always.input, always.cached_input, always.output, always.cache_write, tuple(specials))


def _from_now_on(
    prices: ModelPrice | list[ConditionalPrice], now: datetime
) -> Iterator[tuple[Callable[[datetime], bool] | None, ModelPrice]]:
    """The prices that can hold from now on, with their conditions, in the order in which they are looked at.

    As genai-prices does: the last one that is active holds, and where none is, the first one.
    """
    from genai_prices.types import StartDateConstraint

    if not isinstance(prices, list):
        yield None, prices
        return
    for one in reversed(prices):
        begun = isinstance(one.constraint, StartDateConstraint) and one.constraint.active(now)
        if one.constraint is None or begun:
            yield None, one.prices
            return
        yield one.constraint.active, one.prices
    yield None, prices[0].prices


def _is_by_the_token(price: ModelPrice) -> bool:
    units = {unit for unit, value in price.__dict__.items() if value is not None}
    return units >= _PAID_BY_THE_TOKEN and all(_NEVER_ASKED_FOR.fullmatch(unit) for unit in units - _ASKED_FOR)


def _rates(price: ModelPrice, input_tokens: int, writes_cache: bool) -> Rates:
    """The rates of a call with one token more than `input_tokens`."""

    from genai_prices.types import TieredPrices

    def rate(unit: str) -> Decimal | None:
        value: Decimal | TieredPrices | None = getattr(price, unit)
        if not isinstance(value, TieredPrices):
            return value
        return next((tier.price for tier in reversed(value.tiers) if input_tokens >= tier.start), value.base)

    fresh, output = rate("input_mtok"), rate("output_mtok")
    if fresh is None or output is None:
        raise ValueError("no price by the token")
    cached = rate("cache_read_mtok")
    return Rates(fresh, fresh if cached is None else cached, output, rate("cache_write_mtok") if writes_cache else None)
