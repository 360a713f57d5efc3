"""A folder of harmless files and of hostile ones, and what should become of each kind."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KINDS = 17
"""Of hostile files; of two kinds only the name is bad, and they are kept under a name that can be shown."""


def zip_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(20_000_000))
    return buffer.getvalue()


def bomb_in_a_pdf() -> bytes:
    """A page whose content is 200 MB of zeros when it is unpacked."""
    packed = zlib.compressobj(9)
    return _page(b"".join([packed.compress(bytes(1_000_000)) for _ in range(200)]) + packed.flush())


def endless_pdf() -> bytes:
    """Pages that are their own children."""
    return raw_pdf(b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[2 0 R 2 0 R]/Count 999999999>>")


def many_pages_pdf() -> bytes:
    """Twenty thousand pages, which are all the same one."""
    return raw_pdf(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count 20000/Kids[" + b"3 0 R " * 20_000 + b"]>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>",
    )


def _page(content: bytes) -> bytes:
    """A PDF of one page with this content, which is packed already."""
    return raw_pdf(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d/Filter/FlateDecode>>stream\n" % len(content) + content + b"\nendstream",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    )


def raw_pdf(*objects: bytes) -> bytes:
    """A PDF of these objects, written by hand; the first is the catalog."""
    written, offsets = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return (
        written
        + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
        + table
        + b"trailer\n<</Size %d /Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(written))
    )


def slow_pdf() -> bytes:
    """A page of a million operators, packed into some kilobytes: reading it takes minutes."""
    packed = zlib.compress(b"BT /F1 1 Tf " + b"1 0 0 1 0 0 Tm (a) Tj " * 1_000_000 + b"ET", 9)
    return _page(packed)


def fill(folder: Path, good: int, of_a_kind: int) -> None:
    """Makes the folder with so many harmless files and so many hostile ones of each kind, these below `bad`."""
    for number in range(good):
        file = folder / f"part{number % 40}" / f"note{number}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# Note {number}\n\nAbout subject{number} and whales.")
    bad = folder / "bad"
    bad.mkdir()
    bomb, unpacks, slow, many = zip_bomb(), bomb_in_a_pdf(), slow_pdf(), many_pages_pdf()
    for number in range(of_a_kind):
        for suffix in ("md", "pdf", "txt"):
            (bad / f"bomb{number}.{suffix}").write_bytes(bomb)
        (bad / f"endless{number}.pdf").write_bytes(endless_pdf())
        (bad / f"pages{number}.pdf").write_bytes(many)
        (bad / f"cut{number}.pdf").write_bytes(b"%PDF-1.7\n" + os.urandom(5_000))
        (bad / f"unpacks{number}.pdf").write_bytes(unpacks)
        (bad / f"slow{number}.pdf").write_bytes(slow)
        (bad / f"latin{number}.txt").write_bytes("Ma\xdf und Gr\xf6\xdfe".encode("latin-1"))
        (bad / f"wide{number}.txt").write_bytes("text".encode("utf-16"))
        (bad / f"line\nbreak{number}.md").write_text("named with a line break")
        (bad / f"huge{number}.txt").touch()
        os.truncate(bad / f"huge{number}.txt", 2**30)
        (bad / f"loop{number}").symlink_to(bad)
        (bad / f"self{number}.md").symlink_to(bad / f"self{number}.md")
        (bad / f"out{number}.md").symlink_to("/etc/passwd")
        os.mkfifo(bad / f"pipe{number}.md")
        (bad / os.fsdecode(b"not\xffutf8%d.md" % number)).write_text("whales in a file with a bad name")


def kept(of_a_kind: int) -> set[str]:
    """The paths of the hostile files that are kept."""
    names = {f"bad/line\\nbreak{number}.md" for number in range(of_a_kind)}
    return names | {f"bad/not\\xffutf8{number}.md" for number in range(of_a_kind)}
