from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sdviewer.errors import CorruptCheckpoint, OpenError
from sdviewer.formats import TensorSource, open_checkpoint, open_storage, storage, tensor_source
from tests.formats.conftest import Member, Save, build_zip, torch_members
from tests.formats.test_torch_zip import tensor_pickle

Write = Callable[..., Path]


def read(source: TensorSource, start: int = 0, length: int | None = None) -> bytes:
    with open_storage(source) as reader:
        buffer = bytearray(reader.nbytes - start if length is None else length)
        reader.read_into(start, memoryview(buffer))
        return bytes(buffer)


def test_that_a_source_travels_as_json(save: Save) -> None:
    import torch

    q = torch.arange(12.0).reshape(3, 4)
    checkpoint = open_checkpoint(save({"a\ud800": q.t(), "b": torch.ones(2, dtype=torch.complex64).conj()}))
    for index in range(2):
        source = tensor_source(checkpoint, index)
        assert TensorSource.from_json(json.loads(json.dumps(source.to_json()))) == source
    layout = tensor_source(checkpoint, 0).layout
    assert (layout.shape, layout.stride, layout.offset, layout.dtype) == ((4, 3), (1, 4), 0, "float32")
    assert tensor_source(checkpoint, 1).layout.conj
    assert read(tensor_source(checkpoint, 0)) == q.numpy().tobytes()


def test_that_a_relative_path_still_leads_there_from_another_folder(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    path = save({"a": torch.ones(2)})
    monkeypatch.chdir(tmp_path)
    source = tensor_source(open_checkpoint(path.name), 0)
    monkeypatch.chdir("/")
    assert len(read(source)) == 8


def test_that_only_bytes_of_the_storage_are_given(save: Save) -> None:
    import torch

    source = tensor_source(open_checkpoint(save({"a": torch.arange(8, dtype=torch.uint8)})), 0)
    assert read(source, 3, 2) == b"\3\4"
    assert read(source, 8, 0) == b""
    for start, length in ((7, 2), (-1, 1), (9, 0)):
        with pytest.raises(CorruptCheckpoint):
            read(source, start, length)


def test_that_a_changed_file_is_noticed_before_and_while_it_is_read(save: Save) -> None:
    import torch

    path = save({"a": torch.arange(100.0)})
    source = tensor_source(open_checkpoint(path), 0)
    reader = open_storage(source)
    buffer = memoryview(bytearray(400))
    reader.read_into(0, buffer)
    os.truncate(path, 500)
    with pytest.raises(CorruptCheckpoint) as caught:
        reader.read_into(0, buffer)
    assert caught.value.code == "file_changed"
    reader.close()
    with pytest.raises(CorruptCheckpoint) as caught:
        open_storage(source)
    assert caught.value.code == "file_changed"


def test_that_a_replaced_or_lost_file_is_noticed(save: Save, tmp_path: Path) -> None:
    import torch

    path = save({"a": torch.arange(100.0)})
    source = tensor_source(open_checkpoint(path), 0)
    data = path.read_bytes()
    (tmp_path / "new").write_bytes(data)
    (tmp_path / "new").rename(path)
    with pytest.raises(CorruptCheckpoint) as caught:
        open_storage(source)
    assert caught.value.code == "file_changed"
    path.unlink()
    with pytest.raises(OpenError):
        open_storage(source)


@pytest.mark.parametrize("in_memory", [1 << 20, 10])
def test_that_a_deflated_storage_is_inflated_once(
    write: Write, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    monkeypatch.setattr(storage, "_IN_MEMORY", in_memory)
    numbers = bytes(range(16))
    members = torch_members(tensor_pickle(), {"1": bytes(16)})
    path = write(build_zip([*members, Member("archive/data/0", numbers, method=8)]).data)
    checkpoint = open_checkpoint(path)
    source = tensor_source(checkpoint, 0)
    assert source.span.member is not None
    assert (read(source), read(source, 5, 3)) == (numbers, numbers[5:8])


def test_that_a_tensor_without_bytes_is_refused_in_words(save: Save) -> None:
    import torch

    checkpoint = open_checkpoint(save({"m": torch.empty(3, device="meta"), "e": torch.empty(0, 2)}))
    with pytest.raises(OpenError) as caught:
        tensor_source(checkpoint, 0)
    assert (caught.value.code, caught.value.key) == ("no_storage", "m")
    assert tensor_source(checkpoint, 1).nbytes == 0
    assert read(tensor_source(checkpoint, 1)) == b""


def test_that_several_threads_read_at_once(save: Save) -> None:
    import torch

    source = tensor_source(open_checkpoint(save({"a": torch.arange(200_000)})), 0)
    wrong: list[int] = []
    with open_storage(source) as reader:

        def work(part: int) -> None:
            for i in range(part, 200_000, 4001):
                buffer = bytearray(8)
                reader.read_into(i * 8, memoryview(buffer))
                if int.from_bytes(buffer, "little") != i:
                    wrong.append(i)

        threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_that_bytes_written_as_text_are_found_by_another_process(tmp_path: Path) -> None:
    import pickle

    import torch

    tensor = torch.arange(256).to(torch.uint8)
    for protocol in (0, 2, 4):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps({"w": tensor}, protocol))
        source = tensor_source(open_checkpoint(path), 0)
        assert (source.span.packed is not None) == (protocol < 3)
        again = TensorSource.from_json(json.loads(json.dumps(source.to_json())))
        assert again == source
        assert read(again, 16, 32) == bytes(range(16, 48))
        with open_storage(again) as reader, pytest.raises(CorruptCheckpoint):
            reader.read_into(250, memoryview(bytearray(7)))
