"""Every corpus of every tenant: creating, listing, searching, checking, rolling back and deleting. All calls block."""

from __future__ import annotations

import contextlib
import functools
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from djp.mesh.errors import InvalidInput, Unavailable
from djp_grounding.build import build
from djp_grounding.errors import CorpusNotFound, folder_errors
from djp_grounding.folder import CorpusFolder, check_name
from djp_grounding.following import Follower
from djp_grounding.importing import take_in
from djp_grounding.intake import Intake
from djp_grounding.limits import Limits
from djp_grounding.manifest import Manifest, inputs_hash
from djp_grounding.model import Created, Hit, Skipped, Version
from djp_grounding.requests import RequestLog, digest
from djp_grounding.snapshot import Snapshot, SnapshotCache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from djp_grounding.ports import CorpusSource, ObjectStore
    from djp_grounding.resolve import Citation

_log = logging.getLogger(__name__)

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

DEFAULT_TOP_K = 8
"""Passages a search gives unless it asks for another number: 1,600 words, which fits any prompt."""


def _names_folder_errors(
    method: Callable[Concatenate[Corpora, Arguments], Result],
) -> Callable[Concatenate[Corpora, Arguments], Result]:
    """The method, with the system's refusals to read or write the data folder turned into errors with a remedy."""

    @functools.wraps(method)
    def named(corpora: Corpora, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with folder_errors(corpora.data_dir):
            return method(corpora, *args, **kwargs)

    return named


class Corpora:
    """Corpora under one data folder. Safe for many threads and processes: builders take turns, readers never wait.

    Every method that names a corpus raises InvalidInput for a bad name and CorpusNotFound, with the remedy, for one
    that is not there; every method raises what `djp.data_folder` raises where the system refuses it the folder.
    """

    def __init__(
        self,
        data_dir: Path,
        limits: Limits | None = None,
        store: ObjectStore | None = None,
        *,
        refresh_s: float = 2.0,
        source: CorpusSource | None = None,
    ) -> None:
        """`store` is shared with other replicas, who see what is published here within `refresh_s` seconds. `source`
        has the files of corpora that are imported.
        """
        self.data_dir = data_dir
        self._limits = limits or Limits()
        self._follower = Follower(store, refresh_s=refresh_s, wait_s=self._limits.build_wait_s)
        self._source = source
        self._snapshots = SnapshotCache()
        self._made_folder = functools.lru_cache(maxsize=1024)(CorpusFolder)

    def check_request(self, tenant: str, corpus: str, request_id: str) -> None:
        """Refuses a bad corpus name or request id before any file is sent. Raises InvalidInput."""
        check_name(corpus)
        self._requests(tenant).check_id(request_id)

    @_names_folder_errors
    def intake(self) -> Intake:
        """Takes in the files of a new version."""
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Intake(self._limits, self.data_dir)

    @_names_folder_errors
    def create(self, tenant: str, corpus: str, intake: Intake, request_id: str) -> Created:
        """Makes the files taken in the current version of the corpus. The same files again cost nothing.

        Raises CorpusEmpty, CorpusBusy, RequestIdReused, ContentMissing.
        """
        files = [(file.path, file.sha256) for file in intake.files()]
        body = digest("create", corpus, inputs_hash(files, intake.skipped(), self._limits))
        return self._create(self._folder(tenant, corpus), self._requests(tenant), intake, request_id, body)

    @_names_folder_errors
    def import_prefix(self, tenant: str, corpus: str, prefix: str, intake: Intake, request_id: str) -> Created:
        """The same with the files below a prefix of the source, which are taken in here.

        Raises what `importing.take_in` raises, CorpusEmpty, CorpusBusy, RequestIdReused.
        """
        folder, requests = self._folder(tenant, corpus), self._requests(tenant)
        body = digest("import", corpus, prefix)
        answer = requests.find(request_id, body)
        if answer is None or answer["version"] not in folder.versions():
            take_in(self._source, tenant, prefix, intake)
        return self._create(folder, requests, intake, request_id, body)

    def _create(
        self, folder: CorpusFolder, requests: RequestLog, intake: Intake, request_id: str, body: str
    ) -> Created:
        with folder.locked(self._limits.build_wait_s):
            answer = requests.find(request_id, body)
            if answer is not None and answer["version"] in folder.versions():
                skipped = tuple(Skipped(**one) for one in answer["skipped"])
                manifest = folder.manifest(answer["version"])
                return Created(self._version(folder, manifest, folder.current()), skipped, answer["reused"])
            with self._follower.turn(folder) as turn:
                manifest, reused = build(folder, intake, self._limits, turn.publish)
            if not reused:
                self._snapshots.forget(folder)
            requests.remember(
                request_id,
                body,
                {
                    "version": manifest.version,
                    "skipped": [asdict(one) for one in manifest.skipped],
                    "reused": reused,
                },
            )
            return Created(self._version(folder, manifest, manifest.version), manifest.skipped, reused)

    @_names_folder_errors
    def list_corpora(self, tenant: str, after: str, limit: int) -> list[Version]:
        """The current versions of the tenant's corpora, by name, of those past the name `after`."""
        listed: list[Version] = []
        names = set(self._follower.corpora(tenant))
        with contextlib.suppress(FileNotFoundError):
            names.update(entry.name for entry in (self.data_dir / tenant).iterdir() if entry.is_dir())
        for name in sorted(names):
            if len(listed) == limit:
                break
            if name > after and not name.startswith("."):
                folder = self._folder(tenant, name)
                with contextlib.suppress(Unavailable, CorpusNotFound):
                    self._follow(folder, "")
                current = folder.current()
                if current and (manifest := self._manifest_or_none(folder, current)):
                    listed.append(self._version(folder, manifest, current))
        return listed

    @_names_folder_errors
    def get(self, tenant: str, corpus: str, version: str = "") -> tuple[Version, Manifest]:
        """A version (the current one if not named) and all it holds."""
        folder, snapshot = self._snapshot(tenant, corpus, version)
        return self._version(folder, snapshot.manifest, folder.current()), snapshot.manifest

    @_names_folder_errors
    def versions(self, tenant: str, corpus: str) -> list[Version]:
        """All versions of a corpus, the newest first."""
        folder = self._folder(tenant, corpus)
        self._follow(folder, "")
        current = folder.resolve("")
        manifests = [self._manifest_or_none(folder, name) for name in folder.versions()]
        manifests += self._follower.manifests(folder)
        found = [self._version(folder, manifest, current) for manifest in manifests if manifest]
        return sorted(found, key=lambda version: (version.created_at, version.version), reverse=True)

    @_names_folder_errors
    def rollback(self, tenant: str, corpus: str, version: str, request_id: str) -> Version:
        """Makes an earlier version current. Raises CorpusBusy, RequestIdReused."""
        if not version:
            raise InvalidInput("version: empty; name the version to go back to", field="version")
        folder = self._folder(tenant, corpus)
        self._follow(folder, version)
        folder.resolve(version)  # before the lock, which would leave a file for any name
        body = digest("rollback", corpus, version)
        with folder.locked(self._limits.build_wait_s):
            name = folder.resolve(version)
            manifest = self._snapshots.get(folder, name).manifest
            if self._requests(tenant).find(request_id, body) is None:
                with self._follower.turn(folder) as turn:
                    turn.publish(name, False)
                    folder.make_current(name)
                self._requests(tenant).remember(request_id, body, {})
            return self._version(folder, manifest, folder.current())

    @_names_folder_errors
    def delete(self, tenant: str, corpus: str, request_id: str) -> None:
        """Removes a corpus with all its versions. Raises CorpusBusy, RequestIdReused."""
        folder = self._folder(tenant, corpus)
        body = digest("delete", corpus)
        if self._requests(tenant).find(request_id, body) is not None:
            return
        self._follow(folder, "")
        folder.resolve("")  # before the lock, which would leave a file for any name
        with folder.locked(self._limits.build_wait_s):
            with self._follower.turn(folder) as turn:
                folder.resolve("")
                turn.delete()
                folder.delete()
            self._snapshots.forget(folder)
            self._requests(tenant).remember(request_id, body, {})

    @_names_folder_errors
    def search(
        self,
        tenant: str,
        corpus: str,
        query: str,
        *,
        top_k: int = 0,
        token_budget: int = 0,
        per_document: int = 0,
        version: str = "",
    ) -> tuple[str, list[Hit]]:
        """The version searched and its best passages, best first; none if the query holds no search term."""
        _, snapshot = self._snapshot(tenant, corpus, version)
        return snapshot.version, snapshot.search(query, top_k or DEFAULT_TOP_K, token_budget, per_document)

    def at_hand(self, tenant: str, corpus: str, version: str) -> Snapshot | None:
        """A version (the current one if not named) if it is open already and nothing has to be waited for."""
        folder = self._folder(tenant, corpus)
        current = folder.current()
        if not current or (version and not folder.has(version)):
            return None
        snapshot = self._snapshots.opened(folder, version or current)
        if snapshot is None or not snapshot.open:
            return None
        self._follow(folder, version)
        return snapshot

    @_names_folder_errors
    def check_citations(self, tenant: str, corpus: str, text: str, version: str = "") -> tuple[str, list[Citation]]:
        """The version checked against, and every citation in the text with its document or the reason for none."""
        _, snapshot = self._snapshot(tenant, corpus, version)
        return snapshot.version, snapshot.check_citations(text)

    def _folder(self, tenant: str, corpus: str) -> CorpusFolder:
        return self._made_folder(self.data_dir / tenant, corpus)

    def _requests(self, tenant: str) -> RequestLog:
        return RequestLog(self.data_dir / tenant / ".requests")

    def _snapshot(self, tenant: str, corpus: str, version: str) -> tuple[CorpusFolder, Snapshot]:
        folder = self._folder(tenant, corpus)
        self._follow(folder, version)
        return folder, self._snapshots.get(folder, folder.resolve(version))

    def _follow(self, folder: CorpusFolder, version: str) -> None:
        self._follower.follow(folder, version, lambda: None if folder.current() else self._snapshots.forget(folder))

    def _manifest_or_none(self, folder: CorpusFolder, version: str) -> Manifest | None:
        """None for a damaged version: it must not hide the others from a list."""
        try:
            return folder.manifest(version)
        except CorpusNotFound as error:
            _log.warning("%s", error.message)
            return None

    def _version(self, folder: CorpusFolder, manifest: Manifest, current: str) -> Version:
        return Version(
            corpus=folder.corpus,
            version=manifest.version,
            documents=len(manifest.documents),
            passages=manifest.passages,
            bytes=manifest.bytes,
            created_at=manifest.created_at,
            current=manifest.version == current,
        )
