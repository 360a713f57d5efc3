"""Can a budget be overdrawn? Eight governance servers on one Postgres, 256 clients at once, a cap that fits 100 calls.

In a trial every client reserves, charges and settles, again and again, until it is refused. In every second trial a
call costs exactly what it reserved, and exactly 100 must be granted; in the others it costs 30 to 100 % of that, or is
released, and room comes back. The cap is in turn a tenant's day, its month, its tokens, and the day of everybody, drawn
on by eight tenants. Then the same while servers and crews of clients are killed with SIGKILL: a client that is cut off
asks again with the same request_id, and what the dead held comes back when their leases lapse. Ctrl-C ends it with the
figures of the trials until then.

Three witnesses: an observer process reads the windows and their limits in one snapshot, over and over; a trigger on the
windows' table checks each version of a row that is ever written; and after each trial the journal is audited. At least
95 % of each cap must have been usable, and nothing may stay reserved.

The peer is check-then-increment, as gateways have it, on the same Postgres: it reads what is used, and adds if it fits.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.governance.ledger_fleet import Fleet
from tests.governance.ledger_postgres import new_postgres
from tests.governance.ledger_trials import Phase, Trials, Wrong

CREWS = 8
FIT = 100
"""Calls that a cap has room for."""
TURNS = 10
"""Trials without kills and with kills take turns, so that a run that is ended early has done some of both."""


async def check_then_increment(url: str, clients: int) -> float:
    """The peer: clients that look whether it fits and then add. The share of the cap that they used."""
    amount, cap = 1_000_000, FIT * 1_000_000 + 3
    engine = create_async_engine(url, pool_size=32, isolation_level="AUTOCOMMIT")

    async def spend() -> None:
        async with engine.connect() as connection:
            while (await connection.execute(text("SELECT used FROM peer"))).scalar_one() + amount <= cap:
                await connection.execute(text("UPDATE peer SET used = used + :amount"), {"amount": amount})

    async with engine.connect() as connection:
        await connection.execute(text("CREATE TABLE peer AS SELECT 0::bigint AS used"))
        await asyncio.gather(*(spend() for _ in range(clients)))
        used: int = (await connection.execute(text("SELECT used FROM peer"))).scalar_one()
        await connection.execute(text("DROP TABLE peer"))
    await engine.dispose()
    return used / cap


def _share(trials: int, turn: int) -> int:
    """How many of the trials come in a turn."""
    return trials * (turn + 1) // TURNS - trials * turn // TURNS


def main() -> int:
    """Run the trials; the exit code is 1 if the ledger did what it must not."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="4 trials and 2 with kills")
    parser.add_argument("--trials", type=int, help="without kills; 1,000 if not said")
    parser.add_argument("--kill-trials", type=int, help="with kills; 200 if not said")
    parser.add_argument("--servers", type=int, default=8)
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0, help="what decides amounts, costs and the moments of kills")
    options = parser.parse_args()
    calm, killing = (4, 2) if options.quick else (1000, 200)
    calm = calm if options.trials is None else options.trials
    killing = killing if options.kill_trials is None else options.kill_trials
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with new_postgres() as url, tempfile.TemporaryDirectory(prefix="djp-") as folder:
        peer = asyncio.run(check_then_increment(url, options.clients))
        print(f"check-then-increment: {peer:.1%} of the cap used", flush=True)
        fleet = Fleet(url, folder, options.servers, CREWS)
        phases = {"calm": Phase(), "kills": Phase()}
        try:
            trials = Trials(fleet, url, random.Random(options.seed), clients=options.clients // CREWS, fit=FIT)
            with contextlib.suppress(KeyboardInterrupt):  # what was done until then is told
                for turn in range(TURNS):
                    trials.calm(_share(calm, turn), phases["calm"])
                    trials.killing(_share(killing, turn), phases["kills"])
            versions = trials.versions()
            trials.close()
        except Wrong as error:
            print(f"WRONG: {error}")
            return 1
        finally:
            fleet.close()
    told = {name: phase.figures() for name, phase in phases.items() if phase.uses}
    for figure in next(iter(told.values()), {}):
        print(f"{figure:<28}" + "".join(f"{name} {figures[figure]:>12,}   " for name, figures in told.items()))
    figures = {f"{name}_{figure}": value for name, one in told.items() for figure, value in one.items()}
    figures |= {"row_versions_checked": versions, "check_then_increment_use": round(peer, 4)}
    print(json.dumps({"benchmark": "overdraft", "figures": figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
