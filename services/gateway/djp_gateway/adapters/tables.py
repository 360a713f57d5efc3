"""The gateway's tables. A run and its events are sealed blobs; the columns beside them are for filters only."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData()

runs = Table(
    "runs",
    metadata,
    Column("run_id", String(36), primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("request_id", String(36), nullable=False),
    Column("request_sha256", String(64), nullable=False),  # keyed: a short task could be guessed from a plain hash
    Column("executor", String(255), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", Integer, nullable=False),
    Column("terminal", Boolean, nullable=False),
    Column("created_us", BigInteger, nullable=False),  # microseconds since 1970
    Column("preset", String(100), nullable=False),
    Column("workflow", String(100), nullable=False),
    Column("grounded", Boolean, nullable=False),
    Column("provider", String(100), nullable=False),  # of the model whose text came out; empty before
    Column("cost_nano_usd", BigInteger, nullable=False),
    Column("last_sequence", BigInteger, nullable=False),
    Column("sealed_spec", LargeBinary, nullable=False),  # apart, for it may be large and never changes
    Column("sealed_run", LargeBinary, nullable=False),
    Column("waiting", Boolean, nullable=False, server_default=false()),  # for whoever has room; else `executor` has it
    Column("urgency", Integer, nullable=False, server_default="0"),  # what waits is taken in this order, least first
    Column("takeovers", Integer, nullable=False, server_default="0"),  # how often an executor died with it
    Column("due_us", BigInteger),  # set while it is parked: until when, if nobody decides before
    Column("died_us", BigInteger),  # set while it is a dead letter
    Column("error_reason", Integer, nullable=False, server_default="0"),
    Column("replayed_as", String(36)),
    Column("replayed_us", BigInteger),
    Column("share_us", BigInteger),  # of a run that replays a dead letter: when it took its share of the budget
    Column("share_nano_usd", BigInteger, nullable=False, server_default="0"),
    Column("queued_us", BigInteger, nullable=False, server_default="0"),  # since when it waits, if it does
    Column("spec_version", Integer, nullable=False, server_default="1"),  # what a gateway has to know to work on it
    UniqueConstraint("tenant", "request_id", name="uq_runs_request"),
)
Index("ix_runs_newest", runs.c.tenant, runs.c.created_us, runs.c.run_id)
# The queue's indexes. Their terms are written as queries write them, or they would not be used; and there is none by
# `executor` over more than the runs in work, or SQLite would prefer that one and read every run that waits.
_QUEUED: dict[str, Any] = {
    "sqlite_where": text("waiting IS 1 AND executor != 'command'"),
    "postgresql_where": text("waiting IS TRUE AND executor != 'command'"),
}
_QUEUED_OF_COMMANDS: dict[str, Any] = {
    "sqlite_where": text("waiting IS 1 AND executor = 'command'"),
    "postgresql_where": text("waiting IS TRUE AND executor = 'command'"),
}
_IN_WORK: dict[str, Any] = {
    "sqlite_where": text("terminal IS 0 AND waiting IS 0 AND due_us IS NULL"),
    "postgresql_where": text("terminal IS FALSE AND waiting IS FALSE AND due_us IS NULL"),
}
_turn = (runs.c.tenant, runs.c.urgency, runs.c.created_us, runs.c.run_id, runs.c.spec_version)
Index("ix_runs_queue", *_turn, **_QUEUED)
Index("ix_runs_queue_of_commands", *_turn, **_QUEUED_OF_COMMANDS)
Index("ix_runs_queue_depth", runs.c.spec_version, runs.c.queued_us, **_QUEUED)
Index("ix_runs_working", runs.c.tenant, **_IN_WORK)
Index("ix_runs_working_at", runs.c.executor, **_IN_WORK)
Index(
    "ix_runs_due",
    runs.c.due_us,
    sqlite_where=text("due_us IS NOT NULL"),
    postgresql_where=text("due_us IS NOT NULL"),
)
Index(
    "ix_runs_dead",
    runs.c.tenant,
    runs.c.died_us,
    runs.c.run_id,
    runs.c.replayed_as,
    sqlite_where=text("died_us IS NOT NULL"),
    postgresql_where=text("died_us IS NOT NULL"),
)
Index(
    "ix_runs_share",
    runs.c.tenant,
    runs.c.share_us,
    runs.c.terminal,
    runs.c.cost_nano_usd,
    runs.c.share_nano_usd,
    sqlite_where=text("share_us IS NOT NULL"),
    postgresql_where=text("share_us IS NOT NULL"),
)

answers = Table(
    "request_answers",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("request_id", String(36), primary_key=True),
    Column("request_sha256", String(64), nullable=False),
    Column("answer", LargeBinary, nullable=False),  # has no texts, only ids and numbers
)

executors = Table(
    "executors",
    metadata,
    Column("executor", String(255), primary_key=True),
    Column("beat", BigInteger, nullable=False),  # grows for as long as it lives; nobody's clock is compared
)

slowed = Table(
    "slowed_tenants",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("until_us", BigInteger, nullable=False),
)

events = Table(
    "run_events",
    metadata,
    Column("run_id", String(36), ForeignKey("runs.run_id"), primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("sealed_event", LargeBinary, nullable=False),
)

hidden_values = Table(
    "hidden_values",
    metadata,
    Column("run_id", String(36), ForeignKey("runs.run_id"), primary_key=True),
    Column("sealed_values", LargeBinary, nullable=False),  # apart, for only their owner asks for them, and rarely
)

checkpoints = Table(
    "run_checkpoints",
    metadata,
    Column("run_id", String(36), ForeignKey("runs.run_id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("sealed_checkpoint", LargeBinary, nullable=False),  # what a run needs to go on; gone when it has ended
)

orders = Table(
    "run_orders",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("request_id", String(36), primary_key=True),
    Column("request_sha256", String(64), nullable=False),
    Column("run_id", String(36), ForeignKey("runs.run_id"), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("ordered_us", BigInteger, nullable=False),
    Column("sealed_order", LargeBinary, nullable=False),  # who, and in which words
)
Index("ix_run_orders_run", orders.c.run_id, orders.c.ordered_us)

keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String(36), primary_key=True),
    Column(
        "secret_sha256", String(64), nullable=False
    ),  # of 256 random bits, so nothing is gained by salt or stretching
    Column("tenant", String(63), nullable=False),
    Column("role", Integer, nullable=False),
    Column("name", String(200), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("created_by", String(200), nullable=False),
    Column("expires_us", BigInteger),
    Column("revoked_us", BigInteger),
    Column("revoked_by", String(200), nullable=False),
    Column("last_used_us", BigInteger),
    Column("rate_limit", Integer, nullable=False),  # calls a minute; 0: as many as it likes
    Column("full_us", BigInteger, nullable=False, server_default="0"),  # when it has room for a minute's calls again
    UniqueConstraint("secret_sha256", name="uq_api_keys_secret"),
)
Index("ix_api_keys_tenant", keys.c.tenant, keys.c.created_us, keys.c.key_id)

token_rates = Table(
    "token_rates",
    metadata,
    Column("caller", String(64), primary_key=True),  # a hash of tenant and subject
    Column("full_us", BigInteger, nullable=False),  # as that of keys; past, the row says nothing any more
)
Index("ix_token_rates_full", token_rates.c.full_us)

audit = Table(
    "audit_events",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at_us", BigInteger, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("tenant", String(63), nullable=False),
    Column("actor", String(300), nullable=False),
    Column("subject", String(300), nullable=False),
    Column("number", BigInteger, nullable=False),  # how often
)
Index("ix_audit_events_tenant", audit.c.tenant, audit.c.sequence)
Index("ix_audit_events_kind", audit.c.kind, audit.c.at_us)

batches = Table(
    "batches",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("batch_id", String(100), primary_key=True),
    Column("state", Integer, nullable=False),
    Column("executor", String(255), nullable=False),  # that took it; a command's batch is worked off by that command
    Column("size", Integer, nullable=False),  # how many rows there are
    Column("checked", Integer, nullable=False),  # the first so many rows are
    Column("refused", Integer, nullable=False),
    Column("next_row", Integer, nullable=False),  # the first that was not started
    Column("working", Integer, nullable=False),  # started, not ended, and not waiting for a person
    Column("published", Integer, nullable=False),
    Column("advisory", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("no_room", Boolean, nullable=False),  # under the cap, until a row ends or the cap is raised
    Column("spent_nano_usd", BigInteger, nullable=False),
    Column("held_nano_usd", BigInteger, nullable=False),
    Column("max_cost_nano_usd", BigInteger),
    Column("concurrency", Integer, nullable=False),
    Column("last_sequence", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("finished_us", BigInteger),  # set while it rests and no row is under way
)
Index("ix_batches_newest", batches.c.tenant, batches.c.created_us, batches.c.batch_id)
Index(
    "ix_batches_live",
    batches.c.tenant,
    batches.c.batch_id,
    sqlite_where=text("finished_us IS NULL"),
    postgresql_where=text("finished_us IS NULL"),
)

batch_rows = Table(
    "batch_rows",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("batch_id", String(100), primary_key=True),
    Column("row", Integer, primary_key=True),
    Column("fingerprint", String(64), nullable=False),  # of the request, keyed
    Column("sealed_request", LargeBinary, nullable=False),
    Column("sealed_spec", LargeBinary),  # as it was checked, until the row is started
    Column("sealed_error", LargeBinary),  # why it is bad; may quote what it says
    Column("bound_nano_usd", BigInteger, nullable=False),
    Column("held_nano_usd", BigInteger, nullable=False),  # of the batch's cap, while it is under way
    Column("run_id", String(36)),
    Column("under_way", Boolean, nullable=False),
    Column("state", Integer, nullable=False),  # the run's, as the batch knows it
    Column("sequence", BigInteger, nullable=False),  # of its last change; 0: none yet
)
Index("ix_batch_rows_changed", batch_rows.c.tenant, batch_rows.c.batch_id, batch_rows.c.sequence)
Index(
    "ix_batch_rows_under_way",
    batch_rows.c.tenant,
    batch_rows.c.batch_id,
    batch_rows.c.run_id,
    sqlite_where=text("under_way"),
    postgresql_where=text("under_way"),
)
