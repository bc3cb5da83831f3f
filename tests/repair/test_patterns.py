from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.patterns import compile_pattern, compile_rule, literal_pattern, literal_rule


def renamed(pattern: str, result: str, *keys: str) -> list[str | None]:
    rename = compile_rule(pattern, result).renamer(keys)
    return [rename(key) for key in keys]


def test_that_a_literal_pattern_means_its_own_key_only() -> None:
    assert renamed("fc.weight", "head.w", "fc.weight", "fcxweight", "a.fc.weight") == ["head.w", None, None]


def test_that_two_stars_before_a_dot_take_any_number_of_components_and_carry_them_over() -> None:
    assert renamed("**.weight", "x.**.w", "weight", "a.weight", "a.b.weight", "xweight") == [
        "x.w",
        "x.a.w",
        "x.a.b.w",
        None,
    ]
    assert renamed("**.weight", "x.**", "weight", "a.b.weight") == ["x", "x.a.b"]


def test_that_two_stars_at_the_end_want_at_least_one_component() -> None:
    assert renamed("blocks.**", "layers.**", "blocks.0.w", "blocks", "blocks2.w") == ["layers.0.w", None, None]


def test_that_a_placeholder_inside_a_component_takes_digits_only() -> None:
    assert renamed("layer{s}.{p...}", "s.{s}.{p}", "layer12.a.b", "layerx.a", "layer.a") == ["s.12.a.b", None, None]


def test_that_arithmetic_counts_with_whole_numbers() -> None:
    assert renamed("b.{i}.w", "s.{i//3}.{i%3}.{2*(i+1)-1}", "b.7.w", "b.x.w", "b.-1.w") == ["s.2.1.15", None, None]


def test_that_n_is_the_count_of_the_placeholder_unless_the_pattern_binds_it() -> None:
    assert renamed("up.{i}.w", "up.{n-1-i}.w", "up.0.w", "up.2.w", "down.9.w") == ["up.2.w", "up.0.w", None]
    assert renamed("up.{n}.{i}", "x.{n-1-i}", "up.8.2") == ["x.5"]


def test_that_an_index_below_zero_is_refused_and_names_the_key() -> None:
    with pytest.raises(RepairError, match=r"\{i-1\} is -1 on \"l.0\""):
        renamed("l.{i}", "l.{i-1}", "l.1", "l.0")
    with pytest.raises(RepairError, match="divides by zero"):
        renamed("l.{i}.{j}", "l.{i//j}", "l.1.0")


def test_that_a_number_too_long_for_arithmetic_is_not_matched() -> None:
    assert renamed("l.{i}.w", "l.{i+1}.w", "l." + "9" * 5000 + ".w") == [None]


def test_that_a_name_that_stands_twice_means_the_same_text() -> None:
    assert renamed("a.{i}.b{i}", "{i}", "a.1.b1", "a.1.b2", "a.1.b11") == ["1", None, None]


def test_that_a_name_that_stands_twice_is_refused_where_it_could_be_missed() -> None:
    for pattern in ("{r...}.{r...}", "**.{i}.{r...}.{j}.{i}"):
        with pytest.raises(UsageError, match="twice"):
            compile_rule(pattern, "x")


def test_that_arithmetic_on_numbers_alone_is_done_for_a_single_key_too() -> None:
    assert renamed("a", "b.{3-1}.c", "a", "b") == ["b.2.c", None]


def test_that_a_regular_expression_replaces_its_first_match() -> None:
    assert renamed(r"re:a(\d)", r"b\1\1", "x.a1.a2", "y") == ["x.b11.a2", None]
    assert renamed("re:^", "model.", "w") == ["model.w"]
    assert renamed(r"re.full:a(\d)", r"\g<1>", "a1", "a1.w") == ["1", None]


def test_that_a_regular_expression_keeps_its_look_behind_when_it_replaces() -> None:
    assert renamed(r"re:(?<=x)a", r"\\b", "a.xa") == ["a.x\\b"]


@pytest.mark.parametrize(
    ("pattern", "result", "position"),
    [
        ("a.{i", "x", 3),
        ("a}", "x", 2),
        ("{i}{j}", "x", 4),
        ("a***", "x", 2),
        ("{i+1}.a", "x", 1),
        ("x{rest...}", "x", 2),
        ("a{i}0", "x", 5),
        ("**.**", "x", 4),
        ("re:(", "x", 4),
        ("a.{i}", "b.{j}", 3),
        ("a.{i}", "b.{i+}", 3),
        ("a.{i}", "b.{i**2}", 3),
        ("a.{i}", "b.{i/2}", 3),
        ("a.{i}", "b.{i.real}", 3),
        ("a.{i}", "b.{i//0}", 3),
        ("a.{i}.{j}", "b.{n-i-j}", 3),
        ("a.{r...}", "b.{r+1}", 3),
        ("a", "b.*", 3),
        ("a.*", "b.**", 3),
        ("re:a", r"b\2", 3),
    ],
)
def test_that_a_bad_pattern_or_result_is_refused_with_its_position(pattern: str, result: str, position: int) -> None:
    with pytest.raises(UsageError, match=f"position {position}:"):
        compile_rule(pattern, result)


@pytest.mark.parametrize("pattern", ["", "re:", "re.full:"])
def test_that_an_empty_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        compile_pattern(pattern)


def test_that_an_empty_result_of_a_template_is_refused() -> None:
    with pytest.raises(UsageError, match="drop step"):
        compile_rule("a.*", "")


@pytest.mark.parametrize("inside", ["(" * 190 + "i", "-" * 190 + "i", "i if i else i", "__import__('os')", "1if"])
def test_that_arithmetic_holds_nothing_but_arithmetic(inside: str) -> None:
    try:
        assert renamed("a.{i}", "b.{" + inside + "}", "a.1") == ["b.1"]
    except UsageError as error:
        assert "position 3" in str(error)
    if not inside.startswith("-"):
        with pytest.raises(UsageError):
            compile_rule("a.{i}", "b.{" + inside + "}")


@given(st.text("a.*{}\\^$re:fl(1)\n\ud800"), st.text("b.*{}\\1g<>\ud800", min_size=1), st.text("a.*{}\\\n\ud800b"))
@example("re:a", "b\\1", "re:ab")
def test_that_a_literal_rule_renames_exactly_its_key(old: str, new: str, other: str) -> None:
    rename = compile_rule(*literal_rule(old, new)).renamer([old, other])
    assert rename(old) == new
    if other != old:
        assert rename(other) is None
        assert not compile_pattern(literal_pattern(old)).matches(other)
    assert compile_pattern(literal_pattern(old)).matches(old)


def fits(pattern: str, key: str, boundary: bool = True) -> bool:
    """The meaning of `*` and `**`, by trying everything; `boundary`: the pattern stands where a component begins."""
    if not pattern:
        return not key
    if pattern.startswith("**"):
        rest = pattern[2:]
        if boundary and rest.startswith("."):
            after = [key[i + 1 :] for i, ch in enumerate(key) if ch == "."]
            return any(fits(rest[1:], one) for one in [key, *after])
        if boundary and not rest:
            return bool(key)
        return any(fits(rest, key[i:], False) for i in range(len(key) + 1))
    if pattern.startswith("*"):
        rest = pattern[1:]
        whole = boundary and (not rest or rest[0] == ".")
        end = next((i for i, ch in enumerate(key) if ch == "."), len(key))
        ends = ([end] if end else []) if whole else range(end + 1)
        return any(fits(rest, key[i:], False) for i in ends)
    return key.startswith(pattern[0]) and fits(pattern[1:], key[1:], pattern[0] == ".")


@given(
    st.lists(st.sampled_from(["a", "b", ".", "*", "**", ".*.", ".**.", "a*b", "**."]), min_size=1, max_size=9),
    st.lists(st.sampled_from(["a", "b", ".", "ab", "a.b"]), max_size=12),
)
@example(["**.", "a", ".*.", "b", ".**."], ["a.b.a.a.b.a"])
@example(["**", "a", "*", "b", "**", "a"], ["aabba"])
def test_that_a_template_matches_whenever_some_reading_fits(pattern: list[str], key: list[str]) -> None:
    text, name = "".join(pattern), "".join(key)
    try:
        compiled = compile_pattern(text)
    except UsageError:
        return
    assert compiled.matches(name) == (text == "**" or fits(text, name))


def test_that_hostile_keys_do_not_stall_a_template() -> None:
    # Each of these takes hours with a backtracking regular expression of the obvious kind.
    key = "a." * 20_000 + "x"
    for pattern in ("**.a.**.a.**.a.**.a.**.b", "{p...}.a.{q...}.a.{r...}.b", "**a**a**a**a**b", "**.a*a*a*a*a*.b"):
        assert not compile_pattern(pattern).matches(key)
    long = "a" * 20_000
    for pattern in ("*a*a*a*a*b", "**a*a*a*a*b", "a*a**a*b"):
        assert not compile_pattern(pattern).matches(long)


def test_that_the_earlier_wildcard_takes_as_little_as_it_can() -> None:
    assert renamed("**.a.**", "x.**.y.**", "a.a.b", "c.a.a.a") == ["x.y.a.b", "x.c.y.a.a"]
    assert renamed("{p...}.blocks.{q...}", "{q}|{p}", "x.blocks.y.blocks.z") == ["y.blocks.z|x"]
