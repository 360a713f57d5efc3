"""Streams: the same as the whole text for every way of cutting it, and no more held back than needs to be."""
# ruff: noqa: RUF001  texts in other scripts are the point here

from __future__ import annotations

import re

import grpc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from djp.mesh.rpc_errors import error_from_rpc
from djp.v1.redaction_pb2 import (
    REDACTION_STRATEGY_MASK,
    RedactionOptions,
    RedactionRule,
    RedactRequest,
    RedactStreamRequest,
)
from djp_redaction import stream as streams
from djp_redaction.model import Options, Rule, RuleSet, Strategy
from djp_redaction.redactor import Redactor

PIECES = [
    *(
        "admin@example.com",
        "@",
        ".",
        "-",
        " ",
        " ",
        " ",
        "\n",
        "\r\n",
        ", ",
        "\x00",
        "\u200b",
        "\u00ad",
        "\u00a0",
        "\u2013",
    ),
    *(
        "é",
        "e\u0301",
        "\u0301",
        "日本",
        "。",
        "🙂",
        "👩\u200d👩",
        "🇩🇪",
        "１２",
        "http://",
        "https://x.y/",
        "(",
        ")",
        "[",
        "]",
        "'",
        "/",
    ),
    *("212-555-0123", "(212) 555-0123", "+1", "1", "555 ", "4111 1111 1111 1111", "078-05-1120", "10.0.0.1", "255"),
    *(
        "sk-ant-api03-abcdefghijklmnop",
        "AKIAIOSFODNN7EXAMPLE",
        "secret key: ",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    ),
    *("phone no. ", "SSN ", "078051120", "2125550123", "eyJhbGciOiJub25lIn0", ".eyJpc3MiOiJqb2UifQ"),
    *("-----BEGIN PRIVATE KEY-----", "\nMIIEvQIBADANBgkqhkiG9w0\n", "-----END PRIVATE KEY-----"),
    *(
        "[REDACTED:EMAIL]",
        "[REDACTED:",
        "EMAIL]",
        "********",
        "ad***@co***",
        "***",
        "[Title 10.0.0.1]",
        "Title 10.0.0.1",
        "Emp 12",
        "x",
    ),
    *(
        "DE89 3704 0044 0532 0130 00",
        "+44 20 7946 0958",
        "2001:db8::1",
        "::",
        ":",
        "fe80::",
        "/24",
        "example.com",
        ".com",
        "www.",
    ),
    *(
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "password=",
        'secret: "',
        '"',
        "hunter2-rocks",
        "Bearer ",
        "*",
        "$",
        "=",
        "`",
    ),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=20).map("".join)
CUTS = st.lists(st.integers(1, 12), min_size=1, max_size=40)
TITLES = st.lists(st.sampled_from(["Title 10.0.0.1", "x y", "REDACTED:"]), max_size=2)
CUSTOM = (
    Rule("employee", "EMPLOYEE", r"(?i)\bemp [0-9]{2}\b"),
    Rule("line", "LINE", r"(?m)^x.*$"),
    Rule("mark", "MARK", r"x\x{301}|\.\s"),
    Rule("end", "END", r"[a-z]{3}[0-9]$"),
    Rule("stars", "STARS", r"\*{3,5}"),
)


def cut(text: str, sizes: list[int]) -> list[str]:
    pieces, at, number = [], 0, 0
    while at < len(text):
        pieces.append(text[at : at + sizes[number % len(sizes)]])
        at += sizes[number % len(sizes)]
        number += 1
    return pieces


def redacted_in_pieces(redactor, pieces, options):
    stream = redactor.stream(options, b"key")
    given = [part for piece in pieces for part in stream.feed(piece)] + list(stream.finish())
    return "".join(part.text for part in given), tuple(finding for part in given for finding in part.findings)


@pytest.fixture(scope="module")
def custom(rule_set):
    return Redactor(RuleSet((*rule_set.rules, *CUSTOM)))


@pytest.mark.parametrize("strategy", list(Strategy))
@settings(max_examples=300, deadline=None)
@given(text=TEXTS, sizes=CUTS, titles=TITLES)
@example(text="phone: 2125550123 and [Title 10.0.0.1] 10.0.0.1 ", sizes=[1], titles=["Title 10.0.0.1"])
# The first three of `****23::` are a replacement; of the rest something is found with what was behind it.
@example(text="*(212) 555-0123::", sizes=[1], titles=[])
# What is found stands beside no letter, and becomes one with the replacement behind it.
@example(text="**a::***a@b.co*", sizes=[1], titles=[])
# The mark between two matches has three bytes.
@example(text="x.comjo@ex.org12\uff11http://*::1\uff0a23::", sizes=[1], titles=[])
# What a card hides, far from what nobody sees.
@example(text="a\u200bab***12http://ab***12\n[4111 1111 1111 1111::]**[", sizes=[1], titles=[])
def test_every_way_of_cutting_gives_what_the_whole_text_gives(redactor, custom, strategy, text, sizes, titles):
    options = Options(strategy, titles=tuple(titles))
    for redactor_ in (redactor, custom):
        whole = redactor_.redact(text, options, b"key")
        assert redacted_in_pieces(redactor_, cut(text, sizes), options) == (whole.text, whole.findings)
        assert redactor_.redact(whole.text, options, b"key").text == whole.text


@settings(max_examples=600, deadline=None)
@given(text=st.lists(st.sampled_from(PIECES), max_size=60).map("".join), sizes=CUTS, titles=TITLES)
def test_also_where_a_text_has_many_blocks(redactor, custom, text, sizes, titles):
    options = Options(titles=tuple(titles))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(streams, "BLOCK", 50)
        monkeypatch.setattr(streams, "AHEAD", 20)
        for redactor_ in (redactor, custom):
            whole = redactor_.redact(text, options)
            assert redacted_in_pieces(redactor_, cut(text, sizes), options) == (whole.text, whole.findings)


@pytest.mark.parametrize(
    "text",
    [
        f"eyJhbGciOiJub25lIn0.xxx.{'x' * 360}/{'x' * 11}Password:{'x' * 455}4xxxxxxx1-{'x' * 30}",
        f"{'x' * 164}.415-66-7777${'x' * 184}[2.8.0.1ghp_{'x' * 36}_{'x' * 117}/{'x' * 13}.org:8443/{'x' * 335}",
    ],
)
def test_a_second_redaction_ends_the_blocks_of_a_text_without_calm_places_where_the_first_did(
    redactor, monkeypatch, text
):
    monkeypatch.setattr(streams, "BLOCK", 400)
    monkeypatch.setattr(streams, "AHEAD", 100)
    once = redactor.redact(text).text
    assert once != text
    assert redactor.redact(once).text == once


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("The report is ready, and ", 0),
        ("Ask admin", len("admin")),
        ("Ask admin@example.com", len("admin@example.com")),
        ("Ask admin@example.com for ", 0),
        ("as 212-555-", len("212-555-")),
        ("[Some Ti", len("[Some Ti")),
        ("[Some Other ", 0),
        ("请看这个。我", 1),
    ],
)
def test_only_the_tail_is_held_that_may_still_become_something(redactor, text, held):
    stream = redactor.stream(Options(titles=("Some Title",)))
    for character in text:
        list(stream.feed(character))
    assert stream.held <= held


@pytest.mark.parametrize(
    "piece", ["x", "1 ", "-----BEGIN PRIVATE KEY-----\n", "a@", "http://a/", "[", "\u00ad", "e\u0301", "é", "日"]
)
def test_what_is_held_back_is_bounded(redactor, piece):
    stream, most = redactor.stream(Options(titles=("[" * 300,))), 0
    for _ in range(60):
        list(stream.feed(piece * (1000 // len(piece))))
        most = max(most, stream.held)
    assert most <= streams.BLOCK + streams.AHEAD


@pytest.mark.parametrize("filler", ["x", "1 ", "ab.", "e\u0301"])
@pytest.mark.parametrize("offset", [0, 1, 7, 19, 40])
def test_a_secret_at_the_end_of_a_block_is_found_whole(redactor, filler, offset):
    secret = " secret key: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY and 4111 1111 1111 1111 "
    before = (filler * streams.BLOCK)[: streams.BLOCK - offset]
    text = before + secret + filler * 5000
    whole = redactor.redact(text)
    assert whole.text[len(before) :].startswith(" secret key: [REDACTED:AWS_SECRET_KEY] and [REDACTED:CREDIT_CARD] ")
    assert redacted_in_pieces(redactor, cut(text, [999]), Options()) == (whole.text, whole.findings)
    assert redactor.redact(whole.text).text == whole.text


@pytest.mark.parametrize(
    "secret",
    [
        "https://example.com/" + "a/b1" * 20_000,
        "password=" + "Xy3$" * 20_000,
        "Bearer " + "0aZ." * 20_000,
        "sk-ant-api03-" + "abcdefgh" * 10_000,
        "-----BEGIN PRIVATE KEY-----" + "MIIEvQIB" * 10_000 + "-----END PRIVATE KEY-----",
        "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIi" * 10_000 + ".c2lnbmF0dXJl",
    ],
)
def test_a_secret_longer_than_what_is_read_at_once_is_found_up_to_its_end(redactor, secret):
    text = f"x {secret} y"
    found = redactor.redact(text)
    left = re.sub(r"\[REDACTED:\w+\]", "", found.text)
    assert left in {"x  y", "x password= y", "x Bearer  y"}
    assert redactor.redact(found.text).text == found.text
    assert redacted_in_pieces(redactor, cut(text, [999]), Options()) == (found.text, found.findings)


def test_what_is_found_does_not_depend_on_what_else_is_near(redactor):
    names = "'quoted@example.com'" * 6 + "@mention" * 5
    text = f"@.com'{names}www.microsofwww.microsofcommit 9fceb02d0ae598e95dc970b74767f19372d61af8 api.example.org:8443"
    whole = redactor.redact(text)
    assert text[whole.findings[-1].start : whole.findings[-1].end] == "api.example.org:8443"
    for at in range(len(text)):
        assert redacted_in_pieces(redactor, [text[:at], text[at:]], Options()) == (whole.text, whole.findings)


async def _streamed(stub, *requests):
    answers = [answer async for answer in stub.RedactStream(iter(requests))]
    return "".join(answer.text for answer in answers), [finding for answer in answers for finding in answer.findings]


async def test_the_rpc_streams_what_the_other_one_answers(stub):
    text = "🙂 Ask admin@example.com, 4111 1111 1111 1111, CUSTOM-123456, [10.0.0.1] 10.0.0.1 -----BEGIN PRIVATE KEY"
    options = RedactionOptions(
        strategy=REDACTION_STRATEGY_MASK,
        keep_titles=["10.0.0.1"],
        custom_rules=[RedactionRule(name="custom", type="CUSTOM", pattern="CUSTOM-[0-9]{6}")],
    )
    whole = await stub.Redact(RedactRequest(text=text, options=options))
    pieces = [RedactStreamRequest(text=character) for character in text]
    assert await _streamed(stub, RedactStreamRequest(options=options), *pieces) == (whole.text, list(whole.findings))
    assert await _streamed(stub, RedactStreamRequest(text="a@b.co")) == (
        "[REDACTED:EMAIL]",
        [*whole.findings[:0], *(await stub.Redact(RedactRequest(text="a@b.co"))).findings],
    )
    assert await _streamed(stub) == ("", [])


async def test_text_comes_out_before_the_stream_ends(stub):
    call = stub.RedactStream()
    await call.write(RedactStreamRequest(text="Ask admin@example.com or "))
    assert (await call.read()).text == "Ask [REDACTED:EMAIL] or "
    await call.write(RedactStreamRequest(text="wait"))
    await call.done_writing()
    assert (await call.read()).text == "wait"
    assert await call.read() == grpc.aio.EOF


async def test_options_that_come_late_are_refused(stub):
    call = stub.RedactStream(
        iter([RedactStreamRequest(text="a@b.co "), RedactStreamRequest(options=RedactionOptions())])
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    error = error_from_rpc(caught.value)
    assert (error.code, error.field) == ("INVALID_ARGUMENT", "options")
    assert "a@b.co" not in error.message
