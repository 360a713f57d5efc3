"""The gateway's settings, from the environment."""

from __future__ import annotations

import socket
from pathlib import Path  # noqa: TC003  pydantic reads it at run time
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from djp.mesh.settings import djp_home

OFFLINE_DEBATERS = "offline/lead,offline/focus,offline/survey,offline/brief,offline/contrast"

_MODELS = r"^\s*[^/\s,]+/[^\s,]+\s*(,\s*[^/\s,]+/[^\s,]+\s*){0,15}$"  # provider/model, up to 16 of them

_ROLE = r"[^=,]+=(reader|tenant|operator|admin)\s*"


def _embedded_database() -> str:
    return f"sqlite+aiosqlite:///{djp_home() / 'gateway.db'}"


def is_protected(url: str) -> bool:
    """Whether nobody on the way can exchange what is read from a URL: https, or this machine."""
    where = urlsplit(url)
    return where.scheme == "https" or (where.scheme == "http" and where.hostname in ("localhost", "127.0.0.1", "::1"))


class GatewaySettings(BaseSettings):
    """Where the gateway keeps its runs, where the leaves are, and what a run gets when nobody says otherwise."""

    model_config = SettingsConfigDict(env_prefix="DJP_", env_ignore_empty=True, populate_by_name=True, extra="ignore")

    gateway_database_url: str = Field(default_factory=_embedded_database)
    debate_address: str = "localhost:7101"
    judge_address: str = "localhost:7102"
    redaction_address: str = "localhost:7103"
    grounding_address: str = "localhost:7104"
    governance_address: str = "localhost:7105"
    storage_address: str = "localhost:7106"
    executor_id: str = Field(default_factory=socket.gethostname, min_length=1, max_length=255)
    """Stable and unique among replicas: after a restart the gateway takes up what it left unfinished under it."""
    debaters: str = Field(default=OFFLINE_DEBATERS, pattern=_MODELS)
    """Model ids, comma separated; a preset says how many of them take part."""
    jurors: str = Field(default="offline/rubric", pattern=_MODELS)
    policy: str = "any"
    presets: Path | None = None
    policies: Path | None = None
    """Folders of presets and of policies beside those shipped; read at the start."""
    templates: Path | None = None
    """A folder of templates beside those shipped; of tenants in tenants/TENANT."""
    per_tenant_max_concurrency: int = Field(default=5, ge=1, validation_alias="PER_TENANT_MAX_CONCURRENCY")
    """Runs of one tenant that are in work at once, at all gateways together."""
    per_tenant_max_streams: int = Field(default=200, ge=1)
    """Streams, watched runs for example, that one tenant may keep open at this gateway."""
    autoscaler_log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] | None = Field(
        default=None, validation_alias="AUTOSCALER_LOG_LEVEL"
    )
    """From which level on the autoscaler's decisions are logged; None: as everything else."""
    executor_silence_s: float = Field(default=10.0, ge=0.5, le=600)
    """After so long without a sign of life a gateway counts as dead, and others take over its runs."""
    auth: Literal["none", "keys"] = "none"
    """Whether a caller on a port has to present a key; one that it presents counts in any case."""
    oidc_issuer: str = ""
    """Whose tokens count, as they say in `iss`; set, callers on a port have to present one, or a key."""
    oidc_audience: str = ""
    """What tokens have to be for, as they say in `aud`."""
    oidc_jwks: str = ""
    """Where the issuer's keys are: an https URL, or a file; empty: where the issuer says."""
    oidc_tenant_claim: str = Field(default="djp_tenant", min_length=1)
    oidc_role_claim: str = ""
    """Empty: everybody with a token has the role tenant."""
    oidc_roles: str = Field(default="", pattern=rf"^({_ROLE}(,{_ROLE})*)?$")
    """What the claim says, and which role that is, comma separated; empty: the claim says roles by their names."""
    oidc_rate_limit: int = Field(default=0, ge=0, le=1_000_000)
    """Calls a minute of each subject of a tenant, by tokens, at all gateways together; 0: as many as it likes."""
    approval_expiry_s: float = Field(default=7 * 86_400, gt=0, le=366 * 86_400)
    """How long a run waits for somebody to approve it; then it is rejected."""
    reservation_lease_s: int = Field(default=120, ge=0, le=86_400)
    """How long governance holds a run's money after the gateway was last heard of; 0: until the run is ended."""
    heartbeat_s: float = Field(default=15.0, gt=0, le=30)
    """How often a silent WatchRun says that it is alive; after 90 s without a word djp.client takes it for lost."""

    @model_validator(mode="after")
    def _oidc_is_whole(self) -> GatewaySettings:
        needed = ("DJP_OIDC_ISSUER", self.oidc_issuer), ("DJP_OIDC_AUDIENCE", self.oidc_audience)
        missing = [name for name, value in needed if not value]
        if len(missing) == 1 or (missing and self.oidc_jwks):
            raise ValueError(f"tokens need DJP_OIDC_ISSUER and DJP_OIDC_AUDIENCE; missing: {', '.join(missing)}")
        if urlsplit(self.oidc_jwks).scheme == "http" and not is_protected(self.oidc_jwks):
            raise ValueError("DJP_OIDC_JWKS: keys that anybody on the way can exchange are none; use https, or a file")
        if self.oidc_issuer and not self.oidc_jwks and not is_protected(self.oidc_issuer):
            raise ValueError(
                "DJP_OIDC_ISSUER: an issuer that is no https URL cannot say where its keys are; set DJP_OIDC_JWKS"
            )
        return self

    def roles_of_claim(self) -> dict[str, str]:
        """DJP_OIDC_ROLES, read."""
        pairs = [pair.split("=") for pair in self.oidc_roles.split(",") if pair.strip()]
        return {said.strip(): role.strip() for said, role in pairs}

    def leaf_addresses(self) -> dict[str, str]:
        """Leaf name to address."""
        return {
            "debate": self.debate_address,
            "judge": self.judge_address,
            "redaction": self.redaction_address,
            "grounding": self.grounding_address,
            "governance": self.governance_address,
            "storage": self.storage_address,
        }
