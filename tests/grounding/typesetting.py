"""What typesetters, PDFs and models do to a quotation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random


def damaged(quote: str, rng: random.Random) -> str:
    """As a PDF, a typesetter or a model writes it: ligatures, broken words, other blanks, other case."""
    for plain, ligature in (("ffi", "\ufb03"), ("fi", "\ufb01"), ("fl", "\ufb02"), ("ff", "\ufb00")):
        if rng.random() < 0.7:
            quote = quote.replace(plain, ligature)
    words = []
    for word in quote.split():
        if len(word) > 5 and word.isalpha() and rng.random() < 0.2:
            at = rng.randrange(2, len(word) - 2)
            word = word[:at] + rng.choice("-\u2010\u00ad") + "\n" + word[at:]
        words.append(word.upper() if rng.random() < 0.1 else word.capitalize() if rng.random() < 0.1 else word)
    return re.sub(" ", lambda _: rng.choice([" ", "\n", "  ", "\u00a0"]), " ".join(words))
