"""The whole command as one: help and examples everywhere, options that mean the same everywhere, completion."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

from djp.cli.exits import MEANINGS
from djp.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
RUN_FOR_EVER = {("serve",), ("up",), ("scale", "watch"), ("dashboard",)}
PRINT_WHAT_THEY_ARE_ASKED_FOR = {("storage", "get"), ("templates", "new"), ("version",), ("scale", "hpa")}
"""Nothing of theirs is a document."""
COMMAND: Any = typer.main.get_command(app)


def commands(group: Any = COMMAND, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that can be called, with its words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())


def options(command: Any) -> dict[str, Any]:
    return {name: one for one in command.params for name in one.opts if name.startswith("--")}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_a_help_line_examples_that_parse(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    first = command.help.strip().splitlines()[0]
    assert first.endswith("."), "its help begins with no sentence"
    assert "Examples:" in command.epilog
    lines = re.findall(r"^  (djp .*)", command.epilog, re.MULTILINE)
    assert any(tuple(words_of(line)[: len(path)]) == path for line in lines)
    for line in lines:
        parse(words_of(line))
    for parameter in command.params:
        assert parameter.name == "help" or parameter.help, f"{parameter.name} has no help"


def words_of(line: str) -> list[str]:
    """Of a line for a shell, what follows `djp`, to where its output is sent elsewhere."""
    words = shlex.split(line.replace("\\\n", " "), comments=True)
    return words[1 : next((n for n, word in enumerate(words) if word in (">", "|", ">>", "&")), len(words))]


def parse(words: list[str]) -> None:
    """As the command would, but without doing anything."""
    command, context = COMMAND, None
    while hasattr(command, "commands"):
        name, command = words[0], command.commands[words[0]]
        words = words[1:]
        extra = {**COMMAND.context_settings, "parent": context}
        context = command.make_context(name, list(words), **extra) if not hasattr(command, "commands") else context


def test_one_name_means_one_thing() -> None:
    """What an option is called, and what stands in its place, is the same in every command."""
    for path, command in COMMANDS.items():
        named = options(command)
        if path not in RUN_FOR_EVER | PRINT_WHAT_THEY_ARE_ASKED_FOR:
            assert "--json" in named, f"{' '.join(path)} has no --json"
        for name, metavar in {
            "--gateway": "ADDRESS",
            "--tenant": "NAME",
            "--workflow": "NAME",
            "--preset": "NAME",
            "--policy": "NAME",
            "--template": "NAME",
            "--reason": ("TEXT", "NAME"),
            "--limit": "N",
            "--days": "N",
            "--since": "SPAN",
        }.items():
            if name in named:
                told = named[name].metavar
                assert told == metavar or told in metavar, f"{' '.join(path)} {name} takes {told}"


def test_exit_codes_are_documented_where_people_look() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert documented == {int(code) for code in MEANINGS}
    assert all(f"  {int(code):>3}  " in COMMANDS[("run",)].epilog for code in MEANINGS)


def test_every_command_line_of_our_pages_is_one() -> None:
    """A page that names a command or an option that does not exist sends people the wrong way."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        blocks = re.findall(r"^    (?:\.venv/bin/)?(djp (?:.*\\\n)*.*)", page.read_text(), re.MULTILINE)
        for line in blocks:
            try:
                parse(words_of(line))
            except Exception as error:
                raise AssertionError(f"{page.name}: {line}: {error}") from error


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("djp ru", {"run", "runs"}),
        ("djp run --pres", {"--preset"}),
        ("djp run --preset ", {"deterministic", "quick", "research", "thorough"}),
        ("djp run --template week", {"weekly_report"}),
        ("djp run --redact ", {"on", "off", "all"}),
        ("djp storage rec", {"reconcile"}),
    ],
)
async def test_bash_completes(line: str, expected: set[str], djp: Any) -> None:
    """In a real bash, with the script that it is given."""
    asked = f"""
        source <(djp --show-completion)
        COMP_WORDS=({line.rstrip()}{" ''" if line.endswith(" ") else ""})
        COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        _djp_completion djp
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = djp.environment()
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    bash = await asyncio.create_subprocess_exec(
        "bash", "--norc", "-c", asked, stdout=PIPE, stderr=PIPE, env=environment
    )
    out, err = await bash.communicate()
    assert not err
    assert expected <= set(out.decode().split())


@pytest.mark.parametrize(("shell", "asks"), [("zsh", {}), ("fish", {"_TYPER_COMPLETE_FISH_ACTION": "get-args"})])
async def test_zsh_and_fish_are_answered(shell: str, asks: dict[str, str], djp: Any) -> None:
    djp.env = {"_DJP_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "djp ru", **asks}
    ended = await djp()
    assert "runs" in ended.out
    assert "budgets" not in ended.out


async def test_output_that_is_closed_early_and_a_narrow_terminal_without_colour(djp: Any) -> None:
    djp.env = {"NO_COLOR": "1", "COLUMNS": "20", "TERM": "xterm-256color"}
    process = await djp.start("templates", "list")
    process.stdout._transport.close()  # as `| head -0` does
    err = (await process.communicate())[1]
    assert b"Traceback" not in err
    assert process.returncode in (0, 141)
    shown = await djp("templates", "list")
    assert shown.code == 0
    assert "\x1b" not in shown.out
