"""What can be set of the grounding service."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  pydantic reads it at run time

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from djp.mesh.settings import djp_home
from djp_grounding.limits import Limits
from djp_grounding.pdf import PdfLimits


def _default_data_dir() -> Path:
    return djp_home() / "grounding"


class GroundingSettings(BaseSettings):
    """Read from the environment: a field `x` from `DJP_GROUNDING_X`."""

    model_config = SettingsConfigDict(env_prefix="DJP_GROUNDING_", env_ignore_empty=True, extra="ignore")

    data_dir: Path = Field(
        default_factory=_default_data_dir, description="Corpora and their indexes; must be writable."
    )
    max_corpus_mib: int = Field(default=2048, ge=1, description="Of the files of one corpus version, in MiB.")
    build_wait_s: float = Field(
        default=60.0, ge=0, description="How long a builder waits for another one of its corpus."
    )
    idle_s: float = Field(default=60.0, gt=0, description="An upload that sends nothing for so long is given up.")
    pdf_seconds: float = Field(default=30.0, gt=0, description="To read one PDF file.")
    pdf_memory_mib: int = Field(default=1024, ge=128, description="Of the process that reads PDF files, in MiB.")
    pdf_pages: int = Field(default=5000, ge=1, description="Of one PDF file.")

    @property
    def limits(self) -> Limits:
        """The bounds of one corpus."""
        return Limits(
            corpus_bytes=self.max_corpus_mib * 2**20,
            build_wait_s=self.build_wait_s,
            pdf=PdfLimits(seconds=self.pdf_seconds, memory_bytes=self.pdf_memory_mib * 2**20, pages=self.pdf_pages),
        )
