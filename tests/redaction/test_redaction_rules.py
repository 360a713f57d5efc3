"""Every built-in rule finds its examples and leaves its counter-examples alone, as a caller sees it."""

from __future__ import annotations

from djp.v1.redaction_pb2 import ListRulesRequest, RedactRequest

KINDS = {
    "API_KEY",
    "AWS_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "EMAIL",
    "PHONE",
    "SSN",
    "CREDIT_CARD",
    "IP",
    "URL",
    "JWT",
    "PRIVATE_KEY",
    "GITHUB_TOKEN",
    "GITLAB_TOKEN",
    "SLACK_TOKEN",
    "GOOGLE_KEY",
    "TOKEN",
    "PASSWORD",
    "IBAN",
}


async def test_the_rules_tell_what_they_are_and_cover_every_kind(stub):
    listed = await stub.ListRules(ListRulesRequest())
    assert {rule.type for rule in listed.rules} == KINDS
    assert len({rule.name for rule in listed.rules}) == len(listed.rules)
    for rule in listed.rules:
        assert rule.description
        assert rule.pattern
        assert rule.source.startswith("https://")
        assert rule.examples
        assert rule.counter_examples


async def test_every_example_is_found_and_no_counter_example_is(stub):
    listed = await stub.ListRules(ListRulesRequest())
    for rule in listed.rules:
        for example in rule.examples:
            answer = await stub.Redact(RedactRequest(text=example))
            assert rule.name in {finding.rule for finding in answer.findings}, example
            assert answer.counts[rule.type] >= 1
            assert answer.rules_version == listed.rules_version
        for example in rule.counter_examples:
            answer = await stub.Redact(RedactRequest(text=example))
            assert rule.name not in {finding.rule for finding in answer.findings}, example


async def test_every_example_is_found_beside_any_punctuation(stub, redactor):
    beside = [
        "(%s)",
        "[%s]",
        "<%s>",
        '"%s"',
        "“%s”",
        "「%s」",
        "`%s`",
        "**%s**",
        "%s,",
        "%s;",
        "%s!",
        "%s?",
        "…%s…",
        "\n%s\r\n",
    ]
    beside += ["\x00%s\x00", "\u202e%s\u202c", "🙂%s🙂", "电话 %s。", "| %s |"]
    for rule in (await stub.ListRules(ListRulesRequest())).rules:
        for example in rule.examples:
            if "\n" in example or "[" in example:
                continue
            for frame in beside:
                found = redactor.redact(frame % example).findings
                assert rule.type in {finding.rule.type for finding in found}, (rule.name, frame % example)
