"""Settings every target shares: where state lives, logging, TLS, metrics, message size, connection age, drain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_dir
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


@dataclass(frozen=True)
class TlsFiles:
    """A certificate chain, its key, and the authority that signed the other side's, all PEM."""

    cert: Path
    key: Path
    ca: Path


def _default_home() -> Path:
    return Path(user_data_dir("djp"))


class MeshSettings(BaseSettings):
    """Read from the environment: a field `x` from `DJP_X`, unless it says otherwise."""

    model_config = SettingsConfigDict(env_prefix="DJP_", env_ignore_empty=True, extra="ignore", populate_by_name=True)

    home: Path = Field(default_factory=_default_home, description="All embedded state.")
    log_level: str | None = Field(default=None, pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Of our loggers.")
    metrics_port: int | None = Field(default=None, ge=1, le=65535, description="Prometheus /metrics; off when unset.")

    tls_cert: Path | None = Field(default=None, description="PEM certificate chain of this process.")
    tls_key: Path | None = Field(default=None, description="PEM private key of this process.")
    tls_ca: Path | None = Field(default=None, description="PEM certificates of the authority both sides trust.")

    max_message_bytes: int = Field(default=16 * 1024 * 1024, ge=1024, description="Of one message, either way.")
    max_connection_age_s: float = Field(
        default=300,
        gt=0,
        description="Age at which a server asks clients to reconnect, so that new replicas get traffic.",
    )
    max_connection_age_grace_s: float = Field(
        default=3600, gt=0, description="How long calls on an aged connection may go on; a debate streams for minutes."
    )
    drain_delay_s: float = Field(
        default=1.0, ge=0, description="Between NOT_SERVING and refusing calls, for load balancers to notice."
    )
    drain_grace_s: float = Field(default=25.0, ge=0, description="Calls in flight may take this long to end.")

    otlp_endpoint: str | None = Field(default=None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> MeshSettings:
        files = {"DJP_TLS_CERT": self.tls_cert, "DJP_TLS_KEY": self.tls_key, "DJP_TLS_CA": self.tls_ca}
        missing = [name for name, path in files.items() if path is None]
        if missing and len(missing) < len(files):
            raise ValueError(f"TLS needs all of {', '.join(files)}; missing: {', '.join(missing)}")
        return self

    @property
    def tls(self) -> TlsFiles | None:
        """The files of mutual TLS, or None when TLS is off."""
        if self.tls_cert is None or self.tls_key is None or self.tls_ca is None:
            return None
        return TlsFiles(cert=self.tls_cert, key=self.tls_key, ca=self.tls_ca)


def settings_problems(error: ValidationError) -> list[str]:
    """One line per wrong setting of any settings class, naming the variable, never its value (it may be secret)."""
    prefixes = {cls.__name__: cls.model_config.get("env_prefix", "") for cls in BaseSettings.__subclasses__()}
    lines = []
    for problem in error.errors(include_input=False, include_context=False):
        field = "_".join(map(str, problem["loc"]))
        name = field if field.isupper() else f"{prefixes.get(error.title, '')}{field}".upper()
        lines.append(f"{name}: {problem['msg']}" if field else problem["msg"])
    return lines


def djp_home() -> Path:
    """The folder of all embedded state (`DJP_HOME`); not created here."""
    return MeshSettings().home
