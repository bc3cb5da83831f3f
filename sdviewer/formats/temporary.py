"""A whole new file beside its target: nobody sees it before it is complete, and nothing is left of it on any error.

On Linux the file has no name while it grows (`O_TMPFILE`), so even a killed process leaves nothing behind. Elsewhere,
and on file systems without it, it has a short random name in the same folder and is removed on every way out. What a
killed process left all the same goes with the next save into that folder: its owner held a lock on it, which died too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sdviewer.core import text
from sdviewer.core.checkpoint import Identity
from sdviewer.errors import SaveError
from sdviewer.formats.file import identity_of

# The status of a file system or a kernel that lacks a call, as opposed to one that failed at it.
NOT_SUPPORTED = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EISDIR, errno.ENOENT, errno.EPERM}
)
_RENAME_NOREPLACE = 1  # linux/fs.h
_AT_FDCWD = -100  # linux/fcntl.h
_LITTER = re.compile(r"\.sdv-[0-9a-f]{12}\.tmp")
_HELD_BY_OTHERS = frozenset({5, 32, 33})  # WinError: access denied, sharing violation, lock violation
_SECONDS_TO_LET_GO = 2.5

NOT_CONFIRMED = "not_confirmed"
OTHER_NAMES = "other_names"
ATTRIBUTES = "replaced_attributes"


RESERVE = 64 << 10
"""Bytes left free besides the file's own: its name and the maps of its blocks take some."""


class Replacing(NamedTuple):
    """What may be done to a file that stands at OUT.

    `allowed`: it may be replaced. `other_names`: also where it has hard links, which then keep the old bytes. `only`:
    nothing but this file in this state, the one that a person was asked about; None for whatever is there.
    """

    allowed: bool = False
    other_names: bool = True
    only: Identity | None = None


class Loss(NamedTuple):
    """Something of the place that is not as it should be although the file is right: code and sentence."""

    code: str
    message: str


def not_confirmed(error: OSError) -> Loss:
    """What is said where the name could not be made durable."""
    return Loss(
        code=NOT_CONFIRMED, message=f"the file is written, but the disk did not confirm its name ({error.strerror})"
    )


class TemporaryFile:
    """The file in the making: `fd` is open for reading and writing, `target` is where it will stand.

    `losses` collects what could not be kept of a replaced file, or not be confirmed. `identity` is that of the file in
    its place, None before.
    """

    __slots__ = ("_before", "_name", "fd", "identity", "losses", "nbytes", "out", "target")

    def __init__(self, out: str, *, nbytes: int, replacing: Replacing) -> None:
        """Create it, with room for `nbytes` bytes.

        Raises:
            SaveError: there is no such folder, OUT exists or is no ordinary file, no space, no permission.
        """
        self.fd = -1
        self.out = out
        self.nbytes = nbytes
        self.losses: list[Loss] = []
        self.identity: Identity | None = None
        self.target = _resolved(out)
        self._name: Path | None = None
        self._before = _replaceable(self.target, out, replacing)
        remove_litter(self.target.parent)
        _check_space(self.target.parent, nbytes, out)
        try:
            self._open()
            _reserve(self.fd, nbytes)
        except OSError as error:
            self.discard()
            raise self.error(error) from error

    @property
    def readable_path(self) -> str:
        """A path under which this process, and a child that inherits `fd`, can open the file for reading."""
        return f"/proc/self/fd/{self.fd}" if self._name is None else str(self._name)

    def error(self, error: OSError) -> SaveError:
        """What the system said, as an error that names OUT, the cause, the space needed and the remedy."""
        return save_error(error, self.out, self.nbytes)

    def sync(self) -> None:
        """Make the bytes durable, and let the system forget its copy: what is read back comes from the disk then.

        A failure is final, since a second try would report success (fsync gate).
        """
        try:
            _sync(self.fd)
        except OSError as error:
            raise self.error(error) from error
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def put_in_place(self) -> None:
        """Give the file its target's name, in one step: whoever looks sees what was there before, or all of this.

        A disk that does not confirm the new name afterwards is one of `losses`: the file is there, and right.

        Raises:
            SaveError: somebody else made or changed the target meanwhile, or the file system refused.
        """
        try:
            self._take_over()
            _sync(self.fd)
            self._report_close()
            self._check_target()
            if self._before is None:
                self._add_name()
            else:
                self._replace()
        except OSError as error:
            raise self.error(error) from error
        self._confirm()

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
                _lock(self.fd)
                return
            except OSError as error:
                if error.errno not in NOT_SUPPORTED:
                    raise
        name = self._random_name()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self.fd = os.open(name, flags, 0o600)
        self._name = name
        # Another save may take a file that is not locked yet for litter; it then has the lock, or the name is gone.
        if not _lock(self.fd) or not os.fstat(self.fd).st_nlink:
            raise OSError(errno.EBUSY, "another save removed the temporary file")

    def _random_name(self) -> Path:
        # Short and not made from the target's name, which may already be as long as a name can be.
        return self.target.parent / f".sdv-{secrets.token_hex(6)}.tmp"

    # Putting it in place

    def _take_over(self) -> None:
        """Give the file the owner, mode, access list and attributes of the one it replaces, or those of a new file."""
        if self._before is not None:
            self.losses += _keep_attributes(self.target, self._before, self.fd)
        elif self._name is not None and sys.platform != "win32":
            os.fchmod(self.fd, 0o666 & ~_umask())

    def _report_close(self) -> None:
        """Hear now what the file system says at a close: network drives tell a failed write only then.

        Each close of a descriptor asks it, that of a second one too.
        """
        if sys.platform != "win32":
            os.close(os.dup(self.fd))

    def _check_target(self) -> None:
        now = _stat(self.target)
        before = self._before
        if now is None or before is None:
            if now is not None:
                raise _exists(self.out)
            self._before = None
        # With the time of the last change of its status: the time of its content can be set back by whoever copies it.
        elif identity_of(now) != identity_of(before):
            raise _target_changed(self.out, "while this one was written")

    def _add_name(self) -> None:
        """Name a file where there is none; never replace one that appeared meanwhile."""
        try:
            if self._name is None:
                self._link_unnamed(self.target)
            elif sys.platform == "win32":
                self._close()
                _rename_on_windows(self._name, self.target, replace=False)
                self._name = None
            elif rename_to_new(self._name, self.target):
                self._name = None
        except FileExistsError:
            raise _exists(self.out) from None

    def _replace(self) -> None:
        if self._name is None:
            self._name = self._random_name()
            self._link_unnamed(self._name)
        if sys.platform == "win32":
            self._close()
            _rename_on_windows(self._name, self.target, replace=True)
        else:
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

    def _confirm(self) -> None:
        """Make the name durable, and see what stands there now."""
        try:
            if sys.platform != "win32":
                folder = os.open(self.target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
            self.identity = identity_of(self.target.lstat())
        except OSError as error:
            self.losses.append(not_confirmed(error))


@contextmanager
def temporary_file(out: str, *, nbytes: int, replacing: Replacing) -> Iterator[TemporaryFile]:
    """A `TemporaryFile` that is discarded on the way out, however that is, unless it was put in place."""
    temporary = TemporaryFile(out, nbytes=nbytes, replacing=replacing)
    try:
        yield temporary
    finally:
        temporary.discard()


def refuse_existing(out: str, replacing: Replacing) -> None:
    """Raise what `TemporaryFile` would raise for this OUT, before any work is done.

    Raises:
        SaveError: there is no such folder, OUT exists or is no ordinary file.
    """
    target = _resolved(out)
    _replaceable(target, out, replacing)


def remove_litter(folder: Path) -> None:
    """Remove the temporary files of saves that were killed: those of this user that no living process has locked."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if _LITTER.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                _remove_if_dead(folder / name)


def save_error(error: OSError, out: str, nbytes: int = 0) -> SaveError:
    """What the system said, as an error that names the file, the cause, the space needed and the remedy."""
    needs = f": needs {text.size(nbytes)}" if nbytes else ""
    remedy, code = "Save to another disk, and have this one looked at.", ""
    if error.errno == errno.ENOSPC:
        cause, remedy, code = f"not enough space on the disk{needs}", "Make room or save elsewhere.", "no_space"
    elif error.errno == errno.EDQUOT:
        cause, remedy, code = f"your share of the disk is used up{needs}", "Make room or save elsewhere.", "no_space"
    elif error.errno == errno.EFBIG:
        cause, remedy, code = f"larger than a file may be here{needs}", "Save to another file system.", "no_space"
    elif error.errno == errno.EROFS:
        cause, remedy, code = "the disk is read-only", "Save to another disk.", "not_writable"
    elif error.errno in (errno.EACCES, errno.EPERM):
        cause, remedy = f"cannot be written ({error.strerror})", "Save to another folder."
        code = "not_writable"
    elif error.errno == errno.ENAMETOOLONG:
        cause, remedy, code = "the name is too long", "Choose a shorter one.", "bad_place"
    elif error.errno == errno.EIO:
        cause = f"the disk failed ({error.strerror})"
        return SaveError(cause, path=out, remedy=remedy, code="disk_failed")
    else:
        cause, remedy = f"cannot be written ({error.strerror or error})", ""
    return SaveError(cause, path=out, remedy=remedy, code=code)


def _resolved(out: str) -> Path:
    """The file that a save to `out` makes or replaces: symbolic links followed to their end."""
    try:
        target = Path(os.path.realpath(out))
        loops = stat.S_ISLNK(target.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        loops = False
    except ValueError:
        raise SaveError(
            "no file can have this name", path=out, remedy="Choose another name.", code="bad_place"
        ) from None
    except OSError as error:
        raise save_error(error, out) from error
    if loops:
        raise SaveError("is a symbolic link to itself", path=out, remedy="Remove it first.", code="bad_place")
    return target


def _stat(target: Path) -> os.stat_result | None:
    try:
        return target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _replaceable(target: Path, out: str, replacing: Replacing) -> os.stat_result | None:
    """The status of the file that will be replaced, None where there is none."""
    try:
        before = _stat(target)
        folder = _stat(target.parent)
    except OSError as error:
        raise save_error(error, out) from error
    if folder is None or not stat.S_ISDIR(folder.st_mode):
        remedy = "Create it first, or save elsewhere."
        raise SaveError("the folder does not exist", path=out, remedy=remedy, code="bad_place")
    if not os.access(target.parent, os.W_OK):
        reason = errno.EROFS if _is_read_only(target.parent) else errno.EACCES
        raise save_error(OSError(reason, os.strerror(reason)), out)
    if before is None:
        return None
    if not stat.S_ISREG(before.st_mode):
        kind = "a folder" if stat.S_ISDIR(before.st_mode) else "not an ordinary file"
        raise SaveError(f"is {kind}", path=out, remedy="Choose another name.", code="bad_place")
    if not replacing.allowed:
        raise _exists(out)
    if replacing.only is not None and identity_of(before) != replacing.only:
        raise _target_changed(out, "since it was last looked at")
    if not before.st_mode & 0o222 or not os.access(target, os.W_OK):
        # A rename would go through, for root even the writing, but a file made read-only was meant to stay.
        raise SaveError("is write-protected", path=out, remedy="Choose another name.", code="not_writable")
    if _is_held_by_folder(folder, before):
        raise SaveError(
            "belongs to somebody else, and this folder lets only owners replace their files",
            path=out,
            remedy="Choose another name.",
            code="not_writable",
        )
    if before.st_nlink > 1 and not replacing.other_names:
        raise SaveError(
            f"the file there has {text.plural(before.st_nlink - 1, 'other name')}, which would keep the old bytes",
            path=out,
            remedy="Choose another name, or replace only this one.",
            code=OTHER_NAMES,
        )
    return before


def _is_read_only(folder: Path) -> bool:
    """Whether it lies on a disk that nothing can be written to."""
    return hasattr(os, "statvfs") and bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def _is_held_by_folder(folder: os.stat_result, file: os.stat_result) -> bool:
    """Whether a folder like /tmp will refuse to replace the file: known now, not after an hour of copying."""
    if sys.platform == "win32" or not folder.st_mode & stat.S_ISVTX:
        return False
    return os.geteuid() not in (0, folder.st_uid, file.st_uid)


def _target_changed(out: str, when: str) -> SaveError:
    return SaveError(
        f"the file there was changed by somebody else {when}",
        path=out,
        remedy="Look at it, then save again.",
        code="target_changed",
    )


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
    if status.f_files and not status.f_favail:
        raise SaveError(
            "the disk can hold no more files, whatever their size",
            path=out,
            remedy="Remove some, or save elsewhere.",
            code="no_space",
        )
    free = status.f_bavail * status.f_frsize
    if status.f_blocks and free < nbytes + RESERVE:
        raise SaveError(
            f"not enough space on the disk: needs {text.size(nbytes)}, has {text.size(free)}",
            path=out,
            remedy="Make room or save elsewhere.",
            code="no_space",
        )


def _reserve(fd: int, nbytes: int) -> None:
    """Take the space now (`ftruncate` would not): a full disk shows before an hour of copying, not after."""
    if not nbytes or sys.platform != "linux":
        return
    try:
        _fallocate(fd, nbytes)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise


def _fallocate(fd: int, nbytes: int) -> None:
    """fallocate(2) itself: where a file system lacks it, `posix_fallocate` writes into every block instead."""
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        call = getattr(libc, "fallocate64", None) or libc.fallocate
    except (ImportError, OSError, AttributeError):
        return
    while call(fd, 0, ctypes.c_int64(0), ctypes.c_int64(nbytes)) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def _lock(fd: int) -> bool:
    """Lock the file for as long as this process, or a child that inherits `fd`, lives; False: somebody else has it."""
    if sys.platform == "win32":  # there nobody can remove a file that is open
        return True
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: nobody can take the file for litter there
        return True
    return True


def _remove_if_dead(path: Path) -> None:
    if sys.platform == "win32":
        path.unlink()
        return
    import fcntl

    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    finally:
        os.close(fd)


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


def _keep_attributes(target: Path, before: os.stat_result, fd: int) -> list[Loss]:
    """Put owner, mode and extended attributes (access lists among them) of `target` on `fd`; what could not be kept."""
    if sys.platform == "win32":
        return []
    mode, lost = _keep_owner(before, fd)
    if sys.platform == "linux":
        mode, attributes = _keep_xattrs(target, fd, mode)
        lost += attributes
    # Last: a new owner takes the special bits away, and an access list that goes leaves its mask as the group's bits.
    os.fchmod(fd, mode)
    if before.st_nlink > 1:
        others = text.plural(before.st_nlink - 1, "other name")
        lost.append(Loss(code=OTHER_NAMES, message=f"the replaced file had {others}, which keeps the old bytes"))
    return lost


def _keep_owner(before: os.stat_result, fd: int) -> tuple[int, list[Loss]]:
    """Give `fd` the owner and group of a file; the mode that then gives nobody more than it gave, and what was lost."""
    mode = stat.S_IMODE(before.st_mode)
    now = os.fstat(fd)
    if sys.platform == "win32" or (now.st_uid, now.st_gid) == (before.st_uid, before.st_gid):
        return mode, []
    try:
        os.fchown(fd, before.st_uid, before.st_gid)
    except OSError:
        # Without the owner, the bits that act in the owner's name must not stay.
        mode &= 0o777
    else:
        return mode, []
    try:
        os.fchown(fd, -1, before.st_gid)
    except OSError:
        mode &= ~0o070 | (mode & 0o007) << 3  # another group: as anybody
    return mode, [Loss(code=ATTRIBUTES, message="the owner of the replaced file could not be kept")]


_ACCESS_LIST = "system.posix_acl_access"


def _keep_xattrs(target: Path, fd: int, mode: int) -> tuple[int, list[Loss]]:
    """Make the extended attributes of `fd` those of `target`; the mode without what a lost access list had limited."""
    if sys.platform != "linux":
        return mode, []
    try:
        names = os.listxattr(target)
        # A folder can have an access list for new files, which the replaced one did not have.
        for name in set(os.listxattr(fd)) - set(names):
            if name == _ACCESS_LIST:
                os.removexattr(fd, name)
    except OSError as error:
        if error.errno in NOT_SUPPORTED:
            return mode, []
        return mode, [Loss(code=ATTRIBUTES, message="the attributes of the replaced file could not be kept")]
    lost = []
    for name in names:
        try:
            os.setxattr(fd, name, os.getxattr(target, name))
        except OSError:
            if name.startswith("security."):  # the system's own labels, set by it
                continue
            if name == _ACCESS_LIST:
                mode &= ~0o070  # they were the most that the list gave to anybody, not what the group had
            message = f"the attribute {text.visible(name, 80)} of the replaced file could not be kept"
            lost.append(Loss(code=ATTRIBUTES, message=message))
    return mode, lost


def _rename_on_windows(name: Path, target: Path, *, replace: bool) -> None:
    """Rename; virus scanners and indexers hold a new file for a moment, which is waited for."""
    until = time.monotonic() + _SECONDS_TO_LET_GO
    while True:
        try:
            (name.replace if replace else name.rename)(target)
        except OSError as error:
            if getattr(error, "winerror", None) not in _HELD_BY_OTHERS or time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


def rename_to_new(name: Path, target: Path) -> bool:
    """Rename without ever replacing: by a second name, or by the kernel's own call where names cannot be doubled.

    False: the old name is still there beside the new one.
    """
    try:
        os.link(name, target)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
    else:
        try:
            name.unlink()
        except OSError:
            return False
        return True
    if sys.platform == "linux":
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        done = libc.renameat2(_AT_FDCWD, os.fsencode(name), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE)
        if done == 0:
            return True
        code = ctypes.get_errno()
        if code not in NOT_SUPPORTED:
            raise OSError(code, os.strerror(code))
    raise SaveError(
        "this file system cannot name a new file without the risk of replacing another",
        path=str(target),
        remedy="Save to another disk, then move the file here.",
    )
