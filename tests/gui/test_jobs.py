"""Jobs: answers in the window's thread, lanes in which the newest counts."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from sdviewer.gui.jobs import Jobs


@dataclass
class Answering:
    """A request that is answered, from another thread, when the test says so."""

    cancelled: bool = False
    dropped: bool = False
    slots: list[Any] = field(default_factory=list)

    def __call__(self, done: Any, failed: Any, progressed: Any) -> Answering:
        self.slots = [done, failed, progressed]
        return self

    def cancel(self) -> None:
        self.cancelled = True

    def drop(self) -> None:
        self.dropped = True

    def answer(self, slot: int, *values: object) -> None:
        thread = threading.Thread(target=self.slots[slot], args=values)
        thread.start()
        thread.join()


def test_that_an_answer_comes_in_the_windows_thread(app: QApplication, qtbot: QtBot) -> None:
    jobs, request, threads = Jobs(), Answering(), []
    jobs.run("", request, lambda body, buffers: threads.append(threading.current_thread()), lambda body: None)
    request.answer(0, {}, {})
    assert threads == []
    qtbot.waitUntil(lambda: bool(threads))
    assert threads == [threading.main_thread()]
    assert not jobs.busy()


def test_that_the_newest_of_a_lane_is_the_only_one_heard(app: QApplication, qtbot: QtBot) -> None:
    jobs, old, new, heard = Jobs(), Answering(), Answering(), []
    jobs.run("detail", old, lambda body, buffers: heard.append("old"), lambda body: heard.append("old"), long=True)
    jobs.run("detail", new, lambda body, buffers: heard.append("new"), lambda body: heard.append("new"), long=True)
    assert old.cancelled
    old.answer(0, {}, {})
    new.answer(0, {}, {})
    qtbot.waitUntil(lambda: bool(heard))
    assert heard == ["new"]


def test_that_a_short_job_is_dropped_but_its_worker_let_live(app: QApplication) -> None:
    jobs, old = Jobs(), Answering()
    jobs.run("filter", old, lambda body, buffers: None, lambda body: None)
    jobs.run("filter", Answering(), lambda body, buffers: None, lambda body: None)
    assert old.dropped and not old.cancelled


def test_that_progress_is_a_fraction_or_unknown(app: QApplication, qtbot: QtBot) -> None:
    jobs, request, told = Jobs(), Answering(), []
    jobs.run("", request, lambda body, buffers: None, lambda body: None, told.append)
    # More bytes than 32 bits hold: a signal of ints would wrap.
    request.answer(2, 3 * 2**40, 4 * 2**40)
    request.answer(2, 5, 0)
    qtbot.waitUntil(lambda: len(told) == 2)
    assert told == [0.75, -1.0]


def test_that_nothing_is_heard_after_closing(app: QApplication, qtbot: QtBot) -> None:
    jobs, request, heard = Jobs(), Answering(), []
    jobs.run("", request, lambda body, buffers: heard.append(body), heard.append)
    request.answer(0, {}, {})
    jobs.close()
    request.answer(1, {})
    # What was queued before is delivered before an answer of other jobs that was queued after it.
    other, later = Jobs(), Answering()
    with qtbot.waitSignal(other.idle):
        other.run("", later, lambda body, buffers: None, lambda body: None)
        later.answer(0, {}, {})
    assert heard == []


def test_that_the_window_gets_a_turn_between_two_answers(app: QApplication, qtbot: QtBot) -> None:
    jobs, heard = Jobs(), []
    beat = QTimer(interval=0)
    beat.timeout.connect(lambda: heard.append("turn"))
    requests = [Answering() for _ in range(3)]
    for name, request in enumerate(requests):
        jobs.run("", request, lambda body, buffers, name=name: heard.append(name), lambda body: None)
    beat.start()
    for request in requests:
        request.answer(0, {}, {})
    qtbot.waitUntil(lambda: 2 in heard)
    assert [name for name in heard if name != "turn"] == [0, 1, 2]
    assert "turn" in heard[heard.index(0) : heard.index(1)]
    assert "turn" in heard[heard.index(1) : heard.index(2)]


def test_that_what_is_held_is_heard_when_there_is_somebody_to_show_it(app: QApplication, qtbot: QtBot) -> None:
    jobs, early, late, heard = Jobs(), Answering(), Answering(), []
    jobs.hold()
    for name, request in (("early", early), ("late", late)):
        jobs.run("", request, lambda body, buffers, name=name: heard.append(name), lambda body: None)
    early.answer(0, {}, {})
    for _ in range(5):
        app.processEvents()
    assert heard == []
    assert jobs.busy()
    jobs.release()
    late.answer(0, {}, {})
    qtbot.waitUntil(lambda: not jobs.busy())
    assert heard == ["early", "late"]
