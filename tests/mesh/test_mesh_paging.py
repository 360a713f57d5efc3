"""Page tokens: they come back as they went out, and nothing else is taken for one."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djp.mesh.errors import InvalidInput
from djp.mesh.paging import page_token, read_page_token


@given(st.integers(-(2**63) + 1, 2**63 - 1), st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_token_comes_back_as_it_went_out(number, text):
    assert read_page_token(page_token(number, text), int, str) == (number, text)


def test_the_first_page_has_no_place():
    assert read_page_token("", int, str) is None


@pytest.mark.parametrize(
    "token",
    [
        "%%%",
        "ÄÖÜ",
        page_token("1", "a"),
        page_token(True, "a"),
        page_token(1),
        page_token(1, "a", "b"),
        page_token(2**63, "a"),
        base64.urlsafe_b64encode(b'[1, "\\ud800"]').decode(),
        base64.urlsafe_b64encode(b'{"1": "a"}').decode(),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    ],
)
def test_what_is_not_of_this_list_is_refused(token):
    with pytest.raises(InvalidInput) as refused:
        read_page_token(token, int, str)
    assert refused.value.field == "page_token"
