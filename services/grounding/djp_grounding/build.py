"""Builds a version of a corpus from the files taken in, and makes it current."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from djp.mesh.errors import Internal
from djp_grounding.analysis import query_terms
from djp_grounding.errors import ContentMissing, CorpusEmpty, CorpusNotFound
from djp_grounding.extract import extract
from djp_grounding.index import IndexBuilder, IndexReader, index_digest
from djp_grounding.manifest import Manifest, inputs_hash, version_name
from djp_grounding.model import Document, Skipped
from djp_grounding.passages import cut
from djp_grounding.pdf import PdfWorker
from djp_grounding.titles import UniqueTitles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from djp_grounding.folder import CorpusFolder
    from djp_grounding.intake import Intake, ReceivedFile
    from djp_grounding.limits import Limits

_SHOWN_SKIPS = 5
_STALE = 5  # once more than one in so many passages is deleted, an index is built anew: its statistics are to be right


def build(
    folder: CorpusFolder, intake: Intake, limits: Limits, publish: Callable[[str, bool], None]
) -> tuple[Manifest, bool]:
    """The manifest of the version these files make, and whether it was there already. That version is then current.

    Before it is, `publish` is told its name and whether it was built now; if that fails, the current one stays. The
    files left out are those of this call, whoever built the version. Call it under the folder's lock. Raises
    CorpusEmpty if no file is usable, ContentMissing if a file that was offered by its hash has to be read, OSError or
    ValueError if the disk is full or refuses to be written.
    """
    inputs = inputs_hash([(file.path, file.sha256) for file in intake.files()], intake.skipped(), limits)
    known = _built_from(folder, inputs)
    if known is not None:
        publish(known.version, False)
        if known.version != folder.current():
            folder.make_current(known.version)
        return known, True
    building = folder.new_building()
    try:
        manifest, sample = _write(building, folder, intake, limits, inputs)
        known = _usable(folder, manifest.version)  # the same documents, though other files were left out
        if known is None:
            _check(building, manifest, sample)
            folder.publish(building, manifest)
        publish(manifest.version, known is None)
        folder.make_current(manifest.version)
    finally:
        folder.discard(building)
    if known is None:
        return manifest, False
    return replace(known, skipped=manifest.skipped), True


def _built_from(folder: CorpusFolder, inputs: str) -> Manifest | None:
    """The version that was built from these inputs, if there is one and it is sound; the current one is tried first."""
    current = folder.current()
    for version in sorted(folder.versions(), key=lambda name: name != current):
        try:
            if folder.manifest(version).inputs == inputs:
                return _usable(folder, version)
        except CorpusNotFound:  # damaged: to be built again
            continue
    return None


def _usable(folder: CorpusFolder, version: str) -> Manifest | None:
    """The manifest of a version that is there and opens; otherwise None."""
    try:
        manifest = folder.manifest(version)
        IndexReader(folder.index_path(version), manifest.index)
    except (CorpusNotFound, OSError, ValueError):
        return None
    return manifest


def _base(folder: CorpusFolder, files: Sequence[ReceivedFile]) -> Manifest | None:
    """The current version, if most of it can be taken over: made by the same code, sound, and with little deleted."""
    try:
        manifest = folder.manifest(folder.current()) if folder.current() else None
    except CorpusNotFound:
        return None
    if manifest is None or version_name(manifest.documents) != manifest.version:
        return None
    hashes = {file.path: file.sha256 for file in files}
    gone = sum(one.passages for one in manifest.documents if hashes.get(one.path) != one.sha256)
    if (manifest.stale + gone) * _STALE > manifest.passages:
        return None
    return _usable(folder, manifest.version)


def _write(building: Path, folder: CorpusFolder, intake: Intake, limits: Limits, inputs: str) -> tuple[Manifest, str]:
    """Writes the index; gives its manifest and the text of a passage to test it with.

    What the current version has of the same bytes is taken over from it: neither read nor cut nor indexed again.
    """
    index_folder = building / "index"
    index_folder.mkdir()
    files = intake.files()
    base = _base(folder, files)
    known = {document.path: document for document in base.documents} if base else {}
    same_bytes = {(one.path, one.sha256) for one in known.values() if one.pages <= limits.pdf.pages}
    offered = [file for file in files if not file.here]
    if missing := [file.path for file in offered if (file.path, file.sha256) not in same_bytes]:
        raise ContentMissing(missing)
    fresh_bytes = sum(file.bytes for file in files if (file.path, file.sha256) not in same_bytes)
    titles, documents, sample, stale = UniqueTitles(), list[Document](), "", base.stale if base else 0
    base_index = folder.index_path(base.version) if base else None
    with PdfWorker(limits.pdf) as pdfs, IndexBuilder(index_folder, fresh_bytes, base_index) as index:
        for file in files:
            before, title = known.pop(file.path, None), ""
            if before:
                if (file.path, file.sha256) in same_bytes:
                    title = titles.give(before.stated, file.path)
                if title == before.title:
                    documents.append(before)
                    continue
                index.remove(before.key)
                stale += before.passages
            if not file.here:  # its title changed with others: rare, and then others may follow
                raise ContentMissing([one.path for one in offered])
            extracted = extract(file.path, intake.read(file), pdfs)
            if isinstance(extracted, Skipped):
                intake.skip(extracted)
                continue
            document = Document(
                document_id=hashlib.sha256(file.path.encode()).hexdigest()[:16],
                title=title or titles.give(extracted.title, file.path),
                stated=extracted.title,
                path=file.path,
                sha256=file.sha256,
                bytes=file.bytes,
                pages=len(extracted.pages),
                passages=0,
            )
            added = index.passages
            for passage in cut(extracted):
                index.add(document.key, document.title, passage)
                if not sample and query_terms(passage.text):
                    sample = passage.text
            documents.append(replace(document, passages=index.passages - added))
        if pdfs.gave_up:
            inputs = ""
        if not documents:
            raise CorpusEmpty(_nothing_usable(folder.corpus, intake.skipped()), field="corpus")
        for document in known.values():
            index.remove(document.key)
            stale += document.passages
        index.finish()
    manifest = Manifest(
        version=version_name(documents),
        created_at=datetime.now(UTC),
        inputs=inputs,
        index=index_digest(index_folder),
        documents=tuple(documents),
        skipped=intake.skipped(),
        stale=stale,
    )
    return manifest, sample


def _check(building: Path, manifest: Manifest, sample: str) -> None:
    """A test query before the version gets its name. Raises Internal if the index cannot be what was written."""
    reader = IndexReader(building / "index", manifest.index)
    if reader.passages != manifest.passages or (sample and not reader.search(sample, 1)):
        raise Internal(f"the new index of version {manifest.version} failed its test query")


def _nothing_usable(corpus: str, skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return f"corpus {corpus!r}: no usable document: no file was given; add .md, .txt or .pdf files"
    shown = "; ".join(f"{one.path}: {one.reason}" if one.path else one.reason for one in skipped[:_SHOWN_SKIPS])
    more = f"; and {len(skipped) - _SHOWN_SKIPS} more" if len(skipped) > _SHOWN_SKIPS else ""
    return f"corpus {corpus!r}: no usable document; add .md, .txt or .pdf files. Left out: {shown}{more}"
