"""A whole new folder: built beside its place under another name, and renamed when everything in it has been proved.

It never replaces anything, not even an empty folder.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sdviewer.core import text
from sdviewer.core.checkpoint import Identity
from sdviewer.errors import SaveError
from sdviewer.formats.file import identity_of
from sdviewer.formats.temporary import Loss, not_confirmed, rename_to_new, save_error


class NewFolder:
    """The folder in the making, at `path`; `put_in_place` gives it its name. `losses`: what could not be confirmed."""

    def __init__(self, out: str, path: Path) -> None:
        self.out = out
        self.path = path
        self.losses: list[Loss] = []

    @property
    def identity(self) -> Identity:
        """Which folder it is, under either name."""
        return identity_of(self.path.stat())

    def put_in_place(self) -> None:
        """Rename it, in one step, to a name that nothing has.

        A disk that does not confirm the name afterwards is one of `losses`: the folder is there, and right.

        Raises:
            SaveError: somebody made something of that name meanwhile, or the file system refused.
        """
        target = Path(self.out)
        try:
            _sync(self.path)
            if sys.platform == "linux":
                rename_to_new(self.path, target)
            else:  # elsewhere a folder with something in it is not replaced, and an empty one is nothing to lose
                self.path.rename(target)
        except FileExistsError:
            raise _exists(self.out) from None
        except OSError as error:
            raise save_error(error, self.out) from error
        try:
            _sync(target.parent)
        except OSError as error:
            self.losses.append(not_confirmed(error))


@contextmanager
def new_folder(out: str, nbytes: int) -> Iterator[NewFolder]:
    """An empty folder beside `out`, which is removed on the way out unless it was put in place.

    Raises:
        SaveError: there is something at `out`, no folder to put it in, or no room for `nbytes` bytes.
    """
    refuse_existing_folder(out)
    parent = Path(out).absolute().parent
    path = parent / f".sdv-{secrets.token_hex(6)}.tmp"
    try:
        free = shutil.disk_usage(parent).free
        if free < nbytes:
            raise SaveError(
                f"not enough space on the disk: needs {text.size(nbytes)}, has {text.size(free)}",
                path=out,
                remedy="Make room or save elsewhere.",
                code="no_space",
            )
        path.mkdir()
    except OSError as error:
        raise save_error(error, out, nbytes) from error
    try:
        yield NewFolder(out, path)
    finally:
        if path.exists():
            with contextlib.suppress(OSError):
                shutil.rmtree(path)


def refuse_existing_folder(out: str) -> None:
    """Raise what `new_folder` would raise for what is at `out`, before any work is done.

    Raises:
        SaveError: something has this name, or there is no folder to put it in.
    """
    try:
        if os.path.lexists(out):
            raise _exists(out)
        if not Path(out).absolute().parent.is_dir():
            remedy = "Create it first, or save elsewhere."
            raise SaveError("the folder does not exist", path=out, remedy=remedy, code="bad_place")
    except ValueError:
        raise SaveError(
            "no file can have this name", path=out, remedy="Choose another name.", code="bad_place"
        ) from None


def _exists(out: str) -> SaveError:
    return SaveError(
        "exists already, and a folder is never overwritten", path=out, remedy="Choose another name.", code="exists"
    )


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    if sys.platform == "win32":
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
