"""`--output FILE`: a run's text as Markdown, as an HTML page or as a Word document, by the file's ending."""

from __future__ import annotations

import html
import io
import os
from typing import TYPE_CHECKING

from djp.cli.terminal import clean
from djp.mesh.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

    from markdown_it import MarkdownIt

    from djp.v1 import run_pb2

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.55 system-ui, sans-serif; color: #1c1c1c; max-width: 46rem; margin: 2rem auto; padding: 1rem; }}
h1, h2, h3 {{ line-height: 1.25; margin: 1.8em 0 .5em; }}
table {{ border-collapse: collapse; margin: 1em 0; }}
th, td {{ border: 1px solid #c8c8c8; padding: .35em .7em; text-align: left; vertical-align: top; }}
th {{ background: #f2f2f2; }}
blockquote {{ border-left: 3px solid #c8c8c8; margin: 1em 0; padding: 0 1em; color: #444; }}
pre {{ background: #f5f5f5; padding: .8em; overflow-x: auto; }}
footer {{ margin-top: 3em; border-top: 1px solid #c8c8c8; color: #666; font-size: .85em; }}
</style>
</head>
<body>
{body}
<footer><p>{footer}</p></footer>
</body>
</html>
"""
ENDINGS = (".md", ".html", ".docx")


def markdown() -> MarkdownIt:
    """CommonMark with tables. What models write is hostile: no HTML, and no pictures, which would be fetched."""
    from markdown_it import MarkdownIt  # here: few runs write a document

    return MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "reference"])


def check_output(path: Path) -> None:
    """Raises InvalidInput if nothing can be written there, as far as can be seen before there is a text."""
    if path.suffix not in ENDINGS:
        raise InvalidInput(f"{path} has to end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}", field="output")
    if not path.parent.is_dir():
        raise InvalidInput(f"the folder {path.parent} does not exist; create it first", field="output")
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder; name a file in it", field="output")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InvalidInput(f"{path} cannot be written; mend its permissions", field="output")


def write_output(path: Path, run: run_pb2.Run) -> str:
    """Write the run's text, whole or not at all; what was in the file before is replaced. Why it failed, or nothing."""
    content = {".md": _markdown, ".html": _html, ".docx": _docx}[path.suffix](run)
    whole = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        whole.write_bytes(content)
        whole.replace(path)
    except OSError as error:
        whole.unlink(missing_ok=True)
        return f"--output: the text could not be written to {path}: {error.strerror}"
    return ""


def _markdown(run: run_pb2.Run) -> bytes:
    return f"{_text(run)}\n\n---\n\n{footer(run)}\n".encode()


def _html(run: run_pb2.Run) -> bytes:
    body = markdown().render(_text(run))
    page = _PAGE.format(title=html.escape(title(run)), body=body, footer=html.escape(footer(run)))
    return page.encode("utf-8", "replace")


def _docx(run: run_pb2.Run) -> bytes:
    from djp.cli.word import word_document

    made = io.BytesIO()
    word_document(markdown().parse(_text(run)), title=title(run), footer=footer(run)).save(made)
    return made.getvalue()


def _text(run: run_pb2.Run) -> str:
    """The text, and before it what keeps it from being published."""
    from djp.cli.show import why

    text = clean(run.result.text.strip("\n"))
    reason = why(run)
    return f"> **Advice only, not published:** {reason}\n\n{text}" if reason else text


def title(run: run_pb2.Run) -> str:
    """Of the document."""
    return run.spec.trace_name or run.spec.workflow.replace("_", " ").replace("-", " ").title()


def footer(run: run_pb2.Run) -> str:
    """Where it comes from."""
    day = run.finished_at.ToDatetime().date().isoformat()
    how = "composed offline, no model was called" if run.offline else f"written by {run.result.model}"
    return f"DJP Mesh, run {run.run_id}, {day}: {how}."
