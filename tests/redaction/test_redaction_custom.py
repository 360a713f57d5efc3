"""Custom rules: of a run, of a tenant; what is refused, and why."""

from __future__ import annotations

import json
from dataclasses import replace

import grpc
import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from djp.mesh.errors import FailedPrecondition, InvalidInput, ResourceExhausted
from djp.mesh.identity import Identity, identity_scope
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import redaction_pb2_grpc
from djp.v1.redaction_pb2 import (
    ListRulesRequest,
    RedactionOptions,
    RedactionRule,
    RedactRequest,
    ValidateRulesRequest,
)
from djp_redaction import _engine, custom
from djp_redaction.beginnings import beginnings, least_length
from djp_redaction.custom import Redactors
from djp_redaction.model import Options, Rule, RuleSet, Strategy
from djp_redaction.patterns import RuleRefused
from djp_redaction.redactor import Redactor
from djp_redaction.server import open_service
from djp_redaction.settings import RedactionSettings
from djp_redaction.stream import BLOCK
from djp_redaction.validators import VALIDATORS

EMPLOYEE = RedactionRule(
    name="employee",
    type="EMPLOYEE",
    pattern=r"\bEMP-[0-9]{4}\b",
    examples=["ask EMP-1234."],
    counter_examples=["EMP-12345", "TEMP-1234"],
)


@pytest.fixture(scope="module")
def redactors(rule_set):
    return Redactors(rule_set, {})


async def _error(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value)


async def test_a_custom_rule_stands_beside_the_built_in_ones(stub):
    options = RedactionOptions(custom_rules=[EMPLOYEE])
    answer = await stub.Redact(RedactRequest(text="EMP-1234 (a@b.co), EMP-12345, xEMP-1234", options=options))
    assert answer.text == "[REDACTED:EMPLOYEE] ([REDACTED:EMAIL]), EMP-12345, xEMP-1234"
    assert dict(answer.counts) == {"EMPLOYEE": 1, "EMAIL": 1}
    plain = await stub.Redact(RedactRequest(text="EMP-1234"))
    assert plain.text == "EMP-1234"
    assert plain.rules_version != answer.rules_version


async def test_the_first_group_is_the_finding_and_a_validation_may_be_named(stub):
    rules = [
        RedactionRule(name="badge", type="BADGE", pattern=r"badge no\. ([A-Z]{3}[0-9]+)"),
        RedactionRule(name="loyalty", type="LOYALTY", pattern=r"L([0-9]{16})", validation="luhn"),
    ]
    text = "badge no. ABC123 L4111111111111111 L4111111111111112"
    answer = await stub.Redact(RedactRequest(text=text, options=RedactionOptions(custom_rules=rules)))
    assert answer.text == "badge no. [REDACTED:BADGE] L[REDACTED:LOYALTY] L4111111111111112"


@pytest.mark.parametrize(
    ("rule", "construct", "remedy"),
    [
        ({"pattern": "(?=abc)abc"}, "(?=", "look-around"),
        ({"pattern": "(?<!abc)abc"}, "(?<", "look-around"),
        ({"pattern": r"(abc)\1"}, r"\1", "back-references"),
        ({"pattern": "(?P<x>abc)(?P=x)"}, "(?P", "references"),
        ({"pattern": "abc++"}, "++", "possessive"),
        ({"pattern": "(?>abc)"}, "(?>", "atomic"),
        ({"pattern": "(?(1)abc|d)"}, "(?(", "conditions"),
        ({"pattern": r"abc\Z"}, r"\Z", r"\z"),
        ({"pattern": r"abc\Cd"}, r"\C", "characters, not bytes"),
        ({"pattern": "abc{1001}"}, "{1001}", "1000"),
        ({"pattern": "(abc"}, "(abc", "close every bracket"),
        ({"pattern": "[abc"}, "[abc", "close the class"),
        ({"pattern": "*abc"}, "*", "before the mark"),
        ({"pattern": r"\pQabc"}, r"\pQ", "class that exists"),
        ({"pattern": "(" * 50 + "abc" + ")" * 50}, "(", "nest at most"),
        ({"pattern": "[^a]{300}"}, "instructions", "at most"),
        ({"pattern": "a[ab]{300}c"}, "302 bytes", "does not occur in what follows"),
        ({"pattern": "[ab]*a[ab]{20}[ab]*c"}, "automaton", "repeat without a count"),
        ({"pattern": "x([ab]*a[ab]{20})[ab]*c"}, "automaton", "repeat without a count"),
        ({"pattern": "[0-9]{2}"}, "2 characters", "at least 3"),
        ({"pattern": "abc|x*"}, "empty text", "at least one"),
        ({"pattern": r"\b"}, "empty text", "at least one"),
        ({"pattern": "id: ([0-9]?)"}, "no character", "at least 3"),
        ({"pattern": "abc", "name": "a b"}, "name", "letters"),
        ({"pattern": "abc", "name": "email_address"}, "name", "another"),
        ({"pattern": "abc", "type": "A-B"}, "type", "letters"),
        ({"pattern": "abc", "validation": "md5"}, "validation", "luhn"),
        ({"pattern": "abc", "examples": ["abd"]}, "example 1", "does not find"),
        ({"pattern": "abc", "counter_examples": ["x", "abc"]}, "counter-example 2", "finds it"),
    ],
)
async def test_what_cannot_be_a_rule_is_refused_with_its_construct_and_the_remedy(stub, rule, construct, remedy):
    rules = [EMPLOYEE, RedactionRule(**({"name": "mine", "type": "MINE"} | rule))]
    answer = await stub.ValidateRules(ValidateRulesRequest(rules=rules))
    assert not answer.valid
    assert len(answer.problems) == 1
    assert construct in answer.problems[0].construct
    assert remedy in answer.problems[0].remedy
    error = await _error(stub.Redact(RedactRequest(text="a@b.co", options=RedactionOptions(custom_rules=rules))))
    assert (error.code, error.field) == ("INVALID_ARGUMENT", "options.custom_rules")
    assert construct in error.message
    assert "a@b.co" not in error.message


@pytest.mark.parametrize("validation", sorted(VALIDATORS))
def test_a_validation_refuses_what_it_was_not_made_for(redactors, validation):
    redactor = redactors.of("", (Rule("any", "ANY", r"<([^>]{3,})>", validation=validation),))
    for value in ("abc", "é\u0301日", "...", "0" * 12, "://", "-" * 40, "\x00" * 5, "1.2.3.", "12345678901234567890"):
        assert redactor.redact(f"<{value}> a@b.co").text.endswith("> [REDACTED:EMAIL]")


async def test_good_rules_are_valid_and_every_problem_is_told(stub):
    assert (await stub.ValidateRules(ValidateRulesRequest(rules=[EMPLOYEE]))).valid
    assert (await stub.ValidateRules(ValidateRulesRequest())).valid
    bad = [RedactionRule(name=f"r{number}", type="R", pattern="(") for number in range(3)]
    answer = await stub.ValidateRules(ValidateRulesRequest(rules=[*bad, EMPLOYEE, EMPLOYEE]))
    assert [problem.rule for problem in answer.problems] == ["r0", "r1", "r2", "employee"]


def test_count_and_size_are_bounded(redactors):
    many = tuple(Rule(f"r{number}", "R", f"abc{number}") for number in range(custom.MAX_RULES + 1))
    with pytest.raises(InvalidInput, match="give at most 24"):
        redactors.of("", many)
    large = tuple(Rule(f"r{number}", "R", f"{number}[a-z]{{600}}[^x]") for number in range(20))
    with pytest.raises(InvalidInput, match="instructions together"):
        redactors.of("", large)
    assert redactors.of("", many[:-1]).redact("abc23x").text == "[REDACTED:R]x"


def test_the_bounds_are_those_of_a_request_and_its_tenant_together(rule_set):
    def rules(names, pattern):
        return tuple(Rule(f"{names}{number}", "R", pattern.format(number + 6)) for number in range(12))

    def joined(own, given):
        return Redactors(rule_set, {"acme": replace(rule_set, rules=(*rule_set.rules, *own))}).of("acme", given)

    own, given = rules("own", "abc{}x"), rules("given", "def{}x")
    found = joined(own, given).redact("abc11x def17x").text
    assert found == "[REDACTED:R] [REDACTED:R]"
    with pytest.raises(InvalidInput, match="13 rules beside the 12 of the tenant's own: give at most 12"):
        joined(own, (*given, Rule("one.more", "R", "ghi")))
    with pytest.raises(InvalidInput, match=r"1 rules beside the 24 .*: leave them out"):
        joined((*own, *rules("more", "jkl{}x")), given[:1])
    with pytest.raises(InvalidInput, match="name: a rule before it"):
        joined(own, own[:1])
    for pattern, told in (
        ("{}[a-z]{{500}}[^x]", "together with the tenant's own"),
        ("a[ab]{{{}}}c", "begin inside of each"),
    ):
        half = rules("half", pattern)
        assert joined((), half)
        with pytest.raises(InvalidInput, match=told):
            joined(half, rules("other", pattern))


def test_the_same_rules_are_compiled_once_and_not_all_are_kept(redactors):
    rule = Rule("r", "R", "abc")
    assert redactors.of("", (rule,)) is redactors.of("some tenant", (Rule("r", "R", "abc"),))
    first = redactors.of("", (rule,))
    for number in range(custom.KEPT + 1):
        redactors.of("", (Rule("r", "R", f"abc{number}"),))
    assert redactors.of("", (rule,)) is not first


@pytest.mark.parametrize("pattern", ["[a-z]{3}", "(?s)...", r"\w{3}|\s{3}", "(abcd+)|abc"])
def test_a_rule_that_finds_nearly_everything_is_an_error_and_never_the_text(redactors, pattern):
    redactor = redactors.of("", (Rule("greedy", "G", pattern),))
    text = "abc " * BLOCK
    with pytest.raises(ResourceExhausted, match="'greedy' find more than") as caught:
        redactor.redact(text)
    assert "abc" not in caught.value.message
    stream = redactor.stream()
    with pytest.raises(ResourceExhausted):
        for start in range(0, len(text), 100):
            list(stream.feed(text[start : start + 100]))
    few = "abc " * 10 + "-" * BLOCK
    assert (
        redactors.of("", (Rule("abc", "G", "abc"),))
        .redact(few * (_engine.MOST_MATCHES // 100))
        .text.count("[REDACTED:G]")
    )


def test_rules_for_which_a_text_is_read_too_often_fail_closed_however_it_comes(redactors):
    """Matches that a validation refuses take their time as well: every byte of these is read for every rule."""
    rules = tuple(Rule(f"r{number}", "R", f"[0-9]{{3,{number + 4}}}", validation="luhn") for number in range(20))
    redactor = redactors.of("", rules)
    assert redactor.redact("123 456 " * 10).text == "123 456 " * 10
    text = "123 456 " * 10_000
    for size in (len(text), 1, 100):
        stream, given = redactor.stream(), 0
        with pytest.raises(ResourceExhausted, match="read more than") as caught:
            for start in range(0, len(text), size):
                given += sum(len(piece.text) for piece in stream.feed(text[start : start + size]))
        assert caught.value.reason == "REDACTION_FAILED"
        assert given < BLOCK
    assert redactor.redact("123 456 " * 10).text == "123 456 " * 10


@pytest.mark.parametrize("size", [1, 6, 100_000])
def test_as_many_rules_as_there_may_be_leave_room_for_prose_however_it_comes(redactors, size):
    rules = tuple(Rule(f"r{n}", "R", rf"(?i)\bcase-{n}-[0-9]{{4}}\b") for n in range(custom.MAX_RULES))
    text = "The led\u00adger holds what CASE-7-1234 may cost before it starts, and gives the rest back. " * 220
    stream = redactors.of("", rules).stream()
    pieces = [piece for at in range(0, len(text), size) for piece in stream.feed(text[at : at + size])]
    pieces += stream.finish()
    assert "".join(piece.text for piece in pieces) == text.replace("CASE-7-1234", "[REDACTED:R]")


def test_a_rule_of_which_the_text_holds_no_match_finds_one_where_replacements_joined(redactors):
    """`*b::*a0` becomes `*****a0`, of which three stars are a replacement: `**a0` is found with the address."""
    redactor, options = redactors.of("", (Rule("r", "R", "[ab*]{3,5}[0-9]"),)), Options(strategy=Strategy.PARTIAL)
    once = redactor.redact("*b::*a078-05-1120", options)
    assert (once.starts, once.ends) == ([1], [7])
    assert redactor.redact(once.text, options).text == once.text


def test_findings_that_free_each_other_by_their_replacements_fail_closed(redactors):
    """`a***` and the letters behind it are one replacement, beside which the next match begins."""
    redactor = redactors.of("", (Rule("r", "R", r"\bab(?:a|ab|\s)[^b](?:ab|\b)*"),))
    options = Options(strategy=Strategy.PARTIAL)
    assert redactor.redact("\n" + "ab" * 10, options).counts["R"] == 3
    with pytest.raises(ResourceExhausted, match="read more than"):
        redactor.redact("\n" + "ab" * 400 + "a 1111 1111" * 1000, options)


def _folder(tmp_path, **files):
    for name, document in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    return tmp_path


RULES = {"rules": [{"name": "case", "pattern": "CASE-[0-9]{4}", "type": "case_id"}], "default_strategy": "mask"}


async def test_a_tenant_has_rules_of_its_own(tmp_path, serving):
    settings_ = RedactionSettings(tenant_rules=_folder(tmp_path, acme=RULES))
    async with serving(open_service(settings_)) as channel:
        stub = redaction_pb2_grpc.RedactionServiceStub(channel)
        request = RedactRequest(text="CASE-1234 a@b.co")
        with identity_scope(Identity(tenant="acme")):
            assert (await stub.Redact(request)).text == "******** ********"
            assert "case" in {rule.name for rule in (await stub.ListRules(ListRulesRequest())).rules}
            taken = await stub.ValidateRules(
                ValidateRulesRequest(rules=[RedactionRule(name="case", type="C", pattern="abc")])
            )
            assert not taken.valid
        with identity_scope(Identity(tenant="other")):
            assert (await stub.Redact(request)).text == "CASE-1234 [REDACTED:EMAIL]"


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"rules": [RULES["rules"][0] | {"pattern": "(?!x)abc"}]}, "look-around"),
        ({"rules": [RULES["rules"][0] | {"trigger": "CASE"}]}, "trigger"),
        ({"rules": [RULES["rules"][0] | {"name": "email_address"}]}, "choose another"),
        ({"rules": []}, "at least one"),
    ],
)
async def test_a_tenants_file_that_cannot_be_used_keeps_the_service_from_starting(tmp_path, document, says):
    with pytest.raises(FailedPrecondition) as caught:
        async with open_service(RedactionSettings(tenant_rules=_folder(tmp_path, acme=document))):
            pass
    assert says in caught.value.message
    assert "acme.json" in caught.value.message


async def test_a_folder_of_tenants_that_is_missing_is_refused(tmp_path):
    with pytest.raises(FailedPrecondition, match="DJP_REDACTION_TENANT_RULES"):
        async with open_service(RedactionSettings(tenant_rules=tmp_path / "none")):
            pass


PATTERNS = st.recursive(
    st.sampled_from(
        [
            "a",
            "b",
            "é",
            r"\d",
            "[a-c]",
            "[^a]",
            ".",
            r"\x{e9}",
            r"\.",
            r"\Qa.b\E",
            r"\b",
            "^",
            "$",
            r"\pL",
            "[]a]",
            "[[:digit:]x]",
        ]
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "{,2}"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
        inner.map(lambda part: f"({part})"),
        inner.map(lambda part: f"(?i:{part})"),
        inner.map(lambda part: f"(?P<n>{part})(?s)."),
    ),
    max_leaves=8,
)


@settings(max_examples=1500, deadline=None)
@given(pattern=PATTERNS, text=st.text(alphabet="abcAB1.é\n,2{}", max_size=12))
def test_a_rule_finds_what_re2_finds(pattern, text):
    try:
        redactor = Redactor(RuleSet((Rule("any", "ANY", pattern),)))
    except RuleRefused:
        return
    assert_finds_as_re2(redactor, pattern, text)


@settings(max_examples=300, deadline=None)
@given(
    pattern=st.sampled_from(
        [
            "a[ab]{40}c",  # too large for one pass: tried at every place
            r"\ba[ab]{40}\b",
            "a(?:b|(b[ab]{40}))c",
            "([ab]+?)[ab]*c",
            "[ab]*([ab]*c)",
            "(?:(a+)b)+c",
            "a?(?:(b)|c)c?",
            "(?i)(?:^|[^a])(A+B*?)(?:$|b)",
        ]
    ),
    text=st.text(alphabet="ababaBc ", max_size=120),
)
def test_a_group_is_found_where_re2_finds_it(pattern, text):
    assert_finds_as_re2(Redactor(RuleSet((Rule("any", "ANY", pattern),))), pattern, text)


def assert_finds_as_re2(redactor, pattern, text):
    """What RE2 finds is hidden, and nothing is found where RE2 finds nothing in any part of the text."""
    compiled = re2.compile(pattern)
    group = min(compiled.groups, 1)
    hidden = {place for found in redactor.redact(text).findings for place in range(found.start, found.end)}
    for match in compiled.finditer(text):
        assert set(range(*match.span(group))) <= hidden or match.start(group) < 0
    if not any(compiled.search(text[start:end]) for start in range(len(text)) for end in range(start, len(text) + 1)):
        assert not hidden


@settings(max_examples=1500, deadline=None)
@given(pattern=PATTERNS, text=st.text(alphabet="abcAB1.é\n,2{}", max_size=12))
def test_every_beginning_of_a_match_is_known_as_one(pattern, text):
    try:
        matcher = re2.compile(pattern.encode())
        known = re2.compile(f"(?:{beginnings(pattern)})".encode())
    except re2.error:
        return
    for start in range(len(text)):
        match = matcher.match(text[start:].encode())
        if match:
            found = match[0].decode()
            assert len(found) >= 0 if matcher.groups else len(found) >= least_length(pattern)
            for end in range(len(found) + 1):
                assert known.fullmatch(found[:end].encode()), (pattern, found, found[:end])
