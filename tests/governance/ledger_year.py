"""Fills a ledger on Postgres with what a year leaves in it, row for row as the service would have written it.

A run is a reservation, ten calls of four models charged one by one, and a settlement. Runs go round the tenants, the
days and two workflows. Nine tenants of ten spend about half a dollar a day, the tenth ten times that. Answered requests
are those of the last 30 days, as retention leaves them. `audit` finds nothing wrong with it.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLES = (
    "reservations",
    "entries",
    "calls",
    "requests",
    "windows",
    "rollups",
    "closed_rollups",
    "closed_days",
    "closed_months",
    "counted_runs",
)
CALLS_A_RUN = 10

# How Postgres is set up for the load, and only for that.
FOR_LOADING = (
    "ALTER SYSTEM SET max_wal_size = '8GB'",
    "ALTER SYSTEM SET checkpoint_timeout = '30min'",
    "SELECT pg_reload_conf()",
)

# Run n of call k is k / 10; c are the calls, r the runs.
FILL = (
    """CREATE UNLOGGED TABLE r AS SELECT n, md5('reservation' || n)::uuid::text AS reservation_id,
           md5('run' || n)::uuid::text AS run_id, n % :tenants AS tenant_number, 'tenant-' || n % :tenants AS tenant,
           'flow-' || n / :tenants % 2 AS workflow, date :first + (n / :tenants * 241 % :days)::int AS day,
           extract(epoch FROM date :first + (n / :tenants * 241 % :days)::int)::bigint * 1000000 AS at_us,
           10 * CASE WHEN n % :tenants % 10 = 0 THEN 400000000 ELSE 40000000 END::bigint AS reserved_nano
       FROM generate_series(0::bigint, :runs - 1) AS n""",
    "ANALYZE r",
    """INSERT INTO calls (tenant, call_id, reservation_id, model, cost_nano, input_tokens, output_tokens,
           usage_unknown, at_us, by_lapse)
       SELECT tenant, md5('call' || k)::uuid::text, reservation_id, 'provider/model-' || k % 4,
           (1000 + k * 7919 % 39000) * CASE WHEN tenant_number % 10 = 0 THEN 10000 ELSE 1000 END, 1200, 400, false,
           at_us, false
       FROM generate_series(0::bigint, :runs * 10 - 1) AS k JOIN r ON r.n = k / 10""",
    "ANALYZE calls",
    """INSERT INTO reservations (reservation_id, run_id, tenant, state, reserved_nano, reserved_tokens, charged_nano,
           charged_tokens, created_us, closed_us, tags, day, scopes, lease_s, open_calls)
       SELECT reservation_id, run_id, r.tenant, 'settled', reserved_nano, 20000, sum(cost_nano), 16000, r.at_us,
           r.at_us, '{"workflow": "' || workflow || '"}', to_char(day, 'YYYY-MM-DD'),
           '["tenant:' || r.tenant || '", "workflow:' || workflow || '", "global"]', 0, '[]'
       FROM r JOIN calls USING (reservation_id)
       GROUP BY reservation_id, run_id, r.tenant, reserved_nano, r.at_us, workflow, day""",
    """INSERT INTO entries
           (reservation_id, kind, reserved_nano, spent_nano, reserved_tokens, spent_tokens, at_us, reason)
       SELECT reservation_id, 'reserve', reserved_nano, 0, reserved_tokens, 0, created_us, '' FROM reservations
       UNION ALL SELECT reservation_id, 'charge', -cost_nano, cost_nano, -1600, 1600, at_us, '' FROM calls
       UNION ALL SELECT reservation_id, 'settled', charged_nano - reserved_nano, 0, charged_tokens - reserved_tokens, 0,
           closed_us, '' FROM reservations""",
    """INSERT INTO windows (scope, period, starts_on, reserved_nano, spent_nano, reserved_tokens, spent_tokens)
       SELECT scope, period, CASE period WHEN 'day' THEN v.day ELSE left(v.day, 8) || '01' END, 0, sum(charged_nano), 0,
           sum(charged_tokens)
       FROM reservations v JOIN r USING (reservation_id)
       CROSS JOIN LATERAL (VALUES ('tenant:' || v.tenant), ('workflow:' || workflow), ('global')) AS s (scope)
       CROSS JOIN (VALUES ('day'), ('month')) AS p (period)
       GROUP BY 1, 2, 3""",
    """INSERT INTO counted_runs (tenant, run_id, model, calls, day, workflow, preset)
       SELECT r.tenant, run_id, coalesce(model, ''), count(*), to_char(day, 'YYYY-MM-DD'), workflow, ''
       FROM calls JOIN r USING (reservation_id)
       GROUP BY GROUPING SETS ((r.tenant, run_id, day, workflow, model), (r.tenant, run_id, day, workflow))""",
    """INSERT INTO closed_rollups
       SELECT r.tenant, to_char(day, 'YYYY-MM-DD'), coalesce(model, ''), workflow, '', count(DISTINCT run_id), count(*),
           sum(input_tokens), sum(output_tokens), sum(cost_nano)
       FROM calls JOIN r USING (reservation_id)
       GROUP BY GROUPING SETS ((r.tenant, day, workflow, model), (r.tenant, day, workflow))""",
    """INSERT INTO requests (tenant, request_id, body_sha256, answer, at_us)
       SELECT tenant, md5('request' || entry_id)::uuid::text, repeat('0', 64),
           '{"reservation":"' || repeat('0', 500) || '"}', e.at_us
       FROM entries e JOIN r USING (reservation_id) WHERE day > date :last - 30""",
    # Days that are over, as closing leaves them.
    """WITH open AS (DELETE FROM closed_rollups WHERE day >= to_char(date :last - 2, 'YYYY-MM-DD') RETURNING *)
       INSERT INTO rollups SELECT * FROM open""",
    """INSERT INTO closed_days
       SELECT day, model, workflow, preset, sum(runs), sum(calls), sum(input_tokens), sum(output_tokens), sum(cost_nano)
       FROM closed_rollups WHERE model <> '' GROUP BY day, model, workflow, preset""",
    """INSERT INTO closed_tenant_days
       SELECT tenant, day, sum(runs), sum(calls), sum(input_tokens), sum(output_tokens), sum(cost_nano)
       FROM closed_rollups WHERE model = '' GROUP BY tenant, day""",
    """INSERT INTO closed_months
       SELECT left(day, 7), tenant, model, sum(runs), sum(calls), sum(input_tokens), sum(output_tokens), sum(cost_nano)
       FROM closed_rollups GROUP BY 1, 2, 3""",
    "DROP TABLE r",
)


def first_day(today: date) -> date:
    """The first day of the ledger: whole months, and at least a year of days with today."""
    return (today - timedelta(days=364)).replace(day=1)


def fill(url: str, charges: int, tenants: int, today: date) -> None:
    """Fill a ledger that has its tables and nothing in them. Keys and indexes are made when the rows are there."""
    first = first_day(today)
    values = {
        "runs": str(charges // CALLS_A_RUN),
        "tenants": str(tenants),
        "days": str((today - first).days + 1),
        "first": f"'{first}'",
        "last": f"'{today}'",
    }
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.StaticPool)
    with engine.connect() as connection:

        def do(statement: str) -> Sequence[sa.Row[tuple[str, ...]]]:
            result = connection.exec_driver_sql(statement.replace("%", "%%"))
            return result.all() if result.returns_rows else []

        for statement in (*FOR_LOADING, "SET maintenance_work_mem = '1GB'", "SET work_mem = '512MB'"):
            do(statement)
        among = ", ".join(f"'{table}'::regclass" for table in TABLES)
        constraints = do(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            f" WHERE conrelid IN ({among}) AND contype IN ('p', 'f') ORDER BY contype"  # foreign keys go first
        )
        for table, name, _ in constraints:
            do(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        indexes = do(
            f"SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid IN ({among})"
        )
        for name, _ in indexes:
            do(f"DROP INDEX {name}")
        for statement in FILL:
            for name, value in values.items():
                statement = statement.replace(f":{name}", value)
            do(statement)
        for table, name, definition in reversed(constraints):
            do(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
        for _, definition in indexes:
            do(definition)
        do("VACUUM ANALYZE")
        do("CHECKPOINT")
    engine.dispose()
