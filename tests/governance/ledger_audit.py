"""Audits a ledger in its database: every sum follows from the journal, and nothing is invented or forgotten.

python -m tests.governance.ledger_audit sqlite:////path/governance.db
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Collection

ORPHANS, DAYS = "an entry or a call has no reservation", "a closed day is not the sum of its tenants"
NOBODYS = (ORPHANS, DAYS)  # what is no single tenant's
SUMS = ("runs", "calls", "input_tokens", "output_tokens", "cost_nano")

# Each query finds what is wrong, and names a few columns to look it up by. r, w, u and k are the reservations, windows,
# roll-ups and counted runs of the tenants that are asked for, s the scopes of the reservations. {workflow} and {preset}
# are a reservation's tags as roll-ups have them; {model} with {each_and_all} gives every call of c twice, once with its
# model and once with none; {kept} is the first month that retention has left whole.
CHECKS = {
    "a request has no answer": "SELECT tenant, request_id FROM requests WHERE {theirs} AND answer = ''",
    "a reservation is not the sum of its journal": """
        SELECT r.reservation_id
        FROM r LEFT JOIN entries e ON e.reservation_id = r.reservation_id
        GROUP BY r.reservation_id, r.state, r.closed_us, r.reserved_nano, r.reserved_tokens, r.charged_nano,
                 r.charged_tokens
        HAVING COUNT(e.entry_id) = 0
            OR SUM(e.spent_nano) <> r.charged_nano OR SUM(e.spent_tokens) <> r.charged_tokens
            OR SUM(e.reserved_nano) <> CASE WHEN r.state = 'held' AND r.reserved_nano > r.charged_nano
                                            THEN r.reserved_nano - r.charged_nano ELSE 0 END
            OR SUM(e.reserved_tokens) <> CASE WHEN r.state = 'held' AND r.reserved_tokens > r.charged_tokens
                                              THEN r.reserved_tokens - r.charged_tokens ELSE 0 END
            OR (r.closed_us IS NULL) <> (r.state = 'held')
            OR SUM(CASE WHEN e.kind IN ('settled', 'released', 'lapsed') THEN 1 ELSE 0 END)
               <> CASE WHEN r.state = 'held' THEN 0 ELSE 1 END
            OR SUM(CASE WHEN e.kind = r.state THEN 1 ELSE 0 END) <> CASE WHEN r.state = 'held' THEN 0 ELSE 1 END
    """,
    "a journal does not begin with what was reserved": """
        SELECT r.reservation_id
        FROM r JOIN entries e ON e.reservation_id = r.reservation_id
        GROUP BY r.reservation_id, r.reserved_nano, r.reserved_tokens
        HAVING SUM(CASE WHEN e.kind = 'reserve' THEN 1 ELSE 0 END) <> 1
            OR MIN(CASE WHEN e.kind = 'reserve' THEN e.entry_id END) <> MIN(e.entry_id)
            OR SUM(CASE WHEN e.kind = 'reserve' THEN e.reserved_nano ELSE 0 END) <> r.reserved_nano
            OR SUM(CASE WHEN e.kind = 'reserve' THEN e.reserved_tokens ELSE 0 END) <> r.reserved_tokens
            OR SUM(CASE WHEN e.kind = 'reserve' AND (e.spent_nano <> 0 OR e.spent_tokens <> 0) THEN 1 ELSE 0 END) <> 0
            OR SUM(CASE WHEN e.kind = 'charge' AND (e.spent_nano < 0 OR e.spent_tokens < 0) THEN 1 ELSE 0 END) <> 0
            OR SUM(CASE WHEN e.kind IN ('settled', 'released', 'lapsed') AND (e.spent_nano <> 0 OR e.spent_tokens <> 0)
                        THEN 1 ELSE 0 END) <> 0
    """,
    "a reservation is not the sum of its calls": """
        SELECT r.reservation_id
        FROM r LEFT JOIN calls c ON c.reservation_id = r.reservation_id
        GROUP BY r.reservation_id, r.charged_nano, r.charged_tokens
        HAVING COALESCE(SUM(c.cost_nano), 0) <> r.charged_nano
            OR COALESCE(SUM(c.input_tokens + c.output_tokens), 0) <> r.charged_tokens
    """,
    "a call is another tenant's, or a bound of a lapse that never was": """
        SELECT c.tenant, c.call_id
        FROM calls c JOIN r ON r.reservation_id = c.reservation_id
        WHERE c.tenant <> r.tenant OR (c.by_lapse AND (r.state <> 'lapsed' OR NOT c.usage_unknown))
    """,
    ORPHANS: """
        SELECT e.reservation_id FROM entries e
        WHERE NOT EXISTS (SELECT 1 FROM reservations r WHERE r.reservation_id = e.reservation_id)
        UNION ALL
        SELECT c.reservation_id FROM calls c
        WHERE NOT EXISTS (SELECT 1 FROM reservations r WHERE r.reservation_id = c.reservation_id)
    """,
    "a reservation is not held in the windows of its tenant, its workflow and everybody": """
        SELECT r.reservation_id
        FROM r LEFT JOIN s ON s.reservation_id = r.reservation_id
        GROUP BY r.reservation_id, r.tenant
        HAVING SUM(CASE WHEN s.scope IN ('tenant:' || r.tenant, 'global') THEN 1 ELSE 0 END) <> 2
            OR COUNT(*) <> COUNT(DISTINCT s.scope) OR COUNT(*) > 3
    """,
    "a window is not the sum of the journals of its reservations": """
        SELECT scope, period, starts_on, SUM(reserved_nano), SUM(spent_nano), SUM(reserved_tokens), SUM(spent_tokens)
        FROM (
            SELECT scope, period, starts_on, reserved_nano, spent_nano, reserved_tokens, spent_tokens, 1 AS is_window
            FROM w
            UNION ALL
            SELECT s.scope, p.period, CASE WHEN p.period = 'day' THEN r.day ELSE substr(r.day, 1, 8) || '01' END,
                   -j.reserved_nano, -j.spent_nano, -j.reserved_tokens, -j.spent_tokens, 0
            FROM r JOIN s ON s.reservation_id = r.reservation_id
            CROSS JOIN (SELECT 'day' AS period UNION ALL SELECT 'month') AS p
            JOIN (SELECT r.reservation_id, SUM(e.reserved_nano) AS reserved_nano, SUM(e.spent_nano) AS spent_nano,
                         SUM(e.reserved_tokens) AS reserved_tokens, SUM(e.spent_tokens) AS spent_tokens
                  FROM r JOIN entries e ON e.reservation_id = r.reservation_id GROUP BY r.reservation_id
            ) AS j ON j.reservation_id = r.reservation_id
            WHERE {complete}
        ) AS both_ways
        GROUP BY scope, period, starts_on
        HAVING SUM(reserved_nano) <> 0 OR SUM(spent_nano) <> 0 OR SUM(reserved_tokens) <> 0 OR SUM(spent_tokens) <> 0
            OR SUM(is_window) <> 1
    """,
    "a window is below nothing": """
        SELECT scope, period, starts_on FROM w
        WHERE reserved_nano < 0 OR spent_nano < 0 OR reserved_tokens < 0 OR spent_tokens < 0
    """,
    "a roll-up is not the sum of its calls": """
        SELECT tenant, day, model, workflow, preset, SUM(calls), SUM(input_tokens), SUM(output_tokens), SUM(cost_nano)
        FROM (
            SELECT tenant, day, model, workflow, preset, calls, input_tokens, output_tokens, cost_nano
            FROM u WHERE day >= {kept}
            UNION ALL
            SELECT r.tenant, r.day, {model}, {workflow}, {preset}, -1, -c.input_tokens, -c.output_tokens, -c.cost_nano
            FROM r JOIN calls c ON c.reservation_id = r.reservation_id CROSS JOIN {each_and_all}
        ) AS both_ways
        GROUP BY tenant, day, model, workflow, preset
        HAVING SUM(calls) <> 0 OR SUM(input_tokens) <> 0 OR SUM(output_tokens) <> 0 OR SUM(cost_nano) <> 0
    """,
    "a run is counted with other calls than it has": """
        SELECT tenant, run_id, model, SUM(calls)
        FROM (
            SELECT tenant, run_id, model, calls, 1 AS is_counted FROM k
            UNION ALL
            SELECT r.tenant, r.run_id, {model}, -1, 0
            FROM r JOIN calls c ON c.reservation_id = r.reservation_id CROSS JOIN {each_and_all}
        ) AS both_ways
        GROUP BY tenant, run_id, model
        HAVING SUM(is_counted) <> 1 OR SUM(calls) < 0
            OR SUM(calls) <> 0 AND NOT EXISTS (SELECT 1 FROM u WHERE day < {kept})
    """,
    "a run counts where it has no reservation": """
        SELECT k.tenant, k.run_id, k.model FROM k
        WHERE k.day >= {kept} AND NOT EXISTS (
            SELECT 1 FROM r
            WHERE r.tenant = k.tenant AND r.run_id = k.run_id AND r.day = k.day
              AND {workflow} = k.workflow AND {preset} = k.preset
        )
    """,
    "a roll-up counts other runs than there are": """
        SELECT tenant, day, model, workflow, preset, SUM(runs)
        FROM (
            SELECT tenant, day, model, workflow, preset, runs FROM u WHERE day >= {kept}
            UNION ALL
            SELECT tenant, day, model, workflow, preset, -1 FROM k WHERE day >= {kept}
        ) AS both_ways
        GROUP BY tenant, day, model, workflow, preset
        HAVING SUM(runs) <> 0
    """,
    "a roll-up is below nothing": """
        SELECT tenant, day, model, workflow, preset FROM u
        WHERE runs < 0 OR calls < 0 OR input_tokens < 0 OR output_tokens < 0 OR cost_nano < 0
    """,
    DAYS: """
        SELECT day, model, workflow, preset
        FROM (
            SELECT day, model, workflow, preset, {sums} FROM closed_days
            UNION ALL
            SELECT day, model, workflow, preset, {minus} FROM closed_rollups WHERE model <> ''
        ) AS both_ways
        GROUP BY day, model, workflow, preset
        HAVING {differ}
    """,
    "a closed month is not the sum of its days": """
        SELECT month, tenant, model
        FROM (
            SELECT month, tenant, model, {sums} FROM closed_months WHERE {theirs}
            UNION ALL
            SELECT substr(day, 1, 7), tenant, model, {minus} FROM closed_rollups WHERE {theirs}
        ) AS both_ways
        GROUP BY month, tenant, model
        HAVING {differ}
    """,
    "a tenant's closed day is not the sum of its roll-ups": """
        SELECT tenant, day
        FROM (
            SELECT tenant, day, {sums} FROM closed_tenant_days WHERE {theirs}
            UNION ALL
            SELECT tenant, day, {minus} FROM closed_rollups WHERE {theirs} AND model = ''
        ) AS both_ways
        GROUP BY tenant, day
        HAVING {differ}
    """,
    "a lapse or an excess was told by no event": """
        SELECT r.reservation_id FROM r
        WHERE (r.state = 'lapsed'
               AND NOT EXISTS (SELECT 1 FROM events e WHERE e.key = 'lease_lapsed|' || r.reservation_id))
           OR ((r.charged_nano > r.reserved_nano OR r.charged_tokens > r.reserved_tokens)
               AND NOT EXISTS (SELECT 1 FROM events e WHERE e.key = 'over_reservation|' || r.reservation_id))
    """,
}


def audit(url: str, tenants: Collection[str] | None = None) -> None:
    """Raises AssertionError that tells the mistakes of a ledger."""
    found = mistakes(url, tenants)
    assert not found, found


def mistakes(url: str, tenants: Collection[str] | None = None) -> dict[str, list[tuple[Any, ...]]]:
    """What is wrong with a ledger, each with up to five rows to look it up by; a database without one is in order.

    `url` is that of the service, or of SQLAlchemy. With `tenants`, only what is theirs is looked at, not the windows
    that they share with others. All is read in one snapshot, so that others may go on meanwhile.
    """
    engine = sa.create_engine(url.replace("+aiosqlite", ""), poolclass=sa.NullPool)
    postgres = engine.dialect.name == "postgresql"
    options: Any = {"isolation_level": "REPEATABLE READ"} if postgres else {}
    try:
        with engine.connect().execution_options(**options) as connection:
            if not sa.inspect(connection).has_table("entries"):
                return {}
            found = {
                wrong: [tuple(row) for row in connection.execute(_whole(query, postgres, tenants)).fetchmany(5)]
                for wrong, query in CHECKS.items()
                if tenants is None or wrong not in NOBODYS
            }
            return {wrong: rows for wrong, rows in found.items() if rows}
    finally:
        engine.dispose()


def _whole(query: str, postgres: bool, tenants: Collection[str] | None) -> sa.TextClause:
    """The query with the tables that it stands on."""
    theirs, own = ("1 = 1", "1 = 1") if tenants is None else ("tenant IN :tenants", "scope IN :scopes")
    each = (
        "json_array_elements_text(reservations.scopes::json) AS each(value)"
        if postgres
        else "json_each(reservations.scopes) AS each"
    )
    rollup = ", ".join(("tenant", "day", "model", "workflow", "preset", *SUMS))
    filled = query.format(
        theirs=theirs,
        model="CASE WHEN one.of_all = 1 THEN '' ELSE c.model END",
        each_and_all="(SELECT 0 AS of_all UNION ALL SELECT 1) AS one",
        complete=own.replace("scope", "s.scope", 1),
        sums=", ".join(SUMS),
        minus=", ".join(f"-{name}" for name in SUMS),
        differ=" OR ".join(f"SUM({name}) <> 0" for name in SUMS),
        kept="(SELECT MIN(starts_on) FROM windows)",
        workflow=_tag("workflow", postgres),
        preset=_tag("preset", postgres),
    )
    whole = sa.text(f"""
        WITH r AS (SELECT * FROM reservations WHERE {theirs}),
             w AS (SELECT * FROM windows WHERE {own}),
             u AS (SELECT tenant, day, model, workflow, preset, SUM(runs) AS runs, SUM(calls) AS calls,
                           SUM(input_tokens) AS input_tokens, SUM(output_tokens) AS output_tokens,
                           SUM(cost_nano) AS cost_nano
                    FROM (SELECT {rollup} FROM rollups WHERE {theirs}
                          UNION ALL SELECT {rollup} FROM closed_rollups WHERE {theirs}) AS open_and_closed
                    GROUP BY tenant, day, model, workflow, preset),
             k AS (SELECT * FROM counted_runs WHERE {theirs}),
             s AS (SELECT reservations.reservation_id, each.value AS scope FROM reservations, {each} WHERE {theirs})
        {filled}
    """)
    if tenants is None:
        return whole
    return whole.bindparams(
        sa.bindparam("tenants", list(tenants), expanding=True),
        sa.bindparam("scopes", [f"tenant:{one}" for one in tenants], expanding=True),
    )


def _tag(name: str, postgres: bool) -> str:
    aside = "chr(1)" if postgres else "char(1)"  # behind an escaped backslash there is no escape of a NUL
    text = rf"replace(replace(replace(r.tags, '\\', {aside}), '\u0000', '\ufffd'), {aside}, '\\')"
    value = f"({text})::json ->> '{name}'" if postgres else f"json_extract({text}, '$.{name}')"
    return f"substr(coalesce({value}, ''), 1, 100)"


if __name__ == "__main__":
    audit(sys.argv[1], sys.argv[2:] or None)
