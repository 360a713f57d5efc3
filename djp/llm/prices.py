"""What models cost: exact decimal prices, costs in whole nano-dollars."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Self

from djp.catalogue_files import data_dir
from djp.llm.errors import UnpricedModel
from djp.llm.yaml_files import read_yaml
from djp.mesh.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from djp.llm.calls import Usage

_NANO_USD_PER_TOKEN = 1000  # of a price of one dollar per million tokens
_AMOUNT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")
_KEYS = ("input", "cached_input", "output")


@dataclass(frozen=True)
class Rates:
    """US dollars per million tokens. Reasoning tokens cost what output tokens cost.

    `cache_write` is for input that the provider wrote to its cache unasked; None: what `input` costs.
    """

    input: Decimal
    cached_input: Decimal
    output: Decimal
    cache_write: Decimal | None = None

    def exact(self, usage: Usage) -> Fraction:
        """What a call of this usage costs in nano-dollars, not rounded."""
        fresh = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
        written = self.input if self.cache_write is None else self.cache_write
        dollars = (
            Fraction(self.input) * fresh
            + Fraction(self.cached_input) * usage.cached_input_tokens
            + Fraction(written) * usage.cache_write_tokens
            + Fraction(self.output) * usage.output_tokens
        )
        return dollars * _NANO_USD_PER_TOKEN

    def highest(self, input_tokens: int, output_tokens: int) -> Fraction:
        """The most that so many tokens can cost in nano-dollars, whatever share of the input is cached or written."""
        dearest = max(self.input, self.cached_input, self.cache_write or self.input)
        dollars = Fraction(dearest) * input_tokens + Fraction(self.output) * output_tokens
        return dollars * _NANO_USD_PER_TOKEN


@dataclass(frozen=True)
class Special:
    """Rates for the whole of a call that has more than `above` input tokens and ends while `active` is true."""

    rates: Rates
    above: int = 0
    active: Callable[[datetime], bool] | None = None

    def applies(self, input_tokens: int, at: datetime) -> bool:
        """Whether a call with so many input tokens that ends at this time costs these rates."""
        return input_tokens > self.above and (self.active is None or self.active(at))


@dataclass(frozen=True)
class Price(Rates):
    """What a model costs: of its `specials` the first that applies, else the rates of the price itself.

    Large prompts cost more with some providers, and a few sell at other prices by night or from a day on.
    """

    specials: tuple[Special, ...] = ()

    def cost(self, usage: Usage, at: datetime | None = None) -> int:
        """What a call of this usage that ended `at` (now) costs in nano-dollars, exact and rounded up once."""
        ended = at or datetime.now(UTC)
        special = next((one.rates for one in self.specials if one.applies(usage.input_tokens, ended)), self)
        return math.ceil(special.exact(usage))

    def highest_cost(self, input_tokens: int, output_tokens: int) -> int:
        """The most that a call of at most so many tokens can cost in nano-dollars, whenever it ends."""
        possible = [self, *(one.rates for one in self.specials if input_tokens > one.above)]
        return math.ceil(max(rates.highest(input_tokens, output_tokens) for rates in possible))


class PriceBook:
    """The prices of a price file, by "provider/model"."""

    def __init__(self, prices: Mapping[str, Price], source: str = "config/prices.yaml") -> None:
        self._prices = dict(prices)
        self.source = source

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """The prices in a file; without a path those that the project ships.

        Raises FailedPrecondition, naming the file, the entry and the remedy, if the file cannot be read or understood.
        """
        path = path or data_dir() / "config" / "prices.yaml"
        document = read_yaml(path, "price file", "DJP_PRICES")
        models = document.get("models")
        if not isinstance(models, dict) or set(document) != {"models"}:
            raise FailedPrecondition(f"price file {path}: needs 'models', a map of model names to prices, and no more")
        return cls(
            {name: read_price(f"price file {path}: model {name!r}", entry) for name, entry in models.items()},
            str(path),
        )

    def find(self, model: str) -> Price | None:
        """The price of a "provider/model", if the file has one."""
        return self._prices.get(model)

    def price(self, model: str) -> Price:
        """The price of a "provider/model". Raises UnpricedModel if it has none."""
        found = self.find(model)
        if found is None:
            raise UnpricedModel(model, self.source)
        return found


def read_price(place: str, entry: object) -> Price:
    """The price that a file gives. Raises FailedPrecondition, naming the `place` in it and the remedy."""
    if not isinstance(entry, dict) or not {"input", "output"} <= set(entry) <= set(_KEYS):
        raise FailedPrecondition(f"{place} needs 'input' and 'output', may have 'cached_input', and nothing else")
    for key, amount in entry.items():
        if not isinstance(amount, str) or not _AMOUNT.fullmatch(amount):
            raise FailedPrecondition(
                f"{place}, {key}: not a price; write dollars per million tokens, for example 0.15, with at most 6 "
                "digits and 9 decimals"
            )
    return Price(
        input=Decimal(entry["input"]),
        cached_input=Decimal(entry["cached_input"] if "cached_input" in entry else entry["input"]),
        output=Decimal(entry["output"]),
    )
