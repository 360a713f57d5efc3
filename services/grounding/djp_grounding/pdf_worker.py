"""The process that parses PDF files: run by its path, it reads files from standard input and writes their text back.

Usage: pdf_worker.py MEMORY_BYTES PAGES CHARS SECONDS. Imports nothing of DJP Mesh.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import resource
import signal
import sys


def main(memory_bytes: int, max_pages: int, max_chars: int, seconds: float) -> None:
    """Answers until standard input ends. Every message is preceded by its length in 8 bytes, big-endian."""
    bound(memory_bytes)
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    while head := questions.read(8):
        content = questions.read(int.from_bytes(head, "big"))
        # The parent kills a late worker; the alarm does it when the parent itself is gone.
        signal.alarm(math.ceil(seconds) + 5)
        answer = json.dumps(read(content, max_pages, max_chars)).encode()
        signal.alarm(0)
        answers.write(len(answer).to_bytes(8, "big") + answer)
        answers.flush()


def bound(memory_bytes: int) -> None:
    """Takes from this process the memory above `memory_bytes` and the right to write files or dump core."""
    for kind, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # macOS refuses a limit on address space
            resource.setrlimit(kind, (limit, limit))


def read(content: bytes, max_pages: int, max_chars: int) -> dict[str, object]:
    """`{"pages": […], "title": …}` or `{"error": reason}`."""
    import pypdf

    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            return {"error": "encrypted PDF: save it without a password"}
        count = len(reader.pages)
        if count > max_pages:
            return {"error": f"PDF has {count} pages, more than {max_pages}: split it"}
        pages: list[str] = []
        chars = 0
        for page in reader.pages:
            text = page.extract_text().encode("utf-8", "replace").decode()  # lone surrogates cannot be sent
            chars += len(text)
            if chars > max_chars:
                return {"error": f"PDF holds more than {max_chars} characters of text: split it"}
            pages.append(text.replace("\0", ""))
        title = reader.metadata.title if reader.metadata else ""
        return {"pages": pages, "title": str(title or "").encode("utf-8", "replace").decode()}
    except MemoryError:
        return {"error": "PDF needs too much memory to read"}
    except RecursionError:
        return {"error": "broken PDF: its parts are nested too deeply"}
    except Exception as error:  # a parser of hostile bytes may raise anything
        return {"error": f"broken PDF: {' '.join(str(error).split())[:200] or type(error).__name__}"}


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
