"""What `djp doctor` reaches for outside this process: databases, object stores, the clock beside theirs, ports."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import closing
from email.utils import parsedate_to_datetime
from time import time as _time
from typing import TYPE_CHECKING

from pydantic import ValidationError

from djp.cli.checks import Check
from djp.mesh.errors import DjpError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from sqlalchemy import Select

    from djp.s3 import S3Account

ANSWERS_S = 8.0
"""A database or an object store that does not answer in this time is as good as down."""
_SKEW_S = 30
"""From here on a day's budget may count on the wrong day, and logs of two machines cannot be read together."""
_S3_SKEW_S = 15 * 60
"""S3 refuses a signature that is further from its own time."""
_RELEASED = 1_767_225_600  # 2026-01-01: a clock before it is surely wrong
_KEY_PREFIX = "djp_"


async def reach() -> AsyncIterator[Check]:
    """Everything that is configured and lies outside; what is not configured is not looked for."""
    from djp_grounding.settings import GroundingSettings
    from djp_storage.settings import StorageSettings

    yield _clock()
    for check in _ports():
        yield check
    yield _api_key()
    async for check in _admins():
        yield check
    async for check in _databases():
        yield check
    try:
        storage, grounding = StorageSettings(), GroundingSettings()
    except ValidationError:  # `djp config show` and the services themselves name the variable
        yield Check("settings", "broken", "storage or grounding cannot start as they are set", "see `djp config show`")
        return
    stores: dict[str, tuple[S3Account, Sequence[str]]] = {}
    if storage.tier_buckets:
        stores["DJP_STORAGE_BUCKETS"] = storage.account, list(storage.tier_buckets.values())
    for variable, place in (("DJP_GROUNDING_STORE", grounding.store), ("DJP_GROUNDING_SOURCE", grounding.source)):
        if place.startswith("s3://"):
            from djp.s3 import S3Account as Account

            account = Account(
                grounding.s3_endpoint,
                grounding.s3_access_key.get_secret_value(),
                grounding.s3_secret_key.get_secret_value(),
            )
            stores[variable] = account, [place.removeprefix("s3://")]
    for variable, (account, buckets) in stores.items():
        for check in await asyncio.to_thread(_object_store, account, buckets, variable):
            yield check


def _clock() -> Check:
    now = _time()
    told = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now)) + " UTC"
    if now < _RELEASED:
        return Check("clock", "broken", f"{told} is before this release", "set the clock: budgets count by its days")
    return Check("clock", "ok", told)


def _ports() -> Iterator[Check]:
    """Whether `djp up` could listen where it does by default."""
    from djp.rest_envoy import RestSettings
    from djp.standalone import GATEWAY_PORT

    try:
        rest = RestSettings().listen
    except ValidationError:
        rest = ""  # named by `djp config show`
    wanted = {f"localhost:{GATEWAY_PORT}": "another --listen", rest: "another DJP_REST_LISTEN"}
    for address, remedy in wanted.items():
        host, _, port = address.rpartition(":")
        if not port:
            continue
        try:
            with closing(socket.create_server((host, int(port)))):
                yield Check("port", "ok", f"{address} is free for `djp up`")
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            at = f"; a mesh that is up there is used with --gateway {address}" if "listen" in remedy[8:] else ""
            yield Check("port", "note", f"{address} cannot be taken: {why}", f"`djp up` needs {remedy}{at}")


def _api_key() -> Check:
    key = os.environ.get("DJP_API_KEY", "")
    if key and not key.startswith(_KEY_PREFIX) and key.count(".") != 2:  # nor a signed token
        return Check(
            "api key", "warning", "DJP_API_KEY is no key of ours", "set the one that `djp keys create` printed"
        )
    return Check(
        "api key", "ok" if key else "note", "DJP_API_KEY is set" if key else "none; a mesh of your own needs none"
    )


async def _admins() -> AsyncIterator[Check]:
    """Where callers need a key, whether somebody has one that makes keys; a database in trouble is told of below."""
    from sqlalchemy import func, or_, select

    from djp.cli.db import databases
    from djp.database import now_us, revision_of
    from djp.mesh.identity import ROLES
    from djp_gateway.adapters.tables import keys
    from djp_gateway.settings import GatewaySettings

    try:
        if GatewaySettings().auth != "keys":
            return
        url, migrations = next((url, migrations) for service, url, migrations in databases() if service == "gateway")
        async with asyncio.timeout(ANSWERS_S):
            before, newest = await revision_of(url, migrations)
            if before not in ("", newest):
                return
            lasting = or_(keys.c.expires_us.is_(None), keys.c.expires_us > now_us())
            admins = keys.c.role == ROLES.index("admin")
            query = select(func.count()).where(admins, keys.c.revoked_us.is_(None), lasting)
            count = await _count(url, query) if before else 0
    except (ValidationError, DjpError, TimeoutError):
        return
    if count:
        yield Check("admin keys", "ok", f"{count} can make keys for others")
    else:
        remedy = "before the mesh is up, here: djp keys create --role admin --name NAME"
        yield Check("admin keys", "warning", "DJP_AUTH=keys, and no key of an admin counts", remedy)


async def _count(url: str, query: Select[int]) -> int:
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            return (await connection.execute(query)).scalar_one()
    finally:
        await engine.dispose()


async def _databases() -> AsyncIterator[Check]:
    """Those on a server; files are looked at with the data folder."""
    from djp.cli.db import databases
    from djp.database import revision_of, shown

    try:
        known = [(service, url, migrations) for service, url, migrations in databases() if not url.startswith("sqlite")]
    except ValidationError:
        return  # named by `djp config show`
    for service, url, migrations in known:
        where = f"{service}: {shown(url)}"
        try:
            async with asyncio.timeout(ANSWERS_S):
                before, newest = await revision_of(url, migrations)
        except TimeoutError:
            yield Check("database", "broken", f"{where} does not answer within {ANSWERS_S:g} s", "check its address")
        except DjpError as error:
            yield Check("database", "broken", f"{service}: {error.message}", "mend what is named there")
        else:
            if before == newest:
                yield Check("database", "ok", f"{where} is up to date")
            else:
                yield Check("database", "note", f"{where} is at {before or 'nothing'} of {newest}", "djp db upgrade")


def _object_store(account: S3Account, buckets: Sequence[str], variable: str) -> list[Check]:
    """Whether it answers, lets us in, has the buckets, and has our time."""
    return list(_of_object_store(account, buckets, variable))


def _of_object_store(account: S3Account, buckets: Sequence[str], variable: str) -> Iterator[Check]:
    from djp.s3 import connect, s3_error

    try:
        client, http = connect(account)
    except DjpError as error:
        yield Check("object store", "broken", error.message, f"see {variable}")
        return
    try:
        before = _time()
        date = http.request("HEAD", account.endpoint, retries=False, redirect=False).headers.get("Date")
        if date:
            yield from _skew(parsedate_to_datetime(date).timestamp() - before, account.endpoint)
        missing = [bucket for bucket in buckets if not client.bucket_exists(bucket)]
    except Exception as error:  # urllib3, minio and ssl have each their own
        yield Check("object store", "broken", s3_error(error, account, variable).message, f"see {variable}")
        return
    finally:
        http.clear()
    if missing:
        found = f"{account.endpoint} has no bucket {', '.join(missing)} yet"
        yield Check("object store", "note", found, "made at the start, if the credentials may")
    else:
        yield Check("object store", "ok", f"{account.endpoint} has {', '.join(buckets)}")


def _skew(seconds: float, where: str) -> Iterator[Check]:
    if abs(seconds) < _SKEW_S:
        return
    found = f"{abs(seconds):.0f} s {'behind' if seconds > 0 else 'ahead of'} {where}"
    remedy = "let both take their time from a time server (NTP)"
    yield Check("clock", "broken" if abs(seconds) >= _S3_SKEW_S else "warning", found, remedy)
