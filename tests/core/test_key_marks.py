"""What two keys have in common, as a pair is painted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sdviewer.core.key_marks import Mark, marks

KEYS = st.lists(st.sampled_from(["a", "b", "0", "", "weight"]), max_size=6).map(".".join)


def test_that_a_prefix_that_goes_is_struck_with_its_dot_and_an_exchanged_part_is_marked_on_both_sides() -> None:
    before, after = marks("module.backbone.blocks.0.ffn.layers.0.0.weight", "blocks.0.mlp.fc1.weight")
    assert before == (
        Mark("module.backbone.", "gone"),
        Mark("blocks.0.", "same"),
        Mark("ffn.layers.0.0", "replaced"),
        Mark(".", "same"),
        Mark("weight", "same"),
    )
    assert [mark for mark in after if mark.kind == "new"] == [Mark("mlp.fc1", "new")]


def test_that_equal_keys_are_one_piece() -> None:
    assert marks("a.b", "a.b") == ((Mark("a.b", "same"),), (Mark("a.b", "same"),))


def test_that_a_part_that_only_the_target_has_is_new() -> None:
    assert marks("blocks.0.weight", "model.blocks.0.weight")[1][0] == Mark("model.", "new")


@given(KEYS, KEYS)
def test_that_the_pieces_of_any_two_keys_give_the_keys(source: str, target: str) -> None:
    before, after = marks(source, target)
    assert "".join(mark.text for mark in before) == source
    assert "".join(mark.text for mark in after) == target
