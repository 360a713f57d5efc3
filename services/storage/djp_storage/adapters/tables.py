"""The catalogue's tables. Times are microseconds since 1970 in UTC."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, MetaData, String, Table, Text

metadata = MetaData()

artifacts = Table(
    "artifacts",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("workflow", String(200), primary_key=True),
    Column("artifact", String(200), primary_key=True),
    Column("tier", String(10), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("content_type", String(200), nullable=False),
    Column("run_id", String(36), nullable=False),
    Column("tags", Text, nullable=False),  # JSON object
    Column("created_us", BigInteger, nullable=False),
    Column("modified_us", BigInteger, nullable=False),
    Column("tier_since_us", BigInteger, nullable=False),
)
# One index for each order and each narrow filter of a list; all end in the order of the pages.
Index("ix_artifacts_created", artifacts.c.tenant, artifacts.c.created_us, artifacts.c.workflow, artifacts.c.artifact)
Index("ix_artifacts_size", artifacts.c.tenant, artifacts.c.size, artifacts.c.workflow, artifacts.c.artifact)
Index("ix_artifacts_workflow", artifacts.c.tenant, artifacts.c.workflow, artifacts.c.created_us, artifacts.c.artifact)
Index(
    "ix_artifacts_run",
    artifacts.c.tenant,
    artifacts.c.run_id,
    artifacts.c.created_us,
    artifacts.c.workflow,
    artifacts.c.artifact,
)

# Which put made, or found, which artifact. An artifact never changes, so its row is the answer to the put.
requests = Table(
    "requests",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("request_id", String(36), primary_key=True),
    Column("workflow", String(200), nullable=False),
    Column("artifact", String(200), nullable=False),
)
