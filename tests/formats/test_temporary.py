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
from sdviewer.formats.pieces import Copy, write_pieces
from sdviewer.formats.temporary import TemporaryFile, temporary_file


def save(out: Path, data: bytes, *, overwrite: bool = False) -> list[str]:
    with temporary_file(str(out), nbytes=len(data), overwrite=overwrite) as file:
        os.write(file.fd, data)
        file.sync()
        file.put_in_place()
        return file.warnings


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
    with pytest.raises(Cancelled), temporary_file(str(tmp_path / "out.pt"), nbytes=3, overwrite=False) as file:
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
            temporary_file(str(out), nbytes=0, overwrite=overwrite) as file,
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
    module._rename_to_new(tmp_path / "a", tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == b"a"
    with pytest.raises(FileExistsError):
        module._rename_to_new(tmp_path / "b", tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == b"a"


def test_that_a_target_changed_by_somebody_else_meanwhile_is_kept(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out.pt"
    out.write_bytes(b"old")
    with (
        pytest.raises(SaveError, match="changed by somebody else"),
        temporary_file(str(out), nbytes=0, overwrite=True) as file,
    ):
        out.write_bytes(b"newer than mine")
        file.put_in_place()
    assert out.read_bytes() == b"newer than mine"


def test_that_mode_and_attributes_of_a_replaced_file_stay(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out.pt"
    out.write_bytes(b"old")
    out.chmod(0o604)
    os.setxattr(out, "user.origin", b"run 7")
    # A POSIX access list in the kernel's own form: version 2, then user, named user 12, group, mask, others.
    entries = [(1, 6, 0xFFFFFFFF), (2, 4, 12), (4, 0, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 4, 0xFFFFFFFF)]
    access = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + who.to_bytes(4, "little") for tag, bits, who in entries
    )
    os.setxattr(out, "system.posix_acl_access", access)
    before = out.stat()
    assert save(out, b"new", overwrite=True) == []
    after = out.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert os.getxattr(out, "user.origin") == b"run 7"
    assert os.getxattr(out, "system.posix_acl_access") == access


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
        TemporaryFile(str(tmp_path / "out.pt"), nbytes=1 << 60, overwrite=False)
    assert caught.value.code == "no_space"
    assert names_in(tmp_path) == []


LIMITED = """
import os, resource, sys
from sdviewer.errors import SaveError
from sdviewer.formats.temporary import temporary_file, save_error
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with temporary_file(sys.argv[1], nbytes=int(sys.argv[2]), overwrite=True) as file:
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
from sdviewer.formats.temporary import temporary_file
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
for name in sys.argv[1:]:
    try:
        with temporary_file(name, nbytes=1, overwrite=True) as file:
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


KILLED = """
import os, sys
from sdviewer.formats.temporary import temporary_file
with temporary_file(sys.argv[1], nbytes=10, overwrite=True) as file:
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
