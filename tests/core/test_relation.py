"""How the shapes of a pair may relate, in words."""

from __future__ import annotations

import pytest

from sdviewer.core.relation import relation


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ((768, 3072), (3072, 768), "B may be A transposed"),
        ((3, 3, 64, 128), (128, 64, 3, 3), "B may be A with its dimensions in the order 3, 2, 0, 1 (permuted)"),
        ((768, 768), (2304, 768), "B has three times the rows of A (as Q, K and V in one)"),
        ((2304,), (768,), "A has three times the elements of B (as Q, K and V in one)"),
        ((64, 128), (64, 256), "B has twice the columns of A"),
        ((32, 3, 3, 3), (32, 6, 3, 3), "B has twice the size of A in dimension 1"),
        ((50257, 768), (50259, 768), "B has two rows more than A"),
        ((1001, 4), (1000, 4), "A has one row more than B"),
        ((1000,), (37,), "A has 963 elements more than B"),
        ((8, 3, 7, 7), (8, 3, 11, 7), "B is longer by 4 in dimension 2"),
        ((768, 1, 1), (768,), "B is A without two dimensions of size 1 (squeezed)"),
        ((768,), (1, 768), "B is A with one dimension of size 1 more (unsqueezed)"),
        ((1, 8, 4), (8, 1, 4), "B is A with its dimensions of size 1 at other places"),
        ((768, 3, 16, 16), (768, 768), "Both have the same 589,824 elements: B may be A reshaped"),
        ((768, 768), (1536, 1536), "B has twice the size of A in two dimensions"),
        ((0, 4), (7, 4), "A is empty"),
    ],
)
def test_that_what_may_have_been_done_is_said(a: tuple[int, ...], b: tuple[int, ...], words: str) -> None:
    assert relation(a, b) == words


@pytest.mark.parametrize(
    ("a", "b", "ways"),
    [
        ((1, 197, 768), (1, 577, 768), "14 × 14 and one more in A, 24 × 24 and one more in B"),
        ((1, 196, 768), (1, 256, 768), "14 × 14 in A, 16 × 16 in B"),
        ((1, 198, 192), (1, 578, 192), "14 × 14 and two more in A, 24 × 24 and two more in B"),
        ((169, 3), (529, 3), "13 × 13 in A, 23 × 23 in B"),
    ],
)
def test_that_positions_on_square_grids_are_known_by_their_roots(
    a: tuple[int, ...], b: tuple[int, ...], ways: str
) -> None:
    assert relation(a, b) == f"They may be positions on square grids of another size: {ways}"


def test_that_widths_of_layers_and_a_few_classes_are_no_grids() -> None:
    assert relation((64, 10), (256, 10)) == "B has four times the rows of A"
    assert relation((10, 64), (5, 64)) == "A has twice the rows of B"


@pytest.mark.parametrize(("a", "b"), [((3, 4), (3, 4)), ((3, 4), (5, 7)), ((), (3,)), ((3, 4), (5, 7, 2))])
def test_that_nothing_is_said_where_nothing_simple_fits(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    assert relation(a, b) == ""


def test_that_many_dimensions_are_not_gone_through_in_every_order() -> None:
    many = tuple(range(2, 22))
    assert relation(many, many[::-1]).startswith("Both have the same")
