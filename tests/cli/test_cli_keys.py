"""`djp keys`: the first key is made where the database is, and the mesh then asks for one."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from typing import Any

from tests.cli.conftest import DJP


async def test_a_mesh_that_asks_for_keys_takes_those_that_were_made(djp: Any) -> None:
    admin = await djp("keys", "create", "--role", "admin", "--tenant", "ops", "--name", "first")
    assert admin.code == 0
    secret = admin.out.strip()
    assert secret.startswith("djp_")
    assert secret not in admin.err
    assert "shown only once" in admin.err

    def start(*args: str, **extra: str) -> Any:
        environment = {**djp.environment(), **extra}
        return asyncio.create_subprocess_exec(DJP, *args, env=environment, stdout=PIPE, stderr=PIPE)

    process = await start("serve", "all", "--listen", "localhost:0", DJP_AUTH="keys")
    try:
        while b"listening on" not in (line := await process.stderr.readline()):
            assert line, "the mesh ended"
        address = line.decode().split("listening on ")[1].strip()

        async def as_(key: str, *args: str) -> Any:
            started = await start(*args, "--gateway", address, **({"DJP_API_KEY": key} if key else {}))
            out, err = await started.communicate()
            return started.returncode, out.decode(), err.decode()

        code, out, err = await as_("", "runs", "list")
        assert (code, out) == (2, "")
        assert "DJP_API_KEY" in err
        code, out, err = await as_(secret, "keys", "create", "--tenant", "ada", "--days", "30", "--json")
        assert code == 0, err
        made = json.loads(out)
        code, out, err = await as_(made["secret"], "runs", "list")
        assert code == 0, err
        code, out, err = await as_(made["secret"], "keys", "list")
        assert code != 0
        assert "admin" in err
        code, out, err = await as_(secret, "keys", "revoke", made["key"]["key_id"][:8])
        assert (code, "works no more" in out) == (0, True)
        code, out, err = await as_(secret, "keys", "list")
        assert code == 0, err
        assert "revoked" in out
        (first,) = [line.split()[1] for line in out.splitlines() if line.startswith("first ")]
        assert made["secret"] not in out
        code, out, err = await as_(secret, "keys", "audit")
        assert code == 0, err
        assert all(what in out for what in ("key created", "key revoked", "sign in refused"))
        code, out, err = await as_(secret, "keys", "audit", "--tenant", "ada", "--limit", "1", "--json")
        (event,) = json.loads(out)["events"]
        assert (event["kind"], event["tenant"]) == ("AUDIT_KIND_KEY_REVOKED", "ada")
        assert event["subject"] == made["key"]["key_id"]
        assert event["actor"].endswith(f", key {first} (first)")
    finally:
        process.terminate()
        await process.communicate()
