"""Numbers and untrusted text, as people see them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdviewer.core import text


@pytest.mark.parametrize(
    ("n", "shown"),
    [
        (0, "0"),
        (768, "768"),
        (999, "999"),
        (1000, "1.00 K"),
        (1536, "1.54 K"),
        (999_499, "999 K"),
        (999_600, "1.00 M"),
        (86_567_656, "86.6 M"),
        (8_030_261_248, "8.03 B"),
        (2 * 10**15, "2000 T"),
    ],
)
def test_that_a_short_count_has_three_significant_digits(n: int, shown: str) -> None:
    assert text.short_count(n) == shown


@pytest.mark.parametrize(
    ("n", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (7_077_888, "6.75 MiB"),
        (1_039_138_816, "991 MiB"),
        (16_063_178_219, "14.96 GiB"),
    ],
)
def test_that_bytes_are_shown_in_powers_of_1024(n: int, shown: str) -> None:
    assert text.size(n) == shown


@pytest.mark.parametrize(
    ("x", "shown"),
    [
        (0.0, "0"),
        (-0.5892, "\u22120.5892"),
        (-3.73e-05, "\u22123.730e\u221205"),
        (54.75, "54.75"),
        (123456.0, "1.235e+05"),
        (99_994.0, "9.999e+04"),
        (math.nan, "nan"),
        (-math.inf, "\u2212inf"),
        (True, "True"),
        (-1234, "\u22121,234"),
        (None, "–"),
        (1 - 2j, "1 \u2212 2i"),
    ],
)
def test_that_a_value_has_four_significant_digits_and_a_real_minus(x: complex | None, shown: str) -> None:
    assert text.value(x) == shown


def test_that_an_int_too_long_for_str_is_told_by_its_bits() -> None:
    assert text.value(1 << 500_000) == "an int of 500,001 bits"


@pytest.mark.parametrize(("ratio", "shown"), [(0.0, "0 %"), (1e-9, "< 0.01 %"), (0.02044, "2.04 %"), (1.0, "100.00 %")])
def test_that_a_percentage_never_shows_a_false_zero(ratio: float, shown: str) -> None:
    assert text.percent(ratio) == shown


@pytest.mark.parametrize(
    ("sizes", "shown"), [((), "scalar"), ((0, 768), "0×768"), ((2304, 768), "2304×768"), ((1,) * 40, None)]
)
def test_that_a_shape_reads_as_sizes(sizes: tuple[int, ...], shown: str | None) -> None:
    assert text.shape(sizes) == shown if shown else text.shape(sizes).endswith("(40 dims)")


@pytest.mark.parametrize(
    "bad", ["\x1b[31m", "\u202egnp", "a\0b", "line\nbreak", "\ud800", "\u200b", "\x9b1m", "\u2066"]
)
def test_that_nothing_a_terminal_or_label_acts_on_comes_through(bad: str) -> None:
    shown = text.visible(bad)
    assert "\\" in shown
    assert shown.isprintable()


@given(st.text(st.characters(), max_size=40))
def test_that_visible_text_is_always_printable_and_encodable(raw: str) -> None:
    shown = text.visible(raw)
    assert shown.isprintable()
    shown.encode("utf-8")


def test_that_a_megabyte_key_is_cut() -> None:
    shown = text.visible("k" * 1_000_000, 100)
    assert shown == "k" * 100 + "… (1,000,000 characters)"


@pytest.mark.parametrize(
    ("x", "shown"),
    [
        (0.99104, "0.9910"),
        (-0.5, "−0.5000"),
        (1.0, "1"),
        (1 + 1e-12, "1"),
        (-1.0, "−1"),
        (1 - 3.2e-7, "1 − 3.2e−07"),
        (-1 + 3.2e-7, "−1 + 3.2e−07"),
        (0.0, "0.0000"),
        (float("nan"), "nan"),
    ],
)
def test_that_a_cosine_near_one_tells_how_near(x: float, shown: str) -> None:
    assert text.cosine(x) == shown
