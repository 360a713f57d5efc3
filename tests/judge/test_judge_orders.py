"""In which order drafts are shown."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise

import pytest

from djp_judge.orders import label, showing_order

SIZES = range(1, 17)


def ids(size: int) -> list[str]:
    return [f"d{number}-r1" for number in range(size)]


@pytest.mark.parametrize("size", SIZES)
def test_every_order_shows_every_draft_once(size: int) -> None:
    for showing in range(256):
        assert sorted(showing_order(ids(size), 5, showing)) == sorted(ids(size))


@pytest.mark.parametrize("size", SIZES)
def test_within_as_many_orders_as_drafts_each_takes_each_place_once(size: int) -> None:
    for start in (0, size):
        square = [showing_order(ids(size), 5, start + row) for row in range(size)]
        for place in range(size):
            assert {order[place] for order in square} == set(ids(size))


@pytest.mark.parametrize("size", SIZES)
def test_within_twice_as_many_each_stands_before_each_other_equally_often(size: int) -> None:
    before: Counter[tuple[str, str]] = Counter()
    following: Counter[tuple[str, str]] = Counter()
    for showing in range(2 * size):
        order = showing_order(ids(size), 5, showing)
        before.update(combinations(order, 2))
        following.update(pairwise(order))
    assert all(count == size for count in before.values())
    assert all(count == 2 for count in following.values())


def test_two_drafts_change_places_from_one_order_to_the_next() -> None:
    assert showing_order(["a", "b"], 1, 0) == showing_order(["a", "b"], 1, 1)[::-1]


def test_the_seed_decides_and_the_order_of_the_request_does_not() -> None:
    assert showing_order(ids(6), 1, 3) == showing_order(ids(6)[::-1], 1, 3)
    assert len({showing_order(ids(6), seed, 0) for seed in range(50)}) > 25


def test_over_many_seeds_no_draft_is_favoured_with_the_first_place() -> None:
    first = Counter(showing_order(ids(4), seed, 0)[0] for seed in range(4000))
    assert all(900 < count < 1100 for count in first.values())  # fixed seeds: the same counts every time


def test_no_drafts_have_no_order() -> None:
    assert showing_order([], 1, 0) == ()


def test_labels_tell_nothing_but_the_place() -> None:
    assert [label(place) for place in (0, 1, 15)] == ["Draft A", "Draft B", "Draft P"]
