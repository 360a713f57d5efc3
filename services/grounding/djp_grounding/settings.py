"""What can be set of the grounding service."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from djp.mesh.settings import djp_home
from djp.s3 import checked_endpoint
from djp_grounding.limits import Limits
from djp_grounding.pdf import PdfLimits

if TYPE_CHECKING:
    from djp_grounding.adapters.s3_bucket import S3Bucket
    from djp_grounding.ports import CorpusSource, ObjectStore


def _default_data_dir() -> Path:
    return djp_home() / "grounding"


class GroundingSettings(BaseSettings):
    """Read from the environment: a field `x` from `DJP_GROUNDING_X`."""

    model_config = SettingsConfigDict(env_prefix="DJP_GROUNDING_", env_ignore_empty=True, extra="ignore")

    data_dir: Path = Field(
        default_factory=_default_data_dir, description="Corpora and their indexes; must be writable."
    )
    store: str = Field(
        default="",
        description="What replicas share: a folder's path, or s3://BUCKET. Empty: nothing, this one stands alone.",
    )
    source: str = Field(
        default="",
        description="What corpora can be imported from: a folder's path, or s3://BUCKET. Empty: nothing.",
    )
    s3_endpoint: str = Field(
        default="http://localhost:9000", description="Of MinIO or another S3: http(s)://host:port."
    )
    s3_access_key: SecretStr = Field(default=SecretStr(""), description="Of the buckets named here.")
    s3_secret_key: SecretStr = Field(default=SecretStr(""), description="Of the buckets named here.")
    refresh_s: float = Field(default=2.0, gt=0, description="How soon what another replica published is seen here.")
    max_corpus_mib: int = Field(default=2048, ge=1, description="Of the files of one corpus version, in MiB.")
    build_wait_s: float = Field(
        default=60.0, ge=0, description="How long a builder waits for another one of its corpus."
    )
    idle_s: float = Field(default=60.0, gt=0, description="An upload that sends nothing for so long is given up.")
    pdf_seconds: float = Field(default=30.0, gt=0, description="To read one PDF file.")
    pdf_memory_mib: int = Field(default=1024, ge=128, description="Of the process that reads PDF files, in MiB.")
    pdf_pages: int = Field(default=5000, ge=1, description="Of one PDF file.")

    @field_validator("store", "source")
    @classmethod
    def _place_is_known(cls, place: str) -> str:
        if place and not (place.startswith("/") or re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", place)):
            raise ValueError("neither a folder's whole path nor s3://BUCKET")
        return place

    @field_validator("s3_endpoint")
    @classmethod
    def _endpoint_is_an_address(cls, endpoint: str) -> str:
        return checked_endpoint(endpoint)

    @property
    def object_store(self) -> ObjectStore | None:
        """What the replicas share, if anything."""
        if self.store.startswith("s3://"):
            from djp_grounding.adapters.s3_store import S3Store

            return S3Store(self._bucket(self.store, "DJP_GROUNDING_STORE"))
        if self.store:
            from djp_grounding.adapters.folder_store import FolderStore

            return FolderStore(Path(self.store))
        return None

    @property
    def corpus_source(self) -> CorpusSource | None:
        """What corpora can be imported from, if anything."""
        if self.source.startswith("s3://"):
            from djp_grounding.adapters.s3_source import S3Source

            return S3Source(self._bucket(self.source, "DJP_GROUNDING_SOURCE"))
        if self.source:
            from djp_grounding.adapters.folder_source import FolderSource

            return FolderSource(Path(self.source))
        return None

    def _bucket(self, place: str, setting: str) -> S3Bucket:
        from djp_grounding.adapters.s3_bucket import S3Bucket

        scheme, _, host = self.s3_endpoint.partition("://")
        return S3Bucket(
            host,
            place.removeprefix("s3://"),
            self.s3_access_key.get_secret_value(),
            self.s3_secret_key.get_secret_value(),
            secure=scheme == "https",
            setting=setting,
        )

    @property
    def limits(self) -> Limits:
        """The bounds of one corpus."""
        return Limits(
            corpus_bytes=self.max_corpus_mib * 2**20,
            build_wait_s=self.build_wait_s,
            pdf=PdfLimits(seconds=self.pdf_seconds, memory_bytes=self.pdf_memory_mib * 2**20, pages=self.pdf_pages),
        )
