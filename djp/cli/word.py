"""Makes a Word document of Markdown: headings, lists, tables, quotes, code and links."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from docx import Document
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Pt, RGBColor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docx.document import Document as WordDocument
    from docx.text.paragraph import Paragraph
    from markdown_it.token import Token

_ALIGN = {"right": WD_ALIGN_PARAGRAPH.RIGHT, "center": WD_ALIGN_PARAGRAPH.CENTER}
_NO_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DEEPEST = 3  # levels of lists that Word's own template has


def word_document(tokens: Sequence[Token], *, title: str, footer: str) -> WordDocument:
    """The document of Markdown's tokens; `title` goes into its properties, `footer` below every page."""
    document = Document()
    document.core_properties.title = title[:255]
    document.core_properties.author = "DJP Mesh"
    foot = document.sections[0].footer.paragraphs[0]
    run = foot.add_run(_plain(footer))
    run.font.size = Pt(8)
    run.font.color.rgb = RGBColor(0x66, 0x66, 0x66)
    _Writer(document).write(tokens)
    return document


class _Writer:
    """Goes through the tokens once."""

    def __init__(self, document: WordDocument) -> None:
        self._document = document
        self._lists: list[tuple[str, int]] = []  # the lists around: style, number of the numbering or 0
        self._quotes = 0
        self._fresh = False  # whether an item has just begun, whose first paragraph carries its mark
        self._heading = 0

    def write(self, tokens: Sequence[Token]) -> None:
        at = 0
        while at < len(tokens):
            token = tokens[at]
            match token.type:
                case "heading_open":
                    self._heading = int(token.tag[1])
                case "heading_close":
                    self._heading = 0
                case "bullet_list_open":
                    self._lists.append(("List Bullet", 0))
                case "ordered_list_open":
                    self._lists.append(("List Number", self._numbering(int(token.attrs.get("start", 1)))))
                case "bullet_list_close" | "ordered_list_close":
                    self._lists.pop()
                case "list_item_open":
                    self._fresh = True
                case "blockquote_open":
                    self._quotes += 1
                case "blockquote_close":
                    self._quotes -= 1
                case "inline":
                    _inline(self._paragraph(), token.children or [])
                case "fence" | "code_block":
                    run = self._paragraph().add_run(_plain(token.content.rstrip("\n")))
                    run.font.name, run.font.size = "Courier New", Pt(9)
                case "hr":
                    _rule(self._document.add_paragraph())
                case "table_open":
                    end = next(n for n in range(at, len(tokens)) if tokens[n].type == "table_close")
                    self._table(tokens[at:end])
                    at = end
            at += 1

    def _paragraph(self) -> Paragraph:
        if self._heading:
            heading: Paragraph = self._document.add_heading(level=self._heading)
            return heading
        if self._lists:
            style, number = self._lists[-1]
            depth = min(len(self._lists), _DEEPEST)
            named = style if self._fresh else "List Continue"
            paragraph = self._document.add_paragraph(style=named if depth == 1 else f"{named} {depth}")
            if self._fresh and number:
                _number(paragraph, number)
            self._fresh = False
            return paragraph
        return self._document.add_paragraph(style="Quote" if self._quotes else None)

    def _numbering(self, start: int) -> int:
        """A numbering of its own, so that every list begins anew."""
        style = f"List Number {depth}" if (depth := min(len(self._lists) + 1, _DEEPEST)) > 1 else "List Number"
        numbering: Any = self._document.part.numbering_part.element
        known = self._document.styles[style].element.pPr.numPr.numId.val
        abstract = next(one for one in numbering.num_lst if one.numId == known).abstractNumId.val
        made = numbering.add_num(abstract)
        made.add_lvlOverride(ilvl=0).add_startOverride(start)
        return int(made.numId)

    def _table(self, tokens: Sequence[Token]) -> None:
        rows: list[list[tuple[Token, str]]] = []
        align = ""
        for token in tokens:
            if token.type == "tr_open":
                rows.append([])
            elif token.type in ("th_open", "td_open"):
                align = str(token.attrs.get("style", "")).rpartition(":")[2]
            elif token.type == "inline":
                rows[-1].append((token, align))
        table = self._document.add_table(rows=len(rows), cols=max(map(len, rows)), style="Table Grid")
        for number, row in enumerate(rows):
            for place, (token, align) in enumerate(row):
                paragraph = table.cell(number, place).paragraphs[0]
                _inline(paragraph, token.children or [])
                if align in _ALIGN:
                    paragraph.alignment = _ALIGN[align]
                for run in paragraph.runs if number == 0 else ():
                    run.bold = True
        self._document.add_paragraph()


def _inline(paragraph: Paragraph, tokens: Sequence[Token]) -> None:
    bold = italic = 0
    address = ""
    for token in tokens:
        match token.type:
            case "strong_open" | "strong_close":
                bold += token.nesting
            case "em_open" | "em_close":
                italic += token.nesting
            case "link_open":
                address = str(token.attrs["href"])
            case "link_close":
                address = ""
            case "softbreak":
                paragraph.add_run(" ")
            case "hardbreak":
                paragraph.add_run().add_break()
            case _ if address:
                _link(paragraph, _plain(token.content), address)
            case _:
                run = paragraph.add_run(_plain(token.content))
                run.bold, run.italic = bool(bold) or None, bool(italic) or None
                if token.type == "code_inline":
                    run.font.name = "Courier New"


def _link(paragraph: Paragraph, text: str, address: str) -> None:
    link = OxmlElement("w:hyperlink")
    link.set(qn("r:id"), paragraph.part.relate_to(address, RELATIONSHIP_TYPE.HYPERLINK, is_external=True))
    run = paragraph.add_run(text)
    run.font.underline, run.font.color.rgb = True, RGBColor(0x05, 0x63, 0xC1)
    link.append(run._r)
    paragraph._p.append(link)


def _number(paragraph: Paragraph, number: int) -> None:
    properties = paragraph._p.get_or_add_pPr().get_or_add_numPr()
    properties.get_or_add_numId().val = number
    properties.get_or_add_ilvl().val = 0


def _rule(paragraph: Paragraph) -> None:
    """A horizontal line."""
    borders, line = OxmlElement("w:pBdr"), OxmlElement("w:bottom")
    for name, value in (("val", "single"), ("sz", "6"), ("space", "1"), ("color", "AAAAAA")):
        line.set(qn(f"w:{name}"), value)
    borders.append(line)
    paragraph._p.get_or_add_pPr().append(borders)


def _plain(text: str) -> str:
    """Without what XML cannot hold."""
    return _NO_XML.sub("", text)
