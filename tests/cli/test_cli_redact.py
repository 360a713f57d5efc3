"""`djp redact` with the real redaction service: streams, marks, JSON, rules, and texts that are none."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from djp.cli.flags import RunFlags, run_request
from djp.mesh.errors import InvalidInput
from djp.mesh.server import MeshServer
from djp.v1 import redaction_pb2, run_pb2
from djp_redaction.server import open_service
from djp_redaction.settings import RedactionSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MAIL = "jane.roe@example.com"
LABEL = "[REDACTED:EMAIL]"


@pytest.fixture
async def djp_redact(djp: Any, short_folder: Path) -> AsyncIterator[Any]:
    async with (
        open_service(RedactionSettings()) as service,
        MeshServer(service, f"unix:{short_folder}/redaction.sock") as server,
    ):
        djp.gateway = server.address
        yield djp


def rules_file(tmp_path: Path, *rules: dict[str, Any], **more: Any) -> str:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"rules": list(rules), **more}))
    return str(path)


CUSTOM = {"name": "ticket", "pattern": "CUSTOM-[0-9]{6}", "type": "custom_id", "description": "Ids of ours"}


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (b"", b""),
        (b"no findings\r\n", b"no findings\r\n"),
        (f"\ufeffé\0 {MAIL}".encode(), f"\ufeffé\0 {LABEL}".encode()),
    ],
)
async def test_everything_else_comes_through_byte_for_byte(djp_redact: Any, text: bytes, redacted: bytes) -> None:
    process = await djp_redact.start("redact")
    out, err = await process.communicate(text)
    assert (process.returncode, out, err) == (0, redacted, b"")


async def test_a_file_longer_than_one_request_is_redacted(djp_redact: Any, tmp_path: Path) -> None:
    line = f"Ask {MAIL} in the Büro.\n"
    file = tmp_path / "long.txt"
    file.write_text(line * 400_000)
    assert file.stat().st_size > 8 * 2**20
    ended = await djp_redact("redact", str(file))
    assert ended.code == 0
    assert ended.out == line.replace(MAIL, LABEL) * 400_000
    refused = await djp_redact("redact", str(file), "--json")
    assert refused.code == 2
    assert "leave --json out" in refused.err
    assert MAIL not in refused.out + refused.err


async def test_text_of_a_slow_pipe_comes_as_soon_as_it_is_sure_and_ctrl_c_ends_it(djp_redact: Any) -> None:
    process = await djp_redact.start("redact")
    process.stdin.write(f"Ask {MAIL} now, or jane.ro".encode())
    await process.stdin.drain()
    assert await process.stdout.readexactly(len(f"Ask {LABEL} now,")) == f"Ask {LABEL} now,".encode()
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130
    rest = await process.stdout.read()
    assert b"jane" not in rest
    assert b"Traceback" not in await process.stderr.read()


async def test_a_reader_who_has_seen_enough_ends_it(djp_redact: Any, tmp_path: Path) -> None:
    file = tmp_path / "long.txt"
    file.write_text("word " * 500_000)
    process = await djp_redact.start("redact", str(file))
    await process.stdout.readexactly(10)
    process._transport.get_pipe_transport(1).close()
    assert await process.wait() == 128 + signal.SIGPIPE
    assert await process.stderr.read() == b""


async def test_findings_are_marked_where_they_stand(djp_redact: Any) -> None:
    text = f"👩‍👩‍👧 {MAIL}, {MAIL}; call 555-123-4567. " * 2_000
    ended = await djp_redact("redact", "--show", "--strategy-for", "EMAIL=mask", stdin=text.encode())
    assert ended.out == text.replace(MAIL, "«********»").replace("555-123-4567", "«[REDACTED:PHONE]»")
    assert ended.err == "found: EMAIL 4,000, PHONE 2,000\n"


async def test_json_tells_what_was_found(djp_redact: Any) -> None:
    ended = await djp_redact("redact", "--json", "--strategy", "partial", stdin=f"é {MAIL}".encode())
    told = json.loads(ended.out)
    assert told["text"] == "é ja***@ex***"
    assert told["counts"] == {"EMAIL": 1}
    assert [(one["start"], one["end"]) for one in told["findings"]] == [("2", str(2 + len(MAIL)))]
    assert told["rules_version"]


async def test_rules_of_ones_own_and_titles_that_are_kept(djp_redact: Any, tmp_path: Path) -> None:
    rules = rules_file(tmp_path, CUSTOM, default_strategy="mask")
    text = f"CUSTOM-123456 and {MAIL}, see [{MAIL}]".encode()
    ended = await djp_redact("redact", "--rules", rules, "--keep-title", MAIL, stdin=text)
    assert ended.out == f"******** and ********, see [{MAIL}]"
    labelled = await djp_redact("redact", "--rules", rules, "--strategy", "label", stdin=text)
    assert labelled.out == f"[REDACTED:custom_id] and {LABEL}, see [{LABEL}]"


@pytest.mark.parametrize("chunk", [b"ab \xff", b"ab \xc3"])
async def test_what_is_no_utf8_text_is_refused(djp_redact: Any, chunk: bytes) -> None:
    process = await djp_redact.start("redact")
    _, err = await process.communicate(chunk)
    assert (process.returncode, err) == (2, b"error: FILE: standard input is not UTF-8 text; convert it first\n")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["missing.txt"], "FILE: missing.txt cannot be read (No such file or directory)"),
        (["/"], "FILE: / cannot be read (Is a directory)"),
        (["--strategy-for", "EMAIL"], "--strategy-for: 'EMAIL' is no TYPE=STRATEGY"),
        (["--strategy-for", "EMAIL=hide"], "--strategy-for: 'EMAIL=hide' is no TYPE=STRATEGY"),
        (["--strategy-for", "NOTHING=mask"], "--strategy-for: no rule finds 'NOTHING'"),
        (["--keep-title", "x" * 5000], "--keep-title: has 5000 characters"),
        (["--rules", "missing.json"], "--rules: missing.json cannot be read"),
        (["--check-rules", "/"], "--check-rules: / cannot be read"),
        (["--show", "--json"], "--show and --json contradict each other"),
        (["--list-rules", "FILE"], "exclude each other"),
    ],
)
async def test_a_bad_flag_is_named(djp_redact: Any, args: list[str], told: str) -> None:
    ended = await djp_redact("redact", *args, stdin=b"text")
    assert ended.code == 2
    assert told in " ".join(ended.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("[]", 'give an object with a list "rules"'),
        ('{"rules": [{"name": "a", "type": "A"}]}', "rule 'a': pattern is missing"),
        ('{"rules": [{"name": "a", "type": "A", "pattern": "abc", "trigger": "a"}]}', "rule a: trigger"),
        (
            '{"rules": [{"name": "a", "type": "A", "pattern": "abc"}], '
            '"strategies": {"label": {"replacement": "[{type}]"}}}',
            "strategies.label.replacement",
        ),
    ],
)
async def test_a_file_that_holds_no_rules_is_refused(djp_redact: Any, tmp_path: Path, document: str, told: str) -> None:
    (tmp_path / "rules.json").write_text(document)
    for command in (["redact", "--rules"], ["redact", "--check-rules"], ["run", "--task", "x", "--redaction-rules"]):
        ended = await djp_redact(*command, str(tmp_path / "rules.json"), stdin=b"text")
        assert ended.code == 2
        assert told in ended.err
        assert command[-1] in ended.err


async def test_rules_are_checked_without_being_used(djp_redact: Any, tmp_path: Path) -> None:
    good = await djp_redact("redact", "--check-rules", rules_file(tmp_path, CUSTOM))
    assert (good.code, good.out) == (0, "1 rule: all would be accepted.\n")
    bad = rules_file(tmp_path, CUSTOM, {**CUSTOM, "name": "behind", "pattern": "(?<=x)CUSTOM"})
    ended = await djp_redact("redact", "--check-rules", bad)
    assert ended.code == 1
    assert ended.out.startswith("behind: ")
    assert "(?<=" in ended.out
    told = json.loads((await djp_redact("redact", "--check-rules", bad, "--json")).out)
    assert (told["valid"], [one["rule"] for one in told["problems"]]) == (False, ["behind"])
    used = await djp_redact("redact", "--rules", bad, stdin=b"text")
    assert used.code == 2
    assert "behind" in used.err
    assert "--rules" in used.err


async def test_the_rules_in_force_are_listed(djp_redact: Any) -> None:
    ended = await djp_redact("redact", "--list-rules")
    assert ended.code == 0
    assert "CREDIT_CARD" in ended.out
    told = json.loads((await djp_redact("redact", "--list-rules", "--json")).out)
    assert told["rules_version"] in ended.out
    assert {"EMAIL", "JWT", "IBAN"} <= {rule["type"] for rule in told["rules"]}


async def test_nothing_comes_out_without_the_service(djp_redact: Any, short_folder: Path) -> None:
    djp_redact.gateway = f"unix:{short_folder}/nobody.sock"
    ended = await asyncio.wait_for(djp_redact("redact", stdin=MAIL.encode()), 120)
    assert (ended.code, ended.out) == (7, "")
    assert MAIL not in ended.err


def test_a_run_takes_rules_of_its_own(tmp_path: Path) -> None:
    rules_file(tmp_path, CUSTOM, default_strategy="partial")
    file = tmp_path / "rules.json"
    request = run_request(RunFlags(task="x", redaction_rules=file))
    assert request.redaction == run_pb2.REDACTION_MODE_ON
    assert [rule.pattern for rule in request.redaction_options.custom_rules] == [CUSTOM["pattern"]]
    assert request.redaction_options.strategy == redaction_pb2.REDACTION_STRATEGY_PARTIAL
    with pytest.raises(InvalidInput, match="--redaction-rules: has no use with --redact off"):
        run_request(RunFlags(task="x", redaction_rules=file, redact="off"))
