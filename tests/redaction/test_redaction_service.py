"""The service on the wire: refusals, sizes, threads, and what happens when it cannot do its work."""

from __future__ import annotations

import asyncio
import json

import grpc
import pytest

from djp.mesh.errors import FailedPrecondition, ResourceExhausted
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import redaction_pb2, redaction_pb2_grpc
from djp.v1.redaction_pb2 import RedactionOptions, RedactionRule, RedactRequest
from djp_redaction import _engine
from djp_redaction.model import Options
from djp_redaction.redactor import Redactor
from djp_redaction.rule_file import load_rules
from djp_redaction.server import open_service
from djp_redaction.settings import RedactionSettings
from djp_redaction.stream import BLOCK

RULE = {"name": "custom_pattern", "pattern": "CUSTOM-[0-9]{6}", "type": "custom_id", "description": "Custom ID format"}


async def _error(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value)


async def test_redacts_and_counts(stub):
    answer = await stub.Redact(RedactRequest(text="🙂 a@b.co, c@d.co, 10.0.0.1"))
    assert answer.text == "🙂 [REDACTED:EMAIL], [REDACTED:EMAIL], [REDACTED:IP]"
    assert dict(answer.counts) == {"EMAIL": 2, "IP": 1}
    first = answer.findings[0]
    assert (first.type, first.rule, first.start, first.end, first.replacement) == (
        "EMAIL",
        "email_address",
        2,
        8,
        "[REDACTED:EMAIL]",
    )


async def test_an_empty_text_is_a_text(stub):
    answer = await stub.Redact(RedactRequest())
    assert (answer.text, len(answer.findings)) == ("", 0)
    assert answer.rules_version


async def test_keeps_the_titles_that_the_caller_names(stub):
    options = RedactionOptions(keep_titles=["10.0.0.1"], strategy=redaction_pb2.REDACTION_STRATEGY_LABEL)
    answer = await stub.Redact(RedactRequest(text="[10.0.0.1] 10.0.0.1", options=options))
    assert answer.text == "[10.0.0.1] [REDACTED:IP]"


@pytest.mark.parametrize(
    ("field", "options"),
    [
        (
            "options.strategy_by_type",
            RedactionOptions(strategy_by_type={"MAIL": redaction_pb2.REDACTION_STRATEGY_PARTIAL}),
        ),
        ("options.strategy_by_type", RedactionOptions(strategy_by_type={"EMAIL": 0})),
        ("options.keep_titles[1]", RedactionOptions(keep_titles=["x", "x" * 257])),
        ("options.custom_rules", RedactionOptions(custom_rules=[RedactionRule(name="x", type="X", pattern="x*")])),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(stub, field, options):
    error = await _error(stub.Redact(RedactRequest(text="a@b.co", options=options)))
    assert (error.code, error.field) == ("INVALID_ARGUMENT", field)
    assert "a@b.co" not in error.message


async def test_the_largest_text_is_redacted_and_a_larger_one_refused(stub):
    secret = "4111 1111 1111 1111"
    text = ("Ä" * (4 * 2**20 - 20)) + " " + secret
    answer = await stub.Redact(RedactRequest(text=text))
    assert answer.text.endswith("Ä [REDACTED:CREDIT_CARD]")
    assert answer.findings[0].start == len(text) - len(secret)
    error = await _error(stub.Redact(RedactRequest(text="x" * (8 * 2**20 + 1))))
    assert (error.code, error.field) == ("INVALID_ARGUMENT", "text")


async def test_an_answer_that_fits_no_message_is_an_error_that_says_what_to_do(serving, monkeypatch):
    monkeypatch.setenv("DJP_MAX_MESSAGE_BYTES", "100000")
    async with serving(open_service(RedactionSettings())) as channel:
        stub = redaction_pb2_grpc.RedactionServiceStub(channel)
        error = await _error(stub.Redact(RedactRequest(text="a@b.co " * 5000)))
    assert (error.code, error.field) == ("RESOURCE_EXHAUSTED", "text")
    assert "smaller pieces" in error.message


async def test_many_texts_at_once_do_not_mix(stub):
    """Long ones run in threads, each with working memory of its own."""
    texts = [f"{number} a{number}@b.co " * (2000 if number % 2 else 2) for number in range(40)]
    answers = await asyncio.gather(*(stub.Redact(RedactRequest(text=text)) for text in texts))
    for number, (text, answer) in enumerate(zip(texts, answers, strict=True)):
        assert answer.text == text.replace(f"a{number}@b.co", "[REDACTED:EMAIL]")


async def test_a_fault_inside_is_an_error_without_the_text(stub, monkeypatch, caplog):
    def broken(*_args):
        raise ValueError("broken")

    monkeypatch.setattr(_engine, "redact", broken)
    error = await _error(stub.Redact(RedactRequest(text="hidden a@b.co")))
    assert error.code == "INTERNAL"
    assert "hidden" not in error.message
    assert "hidden" not in caplog.text


def _file(tmp_path, document):
    path = tmp_path / "rules.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


async def test_a_file_in_the_short_form_takes_the_place_of_the_built_in_rules(tmp_path):
    document = {"rules": [RULE], "strategies": {"label": {"replacement": "[GONE {type}]"}}, "default_strategy": "label"}
    redactor = Redactor(load_rules(_file(tmp_path, document)))
    assert redactor.redact("CUSTOM-123456 a@b.co CUSTOM-1234567").text == ("[GONE custom_id] a@b.co [GONE custom_id]7")
    assert redactor.redact("[GONE custom_id]").findings == ()
    assert redactor.rule_set.version != load_rules(RedactionSettings().rules).version


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("{", "rules.json"),
        ("[" * 100_000, "rules.json"),
        ([], '"rules"'),
        ({"rules": []}, "at least one"),
        ({"rules": [RULE], "extra": 1}, "'extra'"),
        ({"rules": [RULE, RULE]}, "taken"),
        ({"rules": [RULE] * 501}, "at most"),
        ({"rules": ["x"]}, "rule 1"),
        ({"rules": [RULE | {"pattern": ""}]}, "pattern is missing"),
        ({"rules": [RULE | {"type": 5}]}, "type is missing or not a text"),
        ({"rules": [RULE | {"type": "a b"}]}, "is not a word"),
        ({"rules": [RULE | {"examples": "x"}]}, "examples is not a list"),
        ({"rules": [RULE | {"regex": "x"}]}, "'regex'"),
        ({"rules": [RULE | {"validation": "mod97"}]}, "there are: e164, has_digit, host_end, iban, ipv4"),
        ({"rules": [RULE | {"pattern": "(?=x)y"}]}, "(?=: RE2 has no look-around"),
        ({"rules": [RULE | {"pattern": "("}]}, "close every bracket"),
        ({"rules": [RULE | {"pattern": "x*"}]}, "empty text"),
        ({"rules": [RULE | {"trigger": "(?=x)"}]}, "(?=: RE2 has no look-around"),
        ({"rules": [RULE | {"trigger": "C?"}]}, "empty text"),
        ({"rules": [RULE | {"trigger": "CUSTOM-[0-9]+"}]}, "the engine refuses it (it has no greatest length)"),
        ({"rules": [RULE | {"reach": 5}]}, "reach is not a number of bytes"),
        ({"rules": [RULE | {"solid": True}]}, "solid is not true or false, of a rule with a reach"),
        ({"rules": [RULE | {"trigger": "x", "reach": 5, "solid": "no"}]}, "solid is not true or false"),
        ({"rules": [RULE], "default_strategy": "hide"}, "default_strategy"),
        ({"rules": [RULE], "strategies": {"label": {"replacement": "X"}}}, "{type}"),
        ({"rules": [RULE], "strategies": []}, "{type}"),
    ],
)
async def test_rules_that_cannot_be_used_are_refused_at_the_start(tmp_path, document, says):
    path = _file(tmp_path, document)
    with pytest.raises(FailedPrecondition) as caught:
        async with open_service(RedactionSettings(rules=path)):
            pass
    assert says in caught.value.message
    assert str(path) in caught.value.message
    assert "custom_pattern" in caught.value.message or "rule" in caught.value.message


async def test_a_missing_or_huge_file_is_refused(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(FailedPrecondition, match="DJP_REDACTION_RULES"):
            load_rules(path)
    with pytest.raises(FailedPrecondition, match="larger than 4 MiB"):
        load_rules(_file(tmp_path, " " * (4 * 2**20 + 1)))


def test_rules_that_free_each_other_without_end_fail_closed_in_bounded_work(tmp_path):
    """Each finding of this rule frees the one behind it: without a limit the work would be quadratic."""
    document = {"rules": [RULE | {"pattern": "(?:^|[^ab])(ab)"}]}
    redactor = Redactor(load_rules(_file(tmp_path, document)))
    text = "ab" * 10_000
    before = _engine.reads()
    with pytest.raises(ResourceExhausted, match="read more than") as caught:
        redactor.redact(text)
    assert caught.value.reason == "REDACTION_FAILED"
    assert _engine.reads() - before <= 2 * _engine.MOST_READS * len(text)
    assert redactor.redact("ab" * 3).text == "[REDACTED:custom_id]" * 3


HOSTILE = [
    "a@",
    "a@a.",
    "a@b.co ",
    "sk-aaaaaaaaaaaaaaaaaaaa ",
    "eyJaaaaaaaa.",
    "-eyJaaaaaaaa",
    "eyJhbGciOiJub25lIn0.",
    "http://a)",
    "http://a(",
    "http://",
    "http:// ",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----AAAAAAAAAAAAAAAA ",
    "(212) 555-0123",
    "+12125550123",
    "212-555-0123-",
    "1.1.1.1.",
    "1.1.1.999 ",
    "1 ",
    "4111111111111112 ",
    "4",
    "secret key ",
    "password=${",
    "https:///",
    "phone no no ",
    "ssn ssn",
    "AKIAIOSFODNN7EXAMPLE,",
    "[[10.0.0.1]",
    "[REDACTED:EMAIL]",
    "é@é.é",
    "\u2013",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_work_grows_with_the_text_and_no_faster(redactor, piece):
    """Counted, not timed."""

    def work(times):
        before = _engine.reads()
        redactor.redact(piece * (times * BLOCK // len(piece)), Options(titles=("10.0.0.1",)))
        return _engine.reads() - before

    assert work(12) <= 6 * work(3) + 1024  # nearly nothing is read where titles stand side by side
