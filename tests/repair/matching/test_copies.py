"""Of a network that stands several times in a file, as training keeps it, one copy is taken and never a mixture."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pytest

from sdviewer.core.key_table import KeyTable, checkpoint_of_table
from sdviewer.repair.fit import Fit, fit_to
from sdviewer.repair.matching.contents import View
from sdviewer.repair.matching.found import Matching
from sdviewer.repair.matching.matching import match
from sdviewer.repair.target import Target
from tests.repair.matching.tables import names_only, table

Shapes = dict[str, tuple[int, ...]]


def network(prefix: str = "", fc: str = "fc1", positions: int = 9) -> Shapes:
    """Four blocks of equal layers; nothing but what stands in front tells one from another network."""
    made: Shapes = {f"{prefix}stem.weight": (16, 3, 4, 4), f"{prefix}positions": (1, positions, 16)}
    for i in range(4):
        block = f"{prefix}blocks.{i}."
        made |= {f"{block}{norm}.{role}": (16,) for norm in ("norm1", "norm2") for role in ("weight", "bias")}
        made |= {f"{block}attn.qkv.weight": (48, 16), f"{block}mlp.{fc}.weight": (64, 16)}
    return made


OTHER = network(fc="lin1") | {"head.weight": (10, 16)}


def taken_from(matching: Matching, source: KeyTable) -> set[str]:
    """What the keys begin with that have a counterpart."""
    return {source.keys[at].partition(".")[0] for one in matching.found for at in one.sources}


def fitted(source: Shapes, target: Shapes, *, accept: bool = False) -> Fit:
    ours = table(source)
    return fit_to(checkpoint_of_table(ours), 0, ours, Target("keys", "m", table(target)), accept_ambiguous=accept)


@pytest.mark.parametrize(
    ("meant", "follows"),
    [
        ("encoder_q", "encoder_k"),
        ("backbone", "momentum"),
        ("online", "target"),
        ("model", "model_ema"),
        ("net", "averaged_model"),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_that_the_copy_that_follows_the_network_is_put_aside(meant: str, follows: str, last: bool) -> None:
    both = (f"{follows}.", f"{meant}.") if last else (f"{meant}.", f"{follows}.")
    source = network(both[0]) | network(both[1]) | {"queue": (16, 99)}
    ours = table(source)
    matching = match(ours, table(OTHER))
    assert taken_from(matching, ours) == {meant}
    assert {one.evidence for one in matching.found} == {"likely"}
    fit = fitted(source, OTHER)
    assert fit.after.missing == ("head.weight",) and not fit.after.unexpected
    drop = next(one for one in fit.suggestions if one.step.get("keys") == [f"{follows}.**"])
    assert drop.reasons[0] == f'Another copy of "{meant}".'


@pytest.mark.parametrize("prefix", ["ema.module.", "critic."])
def test_that_a_copy_of_what_stands_at_the_top_goes_as_a_whole(prefix: str) -> None:
    source = network(fc="ffn") | network(prefix, fc="ffn") | {f"{prefix}steps": (), "queue": (16, 99)}
    fit = fitted(source, network(fc="fc1"))
    assert fit.after.loads
    drop = next(one for one in fit.suggestions if one.step.get("keys") == [f"{prefix.partition('.')[0]}.**"])
    assert (drop.evidence, drop.reasons[0]) == ("likely", "Another copy of the keys at the top.")


def test_that_where_nothing_tells_the_copies_apart_a_person_decides() -> None:
    source = network("student.") | network("teacher.")
    untouched = fitted(source, OTHER)
    assert not any(untouched.accepted) and not untouched.after.matched
    (doubt,) = [one.message for one in untouched.warnings if one.code == "second_copy"]
    assert doubt.startswith('"student" and "teacher" are copies of one network')
    accepted = fitted(source, OTHER, accept=True)
    assert accepted.after.missing == ("head.weight",) and not accepted.after.unexpected
    assert {old.partition(".")[0] for old, new in accepted.map.items() if isinstance(new, str)} == {"student"}


def test_that_the_words_of_the_target_tell_which_copy_is_meant() -> None:
    towers = table(network("text_model.") | network("vision_model."))
    matching = match(towers, table(network("visual.", fc="lin1")))
    assert taken_from(matching, towers) == {"vision_model"}
    assert {one.evidence for one in matching.found} == {"likely"}
    both = table(network("student.") | network("teacher."))
    assert taken_from(match(both, table(network("teacher."))), both) == {"teacher"}


def test_that_equal_values_tell_which_copy_is_meant() -> None:
    ours, theirs = table(network("student.") | network("teacher.")), table(network())

    def contents(of_source: Sequence[View], of_target: Sequence[View]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
        told = [ours.keys[view.at].removeprefix("teacher.") + str(view.narrow) for view in of_source]
        return told, [theirs.keys[view.at] + str(view.narrow) for view in of_target]

    matching = match(ours, theirs, contents=contents)
    assert taken_from(matching, ours) == {"teacher"}
    assert "ambiguous" not in {one.evidence for one in matching.found}


def test_that_a_pair_by_hand_tells_which_copy_is_meant() -> None:
    ours, theirs = table(network("student.") | network("teacher.")), table(OTHER)
    pair = (ours.keys.index("teacher.stem.weight"), theirs.keys.index("stem.weight"))
    assert taken_from(match(ours, theirs, hand=[pair]), ours) == {"teacher"}


def test_that_a_target_with_the_same_copies_gets_all_of_them() -> None:
    ours = table(network("encoder_q.") | network("encoder_k."))
    theirs = table(network("query_encoder.", fc="lin1") | network("key_encoder.", fc="lin1"))
    matching = match(ours, theirs)
    assert len(matching.found) == len(theirs) and not matching.drops
    assert {(ours.keys[one.sources[0]][8], theirs.keys[one.targets[0]][0]) for one in matching.found} == {
        ("q", "q"),
        ("k", "k"),
    }


def test_that_copies_which_both_sides_name_alike_stay_both_where_one_side_fuses_them() -> None:
    def apart(prefix: str) -> Shapes:
        whole = network(prefix).items()
        parts = {key.replace("qkv", part): (16, 16) for key, _ in whole if "qkv" in key for part in "qkv"}
        return {key: shape for key, shape in whole if "qkv" not in key} | parts

    ours, theirs = table(apart("low.") | apart("high.")), table(network("low.") | network("high."))
    for source, target in ((ours, theirs), (theirs, ours)):
        matching = match(source, target)
        filled = {target.keys[at] for one in matching.found for at in one.targets}
        assert filled == set(target.keys) and not matching.drops


def test_that_of_a_target_with_copies_one_is_filled_from_one_network() -> None:
    theirs = table(network("encoder_q.") | network("encoder_k.") | {"queue": (16, 99)})
    matching = match(table(network(fc="lin1")), theirs)
    assert {theirs.keys[at].partition(".")[0] for one in matching.found for at in one.targets} == {"encoder_q"}


def test_that_numbered_layers_are_no_copies() -> None:
    ours = table(network("stage1.") | network("stage2."))
    matching = match(ours, table(network("stage2.")))
    assert taken_from(matching, ours) == {"stage2"}
    assert "proved" in {one.evidence for one in matching.found}


def test_that_copies_are_told_by_names_alone() -> None:
    ours = table(network("online.") | network("target."))
    assert taken_from(match(ours, names_only(network())), ours) == {"online"}


def test_that_positions_of_another_number_go_with_their_copy() -> None:
    fit = fitted(network("backbone.", positions=25) | network("momentum.", positions=25), OTHER)
    assert [one.key for one in fit.after.mismatched] == ["positions"]
    assert not fit.after.unexpected and fit.after.missing == ("head.weight",)
    assert not any("backbone.positions" in new for one in fit.suggestions for _, new in one.examples)
