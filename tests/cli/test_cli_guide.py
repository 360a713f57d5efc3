"""Every command line of examples/commands.md, run on a mesh without a key: what a page promises, it does."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from tests.cli.test_cli_help import COMMANDS, words_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAGE = Path(__file__).parents[2] / "examples" / "commands.md"
CORPUS = {
    "ml_basics.md": "# Machine Learning Basics\n\nSupervised learning requires labeled data. A model learns from it.\n",
    "data_science.txt": "Data Science Best Practices\n\nFeature engineering is crucial in data science projects.\n",
}
WEEKLY = {"start_date": "2025-10-01", "end_date": "2025-10-07", "context": "Sprint 25: Completed 15 story points"}
RULES = {
    "rules": [{"name": "custom_pattern", "pattern": "CUSTOM-[0-9]{6}", "type": "custom_id", "description": "An id"}],
    "strategies": {"label": {"replacement": "[REDACTED:{type}]"}},
    "default_strategy": "label",
}


def lines() -> list[tuple[str, set[int]]]:
    """What the tables have for here, with the exit codes that are right."""
    found = []
    for row in re.findall(r"^\|(.*)\|$", PAGE.read_text(), re.MULTILINE):
        *_, ours, exits = re.split(r"(?<!\\)\|", row)
        if command := re.fullmatch(r"\s*`((?:djp|python scripts/version\.py|streamlit) .*)`\s*", ours):
            found.append((command[1], {int(code) for code in exits.split(",") if code.strip()} or {0}))
    return found


def test_the_tables_have_every_command() -> None:
    called = [tuple(words_of(line)) for line, _ in lines() if line.startswith("djp ")]
    missing = [" ".join(path) for path in COMMANDS if not any(words[: len(path)] == path for words in called)]
    assert not missing, f"add a line to {PAGE.name} for: {', '.join(missing)}"


async def test_every_line_of_the_tables_does_what_the_page_says(djp: Any, tmp_path: Path, short_folder: Path) -> None:
    folder = tmp_path / "work"
    await asyncio.to_thread(_fill, folder)
    djp.env = {"HOT_RETENTION_DAYS": "0", "DJP_DRAIN_DELAY_S": "0"}
    wrong = []
    async with _serving(djp, f"unix:{short_folder}/gateway.sock"), _runner(djp, folder) as run:
        for line, expected in lines():
            if line.startswith(("djp dashboard", "streamlit")):
                code, told = await _serve_shortly(line, djp)
            else:
                code, told = await (run(line) if line.startswith("djp ") else _call_python(line, folder / "copy"))
            if code not in expected or "Traceback" in told:
                wrong.append(f"{line}\n  ended with {code}, not {sorted(expected)}: {told[-600:]}")
    assert not wrong, "\n".join(wrong)


def _fill(folder: Path) -> None:
    (folder / "corpus").mkdir(parents=True)
    (folder / "templates").mkdir()
    for name, text in CORPUS.items():
        (folder / "corpus" / name).write_text(text)
    (folder / "custom_rules.json").write_text(json.dumps(RULES))
    (folder / "weekly.json").write_text(json.dumps(WEEKLY))
    (folder / "batch.csv").write_text(
        "start_date,end_date,context\n"
        '2025-10-01,2025-10-07,"Sprint 25 summary"\n'
        '2025-10-08,2025-10-14,"Sprint 26 summary"\n'
    )
    from djp.catalogue_files import data_dir
    from djp.cli.templates import STARTER

    (folder / "templates" / "letter.yaml").write_text(STARTER.format(name="letter", title="Letter"))
    for name in ("scripts/version.py", "djp/__init__.py", "CHANGELOG.md"):
        (folder / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PAGE.parents[1] / name, folder / "copy" / name)
    (folder / "policies").mkdir()
    policy = (data_dir() / "policies" / "openai_only.json").read_text()
    (folder / "policies" / "openai_only.json").write_text(policy)


async def _call_python(line: str, folder: Path) -> tuple[int, str]:
    """The same of a line that calls a script of the project: in a folder with a copy of what it works on."""
    arguments = shlex.split(line)[1:]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE, stderr=STDOUT, cwd=folder)
    told, _ = await process.communicate()
    return await process.wait(), told.decode()


async def _serve_shortly(line: str, djp: Any) -> tuple[int, str]:
    """The same of a line that serves pages until Ctrl-C, which it is sent when it has served one.

    How Streamlit itself takes that is its own affair: its code is 0 if it has served a page.
    """
    command, *arguments = shlex.split(line)
    program = Path(sys.executable).with_name(command)
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdout=PIPE, stderr=STDOUT, cwd=PAGE.parents[1], env=djp.environment()
    )
    assert process.stdout is not None
    told = ""
    while not (url := re.search(r"URL: (http://localhost:\d+)", told)):
        piece = await process.stdout.readline()
        if not piece:
            return await process.wait(), told
        told += piece.decode()
    async with httpx2.AsyncClient(timeout=60) as browser:
        (await browser.get(url[1])).raise_for_status()
    if command != "djp":
        process.kill()
        await process.communicate()
        return 0, told
    process.send_signal(signal.SIGINT)
    rest, _ = await process.communicate()
    return await process.wait(), told + rest.decode()


@asynccontextmanager
async def _serving(djp: Any, address: str) -> AsyncIterator[None]:
    process = await djp.start("serve", "all", "--listen", address, stdout=None)
    while b"listening on" not in (line := await process.stderr.readline()):
        assert line, "it ended before it listened"
    reading = asyncio.create_task(process.stderr.read())  # or it would wait for room in the pipe
    djp.gateway = address
    try:
        yield
    finally:
        process.terminate()
        await process.wait()
        await reading


@asynccontextmanager
async def _runner(djp: Any, folder: Path) -> AsyncIterator[Any]:
    """Calls a line in the folder, and gives its exit code and what it told on both streams."""
    script = Path(__file__).with_name("forked_djp.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, stdin=PIPE, stdout=PIPE, cwd=folder, env=djp.environment()
    )
    assert process.stdin is not None
    assert process.stdout is not None
    asked, answered = process.stdin, process.stdout

    async def run(line: str) -> tuple[int, str]:
        words, err = shlex.split(line), folder / "err"
        out = Path(folder / words[words.index(">") + 1]) if ">" in words else folder / "out"
        call = {"args": words_of(line), "out": str(out), "err": str(err)}
        asked.write(json.dumps(call).encode() + b"\n")
        code = int(await answered.readline())
        return code, "".join(one.read_text(errors="replace") for one in (out, err))

    yield run
    asked.close()
    await process.wait()
