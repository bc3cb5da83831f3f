"""A whole new file beside its target: nobody sees it before it is complete, and nothing is left of it on any error.

On Linux the file has no name while it grows (`O_TMPFILE`), so even a killed process leaves nothing behind. Elsewhere,
and on file systems without it, it has a short random name in the same folder and is removed on every way out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sdviewer.core import text
from sdviewer.errors import SaveError

# The status of a file system or a kernel that lacks a call, as opposed to one that failed at it.
NOT_SUPPORTED = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EISDIR, errno.ENOENT, errno.EPERM}
)
_RENAME_NOREPLACE = 1  # linux/fs.h
_AT_FDCWD = -100  # linux/fcntl.h


class TemporaryFile:
    """The file in the making: `fd` is open for reading and writing, `target` is where it will stand.

    `warnings` collects what could not be kept of a replaced file, as sentences for a person.
    """

    __slots__ = ("_before", "_name", "fd", "out", "target", "warnings")

    def __init__(self, out: str, *, nbytes: int, overwrite: bool) -> None:
        """Create it, with room for `nbytes` bytes.

        Raises:
            SaveError: there is no such folder, OUT exists or is no ordinary file, no space, no permission.
        """
        self.fd = -1
        self.out = out
        self.warnings: list[str] = []
        self.target = _resolved(out)
        self._name: Path | None = None
        self._before = _replaceable(self.target, out, overwrite)
        _check_space(self.target.parent, nbytes, out)
        try:
            self._open()
            _reserve(self.fd, nbytes)
        except OSError as error:
            self.discard()
            raise save_error(error, out, nbytes) from error

    @property
    def readable_path(self) -> str:
        """A path under which this process, and a child that inherits `fd`, can open the file for reading."""
        return f"/proc/self/fd/{self.fd}" if self._name is None else str(self._name)

    def sync(self) -> None:
        """Make the bytes durable; a failure is final, since a second try would report success (fsync gate)."""
        try:
            _sync(self.fd)
        except OSError as error:
            raise save_error(error, self.out) from error

    def put_in_place(self) -> None:
        """Give the file its target's name, in one step: whoever looks sees what was there before, or all of this.

        Raises:
            SaveError: somebody else made or changed the target meanwhile, or the file system refused.
        """
        try:
            self._take_over()
            _sync(self.fd)
            self._check_target()
            if self._before is None:
                self._add_name()
            else:
                self._replace()
        except OSError as error:
            raise save_error(error, self.out) from error
        self._sync_folder()

    def discard(self) -> None:
        """Close the file, and remove it unless it was put in place."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)
        if self._name is not None:
            with contextlib.suppress(OSError):
                self._name.unlink()
            self._name = None

    # Making it

    def _open(self) -> None:
        folder = self.target.parent
        if sys.platform == "linux" and Path("/proc/self/fd").exists():
            try:
                self.fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
                return
            except OSError as error:
                if error.errno not in NOT_SUPPORTED:
                    raise
        name = self._random_name()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self.fd = os.open(name, flags, 0o600)
        self._name = name

    def _random_name(self) -> Path:
        # Short and not made from the target's name, which may already be as long as a name can be.
        return self.target.parent / f".sdv-{secrets.token_hex(6)}.tmp"

    # Putting it in place

    def _take_over(self) -> None:
        """Give the file the owner, mode, access list and attributes of the one it replaces, or those of a new file."""
        if self._before is not None:
            self.warnings += _keep_attributes(self.target, self._before, self.fd)
        elif self._name is not None and sys.platform != "win32":
            os.fchmod(self.fd, 0o666 & ~_umask())

    def _check_target(self) -> None:
        now = _stat(self.target)
        before = self._before
        if now is None or before is None:
            if now is not None:
                raise _exists(self.out)
            self._before = None
        elif (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns) != (
            before.st_dev,
            before.st_ino,
            before.st_size,
            before.st_mtime_ns,
        ):
            raise SaveError(
                "the file there was changed by somebody else while this one was written",
                path=self.out,
                remedy="Look at it, then save again.",
                code="target_changed",
            )

    def _add_name(self) -> None:
        """Name a file where there is none; never replace one that appeared meanwhile."""
        try:
            if self._name is None:
                self._link_unnamed(self.target)
            elif sys.platform == "win32":
                self._close()
                self._name.rename(self.target)
                self._name = None
            else:
                _rename_to_new(self._name, self.target)
                self._name = None
        except FileExistsError:
            raise _exists(self.out) from None

    def _replace(self) -> None:
        if self._name is None:
            name = self._random_name()
            self._link_unnamed(name)
            self._name = name
        if sys.platform == "win32":
            self._close()
        self._name.replace(self.target)
        self._name = None

    def _link_unnamed(self, name: Path) -> None:
        # linkat(AT_SYMLINK_FOLLOW) of the descriptor's entry in /proc. Python asks for linkat, not link, only when a
        # folder is given; link alone would name the entry itself (EXDEV).
        folder = os.open(name.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.link(f"/proc/self/fd/{self.fd}", name.name, dst_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(folder)

    def _close(self) -> None:
        fd, self.fd = self.fd, -1
        os.close(fd)

    def _sync_folder(self) -> None:
        if sys.platform == "win32":
            return
        try:
            folder = os.open(self.target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            self.warnings.append(f"the file is written, but the disk did not confirm its name ({error.strerror})")


@contextmanager
def temporary_file(out: str, *, nbytes: int, overwrite: bool) -> Iterator[TemporaryFile]:
    """A `TemporaryFile` that is discarded on the way out, however that is, unless it was put in place."""
    temporary = TemporaryFile(out, nbytes=nbytes, overwrite=overwrite)
    try:
        yield temporary
    finally:
        temporary.discard()


def refuse_existing(out: str, *, overwrite: bool) -> None:
    """Raise what `TemporaryFile` would raise for this OUT, before any work is done.

    Raises:
        SaveError: there is no such folder, OUT exists or is no ordinary file.
    """
    target = _resolved(out)
    _replaceable(target, out, overwrite)


def save_error(error: OSError, out: str, nbytes: int = 0) -> SaveError:
    """What the system said, as an error that names the file, the cause and the remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        needs = f": needs {text.size(nbytes)}" if nbytes else ""
        return SaveError(
            f"not enough space on the disk{needs}", path=out, remedy="Make room or save elsewhere.", code="no_space"
        )
    if error.errno == errno.EFBIG:
        return SaveError(
            "larger than a file may be here", path=out, remedy="Save to another file system.", code="no_space"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return SaveError(f"cannot be written ({error.strerror})", path=out, remedy="Save to another folder.")
    if error.errno == errno.ENAMETOOLONG:
        return SaveError("the name is too long", path=out, remedy="Choose a shorter one.")
    return SaveError(f"cannot be written ({error.strerror or error})", path=out)


def _resolved(out: str) -> Path:
    """The file that a save to `out` makes or replaces: symbolic links followed to their end."""
    try:
        target = Path(os.path.realpath(out))
        loops = stat.S_ISLNK(target.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        loops = False
    except ValueError:
        raise SaveError("no file can have this name", path=out, remedy="Choose another name.") from None
    except OSError as error:
        raise save_error(error, out) from error
    if loops:
        raise SaveError("is a symbolic link to itself", path=out, remedy="Remove it first.")
    return target


def _stat(target: Path) -> os.stat_result | None:
    try:
        return target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _replaceable(target: Path, out: str, overwrite: bool) -> os.stat_result | None:
    """The status of the file that will be replaced, None where there is none."""
    try:
        before = _stat(target)
        folder = _stat(target.parent)
    except OSError as error:
        raise save_error(error, out) from error
    if folder is None or not stat.S_ISDIR(folder.st_mode):
        raise SaveError("the folder does not exist", path=out, remedy="Create it first, or save elsewhere.")
    if before is None:
        return None
    if not stat.S_ISREG(before.st_mode):
        kind = "a folder" if stat.S_ISDIR(before.st_mode) else "not an ordinary file"
        raise SaveError(f"is {kind}", path=out, remedy="Choose another name.")
    if not overwrite:
        raise _exists(out)
    if not os.access(target, os.W_OK):
        # A rename would go through, but a file made read-only was meant to stay.
        raise SaveError("is write-protected", path=out, remedy="Choose another name.")
    return before


def _exists(out: str) -> SaveError:
    return SaveError(
        "exists already", path=out, remedy="Choose another name, or allow it to be overwritten.", code="exists"
    )


def _check_space(folder: Path, nbytes: int, out: str) -> None:
    """Compare what is needed with what the file system says it has, bytes."""
    if sys.platform == "win32":
        return
    try:
        status = os.statvfs(folder)
    except OSError:
        return
    free = status.f_bavail * status.f_frsize
    if status.f_blocks and free < nbytes:
        raise SaveError(
            f"not enough space on the disk: needs {text.size(nbytes)}, has {text.size(free)}",
            path=out,
            remedy="Make room or save elsewhere.",
            code="no_space",
        )


def _reserve(fd: int, nbytes: int) -> None:
    """Take the space now (`ftruncate` would not): a full disk shows before an hour of copying, not after."""
    if not nbytes or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(fd, 0, nbytes)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise


def _sync(fd: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        # fsync there only reaches the drive's own cache.
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


def _umask() -> int:
    if sys.platform == "linux":
        # Reading it with os.umask would change it for the other threads for a moment.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _keep_attributes(target: Path, before: os.stat_result, fd: int) -> list[str]:
    """Put owner, mode and extended attributes (access lists among them) of `target` on `fd`; what could not be kept."""
    if sys.platform == "win32":
        return []
    lost = []
    mode = stat.S_IMODE(before.st_mode)
    now = os.fstat(fd)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        try:
            os.fchown(fd, before.st_uid, before.st_gid)
        except OSError:
            # Without the owner, the bits that act in the owner's name must not stay.
            mode &= 0o777
            lost.append("the owner of the replaced file could not be kept")
    os.fchmod(fd, mode)
    if before.st_nlink > 1:
        lost.append(
            f"the replaced file had {text.plural(before.st_nlink - 1, 'other name')}, which keeps the old bytes"
        )
    if sys.platform == "linux":
        lost += _keep_xattrs(target, fd)
    return lost


def _keep_xattrs(target: Path, fd: int) -> list[str]:
    if sys.platform != "linux":
        return []
    lost = []
    try:
        names = os.listxattr(target)
    except OSError:
        return []
    for name in names:
        try:
            os.setxattr(fd, name, os.getxattr(target, name))
        except OSError:
            if not name.startswith("security."):  # the system's own labels, set by it
                lost.append(f"the attribute {text.visible(name, 80)} of the replaced file could not be kept")
    return lost


def _rename_to_new(name: Path, target: Path) -> None:
    """Rename without ever replacing: by a second name, or by the kernel's own call where names cannot be doubled."""
    try:
        os.link(name, target)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
    else:
        name.unlink()
        return
    if sys.platform == "linux":
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        done = libc.renameat2(_AT_FDCWD, os.fsencode(name), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE)
        if done == 0:
            return
        code = ctypes.get_errno()
        if code not in NOT_SUPPORTED:
            raise OSError(code, os.strerror(code))
    raise SaveError(
        "this file system cannot name a new file without the risk of replacing another",
        path=str(target),
        remedy="Save to another disk, then move the file here.",
    )
