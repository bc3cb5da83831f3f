"""Makes a double-click open sdviewer for this user, on desktops that follow freedesktop.org, and undoes it.

What is written, all below the user's own XDG folders: the file type (recognised by content, see the MIME file), the
desktop entry, the icons, and one line of `mimeapps.list`. Specifications: Desktop Entry 1.4, Shared MIME-info 0.21,
Association between MIME types and applications 1.0.1, Icon Theme 0.13.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import sdviewer
from sdviewer.errors import SaveError, UsageError

MIME_TYPE = "application/x-pytorch"
DESKTOP_FILE = f"{sdviewer.APP_ID}.desktop"
_DEFAULTS = b"[Default Applications]"


def register(command: Sequence[str] = ()) -> list[str]:
    """Write the file type, the desktop entry, the icons and the default application; return the paths written.

    `command` is the program and its first arguments; without it, the very sdviewer that is running.

    Raises:
        UsageError: the program's path cannot stand in a desktop entry.
        SaveError: a file could not be written.
    """
    program = list(command) or own_command()
    source = resources() / "linux"
    entry = _desktop_entry((source / DESKTOP_FILE).read_text(encoding="utf-8"), program)
    data = _data_home()
    contents = {
        _mime_file(): (source / f"{sdviewer.APP_ID}.mime.xml").read_bytes(),
        data / "applications" / DESKTOP_FILE: os.fsencode(entry),
    }
    contents |= {data / "icons" / icon: (source / "icons" / icon).read_bytes() for icon in _icons(source)}
    for path, content in contents.items():
        _write(path, content)
    defaults = _edit_defaults(_add_default)
    _update_databases()
    return [str(path) for path in contents] + ([str(defaults)] if defaults else [])


def unregister() -> list[str]:
    """Take away what `register` wrote and nothing else; return the paths removed or edited.

    Raises:
        SaveError: a file could not be removed or written.
    """
    data = _data_home()
    icons = [data / "icons" / icon for icon in _icons(resources() / "linux")]
    gone = [str(path) for path in (_mime_file(), data / "applications" / DESKTOP_FILE, *icons) if _remove(path)]
    defaults = _edit_defaults(_drop_default)
    if gone:
        _update_databases()
    return gone + ([str(defaults)] if defaults else [])


def missing_tools() -> list[str]:
    """Programs without which desktops do not notice the new file type."""
    return [tool for tool in ("update-mime-database",) if shutil.which(tool) is None]


def own_command() -> list[str]:
    """The program a desktop should start: what the user ran, as an absolute path."""
    if appimage := os.environ.get("APPIMAGE"):  # what runs inside is a mount that goes away
        return [appimage]
    if getattr(sys, "frozen", False):
        return [sys.executable]
    ran = Path(sys.argv[0]).absolute()
    if ran.name.startswith("sdviewer") and os.access(ran, os.X_OK) and ran.is_file():
        return [str(ran)]
    beside = Path(sys.executable).with_name("sdviewer")
    if os.access(beside, os.X_OK):
        return [str(beside)]
    return [sys.executable, "-m", "sdviewer"]


def resources() -> Path:
    """The folder of resources: in the package when installed, beside it in a clone."""
    package = Path(sdviewer.__file__).parent
    inside = package / "resources"
    return inside if inside.is_dir() else package.parent / "resources"


# The desktop entry


def _desktop_entry(template: str, program: Sequence[str]) -> str:
    if any(ord(character) < 32 for part in program for character in part):
        raise UsageError(
            "the path of sdviewer holds a control character and cannot stand in a desktop entry",
            path=program[0],
            remedy="Install it in another folder.",
        )
    exec_line = " ".join(_exec_argument(part) for part in program)
    if "%" in program[0]:
        # GIO looks for the program before it turns "%%" into "%", finds none and drops the whole entry.
        exec_line = "env " + exec_line
    try_exec = program[0].replace("\\", "\\\\")
    lines = []
    for line in template.splitlines():
        if line.startswith("Exec=sdviewer"):
            line = f"Exec={exec_line}{line.removeprefix('Exec=sdviewer')}"
        elif line.startswith("TryExec="):
            line = f"TryExec={try_exec}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _exec_argument(text: str) -> str:
    """Quote one argument of an Exec line: first for the quotes, then for the string value, and % for field codes."""
    for character in '\\"`$':
        text = text.replace(character, "\\" + character)
    return '"' + text.replace("\\", "\\\\").replace("%", "%%") + '"'


# mimeapps.list, as bytes: the other lines are somebody else's


def _edit_defaults(edit: Callable[[list[bytes]], None]) -> Path | None:
    """Apply `edit` to the lines of the user's mimeapps.list; return its path if that changed anything."""
    # A symbolic link (people keep this file in a repository of dot files) stays one.
    path = Path(os.path.realpath(_xdg("XDG_CONFIG_HOME", ".config") / "mimeapps.list"))
    before = path.read_bytes() if path.is_file() else b""
    lines = before.splitlines(keepends=True)
    edit(lines)
    after = b"".join(lines)
    if after == before:
        return None
    if after.strip() in (b"", _DEFAULTS):
        _remove(path)
    else:
        _write(path, after)
    return path


def _add_default(lines: list[bytes]) -> None:
    ours = DESKTOP_FILE.encode() + b";"
    at = _default_line(lines)
    if at is not None:
        key, value = lines[at].split(b"=", 1)
        if ours.rstrip(b";") not in value.strip().split(b";"):
            lines[at] = key + b"=" + ours + value.lstrip()
        return
    start = _section(lines)
    if start is None:
        if lines and not lines[-1].endswith(b"\n"):
            lines[-1] += b"\n"
        lines.append(_DEFAULTS + b"\n")
        start = len(lines) - 1
    lines.insert(start + 1, MIME_TYPE.encode() + b"=" + ours + b"\n")


def _drop_default(lines: list[bytes]) -> None:
    at = _default_line(lines)
    if at is None:
        return
    key, value = lines[at].split(b"=", 1)
    ending = value[len(value.rstrip(b"\r\n")) :]
    others = [name for name in value.strip().split(b";") if name != DESKTOP_FILE.encode()]
    if not any(others):
        del lines[at]
    else:
        lines[at] = key + b"=" + b";".join(others) + ending


def _section(lines: Sequence[bytes]) -> int | None:
    return next((i for i, line in enumerate(lines) if line.strip() == _DEFAULTS), None)


def _default_line(lines: Sequence[bytes]) -> int | None:
    """Where the default application of our type stands, None where it does not."""
    start = _section(lines)
    if start is None:
        return None
    for i in range(start + 1, len(lines)):
        if lines[i].lstrip().startswith(b"["):
            return None
        if lines[i].split(b"=", 1)[0].strip() == MIME_TYPE.encode() and b"=" in lines[i]:
            return i
    return None


# Folders and files


def _xdg(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    # The specification: a relative path is to be ignored.
    return Path(value) if Path(value).is_absolute() else Path.home() / fallback


def _data_home() -> Path:
    return _xdg("XDG_DATA_HOME", ".local/share")


def _mime_file() -> Path:
    return _data_home() / "mime" / "packages" / f"{sdviewer.APP_ID}.xml"


def _icons(source: Path) -> list[Path]:
    icons = source / "icons"
    return sorted(path.relative_to(icons) for path in icons.rglob("*") if path.is_file())


def _write(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step; an existing file keeps its permissions."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644
        handle, name = tempfile.mkstemp(prefix=".sdviewer-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SaveError(f"cannot write it ({error.strerror})", path=str(path), code="write_failed") from error


def _remove(path: Path) -> bool:
    """Remove a file, and the folders that it leaves empty below the user's own; True if it was there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SaveError(f"cannot remove it ({error.strerror})", path=str(path), code="write_failed") from error
    data = _data_home()
    for folder in path.parents:
        if data not in folder.parents or any(folder.iterdir()):
            break
        folder.rmdir()
    return True


def _update_databases() -> None:
    """Let desktops notice; each tool is used where it is installed."""
    data = _data_home()
    theme = data / "icons" / "hicolor"
    # With its packages folder gone the type is gone too, but the database must be told.
    (data / "mime" / "packages").mkdir(parents=True, exist_ok=True)
    _run("update-mime-database", str(data / "mime"))
    if (data / "applications").is_dir():
        _run("update-desktop-database", str(data / "applications"))
    if (theme / "icon-theme.cache").is_file():
        _run("gtk-update-icon-cache", "-q", "-f", "-t", str(theme))
    if theme.is_dir():
        os.utime(theme)  # GTK looks for new icons when the folder is newer than what it remembers


def _run(tool: str, *arguments: str) -> None:
    found = shutil.which(tool)
    if found is None:
        return
    # Other people's broken packages make these tools complain; that is not ours to report.
    subprocess.run([found, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
