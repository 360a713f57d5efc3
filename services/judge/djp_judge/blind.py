"""What a juror sees of a draft: its text without the words by which its writer names itself."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import re2

from djp_judge.plain import to_ascii

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REPLACEMENT = "X"
"""Stands where a name was: no longer than any name, so that no draft grows."""

_MODELS = (
    r"(?:chat ?gpt|gpt|claude|gemini|gemma|bard|palm|code ?llama|llama|mistral|mixtral|ministral|magistral|codestral|"
    r"devstral|pixtral|qwen|qwq|deep ?seek|grok|command[ -][ar]|phi|kimi|glm|chatglm|ernie|doubao|hunyuan|yi|minimax|"
    r"nemotron|granite|copilot|codex|falcon|jamba|nova|titan|sonar|olmo|solar|o[134])"
)
_VERSION = (
    r"(?:[ _:.-]{0,2}(?:v?[0-9][0-9a-z.]*|opus|sonnet|haiku|fable|instant|pro|flash|lite|ultra|turbo|mini|nano|micro|"
    r"small|medium|large|plus|max|omni|instruct|chat|preview|latest|coder|vision|thinking|reasoner|base|sol|terra|luna|"
    r"it|hf|exp|[rv][0-9]+))*"
)
_MAKERS = (
    r"(?:open ?ai|anthropic|google(?: deep ?mind| ai| research)?|deep ?mind|meta(?: ai| platforms)?|facebook ai|"
    r"microsoft(?: research)?|mistral ai|x\.?ai|cohere|alibaba(?: cloud)?|moonshot(?: ai)?|zhipu(?: ai)?|baidu|"
    r"bytedance|tencent|nvidia|ibm|amazon|aws|apple|ai21(?: labs)?|perplexity(?: ai)?|hugging ?face|together ai|"
    r"stability ai|minimax|databricks|deep ?seek(?: ai)?)"
)
_ID = r"[a-z0-9][a-z0-9_.-]{1,39}/[a-z0-9][a-z0-9_.:/-]{1,80}"
_AI = (
    r"(?:a\.?i\.?|llm|(?:large )?language(?: ai)? model|(?:ai|language|foundation|chat) model|(?:ai )?assistant|"
    r"chat ?bot)"
)
_GAP = r"[\s,:;*_\"'`()\[\]-]+"
_LINKS = (
    r"(?:an?|the|your|my|model|language|large|small|a\.?i\.?|artificial|intelligence|assistant|chat ?bot|bot|llm|"
    r"system|helpful|version|called|named|known|as|by|from|of|at|made|created|trained|developed|built|designed|provided|"
    r"powered|based|on|running|just|actually|and|was|is|been|being|i|am|harmless|honest|new|latest|friendly|simply|"
    r"really|s|fine|tuned)"
)
_FIRST_PERSON = (
    r"(?:i ?(?:am|'m|'ve been|have been|was|are)|im|(?:my|this) (?:own |real |full |true )?(?:name|model|maker|makers|"
    r"developer|developers|creator|creators|provider|vendor|company|author|identity|model name|model id)"
    r"(?:'s| is| was|:)?|call me|(?:talk|speak|chatt?)ing (?:to|with)|speaking (?:here )?(?:is|as)|"
    r"(?:trained|made|built|created|developed|designed) me|we at|here at|us at)"
)
_EDGE = r"[\s*_#>`\"'~()\[\]-]*"
_END = r"[ \t*_`\"'.!)\]]*"
_TEXT = (
    r"(?:answer|response|draft|reply|text|message|essay|summary|report|analysis|take|view|contribution|submission|"
    r"statement|opinion|assessment)"
)
_WRITTEN = r"(?:generated|written|produced|composed|drafted|prepared|authored|provided|brought|courtesy|has|been|comes)"
_BYLINE = (
    r"(?:(?:answer|answered|response|reply|draft|drafted|text|written|generated|produced|composed|prepared|created|"
    r"authored|provided|submitted|posted|signed|signature|author|writer|model|model name|model id|assistant|debater|"
    r"name|id|source model|powered|brought to you|sent|yours|yours truly|sincerely|regards|best regards|best|cheers|"
    r"thanks|thank you)(?:[ ,]+(?:by|from|with|via|using))?|by|from|via|it's|this is|i am|hi|hello|hey)"
)


def blind(text: str, names: Iterable[str] = ()) -> str:
    """The text with every name replaced by which its writer names itself: its model, its maker, its own ids (`names`).

    What counts is that a name stands as a self-reference: after "I am", "my name is", "as an AI model by" and their
    like, before "here", alone in a line that signs, heads or credits the text. A name that a draft speaks about stays.
    Look-alike letters, invisible characters, case and emphasis save no name. Never longer than the text, in bytes or
    in any Unicode form; takes linear time.
    """
    plain, places = to_ascii(text)
    patterns = _patterns(tuple(sorted({name for one in names for name in _spellings(one)}, key=lambda n: (-len(n), n))))
    shown: list[str] = []
    done = 0
    for start, end in _merged(_names_of_itself(plain, patterns)):
        first, last = places[start], places[end - 1] + 1
        shown += [text[done:first], REPLACEMENT]
        done = max(done, last)
    return "".join([*shown, text[done:]]) if shown else text


def _spellings(name: str) -> Iterator[str]:
    """The name in plain ASCII, whole and, of "provider/model", the model alone. Single characters name nobody."""
    plain = to_ascii(name)[0].decode().strip()
    for one in (plain, plain.rpartition("/")[2]):
        if len(one) > 1:
            yield one


@lru_cache(maxsize=256)
def _patterns(names: tuple[str, ...]) -> tuple[Any, tuple[Any, ...]]:
    """What finds a name, and what finds the places where one is a self-reference."""
    own = "".join(f"{re2.escape(name)}|" for name in names)
    model = rf"(?:{own}{_MODELS}{_VERSION})"
    who = rf"(?:{_ID}|{model}|{_MAKERS})"
    tail = rf"(?:{_GAP}(?:{_LINKS}{_GAP})*{who}\b)*"
    greeting = rf"(?:^|[\n.!?]){_EDGE}(?:(?:hi|hello|hey|greetings)\b{_GAP}(?:there{_GAP}|all{_GAP})?)?"
    same_line = rf"(?:[ \t,;:*_\"'`()-]+(?:{_LINKS}[ \t,;:*_\"'`()-]+)*{who}\b)*"
    same_line += r"(?:[ \t]+(?:model|assistant|ai|team|chat ?bot|bot|llm))?"
    contexts = (
        # "I am Claude, a model made by Anthropic", "I, Claude, think"
        rf"\b{_FIRST_PERSON}{_GAP}(?:{_LINKS}{_GAP})*{who}\b{tail}",
        rf"\bi,{_GAP}{who}{tail}[*_`\"']*,",
        # "As an AI language model by OpenAI"
        rf"\b(?:as|being|like|for) an?{_GAP}(?:{_LINKS}{_GAP})*?{_AI}{_GAP}(?:{_LINKS}{_GAP})*{who}\b{tail}",
        # "As Claude, I", "As an OpenAI model, I"
        rf"\bas{_GAP}(?:{_LINKS}{_GAP})*{who}\b(?:{_GAP}{_LINKS})*?{_GAP}(?:i|my|we)\b",
        # "This answer was written by Claude"
        rf"\b(?:this|my|the above|above) {_TEXT}{_GAP}(?:(?:{_LINKS}|{_WRITTEN}){_GAP})*(?:by|from|of|with){_GAP}"
        rf"(?:{_LINKS}{_GAP})*{who}\b{tail}",
        # "GPT-4o here", "This is Gemini.", "Claude speaking"
        rf"{greeting}(?:(?:it's|this is|it is|here is){_GAP})?{who}(?:{_GAP}(?:{_LINKS}{_GAP})*{who})*{_GAP}"
        r"(?:here|speaking|reporting|again)\b",
        rf"{greeting}(?:this is|it's){_GAP}(?:{_LINKS}{_GAP})*{model}{tail}[*_`\"']*(?:[.!,;:\n]|$)",
        # A line of its own: "Answer by openai/gpt-4o", "Model: GPT-4o", "Yours, Claude"
        rf"(?:^|\n){_EDGE}{_BYLINE}[ \t,:;*_`\"'#()\[\]-]+(?:{_LINKS}{_GAP})*{who}{same_line}{_END}(?:\n|$)",
        # The first line or a heading: "GPT-4o:", "Claude's answer"
        rf"^[\s*_#>`\"'~(\[]*(?:{_ID}|{model}){same_line}[ \t*_`\"')\]]*(?::|\n|$)",
        rf"(?:^|\n)[ \t*_#>`\"'~(\[]*{model}(?:'s?)? {_TEXT}[ \t*_`\"':.!)\]-]*(?:\n|$)",
        # A signature: a dash and a name, or nothing but a name in the last line
        rf"(?:^|\n|[.!?] )[ \t>*_]*(?:--+|~|-(?:-| ?-))[ \t*_`\"']*(?:{_LINKS}{_GAP})*{who}{same_line}{_END}(?:\n|$)",
        rf"[.!?,)*_\"'`\]\x01][ \t*_>]*\n+[ \t>*_`\"'(\[~]*(?:{_LINKS}{_GAP})*{who}{same_line}{_END}\s*$",
        rf"\n[ \t]*\n[\s>*_`\"'(\[~-]*(?:{_LINKS}{_GAP})*{who}{same_line}{_END}\s*$",
    )
    options = re2.Options()
    options.longest_match = True  # "Mistral AI", not "Mistral"
    return re2.compile(rf"\b{who}\b".encode(), options), tuple(re2.compile(one.encode()) for one in contexts)


def _names_of_itself(plain: bytes, patterns: tuple[Any, tuple[Any, ...]]) -> Iterator[tuple[int, int]]:
    name, contexts = patterns
    for context in contexts:
        for found in context.finditer(plain):
            for one in name.finditer(plain, found.start(), found.end()):
                yield one.span()


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
