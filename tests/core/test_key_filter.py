"""What a filter marks in the names that it finds."""

from __future__ import annotations

import pytest

from sdviewer.core.key_filter import marked_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("qkv", ("qkv",)),
        ("Attn.QKV bias", ("qkv", "bias")),
        ("*.mlp.fc*weight", ("fc", "weight")),
        ("-bias qkv", ("qkv",)),
        ("nan shared problem std:>0.1 shape:768 q", ("q",)),
        ("other:thing", ("other:thing",)),
        ("/(unclosed/ q", ("q",)),
    ],
)
def test_that_words_and_globs_that_must_hold_are_marked_and_nothing_else(text: str, words: tuple[str, ...]) -> None:
    assert marked_words(text) == words
