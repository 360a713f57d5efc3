"""`djp redact`: a text without personal data and secrets, as it comes; the rules in force; a check of rules."""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import sys
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp.cli.documents import document
from djp.cli.exits import Exit
from djp.cli.session import connected
from djp.cli.terminal import clean, is_tty, one_line, say
from djp.mesh.errors import FailedPrecondition, InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from djp.v1 import redaction_pb2

MAX_WHOLE_BYTES = 8 * 2**20
"""The contract's limit for `RedactRequest.text`; a longer text is redacted as a stream, which has no limit."""

_READ_BYTES = 1 << 16
_MARKS = ("«", "»")


@dataclass(frozen=True)
class RedactFlags:
    """What the command line of `djp redact` said; `file` None is standard input."""

    file: Path | None = None
    show: bool = False
    strategy: str = ""
    strategies: tuple[str, ...] = ()
    rules: Path | None = None
    titles: tuple[str, ...] = ()
    gateway: str | None = None
    as_json: bool = False


async def redact(flags: RedactFlags) -> int:
    """Redact a file or standard input to standard output; with JSON the whole text at once, else as a stream.

    Raises InvalidInput: a flag or the text cannot be used. What came out before a bad byte is redacted like the rest.
    """
    if flags.show and flags.as_json:
        raise InvalidInput(
            "--show and --json contradict each other, JSON has the findings; leave one out", field="show"
        )
    options = _options(flags)
    with _opened(flags.file) as (descriptor, source):
        async with connected(flags.gateway) as client:
            if flags.as_json:
                whole = await client.redact(await _whole(descriptor, source), options)
                print(json.dumps(document(whole), indent=2))
                return Exit.OK
            position, counts = 0, dict[str, int]()
            async with aclosing(client.redact_stream(_pieces(descriptor, source), options)) as responses:
                async for response in responses:
                    text = marked(response, position) if flags.show else response.text
                    position += len(response.text)
                    for found in response.findings:
                        position += found.end - found.start - len(found.replacement)
                        counts[found.type] = counts.get(found.type, 0) + 1
                    _write(text)
    if flags.show:
        told = ", ".join(f"{one_line(kind)} {count:,}" for kind, count in sorted(counts.items()))
        print(f"found: {told or 'nothing'}", file=sys.stderr)
    return Exit.OK


def marked(response: redaction_pb2.RedactStreamResponse, position: int) -> str:
    """The piece with marks around every replacement; `position` is where it began in the original, in code points."""
    parts, done, shift = list[str](), 0, -position
    for found in response.findings:
        start = found.start + shift
        end = start + len(found.replacement)
        parts += [response.text[done:start], _MARKS[0], response.text[start:end], _MARKS[1]]
        done, shift = end, end - found.end
    return "".join([*parts, response.text[done:]])


async def check_rules(file: Path, gateway: str | None, *, as_json: bool) -> int:
    """Say whether the rules of a file would be accepted; 1 when not, with each problem's rule, construct and remedy."""
    rules = rules_options(file, "check_rules").custom_rules
    async with connected(gateway) as client:
        answer = await client.validate_rules(rules)
    if as_json:
        print(json.dumps(document(answer), indent=2))
    elif answer.valid:
        say(f"{len(rules)} rule{'' if len(rules) == 1 else 's'}: all would be accepted.")
    else:
        for problem in answer.problems:
            say(f"{one_line(problem.rule)}: {one_line(problem.construct)}; {one_line(problem.remedy)}")
    return Exit.OK if answer.valid else Exit.PROBLEM


async def list_rules(gateway: str | None, *, as_json: bool) -> int:
    """List the rules in force for the caller, the strongest first."""
    from djp.cli.tables import Column, print_table

    async with connected(gateway) as client:
        answer = await client.list_rules()
    if as_json:
        print(json.dumps(document(answer), indent=2))
        return Exit.OK
    print_table(
        Column("rule", [rule.name for rule in answer.rules]),
        Column("type", [one_line(rule.type) for rule in answer.rules], align="left"),
        Column("checked", [one_line(rule.validation) for rule in answer.rules], rank=1, align="left"),
    )
    say(f"rules version {one_line(answer.rules_version)}")
    return Exit.OK


def rules_options(file: Path, flag: str) -> redaction_pb2.RedactionOptions:
    """The options that a file of custom rules makes: its rules, and its default strategy.

    Raises InvalidInput naming the flag: a file that cannot be read, is no file of rules, or asks for what only the
    service's own file can have.
    """
    from djp.v1 import redaction_pb2
    from djp_redaction.rule_file import load_rules

    name = "--" + flag.replace("_", "-")
    try:
        file.open("rb").close()
        found = load_rules(file, name)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read ({error.strerror}); name a readable file", field=flag) from error
    except FailedPrecondition as error:
        raise InvalidInput(error.message, field=flag) from error
    if found.label != "[REDACTED:{type}]":
        raise InvalidInput(
            f"{file}: strategies.label.replacement: only a tenant's rules can change the label; remove it", field=flag
        )
    options = redaction_pb2.RedactionOptions(strategy=_strategy(found.strategy))
    for rule in found.rules:
        if rule.trigger:
            raise InvalidInput(f"{file}: rule {rule.name}: trigger: custom rules have none; remove it", field=flag)
        options.custom_rules.add(
            name=rule.name,
            type=rule.type,
            pattern=rule.pattern,
            description=rule.description,
            validation=rule.validation,
            examples=rule.examples,
            counter_examples=rule.counter_examples,
            source=rule.source,
        )
    return options


def _options(flags: RedactFlags) -> redaction_pb2.RedactionOptions:
    from djp.v1 import redaction_pb2

    options = rules_options(flags.rules, "rules") if flags.rules else redaction_pb2.RedactionOptions()
    if flags.strategy:
        options.strategy = _strategy(flags.strategy)
    for given in flags.strategies:
        kind, _, strategy = given.partition("=")
        known = _strategies()
        if not kind or strategy not in known:
            raise InvalidInput(
                f"{given[:100]!r} is no TYPE=STRATEGY; the strategies are {', '.join(known)}", field="strategy_by_type"
            )
        options.strategy_by_type[kind] = known[strategy]
    options.keep_titles.extend(flags.titles)
    return options


def _strategies() -> Mapping[str, redaction_pb2.RedactionStrategy.ValueType]:
    from djp.v1 import redaction_pb2

    return {
        name.removeprefix("REDACTION_STRATEGY_").lower(): value
        for name, value in redaction_pb2.RedactionStrategy.items()
        if value
    }


def _strategy(name: str) -> redaction_pb2.RedactionStrategy.ValueType:
    return _strategies()[name]


@contextmanager
def _opened(file: Path | None) -> Iterator[tuple[int, str]]:
    """The descriptor to read from, and what to call it."""
    if file is None:
        if sys.stdin is None:
            raise InvalidInput("standard input is closed; name a file", field="FILE")
        if sys.stdin.isatty():
            print("Type the text; end it with Ctrl-D on a line of its own.", file=sys.stderr)
        yield sys.stdin.fileno(), "standard input"
        return
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe nobody writes to is no reason to hang
    except (OSError, ValueError) as error:
        raise _unreadable(str(file), error) from error
    try:
        yield descriptor, str(file)
    finally:
        os.close(descriptor)


def _unreadable(source: str, error: OSError | ValueError) -> InvalidInput:
    return InvalidInput(f"{source} cannot be read ({getattr(error, 'strerror', None) or error})", field="FILE")


async def _bytes(descriptor: int, source: str) -> AsyncIterator[bytes]:
    """What can be read, as soon as it can be."""
    while True:
        await _readable(descriptor)
        try:
            content = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            continue
        except OSError as error:
            raise _unreadable(source, error) from error
        if not content:
            return
        yield content


async def _readable(descriptor: int) -> None:
    """Wait until a pipe or a terminal has something to read; Ctrl-C ends the wait. A file on a disk always has."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except PermissionError:  # what epoll says of a file, a folder, or /dev/null
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


async def _pieces(descriptor: int, source: str) -> AsyncIterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        async for content in _bytes(descriptor, source):
            if text := decoder.decode(content):
                yield text
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{source} is not UTF-8 text; convert it first", field="FILE") from error


async def _whole(descriptor: int, source: str) -> str:
    parts, size = list[str](), 0
    async for piece in _pieces(descriptor, source):
        size += len(piece.encode())
        if size > MAX_WHOLE_BYTES:
            raise InvalidInput(
                f"{source} is longer than {MAX_WHOLE_BYTES} bytes, the most that fits one JSON document; "
                "leave --json out",
                field="FILE",
            )
        parts.append(piece)
    return "".join(parts)


def _write(text: str) -> None:
    """To a file or a pipe as it is, in UTF-8; to a terminal without what could command it."""
    if is_tty():
        print(clean(text), end="", flush=True)
        return
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
