"""What stands in the place of a finding: labels, masks, parts and pseudonyms."""

from __future__ import annotations

import grpc
import pytest

from djp.mesh.identity import Identity, identity_scope
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import redaction_pb2 as pb
from djp.v1 import redaction_pb2_grpc
from djp_redaction.model import Options, Strategy
from djp_redaction.server import open_service
from djp_redaction.settings import RedactionSettings

TEXT = "Contact admin@company.com or call (555) 123-4567"


@pytest.fixture
async def keyed(serving, monkeypatch):
    monkeypatch.setenv("DJP_REDACTION_PSEUDONYM_KEY", "k" * 32)
    async with serving(open_service(RedactionSettings())) as channel:
        yield redaction_pb2_grpc.RedactionServiceStub(channel)


async def _redacted(stub, text, **options):
    answer = await stub.Redact(pb.RedactRequest(text=text, options=pb.RedactionOptions(**options)))
    return answer.text


@pytest.mark.parametrize(
    ("strategy", "redacted"),
    [
        (pb.REDACTION_STRATEGY_UNSPECIFIED, "Contact [REDACTED:EMAIL] or call [REDACTED:PHONE]"),
        (pb.REDACTION_STRATEGY_LABEL, "Contact [REDACTED:EMAIL] or call [REDACTED:PHONE]"),
        (pb.REDACTION_STRATEGY_MASK, "Contact ******** or call ********"),
        (pb.REDACTION_STRATEGY_PARTIAL, "Contact ad***@co*** or call ***67"),
    ],
)
async def test_each_strategy_replaces_as_the_guide_shows(stub, strategy, redacted):
    assert await _redacted(stub, TEXT, strategy=strategy) == redacted


async def test_a_strategy_may_differ_by_type(stub):
    by_type = {"EMAIL": pb.REDACTION_STRATEGY_PARTIAL, "PHONE": pb.REDACTION_STRATEGY_LABEL}
    options = {"strategy": pb.REDACTION_STRATEGY_MASK, "strategy_by_type": by_type}
    assert await _redacted(stub, f"{TEXT} 10.0.0.1", **options) == (
        "Contact ad***@co*** or call [REDACTED:PHONE] ********"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a@b.co", "***@b***"),
        ("o'brien@example.ie", "o***@ex***"),
        ("jörg@müller.de", "***@***"),
        ("4111111111111111", "41***11"),
        ("10.0.0.1", "10***1"),
        ("sk-ant-api03-abcdefghijklmnopqrstuvwxyz", "sk***yz"),
    ],
)
def test_a_part_shows_letters_and_digits_of_both_ends_and_fewer_of_short_values(redactor, value, shown):
    assert redactor.redact(value, Options(Strategy.PARTIAL)).text == shown


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize(
    "text",
    [
        "**admin@company.com**, *10.0.0.1*, ********",
        "http://a.b/ad***@co***/c and 41***11 and ***",
        "078-05-1120http://x.y/[EMAIL_01234567]/z",
        "xadmin@company.comx41***114111 1111 1111 1111",
        "e\u0301 admin@company.com\u0301\u0302 👩\u200d👩admin@company.com",
    ],
)
def test_a_second_redaction_changes_nothing(redactor, strategy, text):
    options = Options(strategy)
    once = redactor.redact(text, options, b"key")
    assert once.findings
    assert redactor.redact(once.text, options, b"key").text == once.text


def test_no_grapheme_is_split(redactor):
    text = "admin@example.com\u0301\u0302!"
    redacted = redactor.redact(text)
    assert redacted.text == "[REDACTED:EMAIL]!"
    assert (redacted.findings[0].start, redacted.findings[0].end) == (0, len(text) - 1)


async def test_a_pseudonym_names_the_same_value_alike_within_a_tenant_only(keyed):
    options = {"strategy": pb.REDACTION_STRATEGY_PSEUDONYM}
    one, again, other = (await _redacted(keyed, "a@b.co a@b.co c@d.co", **options)).split()
    assert one == again != other
    assert one.startswith("[EMAIL_")
    assert await _redacted(keyed, "Ask a\u00ad@b.co", **options) == f"Ask {one}"
    with identity_scope(Identity(tenant="acme")):
        assert await _redacted(keyed, "a@b.co", **options) not in {one, other}
    assert await _redacted(keyed, f"{one}, a@b.co", **options) == f"{one}, {one}"


async def test_another_secret_gives_other_names(keyed, serving):
    options = {"strategy": pb.REDACTION_STRATEGY_PSEUDONYM}
    async with serving(open_service(RedactionSettings(pseudonym_key="x" * 32))) as channel:
        stub = redaction_pb2_grpc.RedactionServiceStub(channel)
        assert await _redacted(stub, "a@b.co", **options) != await _redacted(keyed, "a@b.co", **options)


async def test_without_a_secret_a_pseudonym_is_refused(stub):
    for options in (
        {"strategy": pb.REDACTION_STRATEGY_PSEUDONYM},
        {"strategy_by_type": {"EMAIL": pb.REDACTION_STRATEGY_PSEUDONYM}},
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _redacted(stub, "a@b.co", **options)
        error = error_from_rpc(caught.value)
        assert error.code == "FAILED_PRECONDITION"
        assert "DJP_REDACTION_PSEUDONYM_KEY" in error.message
        assert "a@b.co" not in error.message


def test_a_short_secret_is_refused():
    with pytest.raises(ValueError, match="pseudonym_key"):
        RedactionSettings(pseudonym_key="short")
