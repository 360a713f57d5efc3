"""The catalogue's tables. Times are microseconds since 1970 in UTC; flags are 0 or 1."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()


def _key() -> tuple[Column[str], Column[str], Column[str]]:
    return (
        Column("tenant", String(63), primary_key=True),
        Column("workflow", String(200), primary_key=True),
        Column("artifact", String(200), primary_key=True),
    )


artifacts = Table(
    "artifacts",
    metadata,
    *_key(),
    Column("tier", String(10), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("content_type", String(200), nullable=False),
    Column("run_id", String(36), nullable=False),
    Column("tags", Text, nullable=False),  # JSON object
    Column("created_us", BigInteger, nullable=False),
    Column("modified_us", BigInteger, nullable=False),
    Column("tier_since_us", BigInteger, nullable=False),
    Column("object_id", String(12), nullable=False, server_default=""),
    Column("encoding", String(10), nullable=False, server_default=""),
    Column("came_from", String(10), nullable=False, server_default=""),  # the tier before the trash
    Column("hold", Integer, nullable=False, server_default="0"),
)
# One index for each order and each narrow filter of a list, in the order of the pages. Those by size end with the time:
# the largest of a span of time are found in them, without a look at the rows of those outside it.
_IN_ORDER = (artifacts.c.created_us, artifacts.c.workflow, artifacts.c.artifact)
_BY_SIZE = (artifacts.c.size, artifacts.c.workflow, artifacts.c.artifact, artifacts.c.created_us)
Index("ix_artifacts_created", artifacts.c.tenant, *_IN_ORDER)
Index("ix_artifacts_size", artifacts.c.tenant, *_BY_SIZE)
Index("ix_artifacts_workflow", artifacts.c.tenant, artifacts.c.workflow, artifacts.c.created_us, artifacts.c.artifact)
Index(
    "ix_artifacts_workflow_size",
    artifacts.c.tenant,
    artifacts.c.workflow,
    artifacts.c.size,
    artifacts.c.artifact,
    artifacts.c.created_us,
)
Index("ix_artifacts_run", artifacts.c.tenant, artifacts.c.run_id, *_IN_ORDER)
Index("ix_artifacts_tier", artifacts.c.tenant, artifacts.c.tier, *_IN_ORDER)
Index("ix_artifacts_tier_size", artifacts.c.tenant, artifacts.c.tier, *_BY_SIZE)
# What the lifecycle looks for: of all tenants, of one with a retention of its own, and by age whatever the tier.
Index("ix_artifacts_due", artifacts.c.tier, artifacts.c.tier_since_us)
Index("ix_artifacts_tenant_due", artifacts.c.tenant, artifacts.c.tier, artifacts.c.tier_since_us)
Index("ix_artifacts_age", artifacts.c.created_us)

# What is left of an artifact that was erased: its key stays taken, by this content only.
tombstones = Table(
    "tombstones",
    metadata,
    *_key(),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("erased_us", BigInteger, nullable=False),
)

# Tenants under a legal hold.
holds = Table(
    "holds",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("since_us", BigInteger, nullable=False),
    Column("reason", String(1000), nullable=False),
)

# Objects that may exist and are not the one of an artifact: half-made, or to be removed. `worker` is the process that
# makes them, empty for nobody. A row without an artifact stands for all objects of a workflow in a tier whose ids begin
# with its `object_id`, but for those of artifacts.
strays = Table(
    "strays",
    metadata,
    Column("object_id", String(12), primary_key=True),
    *_key(),
    Column("tier", String(10), primary_key=True),
    Column("worker", String(36), nullable=False),
    Column("since_us", BigInteger, nullable=False),
)
Index("ix_strays_worker", strays.c.worker, strays.c.since_us)

# Artifacts that a worker's lifecycle run is moving, or failed to move and leaves alone until it ends.
claims = Table("claims", metadata, *_key(), Column("worker", String(36), nullable=False))
Index("ix_claims_worker", claims.c.worker)

# Processes that make strays and hold claims; one that has not been seen for long is dead.
workers = Table(
    "workers",
    metadata,
    Column("worker", String(36), primary_key=True),
    Column("seen_us", BigInteger, nullable=False),
)

# Which request did what, and the answer it got (JSON). A put's answer is the artifact's row. `body_sha256` is empty for
# the puts of the first release.
requests = Table(
    "requests",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("request_id", String(36), primary_key=True),
    Column("workflow", String(200), nullable=False),
    Column("artifact", String(200), nullable=False),
    Column("body_sha256", String(64), nullable=False, server_default=""),
    Column("answer", Text, nullable=False, server_default=""),
    Column("at_us", BigInteger, nullable=False, server_default="0"),
)
Index("ix_requests_at", requests.c.at_us)

# The audit trail. Of what is about no single artifact, workflow and artifact are empty.
events = Table(
    "events",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", String(100), nullable=False),
    Column("action", String(40), nullable=False),
    Column("tenant", String(63), nullable=False),
    Column("workflow", String(200), nullable=False),
    Column("artifact", String(200), nullable=False),
    Column("from_tier", String(10), nullable=False),
    Column("to_tier", String(10), nullable=False),
    Column("reason", Text, nullable=False),
)
Index("ix_events_key", events.c.tenant, events.c.workflow, events.c.artifact, events.c.sequence)
Index("ix_events_tenant", events.c.tenant, events.c.sequence)

# Lifecycle runs; `tenant` is empty for those of all tenants.
jobs = Table(
    "jobs",
    metadata,
    Column("job_id", String(36), primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("live", Integer, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("finished_us", BigInteger, nullable=True),
    Column("to_warm", BigInteger, nullable=False),
    Column("to_cold", BigInteger, nullable=False),
    Column("to_trash", BigInteger, nullable=False),
    Column("erased", BigInteger, nullable=False),
    Column("bytes_moved", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("stopped", Integer, nullable=False),
)
Index("ix_jobs_started", jobs.c.tenant, jobs.c.live, jobs.c.started_us)
