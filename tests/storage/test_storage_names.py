"""Names of artifacts and the files they become."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djp_storage.names import file_name, name_violations

NAMES = st.one_of(
    st.text(min_size=1, max_size=200),
    st.text("aA%-.0ü", min_size=1, max_size=6),
    st.sampled_from(["con", "CON", "nul.txt", "%63on", "lpt9.tar.gz", "x" * 200, "ü" * 200, "ü" * 199 + "v"]),
)


def accepted(name: str) -> bool:
    return not list(name_violations(name, "name"))


@given(NAMES.filter(accepted))
def test_a_file_name_is_safe_on_any_file_system(name: str) -> None:
    made = file_name(name)
    assert set(made) <= set(string.ascii_lowercase + string.digits + "._-%")
    assert 0 < len(made) <= 240
    assert not made.startswith(".")
    assert not made.endswith(".")
    assert made.partition(".")[0] not in {"con", "prn", "aux", "nul", "com1", "lpt9"}


@given(NAMES.filter(accepted), NAMES.filter(accepted))
def test_different_names_have_different_files(one: str, other: str) -> None:
    assert (file_name(one) == file_name(other)) == (one == other)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=250))
def test_no_accepted_name_leaves_its_folder(name: str) -> None:
    if accepted(name):
        assert "/" not in name
        assert "\0" not in name
        assert name not in {".", ".."}
        assert len(name) <= 200


@pytest.mark.parametrize("name", ["report.json", "0190b5c4-7d3e-7000-8000-000000000000.json", "a_b-c.tar.gz"])
def test_common_names_stay_as_they_are(name: str) -> None:
    assert file_name(name) == name
