"""Turns the bytes of one file into text with its title, or says why the file is left out."""

from __future__ import annotations

import codecs
import re
import unicodedata
from typing import TYPE_CHECKING

from djp.corpus_files import unusable
from djp_grounding.model import Extracted, Skipped
from djp_grounding.titles import clean_title, text_title

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp_grounding.pdf import PdfWorker

EXTRACTOR_VERSION = 4
"""Raise it when the same bytes would give another text, title or cut: it is part of a version's identity."""

_LIGATURES = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)}
_WORD = re.compile(r"[^\W\d_]+(?:[-\u2010][^\W\d_]+)*")
_BROKEN = re.compile(r"(?<!\w)([^\W\d_]{1,40})[-\u2010\u00ad][ \t]*\n[ \t]*([^\W\d_A-Z]{1,40})")
"""A word broken at the end of a line, which goes on in lower case."""

_OTHER_UNICODE = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def unsafe_path(path: str) -> str:
    """Why `path` cannot be a path inside a corpus; empty when it can."""
    if not path.strip():
        return "the path is empty"
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in path):
        return "the path holds a line break or another control character: rename the file"
    if path.startswith("/") or ".." in re.split(r"[/\\]", path):
        return "the path leaves the corpus: give it relative to the folder, with '/' between its parts and without '..'"
    return ""


def extract(path: str, content: bytes, pdfs: PdfWorker) -> Extracted | Skipped:
    """The text of a file, by its name's ending. `pdfs` reads PDF files; it starts nothing before the first of them."""
    if reason := unusable(path, len(content)):
        return Skipped(path, reason)
    if path.lower().endswith(".pdf"):
        return _extract_pdf(path, content, pdfs)
    try:
        text = _decode(content)
    except ValueError as error:
        return Skipped(path, str(error))
    if not text.strip():
        return Skipped(path, "empty: white space only")
    title, body = text_title(text)
    if not text[body:].strip():
        return Skipped(path, "empty: front matter only")
    return Extracted(text, title, body=body)


def _decode(content: bytes) -> str:
    """UTF-8, a byte order mark allowed; line ends become `\\n`. Raises ValueError with the reason."""
    if content.startswith(_OTHER_UNICODE):
        raise ValueError("UTF-16 or UTF-32 text: save it as UTF-8")
    if b"\0" in content:
        raise ValueError("binary: it holds NUL bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {error.start} is wrong): save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def untypeset(pages: Sequence[str]) -> list[str]:
    """The pages of a PDF with ligatures as letters and words that were broken at a line's end in one piece.

    A hyphen there stays if the document has the word with its hyphen elsewhere, and not without.
    """
    plain = [page.translate(_LIGATURES) for page in pages]
    words: set[str] = set()
    for page in plain:
        words.update(match[0].casefold() for match in _WORD.finditer(page))

    def joined(broken: re.Match[str]) -> str:
        before, after = broken[1], broken[2]
        keeps = f"{before}-{after}".casefold() in words and f"{before}{after}".casefold() not in words
        return f"{before}-{after}" if keeps and "-" in broken[0] else f"{before}{after}"

    return [_BROKEN.sub(joined, page).replace("\u00ad", "") for page in plain]


def _extract_pdf(path: str, content: bytes, pdfs: PdfWorker) -> Extracted | Skipped:
    if b"%PDF-" not in content[:1024]:  # where readers look for it (ISO 32000-1, annex H.3.4.1)
        return Skipped(path, "not a PDF: it does not start with %PDF-")
    answer = pdfs.read(content)
    if isinstance(answer, str):
        return Skipped(path, answer)
    pages = untypeset(answer.pages)
    starts, at = [], 0
    for page in pages:
        starts.append(at)
        at += len(page) + 2
    text = "\n\n".join(pages)
    if not text.strip():
        return Skipped(path, "no text in the PDF: if it is a scan, run OCR over it first")
    return Extracted(text, clean_title(answer.title), pages=tuple(starts))
