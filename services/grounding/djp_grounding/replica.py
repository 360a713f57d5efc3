"""Keeps a corpus's folder in step with the object store that replicas share.

TENANT/CORPUS/CURRENT                   the current version with the hash of its manifest; empty after a deletion
TENANT/CORPUS/VERSION.tar               a version: its manifest, with the digest of its index, and the index
TENANT/CORPUS/VERSION.manifest          its manifest once more, to be listed without fetching it
TENANT/CORPUS/BUILDER                   who builds; changes while somebody does
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tarfile
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from djp_grounding.errors import CorpusBusy, CorpusNotFound
from djp_grounding.index import index_digest
from djp_grounding.manifest import VERSION_DIGITS, Manifest
from djp_grounding.ports import ChangedError, ObjectStore, StoreAway

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djp_grounding.folder import CorpusFolder

_log = logging.getLogger(__name__)

LEASE_S = 15.0
"""A builder that has not shown itself for so long, by the clock of whoever waits, is dead."""
_SHOWS_S = LEASE_S / 5
_POLL_S = 0.2
_FREE = b"free"
_FILE = re.compile(r"manifest\.json|index/[A-Za-z0-9.][A-Za-z0-9._-]{0,200}")
_VERSION = re.compile(rf"[0-9a-f]{{{VERSION_DIGITS}}}")
MAX_INDEX_BYTES = 16 * 2**30
"""A larger index is not fetched: some four times the largest that a corpus within its bounds makes."""


class Pointer(NamedTuple):
    """What CURRENT says: a version and its manifest's SHA-256, both empty for a corpus that was deleted."""

    version: str
    manifest: str
    tag: str
    damaged: bool = False


class Replica:
    """The store's side of the corpora of one replica. Safe for many threads; every method may raise StoreAway."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def pointer(self, prefix: str) -> Pointer | None:
        """What CURRENT says; None if there is none. A damaged one is written anew by the next builder."""
        stored = self.store.read(f"{prefix}/CURRENT")
        if stored is None:
            return None
        try:
            values = json.loads(stored.content)
            version, manifest = str(values["version"]), str(values["manifest"])
        except (ValueError, KeyError, TypeError):
            version, manifest = "damaged", ""
        if version and not _VERSION.fullmatch(version):
            _log.error("the object %s/CURRENT is damaged; add the folder of the corpus again", prefix)
            return Pointer("", "", stored.tag, damaged=True)
        return Pointer(version, manifest, stored.tag)

    def pull(self, prefix: str, folder: CorpusFolder) -> bool:
        """Makes the store's current version the folder's; whether the folder changed. Only under the folder's lock.

        A version that is damaged in the store is left alone, and the last good one goes on being served.
        """
        pointer = self.pointer(prefix)
        if pointer is None or pointer.damaged:
            return False
        current = folder.current()
        if not pointer.version:
            if current:
                folder.delete()
            return bool(current)
        if pointer.version == current:
            return False
        if not folder.has(pointer.version):
            self.fetch(prefix, folder, pointer.version, pointer.manifest)
        folder.make_current(pointer.version)
        return True

    def fetch(self, prefix: str, folder: CorpusFolder, version: str, manifest_sha256: str = "") -> None:
        """Brings a version into the folder, checked and whole. Only under the folder's lock.

        Raises CorpusNotFound if the store has not got it, or got it damaged.
        """
        building = folder.new_building()
        try:
            packed, unpacked = building / "packed", building / "unpacked"
            manifest = None
            if self.store.download(f"{prefix}/{version}.tar", packed):
                manifest = _unpacked(packed, unpacked, version, manifest_sha256)
            if manifest is None:
                told = "is damaged or missing in the object store; add its folder again to rebuild it"
                raise CorpusNotFound(f"corpus {folder.corpus!r}: version {version} {told}", field="version")
            folder.publish(unpacked, manifest)
        finally:
            folder.discard(building)

    def versions(self, prefix: str) -> list[str]:
        """The names of the versions in the store."""
        names = [name.removeprefix(f"{prefix}/") for name in self.store.names(f"{prefix}/")]
        return [name.removesuffix(".tar") for name in names if name.endswith(".tar")]

    def manifest(self, prefix: str, version: str) -> Manifest | None:
        """What a version in the store holds; None if that is missing or damaged."""
        stored = self.store.read(f"{prefix}/{version}.manifest")
        try:
            return Manifest.from_json(stored.content.decode()) if stored else None
        except (ValueError, KeyError, TypeError):
            return None

    def corpora(self, tenant: str) -> list[str]:
        """The names of the tenant's corpora in the store, deleted ones with them."""
        return [name.split("/")[1] for name in self.store.names(f"{tenant}/") if name.endswith("/CURRENT")]

    def publish(self, prefix: str, folder: CorpusFolder, version: str, before: Pointer | None, *, built: bool) -> None:
        """Makes a version of the folder the store's current one. Only in one's turn, which began with `before`.

        `built` says that it is new, or takes the place of a damaged one. Raises CorpusBusy if another builder published
        meanwhile.
        """
        manifest = folder.manifest_path(version)
        digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
        if built or version not in self.versions(prefix):
            with tempfile.TemporaryDirectory(dir=folder.path, prefix=".packing-") as packing:
                packed = Path(packing) / "packed"
                _pack(manifest, folder.index_path(version), packed)
                self.store.upload(f"{prefix}/{version}.tar", packed)
                self.store.upload(f"{prefix}/{version}.manifest", manifest)
        if before is None or (before.version, before.manifest) != (version, digest):
            self._point(prefix, folder, {"version": version, "manifest": digest}, before.tag if before else None)

    def delete(self, prefix: str, folder: CorpusFolder, before: Pointer | None) -> None:
        """Marks the corpus as deleted, then removes what it had. Only in one's turn. Raises CorpusBusy."""
        self._point(prefix, folder, {"version": "", "manifest": ""}, before.tag if before else None)
        for name in self.store.names(f"{prefix}/"):
            if name.endswith((".tar", ".manifest")):
                self.store.remove(name)

    def _point(self, prefix: str, folder: CorpusFolder, to: dict[str, str], expected: str | None) -> None:
        try:
            self.store.write(f"{prefix}/CURRENT", json.dumps(to).encode(), expected)
        except ChangedError:
            message = f"corpus {folder.corpus!r} was published by someone else meanwhile; try again"
            raise CorpusBusy(message, retry_after_s=1.0) from None

    @contextmanager
    def turn(self, prefix: str, corpus: str, wait_s: float) -> Iterator[None]:
        """Keeps the builders of other replicas out. Waits up to `wait_s` seconds, then raises CorpusBusy.

        A builder shows itself by changing the object BUILDER; one that stops doing so is dead. No clocks are compared.
        One that was only slow finds at the end that CURRENT has changed, and publishes nothing.
        """
        name = f"{prefix}/BUILDER"
        tag = self._take(name, corpus, wait_s)
        done = threading.Event()

        def show() -> None:
            nonlocal tag
            while not done.wait(_SHOWS_S):
                try:
                    tag = self.store.write(name, uuid.uuid4().bytes, tag)
                except (StoreAway, ChangedError) as error:
                    _log.warning("the turn to build %s could not be kept: %s", prefix, type(error).__name__)

        shows = threading.Thread(target=show, name="grounding-turn", daemon=True)
        shows.start()
        try:
            yield
        finally:
            done.set()
            shows.join()
            try:
                self.store.write(name, _FREE + uuid.uuid4().bytes, tag)
            except (StoreAway, ChangedError):
                _log.warning("the turn to build %s ends by itself in %g s", prefix, LEASE_S)

    def _take(self, name: str, corpus: str, wait_s: float) -> str:
        deadline, seen, since = time.monotonic() + wait_s, "", 0.0
        while True:
            held = self.store.read(name)
            now = time.monotonic()
            if held and held.tag != seen:
                seen, since = held.tag, now
            if held is None or held.content.startswith(_FREE) or now - since > LEASE_S:
                try:
                    return self.store.write(name, uuid.uuid4().bytes, held.tag if held else None)
                except ChangedError:
                    continue
            if now >= deadline:
                message = f"corpus {corpus!r} is being built by someone else; try again when that is done"
                raise CorpusBusy(message, retry_after_s=5.0)
            time.sleep(_POLL_S)


def _pack(manifest: Path, index: Path, packed: Path) -> None:
    with tarfile.open(packed, "w") as tar:
        tar.add(manifest, arcname="manifest.json")
        for file in sorted(index.iterdir()):
            if file.suffix != ".lock":
                tar.add(file, arcname=f"index/{file.name}", recursive=False)


def _unpacked(packed: Path, into: Path, version: str, manifest_sha256: str) -> Manifest | None:
    """The manifest of a version that was unpacked into a new folder; None unless all of it is as it was written."""
    try:
        _unpack(packed, into)
        content = (into / "manifest.json").read_bytes()
        manifest = Manifest.from_json(content.decode())
        sound = (
            manifest.version == version
            and manifest_sha256 in ("", hashlib.sha256(content).hexdigest())
            and index_digest(into / "index") == manifest.index
        )
    except (ValueError, KeyError, TypeError, FileNotFoundError, tarfile.TarError):
        return None
    return manifest if sound else None


def _unpack(packed: Path, into: Path) -> None:
    """Plain files with plain names only, within a bound. Raises ValueError, tarfile.TarError."""
    (into / "index").mkdir(parents=True)
    size = 0
    with tarfile.open(packed, "r:") as tar:
        for member in tar:
            size += member.size
            if not member.isfile() or not _FILE.fullmatch(member.name) or size > MAX_INDEX_BYTES:
                raise ValueError(f"a packed version holds no {member.name[:50]!r}")
            tar.extract(member, into, filter="data")
