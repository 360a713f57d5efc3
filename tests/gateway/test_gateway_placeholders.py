"""Placeholders alone: which value has which name, what is covered, and how values come back to their places."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from djp.mesh.errors import ResourceExhausted
from djp_gateway.placeholders import MAX_CHARS, Found, Placeholders, Swapped, type_of


def found(text: str, **values: str) -> list[Found]:
    """Every place of the values in a text, by type."""
    places = [
        Found(type_, one.start(), one.end()) for type_, value in values.items() for one in re.finditer(value, text)
    ]
    return sorted(places, key=lambda one: one.start)


@pytest.mark.parametrize(
    ("type_", "one", "other", "same"),
    [
        ("EMAIL", "Jane@X.org", "jane@x.org", True),
        ("EMAIL", "jane@x.org", "jan\u200be@x.org", True),
        ("EMAIL", "jane@x.org", "\uff4aane@x.org", True),
        ("CREDIT_CARD", "4111 1111", "4111-1111", True),
        ("IBAN", "DE89 3704", "de893704", True),
        ("PHONE", "(555) 123-4567", "555.123.4567", True),
        ("API_KEY", "sk-Abc", "sk-abc", False),
        ("PASSWORD", "a-b-c-d-e", "abcde", False),
        ("EMAIL", "jane@x.org", "joe@x.org", False),
    ],
)
def test_the_same_value_has_the_same_name(type_: str, one: str, other: str, same: bool) -> None:
    text = f"{one} {other}"
    places = [Found(type_, 0, len(one)), Found(type_, len(one) + 1, len(text))]
    placeholders = Placeholders()
    placeholders.hide({text: places})
    second = 1 if same else 2
    assert placeholders.covered(text, places) == f"[{type_}_1] [{type_}_{second}]"
    assert placeholders.values[f"{type_}_1"] == one


def test_names_follow_the_order_of_the_texts_and_are_the_same_every_time() -> None:
    texts = {text: found(text, EMAIL=r"\w@\w", IP=r"\d\.\d") for text in ("b@b 1.1", "a@a b@b 2.2", "1.1 a@a")}
    covered = []
    for _ in range(2):
        placeholders = Placeholders()
        placeholders.hide(texts)
        covered.append([placeholders.covered(text, places) for text, places in texts.items()])
    assert covered[0] == covered[1] == ["[EMAIL_1] [IP_1]", "[EMAIL_2] [EMAIL_1] [IP_2]", "[IP_1] [EMAIL_2]"]


def test_values_keep_the_names_that_they_had() -> None:
    text = "new@x B@b EMAIL_3"
    placeholders = Placeholders({"EMAIL_2": "b@b", "EMAIL_1": "anna@a"})
    places = found(text, EMAIL=r"\w+@\w")
    placeholders.hide({text: places})
    assert placeholders.covered(text, places) == "[EMAIL_4] [EMAIL_2] EMAIL_3"
    assert placeholders.covered("of anna@a", []) == "of [EMAIL_1]"


def test_what_a_text_calls_so_already_is_no_placeholder() -> None:
    text = "a@a is not EMAIL_1, nor [EMAIL_3], and EMAIL_22 is neither; b@b c@c"
    placeholders = Placeholders()
    places = found(text, EMAIL=r"\w@\w")
    placeholders.hide({"elsewhere [EMAIL_2]": [], text: places})
    covered = placeholders.covered(text, places)
    assert covered == "[EMAIL_4] is not EMAIL_1, nor [EMAIL_3], and EMAIL_22 is neither; [EMAIL_5] [EMAIL_6]"
    assert placeholders.restored(covered).text == text


def test_a_value_is_covered_word_for_word_where_no_rule_finds_it() -> None:
    first, second = "password: hunter2x.", "hunter2x, (hunter2x) not xhunter2x or hunter2xx; pre-hunter2x: hunter2x"
    placeholders = Placeholders()
    placeholders.hide({first: found(first, PASSWORD="hunter2x"), second: []})
    assert placeholders.covered(second, []) == (
        "[PASSWORD_1], ([PASSWORD_1]) not xhunter2x or hunter2xx; pre-[PASSWORD_1]: [PASSWORD_1]"
    )


@pytest.mark.parametrize(
    ("beginning", "value", "rest"),
    [
        ("secret: ", "x" * 200, "x" * 190_000),
        ("secret: ", "-xx" * 60 + "-x", "-xx" * 60_000),
        ("secret: ", "...a", "." * 200_000),
        ("secret: ", "a b " * 50 + "a", "a b " * 60_000),
    ],
)
def test_looking_for_values_takes_no_longer_for_who_wants_it_to(beginning: str, value: str, rest: str) -> None:
    """Hangs for minutes where a search begins anew at every place."""
    text = f"{beginning}{value}. {rest}."
    placeholders, values = Placeholders(), [f"{value[:n]}b" for n in range(4, 200)]
    texts = {text: [Found("S", len(beginning), len(beginning) + len(value))]}
    texts |= {one: [Found("S", 0, len(one))] for one in values}
    placeholders.hide(texts)
    covered = placeholders.covered(text, texts[text])
    assert covered.startswith(f"{beginning}[S_1]. ")
    assert placeholders.restored(covered).text == text


def test_of_values_within_each_other_the_longer_one_counts() -> None:
    text, other = "key abcd-efgh and abcd", "abcd-efgh abcd"
    placeholders = Placeholders()
    placeholders.hide({text: [Found("KEY", 4, 13), Found("KEY", 18, 22)], other: []})
    assert placeholders.covered(other, []) == "[KEY_1] [KEY_2]"


def test_a_title_has_no_brackets_of_its_own_and_comes_back() -> None:
    title = "Files of a@a, xb@bx"
    placeholders = Placeholders()
    places = [Found("EMAIL", 9, 12), Found("EMAIL", 15, 18)]
    placeholders.hide({title: places})
    assert placeholders.covered(title, places, bare=True) == "Files of EMAIL_1, x EMAIL_2 x"
    assert placeholders.named(title, places) == {"EMAIL_1": "a@a", "EMAIL_2": "b@b"}
    text = "See [Files of EMAIL_1] or [EMAIL_1]: [EMAIL_2], EMAIL_1, [EMAIL_1](mailto:[EMAIL_1])"
    assert (
        placeholders.restored(text, {"Files of EMAIL_1"}).text
        == "See [Files of a@a] or a@a: b@b, a@a, [a@a](mailto:a@a)"
    )
    assert placeholders.restored("[EMAIL_1] [EMAIL_2]", {"EMAIL_1"}).text == "[a@a] b@b"
    assert placeholders.restored("[EMAIL_1]", (), {"EMAIL_1": "A@A"}).text == "A@A"


@pytest.mark.parametrize(
    "text", ["EMAIL_10", "EMAIL_1_1", "XEMAIL_1", "EMAIL_1x", "email_1", "EMAIL_", "[REDACTED:EMAIL]", "EMAIL_\u0661"]
)
def test_what_only_looks_like_a_name_stays(text: str) -> None:
    placeholders = Placeholders({"EMAIL_1": "a@a"})
    assert placeholders.restored(text).text == text
    assert list(placeholders.names_in(text)) == []


def test_a_text_that_would_grow_beyond_all_bounds_is_refused() -> None:
    placeholders = Placeholders({"PRIVATE_KEY_1": "x" * 10_000})
    with pytest.raises(ResourceExhausted, match=str(MAX_CHARS)):
        placeholders.restored("[PRIVATE_KEY_1] " * 1000)


def test_types_may_end_like_names() -> None:
    text = "abc abd"
    placeholders = Placeholders()
    places = [Found("KEY_1", 0, 3), Found("KEY", 4, 7)]
    placeholders.hide({text: places})
    covered = placeholders.covered(text, places)
    assert covered == "[KEY_1_1] [KEY_1]"
    assert placeholders.restored(covered).text == text
    assert [type_of(name) for name in placeholders.names_in(covered)] == ["KEY_1", "KEY"]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # how busy the machine is says nothing
@given(
    st.lists(
        st.tuples(st.text("ab_[]1 é👩‍💻\n", max_size=5), st.text("xyz@\u0301🙂", min_size=3, max_size=8)), max_size=8
    ),
    st.text("ab_[]1 ", max_size=5),
)
def test_what_is_covered_comes_back(parts: list[tuple[str, str]], end: str) -> None:
    text, places = "", []
    for before, value in parts:
        text += f"{before} "
        places.append(Found("SECRET", len(text), len(text) + len(value)))
        text += f"{value} "
    text += end
    placeholders = Placeholders()
    placeholders.hide({text: places})
    covered = placeholders.covered(text, places)
    assert not any(value in covered for _, value in parts)
    # Only a value between brackets of the text's own comes back without those; here a blank parts them.
    assert placeholders.restored(covered).text == text


@given(
    st.lists(
        st.tuples(
            st.text("ab", max_size=4), st.text("xy", min_size=1, max_size=4), st.text("zw", min_size=1, max_size=6)
        ),
        max_size=6,
    )
)
def test_places_lead_there_and_back(parts: list[tuple[str, str, str]]) -> None:
    old, swaps = "", []
    for kept, taken, word in parts:
        old += kept
        swaps.append((len(old), len(old) + len(taken), word))
        old += taken
    swapped = Swapped(old, swaps)
    assert swapped.text == "".join(kept + word for kept, _, word in parts)
    at = 0
    for kept, taken, _word in parts:
        if kept:
            place = swapped.place(at, at + len(kept))
            assert place is not None
            assert swapped.text[slice(*place)] == kept
            assert swapped.origin(*place) == (at, at + len(kept))
        if len(taken) > 1:
            assert swapped.place(at + len(kept) + 1, at + len(kept) + len(taken)) is None
        at += len(kept) + len(taken)
