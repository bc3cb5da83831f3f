from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sdviewer.repair.history import Draft, History, Step
from sdviewer.repair.operations import Edit, Prefix, SetValue, Strip

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


def test_that_a_number_edited_twice_is_one_step_and_undo_brings_back_the_first() -> None:
    first = Step.of(Edit(key="w", at=(0, 1), value=1.0))
    other = Step.of(Edit(key="w", at=(0, 2), value=5.0))
    again = Step.of(Edit(key="w", at=(0, 1), value=2.0))
    history = History().add(first).add(other).add(again)
    assert history.steps == (again, other)
    assert history.undo_label == again.label
    assert history.undo().steps == (first, other)
    epoch = [Step.of(SetValue(path="epoch", value=n)) for n in (1, 2)]
    assert history.add(epoch[0]).add(epoch[1]).steps == (again, other, epoch[1])


def test_that_a_step_stays_where_it_is_when_another_looks_at_what_it_wrote() -> None:
    first, again = (Step.of(Edit(key="w", at=(0, 1), value=n)) for n in (1.0, 2.0))
    for between in (
        Step.of(Prefix(add="a.")),
        Step.of(Edit(key="w", at=(0,), value=3.0)),
        Step.of(Edit(key="w", at=(-1, 1), value=3.0)),
        Step.of(Edit(key="w", at=(0, 1), value=3.0, why="measured")),
    ):
        assert History().add(first).add(between).add(again).steps == (first, between, again)
    assert len(History().add(first).toggle(0).add(again).steps) == 2
