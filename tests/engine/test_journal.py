"""The journal of unsaved edits: what a crash leaves of it, and what damage to it can never do."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdviewer.engine.client import worker_environment
from sdviewer.engine.journal import (
    Document,
    Journals,
    Recovered,
    decoded,
    encoded,
    follow,
    lines_between,
    read,
)
from sdviewer.repair.history import Draft, History, Step
from sdviewer.repair.operations import Drop, Prefix, Strip

DOCUMENT = Document("/data/model.pth", {"inode": 7, "size": 100})
STEPS = [Step.of(Strip(prefix="module.")), Step.of(Drop(keys=("fc.*",))), Step.of(Prefix(add="net."))]


def find(journals: Journals) -> list[Recovered]:
    found: list[list[Recovered]] = []
    journals.find(found.append)
    assert journals.wait()
    return found[0]


def as_file(history: History, name: str = "one") -> bytes:
    header = {"format": "sdviewer-journal/1", "id": name, "path": "/data/model.pth", "identity": {}}
    return encoded([header, *lines_between(History(), history)], 0)[0]


def replayed(history: History) -> History:
    made = History()
    for line in lines_between(History(), history):
        made = follow(made, line)
    return made


OTHERS = ("undo", "redo", "toggle", "remove", "move", "change", "saved", "head")
changes = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 50)),
        st.tuples(
            st.sampled_from(["undo", "redo", "toggle", "remove", "move", "change", "saved", "head"]), st.integers(0, 9)
        ),
    ),
    max_size=25,
)


def changed(history: History, what: str, n: int) -> History:
    steps = len(history.steps)
    step = Step({"op": "prefix", "add": f"a{n}."}, f"Add a{n}.")
    if what == "add":
        return history.add(step)
    if what == "undo":
        return history.undo()
    if what == "redo":
        return history.redo()
    if what == "saved":
        return history.mark_saved()
    if what == "head":
        return history.put(Draft(history.steps, {"source": {"require": [f"k{n}"]}}), "Edit as text")
    if not steps:
        return history
    at = n % steps
    if what == "toggle":
        return history.toggle(at)
    if what == "remove":
        return history.remove(at)
    return history.move(at, (n * 7) % steps) if what == "move" else history.change(at, step)


@given(changes)
@settings(max_examples=150, deadline=None)
def test_that_every_history_is_read_back_as_it_was_whatever_was_done(acts: list[tuple[str, int]]) -> None:
    before, told = History(), History()
    for what, n in acts:
        history = changed(before, what, n)
        for line in lines_between(before, history):
            told = follow(told, line)
        before = history
        assert (told.states, told.index, told.is_dirty) == (history.states, history.index, history.is_dirty)


@given(st.integers(0, 2**32))
@settings(max_examples=400, deadline=None)
def test_that_a_damaged_journal_gives_a_history_that_was_there_or_nothing(seed: int) -> None:
    chance = random.Random(seed)
    steps = [Step({"op": "prefix", "add": f"a{i}."}, f"Add a{i}.") for i in range(6)]
    history = History()
    were = [history]
    for step in steps:
        history = history.add(step)
        were.append(history)
    content = bytearray(as_file(history))
    lines = bytes(content).splitlines(keepends=True)
    match chance.randrange(6):
        case 0:
            for _ in range(chance.randrange(1, 4)):
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        case 1:
            del content[chance.randrange(len(content)) :]
        case 2:
            start = chance.randrange(len(content))
            del content[start : start + chance.randrange(1, 200)]
        case 3:
            chance.shuffle(lines)
            content = bytearray(b"".join(lines))
        case 4:
            at = chance.randrange(len(lines))
            content = bytearray(b"".join([*lines[:at], lines[chance.randrange(len(lines))], *lines[at:]]))
        case _:
            other = as_file(History().add(STEPS[0]).add(STEPS[1]), "other").splitlines(keepends=True)
            content = bytearray(b"".join([*lines[: chance.randrange(1, 7)], *other[chance.randrange(3) :]]))
    found = read(Path("a.jsonl"), bytes(content), 0.0)
    assert found is None or found.history in were
    if found is not None and found.history != history:
        complete = bytes(content).endswith(b"\n") and bytes(content) == as_file(found.history)
        assert found.whole == complete


def test_that_undo_survives_and_edits_that_were_saved_or_undone_are_not_offered() -> None:
    history = History().add(STEPS[0]).add(STEPS[1]).undo()
    assert replayed(history).redo_label == STEPS[1].label
    saved = as_file(history.mark_saved())
    assert read(Path("a.jsonl"), saved, 0.0) is None
    assert read(Path("a.jsonl"), as_file(history.undo()), 0.0) is None
    assert read(Path("a.jsonl"), b"", 0.0) is None
    assert read(Path("a.jsonl"), b"[]\n" + as_file(history), 0.0) is None


def test_that_a_line_says_only_what_changed() -> None:
    history = History()
    for i in range(200):
        history = history.add(Step({"op": "prefix", "add": f"a{i}."}, f"Add a{i}."))
    (line,) = lines_between(history, history.toggle(100))
    assert (line["at"], line["out"], len(line["in"])) == (100, 1, 1)
    assert "head" not in line


def test_that_a_journal_in_use_is_not_offered_and_one_left_behind_is(tmp_path: Path) -> None:
    first, second = Journals(tmp_path), Journals(tmp_path)
    try:
        first.note("a", DOCUMENT, History().add(STEPS[0]))
        assert first.wait()
        assert find(second) == []
        assert find(first) == []
        first.close()
        (left,) = find(second)
        assert left.document == DOCUMENT
        assert left.history == History().add(STEPS[0])
        second.discard(left)
        assert find(second) == []
        assert list(tmp_path.iterdir()) == []
    finally:
        second.close()


def test_that_a_closed_document_leaves_nothing_and_nothing_is_written_before_the_first_edit(tmp_path: Path) -> None:
    journals = Journals(tmp_path / "new")
    journals.note("a", DOCUMENT, History())
    assert journals.wait()
    assert not (tmp_path / "new").exists()
    journals.note("a", DOCUMENT, History().add(STEPS[0]))
    assert journals.wait()
    (file,) = (tmp_path / "new").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    journals.forget("a")
    journals.close()
    assert list((tmp_path / "new").iterdir()) == []


def test_that_a_folder_that_cannot_be_written_is_told_once_and_stops_nobody(tmp_path: Path) -> None:
    told: list[OSError] = []
    (tmp_path / "file").write_text("")
    journals = Journals(tmp_path / "file" / "journals", told.append)
    history = History().add(STEPS[0])
    journals.note("a", DOCUMENT, history)
    journals.note("a", DOCUMENT, history.add(STEPS[1]))
    assert journals.wait()
    journals.close()
    assert len(told) == 1


EDITOR = """
import sys
from pathlib import Path
from sdviewer.engine.journal import Document, Journals
from sdviewer.repair.history import History, Step

journals, history = Journals(Path(sys.argv[1])), History()
for i in range(10_000):
    history = history.add(Step({"op": "prefix", "add": f"a{i}."}, f"Add a{i}."))
    if i % 5 == 4:
        history = history.undo()
    journals.note("a", Document("/data/model.pth", {}), history)
    if i % 3 == 0:
        journals.wait()
        print(len(history.steps), flush=True)
"""


@pytest.mark.parametrize("after", range(12))
def test_that_a_window_that_is_killed_loses_no_edit_that_was_on_the_disk(tmp_path: Path, after: int) -> None:
    command = [sys.executable, "-c", EDITOR, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=worker_environment()) as child:
        assert child.stdout is not None
        safe = 0
        for _ in range(after + 1):
            safe = int(child.stdout.readline())
        child.kill()
        rest = child.stdout.read().split()
    safe = max([safe, *map(int, rest[:-1])])
    journals = Journals(tmp_path)
    (left,) = find(journals)
    journals.close()
    made = [step.table["add"] for step in left.history.steps]
    assert len(made) >= safe
    # Every fifth is undone, which may not have been written yet of the last.
    kept = [f"a{i}." for i in range(20_000) if i % 5 != 4]
    assert made[:-1] == kept[: len(made) - 1]


def test_that_every_line_is_json_with_a_checksum_that_goes_on_from_the_line_before() -> None:
    content = as_file(History().add(STEPS[0]))
    assert decoded(content)[1]
    lines, whole = decoded(content.replace(b"/data/model.pth", b"/data/other.pth"))
    assert (lines, whole) == ([], False)
