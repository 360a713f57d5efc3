"""PDF files: pages, titles, and hostile ones, bounded by the worker process that reads them."""

from __future__ import annotations

import subprocess
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from djp_grounding import pdf as pdf_module
from djp_grounding.extract import untypeset
from djp_grounding.limits import Limits
from djp_grounding.pdf import PdfLimits, PdfText, PdfWorker
from tests.grounding.hostile_files import raw_pdf, slow_pdf

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>"
FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"


def one_page(content: bytes, *, times_compressed: int = 1, kids: bytes = b"3 0 R", count: int = 1) -> bytes:
    for _ in range(times_compressed):
        content = zlib.compress(content, 9)
    filters = b"/FlateDecode " * times_compressed
    return raw_pdf(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, count),
        PAGE,
        b"<</Length %d/Filter[%s]>>stream\n%s\nendstream" % (len(content), filters, content),
        FONT,
    )


def endless() -> bytes:
    """50 kB that take minutes to read."""
    return one_page(b"BT /F1 12 Tf " + b"(a) Tj\n" * 5_000_000 + b"ET")


@pytest.fixture
def worker() -> Iterator[PdfWorker]:
    with PdfWorker(PdfLimits(seconds=20.0)) as started:
        yield started


def test_pages_and_title(library: Any, pdf: Any) -> None:
    library.add(
        {"a.pdf": pdf("First about apples", "Second about pears", title="Fruit [2nd ed.]"), "b.PDF": pdf("Bees")}
    )
    assert library.titles() == {"a.pdf": "Fruit (2nd ed.)", "b.PDF": "b"}
    hit = library.search("pears")[0]
    assert (hit.passage.page, hit.passage.text, hit.document.pages) == (2, "Second about pears", 2)
    assert library.search("apples")[0].passage.page == 1


def test_what_a_file_wants_to_run_is_ignored(worker: PdfWorker, pdf: Any) -> None:
    assert worker.read(pdf("Text", javascript="app.alert(1)")) == PdfText(("Text",), "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (one_page(b" " * 200_000_000), "broken PDF"),
        (one_page(b" " * 200_000_000, times_compressed=2), "broken PDF"),
        (one_page(b"BT (x) Tj ET", kids=b"2 0 R"), "broken PDF"),
        (one_page(b"BT (x) Tj ET", kids=b"3 0 R " * 6_000, count=6_000), "more than 5000: split it"),
        (b"%PDF-1.7\n1 0 obj\n" + b"[" * 100_000, "broken PDF"),
        (b"%PDF-1.7\n" + bytes(range(256)) * 100, "broken PDF"),
        (b"%PDF-1.7\nxref\n0 1\ntrailer<</Root 1 0 R/Prev 9>>\nstartxref\n9\n%%EOF", "broken PDF"),
    ],
    ids=["bomb", "double bomb", "page loop", "many pages", "nested", "junk", "table loop"],
)
def test_hostile_files_get_a_reason_and_the_next_file_is_read(
    worker: PdfWorker, pdf: Any, content: bytes, reason: str
) -> None:
    answer = worker.read(content)
    assert isinstance(answer, str)
    assert reason in answer
    assert "\n" not in answer
    assert worker.read(pdf("Still here")) == PdfText(("Still here",), "")


def test_a_false_page_count_is_not_believed(worker: PdfWorker) -> None:
    assert worker.read(one_page(b"BT /F1 12 Tf (x) Tj ET", count=999_999_999)) == PdfText(("x",), "")


def test_an_encrypted_file_names_the_remedy(library: Any, pdf: Any) -> None:
    library.add({"a.pdf": pdf("Secret", password="swordfish"), "b.md": "text"})
    assert library.skipped() == {"a.pdf": "encrypted PDF: save it without a password"}


def test_a_file_that_never_ends_is_given_up(make_library: Any) -> None:
    library = make_library(Limits(pdf=PdfLimits(seconds=1.0)))
    library.add({"a.pdf": endless(), "b.md": "read all the same"})
    assert library.skipped() == {"a.pdf": "PDF took longer than 1 s to read"}
    assert library.found("read") == ["b"]


def test_a_file_given_up_is_tried_again_the_next_time(library: Any, pdf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"a.pdf": pdf("Apples"), "b.md": "text"}
    with monkeypatch.context() as patch:
        patch.setattr(pdf_module, "_ask", lambda *_: None)  # as if the worker had died
        assert library.add(files).skipped[0].reason == "broken PDF: reading it brought its process down"
    assert library.add(files).skipped == ()
    assert library.found("apples") == ["a"]


def test_memory_is_bounded(pdf: Any) -> None:
    with PdfWorker(PdfLimits(memory_bytes=160 * 2**20)) as worker:
        answer = worker.read(one_page(b"BT /F1 12 Tf " + b"(abcdefgh) Tj\n" * 4_000_000 + b"ET"))
        assert isinstance(answer, str)
        assert "memory" in answer or "brought its process down" in answer
        assert worker.read(pdf("Still here")) == PdfText(("Still here",), "")


def test_much_text_is_bounded() -> None:
    with PdfWorker(PdfLimits(chars=1_000)) as worker:
        answer = worker.read(one_page(b"BT /F1 12 Tf " + b"(abcdefgh) Tj " * 200 + b"ET"))
        assert answer == "PDF holds more than 1000 characters of text: split it"


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The worker processes that were started, in order."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*args: Any, **kwargs: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return started


def test_a_worker_that_dies_is_replaced(worker: PdfWorker, processes: list[subprocess.Popen[bytes]], pdf: Any) -> None:
    worker.read(pdf("One"))
    processes[0].kill()
    processes[0].wait()
    assert worker.read(pdf("Two")) == "broken PDF: reading it brought its process down"
    assert worker.gave_up
    assert worker.read(pdf("Three")) == PdfText(("Three",), "")


def test_the_worker_gets_no_secret_and_ends_with_the_build(
    processes: list[subprocess.Popen[bytes]], pdf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with PdfWorker(PdfLimits()) as worker:
        worker.read(pdf("One"))
        if (environment := Path(f"/proc/{processes[0].pid}/environ")).exists():
            assert b"sk-secret" not in environment.read_bytes()
    assert [process.returncode is None for process in processes] == [False]


def test_no_worker_starts_without_a_pdf(library: Any, processes: list[subprocess.Popen[bytes]]) -> None:
    library.add({"a.md": "no PDF"})
    assert not processes


def test_without_pypdf_the_reason_names_the_remedy(library: Any, pdf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_module, "reader_version", lambda: "")
    library.add({"a.pdf": pdf("One"), "b.md": "text"})
    assert library.skipped() == {
        "a.pdf": "PDF files need pypdf: pip install 'djp-workflow[pdf]', then add the folder again"
    }


def test_pages_without_text_ask_for_ocr(library: Any, pdf: Any) -> None:
    library.add({"scan.pdf": pdf("", ""), "b.md": "text"})
    assert library.skipped() == {"scan.pdf": "no text in the PDF: if it is a scan, run OCR over it first"}


def test_another_file_called_pdf(library: Any) -> None:
    library.add({"a.pdf": b"PK\x03\x04" + b"\0" * 5_000, "b.md": "text"})
    assert library.skipped() == {"a.pdf": "not a PDF: it does not start with %PDF-"}


@pytest.mark.parametrize(
    ("pages", "read"),
    [
        (["The e\ufb03cient o\ufb03ce"], ["The efficient office"]),
        (["an exam-\nple of it"], ["an example of it"]),
        (["an exam-  \n   ple"], ["an example"]),
        (["a well-known rule", "that well-\nknown rule"], ["a well-known rule", "that well-known rule"]),
        (["a well-known, wellknown rule is well-\nknown"], ["a well-known, wellknown rule is wellknown"]),
        (["the Baden-\nBaden train"], ["the Baden-\nBaden train"]),
        (["lines 3-\n5 and a-\n\nb"], ["lines 3-\n5 and a-\n\nb"]),
        (["soft\u00ad\nware and hard\u00adware"], ["software and hardware"]),
        (["-" * 1000 + "\n" * 1000, ""], ["-" * 1000 + "\n" * 1000, ""]),
    ],
)
def test_what_typesetting_did_to_words_is_undone(pages: list[str], read: list[str]) -> None:
    assert untypeset(pages) == read


def test_floods_of_hyphens_are_read_to_the_end() -> None:
    for page in ("a" * 200_000, "a-" * 100_000, "a-\n" * 50_000, "- \n" * 50_000, ("a" * 39 + "-") * 5_000):
        assert len(untypeset([page])[0]) <= len(page)


def test_slow_files_get_less_time_once_they_have_had_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("djp_grounding.pdf._PATIENT", 1)
    with PdfWorker(PdfLimits(seconds=1)) as worker:
        assert worker.read(slow_pdf()) == "PDF took longer than 1 s to read"
        assert worker.read(slow_pdf()) == "PDF took longer than 0.1 s to read"
        assert worker.gave_up
