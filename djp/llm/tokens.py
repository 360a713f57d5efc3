"""Tokens: those of the offline provider, and the most that a prompt can have elsewhere."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from functools import cache, lru_cache
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, Any

from djp.llm.text import sendable

if TYPE_CHECKING:
    from collections.abc import Callable

    from djp.llm.models import Tokenizer
    from djp.llm.provider import Question

BYTES_PER_TOKEN = 4
"""Of the offline provider: a token is never more bytes, so n tokens are at most 4 n bytes."""

MAX_BYTES_PER_TOKEN = 10
MAX_O200K_PER_TOKEN = 4
"""No draft that debate passes on has more bytes, or tokens of o200k_base, for each token that it was allowed.

What is longer is cut off, so the size of drafts that are not written yet is bounded. English has 4 to 5 bytes a token,
Hindi and Thai up to 8; of another model's token, o200k_base seldom makes two.
"""
_DRAFT_SLACK = 16  # tokens: a draft between two lines of a prompt may be split otherwise at its ends

TEMPLATE_TOKENS = 512
"""The most that a provider puts around the texts of a question, where nothing closer is known of the model.

What is known: role marks and the begin of the text, 10 to 20 tokens for two messages in any format; a system text
that the template of a served model adds, 30 tokens in Llama 3 (its dates), 90 in gpt-oss (its preamble); the words with
which a provider hands a schema over, up to 350 where it does so as a tool (Anthropic publishes 346 at most).
"""

_EXACT_CHARS = 64  # of a word whose forms are made to be measured; longer ones are bounded character by character


def count_tokens(text: str) -> int:
    """Tokens of a text as the offline provider counts: its UTF-8 bytes divided by four, rounded up."""
    return -(-utf8_bytes(text) // BYTES_PER_TOKEN)


def cut_to_tokens(text: str, limit: int) -> str:
    """The longest beginning of a text that has at most `limit` tokens and ends between two code points."""
    return cut_to_bytes(text, limit * BYTES_PER_TOKEN)


def cut_to_bytes(text: str, limit: int) -> str:
    """The longest beginning of a text that has at most `limit` UTF-8 bytes and ends between two code points."""
    if limit <= 0:
        return ""
    # Every code point is at least a byte, so no more of them than bytes can fit.
    return text[:limit].encode("utf-8", "surrogatepass")[:limit].decode("utf-8", "ignore")


def utf8_bytes(text: str) -> int:
    """The size of a text in UTF-8 bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def prompt_bytes(text: str) -> int:
    """The most UTF-8 bytes that a text has as it is, in Unicode's form NFC and in NFKC, in linear time.

    Tokenizers may normalise first, which can lengthen a text: U+FDFA, 3 bytes, becomes 18 letters of 33 bytes. Each
    word is measured alone, because no form reaches over white space, or makes it longer. Most words are in both forms
    already. Of the others the short ones are converted; a long one, which could be made to take quadratic time, counts
    what its characters have fully decomposed: composing them only shortens. Sizes of texts with space between add up.
    """
    return utf8_bytes(text) + (0 if text.isascii() else sum(_growth(word) for word in text.split()))


def cut_to_prompt_bytes(text: str, limit: int) -> str:
    """A beginning of a text that has at most `limit` bytes as `prompt_bytes` counts; the text itself if it has."""
    text = cut_to_bytes(text, limit)
    if prompt_bytes(text) <= limit:
        return text
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if prompt_bytes(text[:middle]) <= limit:
            fits = middle
        else:
            too_long = middle
    return text[:fits]


def drafts_bound(tokenizer: Tokenizer, output_tokens: int) -> int:
    """The most tokens of a prompt that drafts come to which may have so many output tokens together."""
    return output_tokens * (MAX_O200K_PER_TOKEN if tokenizer == "o200k_base" else MAX_BYTES_PER_TOKEN)


def cut_draft(text: str, output_tokens: int) -> str:
    """A beginning of a draft that keeps to what `drafts_bound` says of so many output tokens; itself if it does."""
    text = cut_to_prompt_bytes(text, MAX_BYTES_PER_TOKEN * output_tokens)
    most = MAX_O200K_PER_TOKEN * output_tokens - _DRAFT_SLACK
    if utf8_bytes(text) <= most or _o200k(text) <= most:
        return text
    # A character has at most four bytes, hence tokens, so the first quarter fits. Nearer than a thousandth is enough.
    fits, too_long = most // 4, len(text)
    while too_long - fits > max(1, most // 1000):
        middle = (fits + too_long) // 2
        if _o200k(text[:middle]) <= most:
            fits = middle
        else:
            too_long = middle
    return text[:fits]


def prompt_bound(tokenizer: Tokenizer, question: Question, template_tokens: int = TEMPLATE_TOKENS) -> int:
    """The most tokens that the question's prompt can have.

    With a vocabulary of OpenAI's: the texts' exact tokens, as OpenAI counts them; a text that names a special token,
    for example "<|endoftext|>", is counted as ordinary text, which is never fewer. Else one token for each byte: every
    tokenizer of today's language models is byte-level BPE, or has pieces of at least a character and falls back to
    bytes, so that no token stands for less than a byte of the text, in the longest of the forms it may be brought to.
    On top comes the schema, as JSON in its longer layout, and `template_tokens` for what the provider puts around all.
    """
    texts = [question.system, question.user]
    if question.schema is not None:
        texts += [json.dumps(question.schema, indent=2), question.schema_name]
    count = prompt_bytes if tokenizer == "bytes" else _counter(tokenizer)
    return sum(count(sendable(text)) for text in texts) + template_tokens


def _o200k(text: str) -> int:
    return _counter("o200k_base")(sendable(text))


def _growth(word: str) -> int:
    """How many bytes longer than itself a word can become."""
    return _known_growth(word) if len(word) <= _EXACT_CHARS else _found_growth(word)


def _found_growth(word: str) -> int:
    if word.isascii() or all(unicodedata.is_normalized(form, word) for form in ("NFC", "NFKC")):
        return 0
    if len(word) <= _EXACT_CHARS:
        forms = max(utf8_bytes(unicodedata.normalize(form, word)) for form in ("NFC", "NFKC"))
    else:
        forms = sum(times * _decomposed_bytes(char) for char, times in Counter(word).items())
    return max(0, forms - utf8_bytes(word))


_known_growth = lru_cache(maxsize=65_536)(_found_growth)


def _decomposed_bytes(char: str) -> int:
    return max(utf8_bytes(char), *(utf8_bytes(unicodedata.normalize(form, char)) for form in ("NFD", "NFKD")))


@cache
def _counter(encoding: str) -> Callable[[str], int]:
    count: Callable[[str], int] = _bpe().tokenizer_for_encoding(encoding).count
    return count


@cache
def _bpe() -> Any:
    """The compiled half of bpe-openai: the other takes 0.7 s and 70 MB to read every vocabulary once more."""
    package = find_spec("bpe_openai")
    if package is None or not package.submodule_search_locations:
        raise ImportError("bpe-openai is not installed", name="bpe_openai")
    finder = FileFinder(package.submodule_search_locations[0], (ExtensionFileLoader, EXTENSION_SUFFIXES))
    spec = finder.find_spec("_bindings")
    if spec is None or spec.loader is None:
        raise ImportError("bpe-openai has no compiled part", name="bpe_openai")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
