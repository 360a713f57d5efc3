"""What holds for every text, looked for in nasty alphabets."""
# ruff: noqa: RUF001  texts in other scripts are the point here

from __future__ import annotations

import pytest
import re2
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from djp_redaction import _engine
from djp_redaction.model import Options, Strategy
from djp_redaction.validators import VALIDATORS

PIECES = [
    "admin@example.com",
    "a@b.co",
    "@",
    ".",
    "..",
    "-",
    "_",
    " ",
    "\n",
    "\r\n",
    "\x00",
    "\u200b",
    "\u00ad",
    "\u00a0",
    "\u2013",
    "é",
    "e\u0301",
    "日本",
    "🙂",
    "１２",
    "http://",
    "https://x.y/",
    "(",
    ")",
    "[",
    "]",
    "<",
    ">",
    "{",
    "'",
    '"',
    "\\n",
    ",",
    "/",
    "212-555-0123",
    "(212) 555-0123",
    "+1",
    "1",
    "555",
    "0123",
    "4111111111111111",
    "4111 1111 1111 1111",
    "3782 822463 10005",
    "078-05-1120",
    "10.0.0.1",
    "1.1",
    "255",
    "sk-",
    "sk-ant-api03-abcdefghijklmnop",
    "sk-abcdefghijklmnopqrstuvwxyz",
    "AKIAIOSFODNN7EXAMPLE",
    "secret key: ",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "phone ",
    "SSN ",
    "078051120",
    "2125550123",
    "eyJhbGciOiJub25lIn0",
    ".eyJpc3MiOiJqb2UifQ",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "MIIEvQIBADANBgkqhkiG9w0",
    "[REDACTED:EMAIL]",
    "[REDACTED:",
    "EMAIL]",
    "[Title 10.0.0.1]",
    "Title 10.0.0.1",
    "x",
    "A",
    "b9",
    *(
        "DE89 3704 0044 0532 0130 00",
        "GB29NWBK60161331926819",
        "+44 20 7946 0958",
        "2001:db8::1",
        "::",
        ":",
        "fe80::",
        "/24",
    ),
    *("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "xoxb-1234567890-abcdefghij", "glpat-abcdefghij_0123456789", "AIza"),
    *(
        "example.com",
        ".com",
        "www.",
        "google.co.il",
        "password=",
        "secret: ",
        '"quoted"',
        "hunter2-rocks",
        "Bearer ",
        "${X}",
    ),
    *("!", "#", "*", "**", "********", "***", "@[10.0.0.1]", "078.05.1120", ", ext 12", "$", "%", "=", "`"),
]
texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.text(alphabet="a@.b-_/:'()[]+ 1459\u00e9\u2013\n", max_size=60),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "ignore").decode()),
)


TITLES = st.lists(st.sampled_from(["Title 10.0.0.1", "a@b.co", "x 1", "", "é http://x.y/"]), max_size=3)


@pytest.mark.parametrize("strategy", list(Strategy))
@settings(max_examples=300, deadline=None)
@given(text=texts, titles=TITLES)
@example(text="(212) 555-0123" * 40, titles=[])
@example(text="a@b.co[a@b.co]a@b.co", titles=["a@b.co"])
@example(text="http://a.b/ad***@co***/c ********a@b.co* [EMAIL_01234567]x***y", titles=[])
def test_redaction_is_idempotent_and_its_findings_tell_exactly_what_changed(redactor, strategy, text, titles):
    options = Options(strategy, titles=tuple(titles))
    once = redactor.redact(text, options, b"key")
    assert redactor.redact(once.text, options, b"key").text == once.text

    rebuilt, end = "", 0
    for finding in once.findings:
        assert end <= finding.start < finding.end <= len(text)
        rebuilt += text[end : finding.start] + finding.replacement
        end = finding.end
    assert rebuilt + text[end:] == once.text
    assert sum(once.counts.values()) == len(once.findings)
    for title in titles:
        assert once.text.count(f"[{title}]") >= text.count(f"[{title}]")


@settings(max_examples=400, deadline=None)
@given(text=texts)
def test_triggers_miss_nothing_that_the_patterns_find(redactor, text):
    """The triggers are a short cut: whatever RE2 finds anywhere without them starts inside a finding."""
    assume("[REDACTED:" not in text)
    data = _engine.prepared(text)[0].encode()
    findings = redactor.redact(text).findings
    for rule in redactor.rule_set.rules:
        pattern = re2.compile(rule.pattern.encode())
        place = pattern.search(data)
        while place:
            start, end = place.span(min(pattern.groups, 1))
            validator = VALIDATORS.get(rule.validation)
            if end > start and (validator is None or validator(data[start:end])):
                at = len(data[:start].decode())
                assert any(finding.start <= at < finding.end for finding in findings), rule.name
            place = pattern.search(data, place.start() + 1)


@settings(max_examples=200, deadline=None)
@given(before=texts, after=texts)
def test_what_stands_behind_spaces_is_found_whatever_stands_around(redactor, before, after):
    secret = "sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789"
    assert secret not in redactor.redact(f"{before} {secret} {after}").text
