"""What a juror sees of a draft: its text without the words by which its writer names itself."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import re2

from djp_judge.plain import OTHER, to_ascii

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REPLACEMENT = "X"
"""Stands where a name was: no longer than any name, so that no draft grows."""
_LONGEST_NAME = 100

_MODELS = (
    r"(?:chat ?gpt|gpt|claude|gemini|gemma|bard|palm|code ?llama|llama|mistral|mixtral|ministral|magistral|codestral|"
    r"devstral|pixtral|qwen|qwq|deep ?seek|grok|command[ -][ar]|phi|kimi|glm|chatglm|ernie|doubao|hunyuan|yi|minimax|"
    r"nemotron|granite|copilot|codex|falcon|jamba|nova|titan|sonar|olmo|solar|o[134])"
)
_VERSION = (
    r"(?:[ _:.-]{0,2}(?:v?[0-9][0-9a-z.]*|opus|sonnet|haiku|fable|instant|pro|flash|lite|ultra|turbo|mini|nano|micro|"
    r"small|medium|large|plus|max|omni|instruct|chat|preview|latest|coder|vision|thinking|reasoner|base|sol|terra|luna|"
    r"code|it|hf|exp|[rv][0-9]+))*"
)
_MAKERS = (
    r"(?:open ?ai|anthropic|google(?: deep ?mind| ai| research)?|deep ?mind|meta(?: ai| platforms)?|facebook ai|"
    r"microsoft(?: research)?|mistral ai|x\.?ai|cohere|alibaba(?: cloud)?|moonshot(?: ai)?|zhipu(?: ai)?|baidu|"
    r"bytedance|tencent|nvidia|ibm|amazon|aws|apple|ai21(?: labs)?|perplexity(?: ai)?|hugging ?face|together ai|"
    r"stability ai|minimax|databricks|deep ?seek(?: ai)?)"
)
_IDS = (  # "provider/model", of which at least one is known: "macos/linux" is neither
    rf"[a-z0-9][a-z0-9_.-]*/(?:[a-z0-9_.-]*/)?{_MODELS}[a-z0-9_.:-]*|"
    r"(?:openai|anthropic|google|meta-llama|mistralai|qwen|deepseek-ai|x-?ai|cohere|microsoft|nvidia|amazon|moonshotai|"
    r"openrouter)/[a-z0-9_.:/-]+"
)
_AI = (
    r"(?:a\.?i\.?|llm|(?:large )?language(?: ai)? model|(?:ai|language|foundation|chat) model|(?:ai )?assistant|"
    r"chat ?bot)"
)
_GAP = r"[\s,:;*_\"'`()\[\]-]+"
_LINKS = (
    r"(?:an?|the|your|my|model|language|large|small|a\.?i\.?|artificial|intelligence|assistant|chat ?bot|bot|llm|"
    r"system|helpful|version|called|named|known|as|by|from|of|at|made|created|trained|developed|built|designed|provided|"
    r"powered|based|on|running|just|actually|and|was|is|been|being|i|am|harmless|honest|new|latest|friendly|simply|"
    r"really|s|fine|tuned|company|firm|lab|folks|people|product|organi[sz]ation)"
)
_FIRST_PERSON = (
    r"(?:i ?(?:am|'m|'ve been|have been|was|are)|im|(?:my|this) (?:own |real |full |true )?(?:name|model|maker|makers|"
    r"developer|developers|creator|creators|provider|vendor|company|author|identity|model name|model id)"
    r"(?:'s| is| was|:)?|call me|(?:talk|speak|chatt?)ing (?:to|with)|speaking (?:here )?(?:is|as)|"
    r"(?:trained|made|built|created|developed|designed) me|we at|here at|us at)"
)
_EDGE = r"[\s*_#<>!`\"'~()\[\]-]*"
_END = r"[ \t*_>`\"'.:!)\]-]*"
_IN_SENTENCE = r"[^.!?\n]"
_MADE = r"(?:made|trained|built|created|developed|designed|programmed|taught|released|instructed)"
_TEXT = (
    r"(?:answer|response|draft|reply|text|message|essay|summary|report|analysis|take|view|contribution|submission|"
    r"statement|opinion|assessment)"
)
_WRITTEN = r"(?:generated|written|produced|composed|drafted|prepared|authored|provided|brought|courtesy|has|been|comes)"
_BYLINE = (
    r"(?:(?:answer|answered|response|reply|draft|drafted|text|written|generated|produced|composed|prepared|created|"
    r"authored|provided|submitted|posted|signed|signature|author|writer|powered|brought to you|sent|yours|yours truly|"
    r"sincerely|regards|best regards|best|cheers|thanks|thank you)(?:[ ,]+(?:by|from|with|via|using))?|by|from|via|"
    r"it's|this is|i am|hi|hello|hey)"
)
_KEY = r"(?:(?:source |language )?model(?: name| used| id)?|assistant|debater|name|id|provider|maker)"
_MODEL = "\x02"
_MARKS = (b"\x02", b"\x03", b"\x04")
"""Stand for a model, a maker and a "provider/model" in a text where places for them are looked for: no text in plain
ASCII has these characters."""
_WHO = "[\x02\x03\x04]"
_TAIL = rf"(?:{_GAP}(?:{_LINKS}{_GAP})*{_WHO})*"
_GREETING = rf"(?:^|[\n.!?]){_EDGE}(?:(?:hi|hello|hey|greetings)\b{_GAP}(?:there{_GAP}|all{_GAP})?)?"
_SAME_LINE = rf"(?:[ \t,;:*_\"'`()-]+(?:{_LINKS}[ \t,;:*_\"'`()-]+)*{_WHO})*"
_SAME_LINE += r"(?:[ \t]+(?:model|assistant|ai|team|chat ?bot|bot|llm))?"
_CONTEXTS = (
    # "I am Claude, a model made by Anthropic", "I, Claude, think"
    rf"\b{_FIRST_PERSON}{_GAP}(?:{_LINKS}{_GAP})*{_WHO}{_TAIL}",
    rf"\bi,{_GAP}(?:{_LINKS}{_GAP})*{_WHO}{_TAIL}(?:{_GAP}{_LINKS})*[*_`\"']*,",
    rf"\b(?:it's|it is|only) me{_GAP}{_WHO}",
    # "I come from OpenAI", "My training by OpenAI"
    rf"\b(?:i|we) (?:come from|identify as|go by|work for|belong to|respond as|speak as|write as|answer as){_GAP}"
    rf"(?:{_LINKS}{_GAP})*{_WHO}{_TAIL}",
    rf"\b(?:my|our) (?:view|opinion|role|capacity|training|knowledge|guidelines|policies|policy|data)(?: data)?{_GAP}"
    rf"(?:as|by|at|from|of|with|under){_GAP}(?:{_LINKS}{_GAP})*{_WHO}{_TAIL}",
    # "OpenAI trained me", "Trained by OpenAI, I"
    rf"{_WHO}{_IN_SENTENCE}{{0,40}}\b{_MADE}{_GAP}me\b",
    rf"\b(?:{_MADE}|product|creation|member){_GAP}(?:{_LINKS}{_GAP})*{_WHO}{_TAIL}[*_`\"' ]*, (?:i|my)\b",
    # "As an AI language model by OpenAI"
    rf"\b(?:as|being|like|for) an?{_GAP}(?:{_LINKS}{_GAP})*?{_AI}{_GAP}(?:{_LINKS}{_GAP})*{_WHO}{_TAIL}",
    # "As Claude, I", "As an OpenAI model, I"
    rf"\bas{_GAP}(?:{_LINKS}{_GAP})*{_WHO}(?:{_GAP}{_LINKS})*?{_GAP}(?:i|my|we)\b",
    # "This answer was written by Claude"
    rf"\b(?:this|my|the above|above) {_TEXT}{_GAP}(?:(?:{_LINKS}|{_WRITTEN}){_GAP})*(?:by|from|of|with){_GAP}"
    rf"(?:{_LINKS}{_GAP})*{_WHO}{_TAIL}",
    # "GPT-4o here", "This is Gemini.", "Claude speaking"
    rf"{_GREETING}(?:(?:it's|this is|it is|here is){_GAP})?{_WHO}(?:{_GAP}(?:{_LINKS}{_GAP})*{_WHO})*{_GAP}"
    r"(?:here|speaking|reporting|again)\b",
    rf"{_GREETING}(?:this is|it's){_GAP}(?:{_LINKS}{_GAP})*{_MODEL}{_TAIL}[*_`\"']*(?:[.!,;:\n]|$)",
    # A line of its own: "Answer by openai/gpt-4o", "Model: GPT-4o", "Yours, Claude"
    rf"(?:^|\n){_EDGE}{_BYLINE}[ \t,:;*_`\"'#()\[\]-]+(?:{_LINKS}{_GAP})*{_WHO}{_SAME_LINE}{_END}(?:\n|$)",
    rf"(?:^|\n){_EDGE}(?:answered|written|generated|produced|composed|prepared|drafted){_IN_SENTENCE}{{0,20}} "
    rf"(?:by|with){_GAP}(?:{_LINKS}{_GAP})*{_MODEL}{_IN_SENTENCE}{{0,25}}{_END}(?:\n|$)",
    # The same with a key that code has too: only where a text begins or ends
    rf"^[{{]?{_EDGE}{_KEY}[ \t,:=;*_`\"'#()\[\]-]+(?:{_LINKS}{_GAP})*{_WHO}{_SAME_LINE}(?:{_END}(?:\n|$)|\")",
    rf"(?:^|\n){_EDGE}{_KEY}[ \t,:=;*_`\"'#()\[\]-]+(?:{_LINKS}{_GAP})*{_WHO}{_SAME_LINE}{_END}\s*$",
    # The first line or a heading: "GPT-4o:", "Claude's answer", "Claude (by Anthropic) says:"
    rf"^[\s*_#>`\"'~(\[]*[\x02\x04]{_SAME_LINE}[ \t*_`\"')\]]*(?::|\n|$)",
    rf"(?:^|\n)[ \t*_#>`\"'~(\[]*{_MODEL}(?:'s?)? {_TEXT}[ \t*_`\"'.!)\]-]*(?::|\n|$)",
    rf"(?:^|\n)[ \t*_#>`\"'~(\[]*{_MODEL}{_TAIL}[)\]]* (?:says|writes|answers|replies|responds|thinks)[ \t*_]*:",
    # A signature: a dash and a name, a greeting at the end, or nothing but a name in the last line
    rf"\b(?:yours|yours truly|sincerely|regards|cheers|signed)[\s,:*_-]+{_WHO}{_SAME_LINE}{_END}\s*$",
    rf"(?:^|\n)[ \t>*_]*--+[ \t*_]*{_MODEL}, your{_IN_SENTENCE}{{0,40}}(?:\n|$)",
    rf"(?:^|\n|[.!?] )[ \t>*_]*(?:--+|~|-(?:-| ?-))[ \t*_`\"']*(?:{_LINKS}{_GAP})*{_WHO}{_SAME_LINE}{_END}(?:\n|$)",
    rf"[.!?,)*_\"'`\]\x01][ \t*_>]*\n+[ \t>*_`\"'(\[~]*(?:{_LINKS}{_GAP})*{_WHO}{_SAME_LINE}{_END}\s*$",
    rf"\n[ \t]*\n[\s<>*_`\"'(\[~-]*(?:{_LINKS}{_GAP})*{_WHO}{_SAME_LINE}{_END}\s*$",
)
_ANY = re.compile(_WHO.encode())


class Blinder:
    """Takes out of drafts the names by which their writers name themselves: models, makers, and their own ids.

    What counts is that a name stands as a self-reference: after "I am", "my name is", "as an AI model by" and their
    like, before "here", alone in a line that signs, heads or credits the text. A name that a draft speaks about stays.
    Look-alike letters, invisible characters, case and emphasis save no name.

    `names` are the ids of this judgement: debaters, drafts, models. Those in letters that are not ASCII's, and those of
    more than 100 characters, are left alone.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        own = {re2.escape(spelling) for name in names for spelling in _spellings(name)}
        models = "|".join([*sorted(own), f"{_MODELS}{_VERSION}"])
        options = re2.Options()
        options.log_errors = False
        options.longest_match = True  # "Mistral AI", not "Mistral"
        self._names = re2.compile(rf"(?:\b|_)(?:({models})|({_MAKERS})|({_IDS}))(?:\b|_)".encode(), options)

    def blind(self, text: str) -> str:
        """The text with "X" in place of every such name. Takes linear time.

        Never longer than the text, in bytes or in any Unicode form.
        """
        plain, places = to_ascii(text)
        names: list[tuple[int, int]] = []
        pieces: list[bytes] = []
        done = 0
        for found in self._names.finditer(plain):
            group = next(one for one in (1, 2, 3) if found[one] is not None)
            names.append(found.span(group))
            pieces += [plain[done : found.start(group)], _MARKS[group - 1]]
            done = found.end(group)
        shown: list[str] = []
        done, pieces = 0, [*pieces, plain[done:]]
        for number in sorted(_of_itself(b"".join(pieces))):
            start, end = names[number]
            shown += [text[done : places[start]], REPLACEMENT]
            done = max(done, places[end - 1] + 1)  # a ligature can end one name and begin another
        return "".join([*shown, text[done:]])


def _of_itself(marked: bytes) -> set[int]:
    """Which of the names that are marked in a text are self-references, counted from 0."""
    numbers = {found.start(): number for number, found in enumerate(_ANY.finditer(marked))}
    found_numbers: set[int] = set()
    for context in _contexts() if numbers else ():
        at = 0
        while found := context.search(marked, at):
            found_numbers.update(numbers[one.start()] for one in _ANY.finditer(marked, found.start(), found.end()))
            at = max(found.end() - 1, found.start() + 1)  # where one context ends the next may begin: a line's end
    return found_numbers


@cache
def _contexts() -> list[Any]:
    options = re2.Options()
    options.log_errors = False
    return [re2.compile(one.encode(), options) for one in _CONTEXTS]


def _spellings(name: str) -> Iterator[str]:
    """The name in plain ASCII, whole and, of "provider/model", the model alone. Single characters name nobody."""
    plain = to_ascii(name[: _LONGEST_NAME + 1])[0].decode().strip()
    for one in (plain, plain.rpartition("/")[2]):
        if 1 < len(one) <= _LONGEST_NAME and OTHER not in one:
            yield one
