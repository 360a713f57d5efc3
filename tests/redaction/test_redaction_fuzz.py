"""Texts made of the rules' own examples, whole and in parts, in random order: what holds for every text holds for them.

The pieces come from the rule file, so that a new rule is tried beside all others. The same texts in every run.
"""

from __future__ import annotations

import random

import pytest

from djp_redaction.model import Options, Strategy
from djp_redaction.settings import RedactionSettings
from djp_redaction.stream import AHEAD, BLOCK
from tests.redaction.hostile_texts import draw, pieces_of, write

KEY = b"the key of a tenant, 32 bytes or more"
TITLES = ("10.0.0.1", "a@b.co")


@pytest.fixture(scope="module")
def pieces():
    return pieces_of(RedactionSettings().rules)


@pytest.mark.parametrize("strategy", Strategy)
def test_a_second_redaction_of_short_texts_changes_nothing(redactor, pieces, strategy):
    source = random.Random(20_251)
    options = Options(strategy=strategy, titles=TITLES)
    for _ in range(1500):
        text = "".join(
            source.choice(pieces) + source.choice(("", " ", source.choice(pieces)[:3]))
            for _ in range(source.randint(2, 8))
        )
        once = redactor.redact(text, options, KEY).text
        assert redactor.redact(once, options, KEY).text == once, text


@pytest.mark.parametrize("strategy", Strategy)
def test_long_texts_are_redacted_to_the_same_in_pieces_and_once(redactor, pieces, strategy):
    source = random.Random(20_252)
    options = Options(strategy=strategy, titles=TITLES)
    for _ in range(20):
        text = "".join(write(draw(source, pieces), source.choice((50, 500, 9000, 20_000))) for _ in range(5))[:45_000]
        whole = redactor.redact(text, options, KEY)
        stream = redactor.stream(options, KEY)
        given, at = [], 0
        while at < len(text):
            until = at + source.choice((1, 100, 3000, 20_000))
            given += stream.feed(text[at:until])
            at = until
            assert stream.held <= BLOCK + AHEAD
        given += stream.finish()
        assert "".join(piece.text for piece in given) == whole.text
        assert tuple(finding for piece in given for finding in piece.findings) == whole.findings
        assert redactor.redact(whole.text, options, KEY).text == whole.text
