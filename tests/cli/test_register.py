"""A double-click opens sdviewer for checkpoints, by content; for every other file nothing changes, then or afterwards.

Qt's and GIO's own databases are asked, in processes whose XDG folders lie in the test's.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import select
import shlex
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest

from sdviewer import APP_ID
from sdviewer.cli import desktop_linux
from sdviewer.cli.desktop_linux import register, unregister
from sdviewer.errors import SaveError, UsageError

OURS = "application/x-pytorch"
PATHS = "text/x-python-path"
DESKTOP = f"{APP_ID}.desktop"

ASK_QT = """
import json, sys
from PySide6.QtCore import QMimeDatabase
database = QMimeDatabase()
print(json.dumps([database.mimeTypeForFile(path).name() for path in sys.argv[1:]]))
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("APPIMAGE", raising=False)
    return tmp_path


# The sample files, each made here; the second column is its type once sdviewer is registered, None: what it was before


def torch_zip(stem: str = "archive", first: str = "data.pkl") -> bytes:
    """What torch 2.x writes: entries without time and date, the header of the first padded with FB to 64 bytes."""
    name = f"{stem}/{first}".encode()
    padding = (64 - (30 + len(name) + 4) % 64) % 64
    extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    header = b"PK\3\4\0\0\x08\x08" + bytes(18) + len(name).to_bytes(2, "little") + len(extra).to_bytes(2, "little")
    return header + name + extra + pickle.dumps({"weight": 1}, protocol=2) + plain_zip({f"{stem}/version": b"3\n"})


def legacy(protocol: int) -> bytes:
    """Three pickles: the magic number, the protocol version, the facts of the machine."""
    numbers = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(number, protocol=protocol) for number in numbers)


def plain_zip(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tar(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def npz() -> bytes:
    stream = io.BytesIO()
    numpy.savez(stream, weight=numpy.zeros(3))
    return stream.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


NOISE = bytes((i * 97 + 13) % 256 for i in range(4096))

SAMPLES: dict[str, tuple[bytes, str | None]] = {
    "model.pth": (torch_zip("model"), OURS),
    "SHOUTED.PTH": (torch_zip("SHOUTED"), OURS),
    "long.pth": (torch_zip("x" * 200), OURS),
    "zip.pt": (torch_zip(), OURS),
    "zip.ckpt": (torch_zip(), OURS),
    "zip.bin": (torch_zip(), OURS),
    "zip-without-suffix": (torch_zip(), OURS),
    "script-code.pt": (torch_zip("script", "code/__torch__/net.py"), OURS),
    "script-extra.pt": (torch_zip("script", "extra/info.json"), OURS),
    "zipped again.pt": (plain_zip({"archive/data.pkl": pickle.dumps({})}, zipfile.ZIP_DEFLATED), OURS),
    "legacy2.pth": (legacy(2), OURS),
    "legacy4.pth": (legacy(4), OURS),
    "legacy2.bin": (legacy(2), OURS),
    "legacy4-without-suffix": (legacy(4), OURS),
    "best.pth.tar": (torch_zip("best.pth"), OURS),
    "pytorch_model-00001-of-00002.bin": (torch_zip(), OURS),
    "distutils-precedence.pth": (b"import os; var = 'SETUPTOOLS_USE_DISTUTILS'\n", PATHS),
    "easy-install.pth": (b"/usr/lib/python3/dist-packages\n../src\n", PATHS),
    "umlaut.pth": ("/home/jürgen/projekt\n".encode(), PATHS),
    "firmware.bin": (NOISE, None),
    "tensorflow.ckpt": (NOISE, None),
    "notes.ckpt": (b"step 100, loss 0.1\n", None),
    "portuguese.pt": (b"bom dia\n", None),
    "noise.pt": (NOISE, None),
    "plain.pkl": (pickle.dumps({"a": 1}, protocol=4), None),
    "report.docx": (plain_zip({"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<w/>"}), None),
    "archive.zip": (plain_zip({"folder/extra/a.txt": b"a", "folder/code/b.py": b"b"}), None),
    "arrays.npz": (npz(), None),
    "data.tar": (tar("a.txt", b"a"), None),
    "model.safetensors": (safetensors(), "application/x-safetensors"),
}


@pytest.fixture
def samples(home: Path) -> list[Path]:
    folder = home / "samples"
    folder.mkdir()
    for name, (content, _) in SAMPLES.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in SAMPLES]


def qt_types(paths: list[Path]) -> dict[str, str]:
    answer = subprocess.run([sys.executable, "-c", ASK_QT, *paths], capture_output=True, check=True, text=True)
    return dict(zip([path.name for path in paths], json.loads(answer.stdout), strict=True))


def gio_types(paths: list[Path]) -> dict[str, str]:
    command = ["gio", "info", "--attributes=standard::content-type", *paths]
    lines = subprocess.run(command, capture_output=True, check=True, text=True, env=c_locale()).stdout.splitlines()
    found = [line.split()[1] for line in lines if "standard::content-type:" in line]
    return dict(zip([path.name for path in paths], found, strict=True))


def c_locale() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def gio_default() -> str:
    """What GIO starts for a checkpoint, as it tells it."""
    return subprocess.run(["gio", "mime", OURS], capture_output=True, text=True, check=False, env=c_locale()).stdout


@pytest.mark.parametrize("types", [qt_types, gio_types])
def test_that_checkpoints_are_known_by_content_and_unregister_leaves_every_type_as_it_was(
    samples: list[Path], types: Callable[[list[Path]], dict[str, str]]
) -> None:
    before = types(samples)

    register()
    registered = types(samples)
    unregister()

    assert registered == {name: expected or before[name] for name, (_, expected) in SAMPLES.items()}
    assert types(samples) == before
    assert OURS not in before.values()


def test_that_a_path_file_is_still_text_for_programs_that_open_text(home: Path) -> None:
    register()

    ask = f"from PySide6.QtCore import QMimeDatabase as M; print(M().mimeTypeForName({PATHS!r}).parentMimeTypes())"
    answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "['text/plain']"


def test_that_registering_makes_sdviewer_the_default_and_unregistering_ends_that(home: Path) -> None:
    register(["/bin/true"])
    assert f"Default application for “{OURS}”: {DESKTOP}" in gio_default()

    unregister()
    assert DESKTOP not in gio_default()


def test_that_nothing_of_ours_is_left_in_the_users_folders(home: Path) -> None:
    written = register()

    gone = unregister()

    assert written == gone
    assert not any(Path(path).exists() for path in written)
    assert not any(APP_ID in path.name or "pytorch" in path.name for path in (home / "data").rglob("*"))
    assert not any(path.is_file() and OURS.encode() in path.read_bytes() for path in home.rglob("*"))


def test_that_registering_twice_is_the_same_as_once(home: Path) -> None:
    register()
    once = {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and "mime.cache" not in path.name}

    register()

    assert {path: path.read_bytes() for path in once} == once


def test_that_unregistering_what_was_never_registered_touches_nothing(home: Path) -> None:
    assert unregister() == []
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("size", [16, 22, 24, 32, 48, 64, 128, 256])
def test_that_icons_are_pictures_of_their_size(home: Path, size: int) -> None:
    register()

    for context, name in (("apps", APP_ID), ("mimetypes", "application-x-pytorch")):
        png = (home / "data/icons/hicolor" / f"{size}x{size}" / context / f"{name}.png").read_bytes()
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        assert (int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")) == (size, size)


# mimeapps.list belongs to the user and to other programs


def applications(home: Path) -> Path:
    (home / "config").mkdir(exist_ok=True)
    return home / "config" / "mimeapps.list"


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"[Added Associations]\ntext/plain=vim.desktop;\n",
        b"# mine\n\n[Default Applications]\ntext/plain=vim.desktop\n\n[Added Associations]\nx/y=a.desktop\n",
        b"[Default Applications]\napplication/x-pytorch=netron.desktop\ntext/plain=vim.desktop",
        b"[Default Applications]\r\napplication/x-pytorch=netron.desktop;other.desktop;\r\n",
        b"[Default Applications]\nx/y=\xff\xfe.desktop\n",
        b"text/plain=no-section.desktop",
    ],
)
def test_that_the_lines_of_others_come_back_byte_for_byte(home: Path, before: bytes) -> None:
    path = applications(home)
    path.write_bytes(before)

    register(["/bin/true"])
    between = path.read_bytes()
    default = gio_default()
    unregister()

    assert f"“{OURS}”: {DESKTOP}" in default
    assert all(line in between for line in before.splitlines() if not line.startswith(b"application/x-pytorch="))
    after = path.read_bytes() if path.exists() else b""
    added_section = b"" if b"[Default Applications]" in before or not before else b"[Default Applications]\n"
    line_end = b"" if before.endswith(b"\n") or not added_section else b"\n"
    assert after == before + line_end + added_section


def test_that_a_linked_mimeapps_list_stays_a_link_and_keeps_its_permissions(home: Path) -> None:
    real = home / "dotfiles.list"
    real.write_bytes(b"[Default Applications]\ntext/plain=vim.desktop\n")
    real.chmod(0o600)
    applications(home).symlink_to(real)

    register()

    assert applications(home).is_symlink()
    assert DESKTOP.encode() in real.read_bytes()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


def test_that_a_folder_that_cannot_be_written_is_one_clear_error(home: Path) -> None:
    (home / "data").write_text("a file where a folder should be")

    with pytest.raises(SaveError, match="cannot write"):
        register()


# Programs in odd places


NASTY = [
    "a space",
    "dollar $HOME",
    "back`tick",
    'quo"te',
    "back\\slash",
    "apo'strophe",
    "50% off",
    "%f %F",
    "ümläut",
    "(&;|<>)",
]


@pytest.mark.parametrize("folder", NASTY)
def test_that_gio_starts_a_program_in_a_nasty_folder_with_the_very_file(home: Path, folder: str) -> None:
    program = home / folder / "bin" / "sdviewer"
    program.parent.mkdir(parents=True)
    log = home / "log"
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    program.write_text(f'#!/bin/sh\nprintf "%s" "$*" > {shlex.quote(str(log))}\n')
    program.chmod(0o755)
    file = home / f"my {folder} model.pth"
    file.write_bytes(torch_zip())
    register([str(program)])

    subprocess.run(["gio", "open", file], check=True, timeout=20, env=c_locale())

    # gio starts it in the background: wait until it has written, at most 20 s.
    readable, _, _ = select.select([reader], [], [], 20)
    assert readable
    assert os.read(reader, 4096).decode() == str(file)
    os.close(reader)


@pytest.mark.parametrize("folder", NASTY)
def test_that_the_desktop_entry_is_valid(home: Path, folder: str) -> None:
    register([f"/opt/{folder}/bin/sdviewer"])

    answer = subprocess.run(
        ["desktop-file-validate", home / "data/applications" / DESKTOP], capture_output=True, text=True, check=False
    )

    assert (answer.returncode, answer.stdout) == (0, "")


def test_that_a_path_with_a_line_break_is_refused_before_anything_is_written(home: Path) -> None:
    with pytest.raises(UsageError, match="control character"):
        register(["/opt/a\nExec=evil/sdviewer"])

    assert list(home.iterdir()) == []


def test_that_an_appimage_registers_itself_and_not_its_mount(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPIMAGE", "/home/me/sdviewer.AppImage")

    register()

    assert 'Exec="/home/me/sdviewer.AppImage" %F' in (home / "data/applications" / DESKTOP).read_text()


def test_that_the_program_the_user_ran_is_registered_by_its_absolute_path(home: Path) -> None:
    script = shutil.which("sdviewer", path=str(Path(sys.executable).parent))
    assert script is not None

    subprocess.run([script, "register"], check=True, capture_output=True)

    entry = (home / "data/applications" / DESKTOP).read_text().splitlines()
    assert f'Exec="{script}" %F' in entry
    assert f"TryExec={script}" in entry


def test_that_register_says_what_it_wrote_and_unregister_what_it_removed(home: Path) -> None:
    def command(name: str) -> str:
        line = [sys.executable, "-m", "sdviewer", name]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout

    assert f"wrote {home}/data/applications/{DESKTOP}\n" in command("register")
    assert f"removed {home}/data/applications/{DESKTOP}\n" in command("unregister")
    assert command("unregister") == "nothing was registered\n"


@pytest.mark.parametrize(("platform", "system"), [("darwin", "macOS"), ("win32", "Windows")])
def test_that_other_systems_are_told_that_it_is_not_built_yet(
    monkeypatch: pytest.MonkeyPatch, platform: str, system: str
) -> None:
    from sdviewer.cli.register import require_freedesktop

    monkeypatch.setattr(sys, "platform", platform)

    with pytest.raises(UsageError, match=f"not built yet for {system}"):
        require_freedesktop("register")


def test_that_qt_is_not_started_to_register(home: Path) -> None:
    code = "import sys; sys.argv[0] = '/bin/true'; from sdviewer.cli.desktop_linux import register; register()"
    check = "; assert not {'PySide6', 'numpy', 'torch'} & set(sys.modules)"

    subprocess.run([sys.executable, "-c", code + check], check=True)


def test_that_own_command_survives_a_python_module_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APPIMAGE", raising=False)
    monkeypatch.setattr(sys, "argv", ["/somewhere/sdviewer/__main__.py"])

    assert desktop_linux.own_command() == [str(Path(sys.executable).with_name("sdviewer"))]
