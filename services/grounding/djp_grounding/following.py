"""Brings corpora from the object store to where they are read, and lets one replica build at a time."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from djp_grounding.errors import CorpusBusy, CorpusNotFound
from djp_grounding.ports import ObjectStore, StoreAway
from djp_grounding.replica import Pointer, Replica

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from djp_grounding.folder import CorpusFolder
    from djp_grounding.manifest import Manifest

_log = logging.getLogger(__name__)


class Turn:
    """A builder's turn: what the store said when it began, and ways to change that. Without a store it does nothing."""

    def __init__(self, replica: Replica | None, prefix: str, folder: CorpusFolder, before: Pointer | None) -> None:
        self._replica = replica
        self._prefix = prefix
        self._folder = folder
        self._before = before

    def publish(self, version: str, built: bool) -> None:
        """Makes a version of the folder current for all replicas. Raises CorpusBusy, StoreAway."""
        if self._replica:
            self._replica.publish(self._prefix, self._folder, version, self._before, built=built)

    def delete(self) -> None:
        """Deletes the corpus for all replicas. Raises CorpusBusy, StoreAway."""
        if self._replica:
            self._replica.delete(self._prefix, self._folder, self._before)


class Follower:
    """Keeps folders in step with the store, if there is one. Safe for many threads.

    A corpus that is read is looked up in the store every `refresh_s` seconds, beside the reading; only one that is not
    here yet is waited for. When the store is away, what is here goes on being served.
    """

    def __init__(self, store: ObjectStore | None, *, refresh_s: float, wait_s: float) -> None:
        self._replica = Replica(store) if store else None
        self._refresh_s = refresh_s
        self._wait_s = wait_s
        self._looked: dict[str, float] = {}  # corpus → when it was looked up last; infinite while that goes on
        self._lock = threading.Lock()

    def follow(self, folder: CorpusFolder, version: str, changed: Callable[[], None]) -> None:
        """Before a version (the current one, if empty) is read; `changed` is called when a corpus is gone or new.

        Raises StoreAway, CorpusBusy or CorpusNotFound only if the version is not here.
        """
        if not self._replica:
            return
        if not folder.current() or (version and not folder.has(version)):
            self._bring(folder, version)
            changed()
        elif self._due(folder):
            threading.Thread(target=self._look, args=(folder, changed), name="grounding-follow", daemon=True).start()

    def _bring(self, folder: CorpusFolder, version: str) -> None:
        if not self._replica or not folder.is_version_name(version):
            return
        prefix = _prefix(folder)
        pointer = self._replica.pointer(prefix)  # before the lock, which would leave a file for any name
        if pointer is None or not pointer.version:
            return
        if version and version not in self._replica.versions(prefix):
            return
        with folder.locked(self._wait_s):
            if not folder.current():
                self._replica.pull(prefix, folder)
            if version and not folder.has(version):
                self._replica.fetch(prefix, folder, version)

    def _due(self, folder: CorpusFolder) -> bool:
        key, now = str(folder.path), time.monotonic()
        with self._lock:
            due = now - self._looked.get(key, 0.0) >= self._refresh_s
            if due:
                self._looked[key] = float("inf")
        return due

    def _look(self, folder: CorpusFolder, changed: Callable[[], None]) -> None:
        try:
            if self._replica:
                with folder.locked(0):
                    if self._replica.pull(_prefix(folder), folder):
                        changed()
        except CorpusBusy:
            pass  # built here at this moment: that looks, too
        except (StoreAway, CorpusNotFound) as error:
            _log.warning("corpus %s is served as it is here: %s", folder.corpus, error.message)
        except Exception:
            _log.exception("corpus %s could not be looked up in the object store", folder.corpus)
        finally:
            with self._lock:
                self._looked[str(folder.path)] = time.monotonic()

    @contextmanager
    def turn(self, folder: CorpusFolder) -> Iterator[Turn]:
        """Under the folder's lock: keeps other replicas' builders out and brings the folder up to date first.

        Raises CorpusBusy, StoreAway.
        """
        if not self._replica:
            yield Turn(None, "", folder, None)
            return
        prefix = _prefix(folder)
        with self._replica.turn(prefix, folder.corpus, self._wait_s):
            before = self._replica.pointer(prefix)
            try:
                self._replica.pull(prefix, folder)
            except CorpusNotFound as error:  # damaged in the store: what is built now takes its place
                _log.warning("%s", error.message)
            yield Turn(self._replica, prefix, folder, before)

    def corpora(self, tenant: str) -> list[str]:
        """The names of the tenant's corpora in the store; none while that is away."""
        try:
            return self._replica.corpora(tenant) if self._replica else []
        except StoreAway as error:
            _log.warning("only the corpora that are here are listed: %s", error.message)
            return []

    def manifests(self, folder: CorpusFolder) -> list[Manifest]:
        """Those of the store's versions that are not here; none while the store is away."""
        if not self._replica:
            return []
        prefix = _prefix(folder)
        try:
            names = [name for name in self._replica.versions(prefix) if not folder.has(name)]
            return [found for name in names if (found := self._replica.manifest(prefix, name))]
        except StoreAway as error:
            _log.warning("only the versions that are here are listed: %s", error.message)
            return []


def _prefix(folder: CorpusFolder) -> str:
    return f"{folder.path.parent.name}/{folder.corpus}"
