"""The pieces of a regular expression, and whether what is called wrong is what Python calls wrong."""

from __future__ import annotations

import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdviewer.core.key_filter import regexes_in
from sdviewer.core.regex_marks import LONGEST, Mark, errors, filter_marks, regex_marks, replacement_marks

NAMED_ELSEWHERE = ("group name", "group reference", "look-behind", "character name", "conditional", "cannot refer")
"""Errors that only who knows the groups before can tell."""


def error_of(pattern: str) -> re.error | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            re.compile(pattern)
        except re.error as error:
            return error
        except (OverflowError, RecursionError):
            return re.error("too large")
    return None


def pieces(pattern: str) -> list[tuple[str, str]]:
    return [(pattern[mark.start : mark.start + mark.length], mark.kind) for mark in regex_marks(pattern)]


def test_that_each_piece_is_what_it_is() -> None:
    assert pieces(r"blocks\.(\d+)\.(?:a|[^]b-d]{2,}?)x*+$") == [
        (r"\.", "escape"),
        ("(", "group"),
        (r"\d", "class"),
        ("+", "repeat"),
        (")", "group"),
        (r"\.", "escape"),
        ("(?:", "group"),
        ("|", "group"),
        ("[^]b-d]", "class"),
        ("{2,}?", "repeat"),
        (")", "group"),
        ("*+", "repeat"),
        ("$", "anchor"),
    ]
    assert pieces(r"(?i)^(?P<n>\b.)(?P=n)a{,}{x") == [
        ("(?i)", "group"),
        ("^", "anchor"),
        ("(?P<n>", "group"),
        (r"\b", "anchor"),
        (".", "class"),
        (")", "group"),
        ("(?P=n)", "group"),
        ("{,}", "repeat"),
    ]
    assert pieces("layer1/weight-2 {}") == []


@pytest.mark.parametrize(
    ("pattern", "at", "words"),
    [
        ("ab(c", 2, "this group is not closed"),
        ("ab)c", 2, "no group is open here"),
        ("a[bc", 1, "this set is not closed"),
        ("a[]", 1, "this set is not closed"),
        ("ab\\", 2, "this escape is not complete"),
        (r"a\x4", 1, "this escape is not complete"),
        (r"a\y", 1, r"there is no escape \y"),
        (r"[\b\B]", 3, r"there is no escape \B"),
        ("[az-k]", 2, "this range has no beginning or ends before it"),
        (r"[a-\d]", 1, "this range has no beginning or ends before it"),
        ("*a", 0, "there is nothing to repeat"),
        ("(a|+)", 3, "there is nothing to repeat"),
        ("^*", 1, "there is nothing to repeat"),
        ("a**", 2, "this is repeated already"),
        ("a{3,1}", 1, "the least is more than the most"),
        ("a(?z)", 1, "no kind of group begins like this"),
        ("a(?#b", 1, "this comment is not closed"),
        ("a(?i)", 1, "flags of the whole expression stand at its beginning"),
    ],
)
def test_that_what_is_wrong_is_told_at_its_place(pattern: str, at: int, words: str) -> None:
    found = errors(regex_marks(pattern))
    assert (found[0].start, found[0].words) == (at, words)
    assert error_of(pattern) is not None


@given(st.text(st.sampled_from("ab1.*+?{},2()[]|^$\\-:=!<>P#idwbxu"), max_size=14))
def test_that_nothing_is_called_wrong_that_python_takes_and_the_reverse(pattern: str) -> None:
    error, found = error_of(pattern), errors(regex_marks(pattern))
    if found:
        assert error is not None, found
    elif error is not None:
        assert any(words in error.msg for words in NAMED_ELSEWHERE) or "(?" in pattern or "\\" in pattern, error


@given(st.text(st.sampled_from("ab(|)*+?[^-]\\d."), max_size=10))
def test_that_pieces_follow_each_other_inside_of_the_text(pattern: str) -> None:
    at = 0
    for mark in regex_marks(pattern):
        assert 0 <= mark.start < mark.start + mark.length <= len(pattern)
        if mark.kind != "error":
            assert mark.start >= at
            at = mark.start + mark.length


def test_that_a_long_expression_is_looked_at_as_far_as_it_is_read() -> None:
    found = regex_marks("(" * 5 * LONGEST)
    assert len(found) == LONGEST
    assert not errors(found)


def test_that_a_filter_has_the_pieces_of_its_expressions_alone() -> None:
    line = r"qkv* -/a\.b c(/ shape:3 /x+/"
    assert regexes_in(line) == [(7, r"a\.b c("), (25, "x+")]
    assert filter_marks(line) == [
        Mark(8, 2, "escape"),
        Mark(13, 1, "group"),
        Mark(13, 1, "error", "this group is not closed"),
        Mark(26, 1, "repeat"),
    ]
    assert filter_marks("/") == []


def test_that_a_replacement_has_its_references() -> None:
    assert replacement_marks(r"a\1.\g<name>\\") == [
        Mark(1, 2, "group"),
        Mark(4, 8, "group"),
        Mark(12, 2, "escape"),
    ]
