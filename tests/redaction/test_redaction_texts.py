"""Whole texts: what is replaced, what is left, and where one finding ends and the next begins."""
# ruff: noqa: RUF001  texts in other scripts are the point here

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from djp_redaction import _engine
from djp_redaction.model import Options, Strategy

KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Contact admin@company.com or call (555) 123-4567", "Contact [REDACTED:EMAIL] or call [REDACTED:PHONE]"),
        ("", ""),
        # Several in a row
        ("a@b.co,c@d.co;e@f.co", "[REDACTED:EMAIL],[REDACTED:EMAIL];[REDACTED:EMAIL]"),
        ("a@b.co@c.co", "[REDACTED:EMAIL]@c.co"),
        ("4111 1111 1111 1111 5500 0000 0000 0004", "[REDACTED:CREDIT_CARD] [REDACTED:CREDIT_CARD]"),
        ("4111111111111111 123", "[REDACTED:CREDIT_CARD] 123"),
        ("4111 1111 1111 1111 123", "[REDACTED:CREDIT_CARD] 123"),
        ("212-555-0123, 212-555-0124", "[REDACTED:PHONE], [REDACTED:PHONE]"),
        ("(212) 555-0123(212) 555-0124", "[REDACTED:PHONE][REDACTED:PHONE]"),
        ("10.0.0.1/24,10.0.0.2:80", "[REDACTED:IP],[REDACTED:IP]:80"),
        ("Access key ID,Secret access key\nAKIAIOSFODNN7EXAMPLE," + KEY, None),
        # One inside the other
        ("https://x.y/?mail=a@b.co&ip=10.0.0.1 end", "[REDACTED:URL] end"),
        ("see http://x.y/a'b@example.com end", "see [REDACTED:URL] end"),
        ("-----BEGIN PRIVATE KEY-----\na@b.co\n-----END PRIVATE KEY----- end", "[REDACTED:PRIVATE_KEY] end"),
        # Addresses and what closes them
        ("(see https://example.com/a_(b).)", "(see [REDACTED:URL].)"),
        ("[here](https://example.com/a)[there](http://b.c)", "[here]([REDACTED:URL])[there]([REDACTED:URL])"),
        ("<a href='https://example.com'>x</a>", "<a href='[REDACTED:URL]'>x</a>"),
        ("http://[::1]:8080/x, and", "[REDACTED:URL], and"),
        ('{"u":"https://example.com/a\\n"}', '{"u":"[REDACTED:URL]\\n"}'),
        ("请看http://example.com/路径，谢谢", "请看[REDACTED:URL]，谢谢"),
        ("http://a)http://b)", "[REDACTED:URL])[REDACTED:URL])"),
        # Other scripts
        ("联系admin@example.com吧", "联系[REDACTED:EMAIL]吧"),
        ("电话212-555-0123。", "电话[REDACTED:PHONE]。"),
        ("ａｄｍｉｎ＠ｅｘａｍｐｌｅ．ｃｏｍ！", "[REDACTED:EMAIL]！"),
        ("４１１１－１１１１－１１１１－１１１１", "[REDACTED:CREDIT_CARD]"),
        ("212\u2013555\u20130123 and 212\u00a0555\u00a00123", "[REDACTED:PHONE] and [REDACTED:PHONE]"),
        ("jo\u0308rg@example.com", "[REDACTED:EMAIL]"),
        # What nobody sees hides neither what it stands in nor what it stands beside
        ("ad\u200bmin@example.com", "[REDACTED:EMAIL]"),
        ("admin@exam\u00adple.com!", "[REDACTED:EMAIL]!"),
        ("sk-\u2060ant-api03-abcdefghijklmnopqrstuvwxyz0123456789 ok", "[REDACTED:API_KEY] ok"),
        ("\ufeffadmin@example.com\u200b", "\ufeff[REDACTED:EMAIL]\u200b"),
        ("Call 555-123-4567\u200bnow", "Call [REDACTED:PHONE]\u200bnow"),
        # A key that was cut off, and what comes after it
        ("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIrYSSNQFaA2Hwf1\nand prose", "[REDACTED:PRIVATE_KEY]\nand prose"),
        ("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIrYSSNQFaA2Hwf1\nMHc", "[REDACTED:PRIVATE_KEY]"),
        (
            "> -----BEGIN EC PRIVATE KEY-----\n> MHcCAQEEIIrYSSNQFaA2Hwf1\n> and so",
            "> [REDACTED:PRIVATE_KEY]\n> and so",
        ),
        # A finding frees what it touched
        ("078-05-1120http://x.y", "[REDACTED:SSN][REDACTED:URL]"),
        ("0::m.com", "[REDACTED:IP][REDACTED:URL]"),
        ("e.com::1", "[REDACTED:URL][REDACTED:IP]"),
        # Hidden characters part words and hide letters at once
        ("4111 1111 1111 1111\u200badmin@example.com", "[REDACTED:CREDIT_CARD]"),
        # The strongest rule of those that begin at one place gives the type
        ("ANTHROPIC_API_KEY=sk-ant-admin01-abcdefghij0123456789", "ANTHROPIC_API_KEY=[REDACTED:API_KEY]"),
        # Labels are never redacted again, and only ours are labels
        ("http://a.b/[REDACTED:EMAIL]/c", "[REDACTED:URL][REDACTED:EMAIL]/c"),
        ("[REDACTED:AKIAIOSFODNN7EXAMPLE]", "[REDACTED:[REDACTED:AWS_ACCESS_KEY]]"),
        ("[REDACTED:a@b.co]", "[REDACTED:[REDACTED:EMAIL]]"),
    ],
)
def test_redacts(redactor, text, redacted):
    answer = redactor.redact(text)
    if redacted is None:
        assert KEY not in answer.text
        assert "AKIA" not in answer.text
    else:
        assert answer.text == redacted
    assert redactor.redact(answer.text).text == answer.text


@pytest.mark.parametrize(
    "text",
    [
        "Order 112-3456789-0123456, invoice 2024-000123, ticket #5551234567",
        "Versions 1.2.3, 1.2.3.4567 and 10.15.7.1.2; Python 3.11.7",
        "9fceb02d0ae598e95dc970b74767f19372d61af8 550e8400-e29b-41d4-a716-446655440000",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "2024-10-20T12:34:56.789012Z, 20.10.2024, 1731234567890, 12:34:56.789",
        "3.14159265358979, 0.4111111111111111, 1,234,567.89, 4111.1111",
        "cost_nano_usd: 4111111111, 18_446_744_073_709_551_615, -12345678901234567890",
        "ISBN 978-3-16-148410-0, IBAN-like DE00 1234 5678 9012 3456 78",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
        "| 100 | 200 | 3000 |\n| 212 | 555 | 0123 |",
        "user@localhost, @handle, name@1.2.3, a[@b], git log @{u}",
        "http:// and https:// are schemes",
        "[Budgets], [1], [REDACTED], [REDACTED:EMAIL]",
        "4111111111111112 is no card, nor is 94111111111111111 or 4111-1111-1111-1111-1",
        "000-12-3456, 666-12-3456 and 900-12-3456 were never issued",
        "\x00\x01\r\n\u200b\u202e\ufeff\U0001f600 e\u0301 \U0010ffff",
    ],
)
def test_leaves_numbers_and_names_alone(redactor, text):
    assert redactor.redact(text).text == text


@pytest.mark.parametrize(
    ("title", "text", "redacted"),
    [
        (
            "Call 212-555-0123",
            "As [Call 212-555-0123] says, 212-555-0123.",
            "As [Call 212-555-0123] says, [REDACTED:PHONE].",
        ),
        ("http://x.y/a", "[http://x.y/a](http://x.y/a)", "[http://x.y/a]([REDACTED:URL])"),
        (
            "a@b.co",
            "[a@b.co]a@b.co [ a@b.co ] [A@b.co]",
            "[a@b.co][REDACTED:EMAIL] [ [REDACTED:EMAIL] ] [[REDACTED:EMAIL]]",
        ),
        ("RFC [10.0.0.1]", "[RFC [10.0.0.1]] [10.0.0.1]", "[RFC [10.0.0.1]] [[REDACTED:IP]]"),
        ("10.0.0.1", "http://x.y/[10.0.0.1]", "[REDACTED:URL][10.0.0.1]"),
        ("10.0.0.1", "[[10.0.0.1]] [x 10.0.0.1]", "[[10.0.0.1]] [x [REDACTED:IP]]"),
        ("Ärger\n10.0.0.1", "é [Ärger\n10.0.0.1] 10.0.0.1", "é [Ärger\n10.0.0.1] [REDACTED:IP]"),
        # Half of a span is not the span
        ("10.0.0.1 and more", "[10.0.0.1 and more or less]", "[[REDACTED:IP] and more or less]"),
        ("", "[] a@b.co", "[] [REDACTED:EMAIL]"),
    ],
)
def test_a_kept_title_comes_through_byte_for_byte_and_nothing_else_does(redactor, title, text, redacted):
    assert redactor.redact(text, Options(titles=(title, "Another Title"))).text == redacted
    assert redactor.redact(redacted, Options(titles=(title,))).text == redacted


_PARTS = st.lists(st.sampled_from(["[", "]", "é", "1.2.3.4"]), min_size=1, max_size=8).map("".join)


@settings(max_examples=500, deadline=None)
@given(titles=st.lists(_PARTS, max_size=6), text=st.lists(_PARTS, max_size=5).map("".join))
def test_titles_in_each_other_are_all_kept_and_held_back(redactor, titles, text):
    spans = [f"[{title}]" for title in titles]
    starts = [(start, span) for start in range(len(text)) for span in spans if text.startswith(span, start)]
    kept = {place for start, span in starts for place in range(start, start + len(span))}
    for found in redactor.redact(text, Options(titles=tuple(titles))).findings:
        assert kept.isdisjoint(range(found.start, found.end))
    begun = [at for at in range(len(text)) if any(span != text[at:] and span.startswith(text[at:]) for span in spans)]
    assert _engine.Titles(titles).unfinished(text) == min([*begun, len(text)])


def test_offsets_are_code_points_of_the_original(redactor):
    text = "🙂é: admin@example.com\r\n日本 10.0.0.1 e\u0301"
    found = redactor.redact(text).findings
    assert [text[finding.start : finding.end] for finding in found] == ["admin@example.com", "10.0.0.1"]


def test_a_name_longer_than_any_mail_server_takes_is_still_redacted(redactor):
    assert redactor.redact("x" * 200 + "@example.com!").text == "[REDACTED:EMAIL]!"
    assert redactor.redact("x" * 100_000 + "@example.com!").text.endswith("x[REDACTED:EMAIL]!")


def test_examples_side_by_side_need_few_looks(redactor, rule_set):
    """Whatever touches whatever: no chain of findings that free each other comes near the limit."""
    examples = [rule.examples[0] for rule in rule_set.rules]
    for one in examples:
        for other in examples:
            text, before = (one + other) * 20, _engine.reads()
            redactor.redact(text)
            assert _engine.reads() - before <= _engine.MOST_READS // 2 * len(text.encode())


def test_a_place_in_front_of_where_the_last_match_ends_is_looked_at_behind_it(redactor):
    found = redactor.redact("1.com/\uff11::1")
    assert (found.text, found.starts, found.ends) == ("[REDACTED:URL]", [0], [10])


def test_findings_that_free_each_other_one_by_one_are_all_found(redactor):
    text = "(212)55501234f" * 30 + "(212)5550112)"
    found = redactor.redact(text, Options(strategy=Strategy.PARTIAL))
    assert len(found.rules) == 31
