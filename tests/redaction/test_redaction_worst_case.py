"""No text takes more than its share: work grows with the text and no faster, for known bad texts and for searched ones.

How fast it is in seconds is what `benchmarks/redaction.py --worst` measures. Here the CPU time of one length is only
compared with that of four times the length: in proportion it is 4 times as much, quadratic work is 16 times as much.
"""

from __future__ import annotations

import contextlib
import random
import time

import pytest

from djp.mesh.errors import DjpError
from djp_redaction import _engine
from djp_redaction.model import Options, Strategy
from djp_redaction.settings import RedactionSettings
from djp_redaction.stream import BLOCK
from tests.redaction.hostile_texts import KNOWN, changed, draw, pieces_of, write

LENGTH = 2 * BLOCK  # what grows within a block only does not count
MOST = 8  # between 4, in proportion, and 16
NOTHING_S = 0.02  # what the clock, the caches and the machine do by themselves
ATTEMPTS = 5
SLOWEST = 8


def _cpu_s(redactor, recipe, length):
    """CPU seconds of one redaction of so many characters; a refusal counts by what it cost."""
    text = write(recipe, 4 * length)[:length]
    before = time.process_time()
    with contextlib.suppress(DjpError):
        redactor.redact(text)
    return time.process_time() - before


def _grows_too_fast(redactor, recipe):
    """Whether it does so at every attempt: something else on the machine may slow down one or the other."""
    for _ in range(ATTEMPTS):
        if _cpu_s(redactor, recipe, 4 * LENGTH) <= MOST * _cpu_s(redactor, recipe, LENGTH) + NOTHING_S:
            return False
    return True


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_bad_text_takes_time_in_proportion_to_its_length(redactor, name):
    assert not _grows_too_fast(redactor, KNOWN[name])


@pytest.mark.parametrize("strategy", Strategy)
def test_no_known_bad_text_is_refused(redactor, strategy):
    """The bound on reads leaves room for all that the built-in rules need: only custom rules come near it."""
    for name, recipe in KNOWN.items():
        text, before = write(recipe, LENGTH), _engine.reads()
        redactor.redact(text, Options(strategy=strategy), b"the key of a tenant, 32 bytes or more")
        # 4,096 characters of a block without a calm place are read again.
        assert _engine.reads() - before <= 1.3 * _engine.MOST_READS * len(text.encode()), name


def test_a_searched_text_takes_time_in_proportion_to_its_length(redactor):
    """Toward more CPU time: the slowest so far are changed further."""
    source = random.Random(20_251)
    pieces = pieces_of(RedactionSettings().rules)
    slowest = sorted(((_cpu_s(redactor, recipe, LENGTH // 8), recipe) for recipe in KNOWN.values()), reverse=True)[
        :SLOWEST
    ]
    for step in range(100):
        recipe = draw(source, pieces) if step % 5 == 0 else changed(source.choice(slowest)[1], source, pieces)
        slowest = sorted([*slowest, (_cpu_s(redactor, recipe, LENGTH // 8), recipe)], reverse=True)[:SLOWEST]
    for _, recipe in slowest:
        assert not _grows_too_fast(redactor, recipe), recipe
