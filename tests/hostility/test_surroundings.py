"""A file in bad company: paths that are no files, files that change, drives that hang, folders with traps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sdviewer.engine.client import DocumentWorker, Worker
from sdviewer.errors import CorruptCheckpoint, OpenError, SDViewerError
from sdviewer.formats import open_checkpoint
from tests.engine.conftest import Answered, ask, begin, write_safetensors
from tests.hostility.gadgets import torch_zip, whole

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "path",
    ["/proc/self/maps", "/proc/self/mem", "/proc/kmsg", "/proc/self/fd", "/proc/self/pagemap", "/dev/null", "/dev/tty"],
)
def test_that_what_the_system_makes_up_is_refused(path: str) -> None:
    with pytest.raises(OpenError) as caught:
        open_checkpoint(path)
    assert caught.value.path == path


def test_that_links_in_a_circle_and_a_file_as_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path / "a", tmp_path / "a" / "model.pt", tmp_path / "file" / "model.pt"):
        with pytest.raises(OpenError):
            open_checkpoint(path)


def test_that_a_file_of_four_tebibytes_of_nothing_opens_at_once(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    header = b'{"w":{"dtype":"U8","shape":[4398046511104],"data_offsets":[0,4398046511104]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + (4 << 40))
    checkpoint = open_checkpoint(path)
    assert checkpoint.tensors[0].nbytes == 4 << 40
    assert not checkpoint.problems
    zeros = tmp_path / "zeros.pt"
    zeros.touch()
    os.truncate(zeros, 4 << 40)
    with pytest.raises(OpenError, match="zeros only"):
        open_checkpoint(zeros)


def big_pickle() -> bytes:
    """A torch zip whose pickle is read after the first call of `progress`."""
    return torch_zip(whole(b"](" + b"K\x01" * 200_000 + b"e"))


@pytest.mark.parametrize("what", ["shrinks", "grows", "vanishes", "is replaced"])
def test_that_a_file_that_changes_while_it_is_opened_is_a_message_or_a_checkpoint(tmp_path: Path, what: str) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(big_pickle())
    calls = 0

    def change(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            return
        if what == "shrinks":
            os.truncate(path, 300)
        elif what == "grows":
            with path.open("ab") as file:
                file.write(bytes(1000))
        elif what == "vanishes":
            path.unlink()
        else:
            (tmp_path / "new").write_bytes(b"something else")
            (tmp_path / "new").rename(path)

    if what == "shrinks":
        with pytest.raises(CorruptCheckpoint) as caught:
            open_checkpoint(path, progress=change)
        assert caught.value.code == "file_changed"
    else:
        # The descriptor still leads to the bytes that were there.
        assert len(open_checkpoint(path, progress=change).values[0].value) == 200_000
    assert calls


def hang(pid: int) -> None:
    """Stop a process, and come back when it stands still."""
    os.kill(pid, signal.SIGSTOP)
    while "State:\tT" not in Path(f"/proc/{pid}/status").read_text():
        pass


def test_that_cancel_works_while_a_worker_cannot_even_be_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that waits for a dead network drive ends when the drive answers, kill or not."""
    path = write_safetensors(tmp_path / "model.safetensors", {"a": torch.ones(2, 3).numpy()})
    worker = DocumentWorker(str(path))
    opened = Answered()
    worker.open(opened.done, opened.failed)
    assert opened.wait().failure is None
    process = worker._process
    assert process is not None and process.popen is not None
    hanging = process.popen
    hang(hanging.pid)
    kill = hanging.kill
    monkeypatch.setattr(hanging, "kill", lambda: None)
    request, answer = begin(worker, "find", text="a", limit=1)
    _, other = begin(worker, "find", text="a", limit=1)
    request.cancel()
    failure = answer.wait().failure
    assert failure is not None
    assert failure["code"] == "cancelled"
    failure = other.wait().failure
    assert failure is not None
    assert failure["code"] == "worker_died"
    assert hanging.poll() is None  # it hangs on, and another one answers
    again = ask(worker, "find", text="a", limit=1).body
    assert again is not None
    assert again["rows"]
    worker.stop()
    kill()
    assert process.waiter is not None
    process.waiter.join()


def test_that_a_window_can_close_on_a_worker_that_cannot_be_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker("document")
    _, answer = begin(worker, "open", path="/nowhere")  # type: ignore[arg-type]
    answer.wait()
    process = worker._process
    assert process is not None and process.popen is not None
    hang(process.popen.pid)
    kill = process.popen.kill
    monkeypatch.setattr(process.popen, "kill", lambda: None)
    worker.stop()  # comes back although the process is there
    assert process.popen.poll() is None
    kill()
    assert process.waiter is not None
    process.waiter.join()


TRAP = "import os; open(os.environ['SDVIEWER_TRAP'], 'a').write(__name__ + '\\n')\n"
TRAPS = (
    "sdviewer",
    "torch",
    "numpy",
    "sitecustomize",
    "usercustomize",
    "PySide6",
    "numba",
    "json",
    "tomllib",
    "safetensors",
)


@pytest.fixture
def trapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """The current folder holds modules that leave a mark when somebody imports them; what left a mark so far."""
    folder, mark = tmp_path / "downloads", tmp_path / "mark"
    folder.mkdir()
    for name in TRAPS:
        (folder / f"{name}.py").write_text(TRAP)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SDVIEWER_TRAP", str(mark))
    # As people write it: one colon too many, and the current folder is on the path.
    monkeypatch.setenv("PYTHONPATH", os.pathsep + str(ROOT))
    return lambda: mark.read_text() if mark.exists() else ""


def test_that_nothing_beside_a_checkpoint_is_imported(trapped: Callable[[], str], tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2, 3)}, "model.pt")
    worker = DocumentWorker("model.pt")
    opened, saved = Answered(), Answered()
    worker.open(opened.done, opened.failed)
    body = opened.wait().body
    assert body is not None
    worker.save("", str(tmp_path / "copy.pt"), body["info"]["identity"], saved.done, saved.failed)
    receipt = saved.wait().body
    worker.stop()
    assert receipt is not None
    assert receipt["receipt"]["verified"]["weights_only"] is True
    numbers = Worker("numbers")
    measured = Answered()
    numbers.request("digest", {"source": {}}, measured.done, measured.failed)
    measured.wait()
    numbers.stop()
    assert trapped() == ""


def test_that_the_traps_work(trapped: Callable[[], str]) -> None:
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    assert "torch" in trapped()
    assert "sitecustomize" in trapped()


# Text that means something to a terminal, a label or a file name

NASTY = {
    "control": "a\x1b[31mred\x1b[0m\x07\b\r\nb",
    "nul": "a\0b",
    "bidi": "\u202egpj.\u202d\u2066x\u2069",
    "joiners": "a\u200bb\u00adc\ufeff",
    "separators": "a\u2028b\u2029c\x85d\x0cd",
    "surrogate": "a\ud800b\udcff",
    "html": "<img src='file:///etc/passwd'><b>x</b>",
    "path": "../../../etc/passwd\\..\\x",
    "tag": "\U000e0041\U000e0042",
    "empty": "",
    "blank": "  ",
    "long": "k" * 1_000_000,
}


def state_dict() -> dict[str, torch.Tensor]:
    return {key: torch.full((2,), float(i)) for i, key in enumerate(NASTY.values())} | {"plain": torch.zeros(1)}


@pytest.mark.parametrize("legacy", [False, True])
def test_that_text_of_a_file_reaches_a_terminal_escaped_and_a_copy_exactly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], legacy: bool
) -> None:
    import json

    from sdviewer.cli.main import run

    source, out, recipe = tmp_path / "model.pt", tmp_path / "out.pt", tmp_path / "r.toml"
    values = {f"value {name}": text for name, text in NASTY.items()}
    torch.save({**state_dict(), "values": values}, source, _use_new_zipfile_serialization=not legacy)
    recipe.write_text(
        'format = "sdviewer-recipe/1"\n[[step]]\nop = "rename"\nmode = "first"\nrules = [["plain", "renamed"]]\n'
    )
    commands = (
        ["info", str(source)],
        ["stats", str(source), "--hash"],
        ["scan", str(source)],
        ["repair", str(source), "--recipe", str(recipe), "-o", str(out), "--dry-run"],
        ["repair", str(source), "--recipe", str(recipe), "-o", str(out)],
    )
    for command in commands:
        assert run(command) == 0
        told = capsys.readouterr()
        for line in (*told.out.split("\n"), *told.err.split("\n")):
            assert line.isprintable(), command
            assert not {"\u202e", "\u200b", "\U000e0041", "\u00ad"} & set(line)
        assert len(told.out) < 100_000, command
    assert run(["info", str(out), "--json"]) == 0
    told = capsys.readouterr()
    assert told.out.isascii()
    keys = json.loads(told.out)["state_dicts"][0]
    assert keys["tensors"] == len(NASTY) + 1
    loaded = torch.load(out)
    assert list(loaded) == [*NASTY.values(), "renamed", "values"]
    assert loaded["values"] == values
    assert all(torch.equal(loaded[key], tensor) for key, tensor in state_dict().items() if key != "plain")


def test_that_an_error_names_a_nasty_path_and_member_in_print(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sdviewer.cli.main import run

    path = tmp_path / "\x1b[31m\u202e\udcff.pt"
    path.write_bytes(b"no checkpoint \x1b[31m \xe2\x80\xae")
    for command in (["info", str(path)], ["scan", str(path)], ["info", str(path), "--json"]):
        assert run(command) == 3
        told = capsys.readouterr()
        assert all(line.isprintable() for line in (*told.out.split("\n"), *told.err.split("\n")))


def test_that_no_error_of_a_missing_file_is_a_traceback(tmp_path: Path) -> None:
    for name in ("gone.pt", "x" * 300, "a/b/c.pt"):
        with pytest.raises(SDViewerError):
            open_checkpoint(tmp_path / name)
