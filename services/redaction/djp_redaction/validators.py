"""What is checked beyond a pattern, by the name that a rule's `validation` gives: `engine/src/validators.rs`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from djp_redaction import _engine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VALIDATORS: Mapping[str, Callable[[bytes], int]] = {
    name: partial(_engine.validate, name) for name in _engine.VALIDATIONS
}
"""Each says how many bytes of a match are the finding, from its start; 0 refuses the match."""
