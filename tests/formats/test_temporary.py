from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sdviewer.errors import Cancelled, SaveError
from sdviewer.formats import temporary as module
from sdviewer.formats.file import identity_of
from sdviewer.formats.pieces import Copy, write_pieces
from sdviewer.formats.temporary import Replacing, TemporaryFile, temporary_file


def save(out: Path, data: bytes, *, overwrite: bool = False) -> list[str]:
    with temporary_file(str(out), nbytes=len(data), replacing=Replacing(overwrite)) as file:
        os.write(file.fd, data)
        file.sync()
        file.put_in_place()
        return [loss.message for loss in file.losses]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["unnamed", "named"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to make the file: the second is that of other systems and of file systems without O_TMPFILE."""
    if request.param == "named":
        real = os.open

        def without(path: str, flags: int, mode: int = 0o777, **rest: int) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "no O_TMPFILE here")
            return real(path, flags, mode, **rest)

        monkeypatch.setattr(os, "open", without)
    return str(request.param)


def test_that_a_new_file_is_whole_readable_as_the_umask_says_and_alone(tmp_path: Path, kind: str) -> None:
    before = os.umask(0o027)
    try:
        assert save(tmp_path / "out.pt", b"whole") == []
    finally:
        os.umask(before)
    assert (tmp_path / "out.pt").read_bytes() == b"whole"
    assert stat.S_IMODE((tmp_path / "out.pt").stat().st_mode) == 0o640
    assert names_in(tmp_path) == ["out.pt"]


def test_that_nothing_shows_before_it_is_put_in_place_and_nothing_stays_after_an_error(
    tmp_path: Path, kind: str
) -> None:
    with pytest.raises(Cancelled), temporary_file(str(tmp_path / "out.pt"), nbytes=3, replacing=Replacing()) as file:
        os.write(file.fd, b"abc")
        assert not (tmp_path / "out.pt").exists()
        assert Path(file.readable_path).read_bytes() == b"abc"
        raise Cancelled
    assert names_in(tmp_path) == []


def test_that_an_existing_file_is_replaced_only_when_asked(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out.pt"
    out.write_bytes(b"old")
    with pytest.raises(SaveError, match="exists already") as caught:
        save(out, b"new")
    assert caught.value.code == "exists"
    assert out.read_bytes() == b"old"
    save(out, b"new", overwrite=True)
    assert out.read_bytes() == b"new"
    assert names_in(tmp_path) == ["out.pt"]


def test_that_a_file_that_appears_meanwhile_is_never_replaced(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out.pt"
    for overwrite in (False, True):
        with (
            pytest.raises(SaveError, match="exists already"),
            temporary_file(str(out), nbytes=0, replacing=Replacing(overwrite)) as file,
        ):
            out.write_bytes(b"somebody else's")
            file.put_in_place()
        assert out.read_bytes() == b"somebody else's"
        assert names_in(tmp_path) == ["out.pt"]
        out.unlink()


def test_that_naming_a_new_file_cannot_replace_one_even_between_the_check_and_the_naming(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.pt"
    check = TemporaryFile._check_target

    def check_then_somebody_writes(file: TemporaryFile) -> None:
        check(file)
        out.write_bytes(b"just in time")

    monkeypatch.setattr(TemporaryFile, "_check_target", check_then_somebody_writes)
    with pytest.raises(SaveError, match="exists already"):
        save(out, b"new")
    assert out.read_bytes() == b"just in time"
    assert names_in(tmp_path) == ["out.pt"]


def test_that_where_names_cannot_be_doubled_the_kernel_renames_without_replacing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    module.rename_to_new(tmp_path / "a", tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == b"a"
    with pytest.raises(FileExistsError):
        module.rename_to_new(tmp_path / "b", tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == b"a"


def test_that_a_target_changed_by_somebody_else_meanwhile_is_kept(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out.pt"
    out.write_bytes(b"old")
    with (
        pytest.raises(SaveError, match="changed by somebody else"),
        temporary_file(str(out), nbytes=0, replacing=Replacing(True)) as file,
    ):
        out.write_bytes(b"newer than mine")
        file.put_in_place()
    assert out.read_bytes() == b"newer than mine"


def test_that_mode_and_attributes_of_a_replaced_file_stay(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out.pt"
    out.write_bytes(b"old")
    out.chmod(0o604)
    os.setxattr(out, "user.origin", b"run 7")
    access = access_list(4)
    os.setxattr(out, "system.posix_acl_access", access)
    before = out.stat()
    assert save(out, b"new", overwrite=True) == []
    after = out.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert os.getxattr(out, "user.origin") == b"run 7"
    assert os.getxattr(out, "system.posix_acl_access") == access


def test_that_three_attributes_an_owner_and_what_goes_beyond_the_mode_stay(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out.pt"
    out.write_bytes(b"old")
    for name in ("origin", "run", "note"):
        os.setxattr(out, f"user.{name}", name.encode())
    who = (12_345, 54_321) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(out, *who)
    out.chmod(0o2750)
    assert save(out, b"new", overwrite=True) == []
    after = out.stat()
    assert ((after.st_uid, after.st_gid), stat.S_IMODE(after.st_mode)) == (who, 0o2750)
    assert {os.getxattr(out, f"user.{name}") for name in ("origin", "run", "note")} == {b"origin", b"run", b"note"}


def access_list(group: int) -> bytes:
    """A POSIX access list in the kernel's own form: version 2, then user, named user 12, group, mask, others."""
    entries = [(1, 6, 0xFFFFFFFF), (2, 6, 12), (4, group, 0xFFFFFFFF), (16, 6, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)]
    return (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + who.to_bytes(4, "little") for tag, bits, who in entries
    )


def test_that_a_folder_with_an_access_list_for_new_files_opens_no_replaced_file_to_others(
    tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "out.pt"
    out.write_bytes(b"old")
    out.chmod(0o600)
    os.setxattr(tmp_path, "system.posix_acl_default", access_list(4))
    save(out, b"new", overwrite=True)
    assert "system.posix_acl_access" not in os.listxattr(out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    save(tmp_path / "fresh.pt", b"new")
    assert "system.posix_acl_access" in os.listxattr(tmp_path / "fresh.pt")


def test_that_an_access_list_that_cannot_be_kept_gives_nobody_more(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.pt"
    out.write_bytes(b"old")
    os.setxattr(out, "system.posix_acl_access", access_list(0))
    assert stat.S_IMODE(out.stat().st_mode) == 0o660  # the mask, which says nothing of the group

    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no attributes here")

    monkeypatch.setattr(os, "setxattr", refuse)
    assert any("posix_acl_access" in said for said in save(out, b"new", overwrite=True))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_that_without_its_owner_a_file_gives_nobody_more(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.pt"
    out.write_bytes(b"old")
    out.chmod(0o4674)
    before = os.stat_result((*out.stat()[:4], 12_345, 54_321, *out.stat()[6:]))

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "not yours to give")

    monkeypatch.setattr(os, "fchown", refuse)
    fd = os.open(out, os.O_RDWR)
    mode, lost = module._keep_owner(before, fd)
    os.close(fd)
    assert mode == 0o644  # no setuid; the group is another one, so it may what anybody may
    assert [loss.code for loss in lost] == ["replaced_attributes"]


def test_that_the_file_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "model.pt").write_bytes(b"old")
    link = tmp_path / "link.pt"
    link.symlink_to("real/model.pt")
    save(link, b"new", overwrite=True)
    assert link.is_symlink()
    assert (tmp_path / "real" / "model.pt").read_bytes() == b"new"


def test_that_other_names_of_a_replaced_file_keep_the_old_bytes_and_that_is_said(tmp_path: Path) -> None:
    out = tmp_path / "out.pt"
    out.write_bytes(b"old")
    os.link(out, tmp_path / "other.pt")
    assert "1 other name" in save(out, b"new", overwrite=True)[0]
    assert (tmp_path / "other.pt").read_bytes() == b"old"


def test_that_a_file_with_other_names_is_asked_about_where_that_is_wanted(tmp_path: Path) -> None:
    out = tmp_path / "out.pt"
    out.write_bytes(b"old")
    os.link(out, tmp_path / "other.pt")
    with pytest.raises(SaveError, match="1 other name") as caught:
        TemporaryFile(str(out), nbytes=0, replacing=Replacing(True, other_names=False))
    assert caught.value.code == "other_names"
    assert out.stat().st_nlink == 2


def test_that_only_the_file_that_was_asked_about_goes(tmp_path: Path) -> None:
    out = tmp_path / "out.pt"
    out.write_bytes(b"old")
    seen = identity_of(out.stat())
    times = out.stat().st_atime_ns, out.stat().st_mtime_ns
    out.write_bytes(b"new")  # as long, and with its time put back
    os.utime(out, ns=times)
    with pytest.raises(SaveError, match="changed by somebody else since it was last looked at") as caught:
        TemporaryFile(str(out), nbytes=0, replacing=Replacing(True, only=seen))
    assert caught.value.code == "target_changed"
    with temporary_file(str(out), nbytes=0, replacing=Replacing(True, only=identity_of(out.stat()))) as file:
        file.put_in_place()
        assert file.identity == identity_of(out.stat())


def test_that_links_to_links_are_followed_to_the_file_and_a_dangling_one_makes_it(tmp_path: Path, kind: str) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "middle.pt").symlink_to("real/model.pt")
    link = tmp_path / "link.pt"
    link.symlink_to(tmp_path / "middle.pt")
    for data, overwrite in ((b"first", False), (b"second", True)):
        save(link, data, overwrite=overwrite)
        assert (tmp_path / "real" / "model.pt").read_bytes() == data
        assert link.is_symlink()
        assert names_in(tmp_path / "real") == ["model.pt"]


def test_that_a_disk_that_does_not_confirm_the_name_is_told_and_the_file_stands(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fail_for_folders(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fail_for_folders)
    assert save(tmp_path / "out.pt", b"new") == [
        "the file is written, but the disk did not confirm its name (Input/output error)"
    ]
    assert (tmp_path / "out.pt").read_bytes() == b"new"


def test_that_a_failed_sync_is_not_tried_again(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def fail(fd: int) -> None:
        nonlocal calls
        calls += 1
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(SaveError, match="the disk failed"):
        save(tmp_path / "out.pt", b"new")
    assert calls == 1
    assert names_in(tmp_path) == []


def test_that_an_error_at_a_close_comes_before_the_file_has_its_name(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network drives report there that the last bytes did not arrive."""
    out = tmp_path / "out.pt"
    out.write_bytes(b"old")
    with (
        pytest.raises(SaveError, match="your share of the disk is used up: needs 3 B"),
        temporary_file(str(out), nbytes=3, replacing=Replacing(True)) as file,
    ):
        real = os.close

        def fail(fd: int) -> None:
            real(fd)
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

        monkeypatch.setattr(os, "close", fail)
        file.put_in_place()
    assert out.read_bytes() == b"old"
    assert names_in(tmp_path) == ["out.pt"]


def test_that_a_read_only_file_is_kept_from_root_too(tmp_path: Path) -> None:
    out = tmp_path / "out.pt"
    out.write_bytes(b"kept")
    out.chmod(0o444)
    with pytest.raises(SaveError, match="write-protected"):
        save(out, b"new", overwrite=True)
    assert out.read_bytes() == b"kept"


def test_that_what_is_no_place_for_a_file_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "folder.pt").mkdir()
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "loop.pt").symlink_to("loop.pt")
    (tmp_path / "file").write_bytes(b"")
    for name, cause in [
        ("folder.pt", "is a folder"),
        ("pipe.pt", "not an ordinary file"),
        ("loop.pt", "symbolic link to itself"),
        ("missing/out.pt", "folder does not exist"),
        ("file/out.pt", "folder does not exist"),
        ("n" * 300 + ".pt", "name is too long"),
        ("nul\0.pt", "no file can have this name"),
    ]:
        with pytest.raises(SaveError, match=cause) as caught:
            save(tmp_path / name, b"x", overwrite=True)
        assert caught.value.path == str(tmp_path / name)


def test_that_the_longest_possible_name_can_be_written(tmp_path: Path, kind: str) -> None:
    out = tmp_path / ("n" * 252 + ".pt")
    save(out, b"a")
    save(out, b"b", overwrite=True)
    assert out.read_bytes() == b"b"


def test_that_a_disk_too_small_is_told_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=r"needs 1024 PiB, has \d") as caught:
        TemporaryFile(str(tmp_path / "out.pt"), nbytes=1 << 60, replacing=Replacing())
    assert caught.value.code == "no_space"
    assert names_in(tmp_path) == []


def test_that_a_disk_that_can_hold_no_more_files_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((*real[:5], 1000, 0, 0, *real[8:10])))
    with pytest.raises(SaveError, match="can hold no more files") as caught:
        save(tmp_path / "out.pt", b"new")
    assert caught.value.code == "no_space"


LIMITED = """
import os, resource, sys
from sdviewer.errors import SaveError
from sdviewer.formats.temporary import Replacing, temporary_file, save_error
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with temporary_file(sys.argv[1], nbytes=int(sys.argv[2]), replacing=Replacing(True)) as file:
        try:
            os.write(file.fd, bytes(100_000)); os.write(file.fd, bytes(100_000))
        except OSError as error:
            raise save_error(error, sys.argv[1])
        file.put_in_place()
except SaveError as error:
    print(error)
"""


@pytest.mark.parametrize("announced", [0, 200_000])
def test_that_a_full_file_system_leaves_the_old_file(tmp_path: Path, announced: int) -> None:
    out = tmp_path / "out.pt"
    out.write_bytes(b"old")
    command = [sys.executable, "-c", LIMITED, str(out), str(announced)]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "larger than a file may be" in said.stdout
    assert out.read_bytes() == b"old"
    assert names_in(tmp_path) == ["out.pt"]


UNPRIVILEGED = """
import os, sys
from sdviewer.errors import SaveError
from sdviewer.formats.temporary import Replacing, temporary_file
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
for name in sys.argv[1:]:
    try:
        with temporary_file(name, nbytes=1, replacing=Replacing(True)) as file:
            file.put_in_place()
    except SaveError as error:
        print(error)
"""


def test_that_a_read_only_folder_and_a_read_only_file_are_refused() -> None:
    # A folder of its own, since pytest's is closed to other users and root may write anywhere.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "closed").mkdir(mode=0o555)
        (folder / "kept.pt").write_bytes(b"kept")
        (folder / "kept.pt").chmod(0o444)
        command = [sys.executable, "-c", UNPRIVILEGED, str(folder / "closed" / "a.pt"), str(folder / "kept.pt")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        assert len(said) == 2
        assert "cannot be written (Permission denied)" in said[0]
        assert "write-protected" in said[1]
        assert (folder / "kept.pt").read_bytes() == b"kept"
        assert names_in(folder) == ["closed", "kept.pt"]


STICKY = """
import os, sys
from sdviewer.errors import SaveError
from sdviewer.formats.temporary import Replacing, temporary_file
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    with temporary_file(sys.argv[1], nbytes=1, replacing=Replacing(True)) as file:
        print("begun")
        file.put_in_place()
except SaveError as error:
    print(error)
"""


def test_that_a_folder_that_lets_only_owners_replace_their_files_is_known_before_the_work() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "sticky"
        folder.mkdir()
        out = folder / "out.pt"
        out.write_bytes(b"kept")
        out.chmod(0o666)
        Path(name).chmod(0o755)
        folder.chmod(0o1777)
        said = subprocess.run([sys.executable, "-c", STICKY, str(out)], capture_output=True, text=True, check=True)
        root = os.geteuid() == 0
        assert ("begun" not in said.stdout) is root  # who made the folder may replace anything in it
        assert ("lets only owners replace" in said.stdout) is root
        assert names_in(folder) == ["out.pt"]


LEFT = """
import errno, os, sys
from sdviewer.formats.temporary import Replacing, temporary_file
real = os.open
def without(path, flags, mode=0o777, **rest):
    if flags & os.O_TMPFILE == os.O_TMPFILE:
        raise OSError(errno.EOPNOTSUPP, "no O_TMPFILE here")
    return real(path, flags, mode, **rest)
os.open = without
with temporary_file(sys.argv[1], nbytes=10, replacing=Replacing()) as file:
    print("begun", flush=True)
    sys.stdin.read()
"""


def test_that_what_a_killed_save_left_goes_with_the_next_one_and_a_running_one_keeps_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LEFT, str(tmp_path / "slow.pt")]
    others = tmp_path / ".sdv-notes.tmp"
    others.write_bytes(b"somebody else's, of another name")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        save(tmp_path / "a.pt", b"new")
        running = [name for name in names_in(tmp_path) if name.startswith(".sdv-")]
        assert len(running) == 2
        child.kill()
    assert [name for name in names_in(tmp_path) if name.startswith(".sdv-")] == running
    save(tmp_path / "b.pt", b"new")
    assert names_in(tmp_path) == [".sdv-notes.tmp", "a.pt", "b.pt"]


KILLED = """
import os, sys
from sdviewer.formats.temporary import Replacing, temporary_file
with temporary_file(sys.argv[1], nbytes=10, replacing=Replacing(True)) as file:
    os.write(file.fd, b"half")
    print("written", flush=True)
    sys.stdin.read()
"""


def test_that_a_killed_save_leaves_not_even_a_temporary_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "out.pt")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"written\n"
        child.send_signal(signal.SIGKILL)
    assert names_in(tmp_path) == []


@pytest.fixture
def two_files(tmp_path: Path) -> tuple[int, int, bytes]:
    data = os.urandom(3_000_000)
    (tmp_path / "source").write_bytes(data)
    source = os.open(tmp_path / "source", os.O_RDONLY)
    out = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    return source, out, data


@pytest.mark.parametrize("refusing", [[], ["copy_file_range"], ["copy_file_range", "sendfile"]])
def test_that_pieces_are_joined_whatever_way_of_copying_the_system_has(
    two_files: tuple[int, int, bytes], refusing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "not between these")

    for name in refusing:
        monkeypatch.setattr(os, name, refuse)
    source, out, data = two_files
    seen: list[tuple[int, int]] = []
    pieces = [b"new", Copy(1_000_000, 2_000_000), b"", Copy(5, 10), b"x" * 100, Copy(0, 500_000)]
    write_pieces(pieces, source, out, lambda done, total: seen.append((done, total)))
    expected = b"new" + data[1_000_000:] + data[5:15] + b"x" * 100 + data[:500_000]
    assert os.pread(out, len(expected) + 1, 0) == expected
    assert seen[0] == (0, len(expected))
    assert seen[-1] == (len(expected), len(expected))
    os.close(source)
    os.close(out)


@pytest.mark.parametrize("refusing", [[], ["copy_file_range", "sendfile"]])
def test_that_a_source_that_became_shorter_is_an_error_and_not_an_endless_loop(
    two_files: tuple[int, int, bytes], refusing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in refusing:
        monkeypatch.setattr(os, name, lambda *_: 0)
    source, out, _ = two_files
    with pytest.raises(SaveError, match="shorter"):
        write_pieces([Copy(2_900_000, 200_000)], source, out, lambda done, total: None)
    os.close(source)
    os.close(out)


def test_that_a_folder_that_takes_no_file_is_refused_before_anything_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The right to write is root's in every folder, so the system's own answer is given here.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(SaveError, match="Permission denied") as refused:
        module.refuse_existing(str(tmp_path / "out.pt"), Replacing())
    assert refused.value.code == "not_writable"
