"""Lists of keys, as people print and write them."""

from __future__ import annotations

import pytest

from sdviewer.core.key_table import KeyTable
from sdviewer.errors import OpenError
from sdviewer.repair.key_lists import read_json, table_of_json, table_of_lines


def entries(table: KeyTable) -> list[tuple[str, tuple[int, ...] | None, str]]:
    return list(zip(table.keys, table.shapes, table.dtypes, strict=True))


def test_that_json_gives_keys_with_shapes_or_without() -> None:
    table = table_of_json(read_json('{"b.weight": [64, 3], "a": null, "scalar": []}'))
    assert entries(table) == [("b.weight", (64, 3), ""), ("a", None, ""), ("scalar", (), "")]
    assert table.ordered
    assert not table.shapes_known
    assert table_of_json(read_json('["x", "y"]')).keys == ("x", "y")


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1.5]}',
        '{"a": [-1]}',
        '{"a": [true]}',
        '{"a": {"b": 1}}',
        '{"a": [99999999999999999999]}',
        '{"a": "float32"}',
        '{"a": [1], "a": [2]}',
        '["a", 1]',
        "{}",
        '{"a": [1',
        "[" * 100_000,
        '{"a": ' + "9" * 5000 + "}",
    ],
)
def test_that_json_which_is_no_key_list_is_told_and_not_believed(text: str) -> None:
    with pytest.raises(OpenError) as caught:
        table_of_json(read_json(text))
    assert caught.value.code == "bad_target"


def test_that_lines_give_keys_and_what_is_printed_behind_them() -> None:
    table = table_of_lines(
        "# made by print(key, value.shape)\n"
        "conv1.weight torch.Size([64, 3, 7, 7])\n"
        "conv1.bias: (64,) torch.float16\n"
        "\n"
        "fc.weight 10x512\n"
        "'quoted', \n"
        "- listed\tbfloat16\n"
        "scale torch.Size([])\n"
    )
    assert entries(table) == [
        ("conv1.weight", (64, 3, 7, 7), ""),
        ("conv1.bias", (64,), "float16"),
        ("fc.weight", (10, 512), ""),
        ("quoted", None, ""),
        ("listed", None, "bfloat16"),
        ("scale", (), ""),
    ]


def test_that_the_keys_of_a_printed_mapping_are_read() -> None:
    for text in ("odict_keys(['b', 'a.weight'])", "['b', 'a.weight']", "dict_keys(['b',\n 'a.weight'])"):
        assert table_of_lines(text).keys == ("b", "a.weight")


def test_that_a_sorted_list_tells_nothing_about_the_order_of_registration() -> None:
    assert not table_of_lines("a\nb\nc").ordered
    assert table_of_lines("b\na\nc").ordered


@pytest.mark.parametrize(
    "text", ["this is a letter", "a\nb is what I mean", "", "\n\n", "a\na", "k" * 9000, "a [1, x]"]
)
def test_that_a_text_which_is_no_list_names_the_line(text: str) -> None:
    with pytest.raises(OpenError) as caught:
        table_of_lines(text)
    assert caught.value.code == "bad_target"


def test_that_control_characters_of_a_line_are_not_shown_as_they_are() -> None:
    with pytest.raises(OpenError) as caught:
        table_of_lines("\x1b[2J evil words here")
    assert "\x1b" not in str(caught.value)
