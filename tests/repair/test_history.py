from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sdviewer.repair.history import Draft, History, Step
from sdviewer.repair.operations import Prefix, Strip

EDITS = st.lists(
    st.tuples(st.sampled_from(["add", "toggle", "remove", "change", "move", "put"]), st.integers(0, 9)), max_size=12
)


def edited(history: History, edit: tuple[str, int]) -> History:
    kind, i = edit
    n = len(history.steps)
    if kind == "add" or not n:
        return history.add(Step.of(Prefix(add=f"p{i}.")))
    if kind == "put":
        return history.put(Draft(history.steps, {"source": {"require": [f"r{i}"]}}), "Edit the recipe")
    if kind == "toggle":
        return history.toggle(i % n)
    if kind == "remove":
        return history.remove(i % n)
    if kind == "move":
        return history.move(i % n, (i * 7) % n)
    return history.change(i % n, Step.of(Strip(prefix=f"c{i}.")))


@given(EDITS)
def test_that_undoing_everything_gives_the_start_and_redoing_the_end(edits: list[tuple[str, int]]) -> None:
    start = History.of((Prefix(add="a."),))
    history = start
    passed = [start.draft]
    for edit in edits:
        history = edited(history, edit)
        passed.append(history.draft)
    end = history
    for draft in reversed(passed):
        assert history.draft == draft
        history = history.undo()
    assert history.draft == start.draft
    assert not history.is_dirty
    for draft in passed:
        assert history.draft == draft
        history = history.redo()
    assert history == end


def test_that_the_labels_say_what_undo_and_redo_would_do() -> None:
    history = History().add(Step.of(Strip(prefix="module."))).toggle(0)
    assert history.undo_label == 'Switch off: Strip prefix "module."'
    history = history.undo()
    assert (history.undo_label, history.redo_label) == (
        'Strip prefix "module."',
        'Switch off: Strip prefix "module."',
    )
    assert history.undo().undo_label == ""
    assert not history.undo().can_undo


def test_that_an_edit_after_an_undo_forgets_what_was_undone() -> None:
    history = History().add(Step.of(Prefix(add="a."))).undo().add(Step.of(Prefix(add="b.")))
    assert not history.can_redo
    assert history.steps == (Step.of(Prefix(add="b.")),)


def test_that_a_history_is_dirty_when_its_steps_are_not_the_saved_ones() -> None:
    history = History().add(Step.of(Prefix(add="a.")))
    assert history.is_dirty
    saved = history.mark_saved()
    assert not saved.is_dirty
    assert saved.undo().is_dirty
    assert not saved.undo().redo().is_dirty
    assert saved.toggle(0).is_dirty
    assert not saved.toggle(0).toggle(0).is_dirty
