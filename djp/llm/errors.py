"""What is refused about a model before it is called: it does not exist, has no price, or its provider no key."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from djp.mesh.errors import FailedPrecondition, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN_CHARS = 80
_SHOWN_MODELS = 12


class UnknownModel(InvalidInput):
    """No provider here has a model of this name. `known` is what exists; `field` names the request's field."""

    reason = "UNKNOWN_MODEL"

    def __init__(self, model: str, known: Sequence[str], *, field: str = "model") -> None:
        shown = model[:_SHOWN_CHARS]
        nearest = difflib.get_close_matches(shown, known, n=1)
        hint = f"did you mean {nearest[0]}? There are" if nearest else "there are"
        some = f"{', '.join(known[:_SHOWN_MODELS])}{', …' if len(known) > _SHOWN_MODELS else ''}"
        super().__init__(
            f"{field}: there is no model {shown!r}; {hint}: {some} (`djp models` lists them, config/providers.yaml "
            "configures them)",
            field=field,
            metadata={"model": shown},
        )


class UnpricedModel(FailedPrecondition):
    """The model has no price, so its cost has no bound and no budget could hold it. `source` is the price file."""

    reason = "UNPRICED_MODEL"

    def __init__(self, model: str, source: str = "config/prices.yaml") -> None:
        shown = model[:_SHOWN_CHARS]
        super().__init__(
            f"model {shown!r} has no price, so its cost cannot be bounded; add it under 'models' in {source}",
            metadata={"model": shown},
        )


class ProviderNotConfigured(FailedPrecondition):
    """The model's provider lacks what it needs to be called; `problem` says what, with the remedy, and no secret."""

    reason = "PROVIDER_NOT_CONFIGURED"

    def __init__(self, model: str, problem: str) -> None:
        super().__init__(f"model {model!r} cannot be called: {problem}", metadata={"model": model})
