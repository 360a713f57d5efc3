"""What a document is called: the name that a draft cites it by."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

TITLE_CHARS = 200
"""A longer title is cut: it has to fit a citation."""
HEADING_SEARCH_CHARS = 65_536
"""A first heading is looked for in so much of the text; further down it is not the document's title."""

# The first line in it must be a key: text between two horizontal rules is text.
_FRONT_MATTER = re.compile(
    r"---[ \t]*\n(?:(?:[ \t]*(?:#.*)?\n)*+[\w-]+[ \t]*:(?s:.*?)\n)?---[ \t]*(?:\n|\Z)", re.IGNORECASE
)
_FRONT_TITLE = re.compile(r"^title[ \t]*:[ \t]*(\S.*)$", re.MULTILINE | re.IGNORECASE)
_QUOTED = re.compile(r"(['\"])(.*)\1(?:[ \t]+#.*)?[ \t]*")
_COMMENT = re.compile(r"(?:^|[ \t]+)#.*")
_FENCE = re.compile(r"^[ ]{0,3}(```|~~~).*?(?:^[ ]{0,3}\1|\Z)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^[ ]{0,3}#{1,6}[ \t]+(\S.*)$|^(\S.*)\n(?:={3,}|-{3,})[ \t]*$", re.MULTILINE)
_IMAGE = re.compile(r"!\[[^\[\]]*\]\([^()\s]*\)")
_LINK = re.compile(r"\[([^\[\]]*)\]\([^()\s]*\)")
_CLOSING = re.compile(r"[ \t]#+[ \t]*$")
_EMPHASIS = re.compile(r"(\*{1,3}(?=\S)|(?<!\w)_{1,3}(?=\w)|`+)(.+?)\1")


def text_title(text: str) -> tuple[str, int]:
    """The title a text states, or an empty string, and where its body starts, in code points.

    Front matter (a block between `---` lines at the very start) comes first, then the first heading outside code.
    """
    front = _FRONT_MATTER.match(text, 0, HEADING_SEARCH_CHARS)
    body = front.end() if front else 0
    if front and (stated := _FRONT_TITLE.search(front[0])):
        quoted = _QUOTED.fullmatch(stated[1][: 8 * TITLE_CHARS])
        if title := clean_title(quoted[2] if quoted else _COMMENT.sub("", stated[1][: 8 * TITLE_CHARS])):
            return title, body
    start = _FENCE.sub("", text[body : body + HEADING_SEARCH_CHARS])
    heading = _HEADING.search(start)
    return (clean_title(_plain(heading[1] or heading[2])) if heading else ""), body


def _plain(heading: str) -> str:
    """A heading without its Markdown: closing hashes, images, links and emphasis."""
    heading = _CLOSING.sub("", heading[: 4 * TITLE_CHARS])
    return _EMPHASIS.sub(r"\2", _LINK.sub(r"\1", _IMAGE.sub("", heading)))


_JOINERS = "\u200c\u200d"  # they change words of Persian and Indic scripts; other format characters only deceive


def clean_title(title: str) -> str:
    """A title that can stand between square brackets on one line; empty if nothing of it can."""
    title = title[: 4 * TITLE_CHARS].translate({ord("["): "(", ord("]"): ")"})
    title = "".join(" " if unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs") else char for char in title)
    title = "".join(char for char in title if unicodedata.category(char) != "Cf" or char in _JOINERS)
    title = " ".join(title.split())[:TITLE_CHARS].strip()
    return title if any(char.isalnum() for char in title) else ""


class UniqueTitles:
    """Gives each document of a corpus a title of its own; called in the order of the paths, always the same ones."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}

    def give(self, title: str, path: str) -> str:
        """`title`, or the file's name where it is empty, with ` (2)`, ` (3)`, … if it is taken, whatever its case."""
        title = title or clean_title(PurePosixPath(path).stem) or clean_title(path) or "untitled"
        key = title.casefold()
        number, given = self._last.get(key, 1), title
        while given.casefold() in self._taken:
            number += 1
            given = f"{title} ({number})"
        self._last[key] = number
        self._taken.add(given.casefold())
        return given
