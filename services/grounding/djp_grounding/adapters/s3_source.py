"""Files that tenants may make corpora from, in a bucket: each tenant has those whose names begin with its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.corpus_files import MAX_ENTRIES, MAX_FILE_BYTES, printable, unusable
from djp_grounding.importing import no_such_prefix, too_much
from djp_grounding.model import Skipped
from djp_grounding.ports import SourceFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djp_grounding.adapters.s3_bucket import S3Bucket


class S3Source:
    """A CorpusSource. A name's slashes are folders, as everybody's tools show them; the bucket is never written to."""

    def __init__(self, bucket: S3Bucket) -> None:
        self._bucket = bucket

    def files(self, tenant: str, prefix: str) -> Iterator[SourceFile | Skipped]:
        """Lists in pages of a thousand, as they are used."""
        start = f"{tenant}/{prefix}/" if prefix else f"{tenant}/"
        number = 0
        with self._bucket.errors():
            for found in self._bucket.client.list_objects(self._bucket.name, prefix=start, recursive=True):
                number += 1
                if number > MAX_ENTRIES:
                    raise too_much(prefix, MAX_ENTRIES)
                name, size = str(found.object_name), found.size or 0
                if not name.endswith("/"):  # what tools make to show an empty folder
                    yield self._judged(name, name.removeprefix(start), size)
        if number == 0:
            raise no_such_prefix(prefix)

    def _judged(self, name: str, below: str, size: int) -> SourceFile | Skipped:
        path = printable(below)
        if any(part.startswith(".") for part in path.split("/")):
            return Skipped(path, "hidden: its name, or that of its folder, starts with a dot")
        if reason := unusable(path, size):
            return Skipped(path, reason)
        return SourceFile(path, size, lambda: self._read(name))

    def _read(self, name: str) -> bytes:
        from minio.error import S3Error

        with self._bucket.errors():
            try:
                response = self._bucket.client.get_object(self._bucket.name, name)
            except S3Error as error:
                if error.code == "NoSuchKey":
                    raise FileNotFoundError(2, "removed meanwhile") from None
                raise
            try:
                return bytes(response.read(MAX_FILE_BYTES + 1))
            finally:
                response.close()
                response.release_conn()
