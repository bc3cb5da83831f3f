"""Tensors of another file in a saved copy: their bits, their ties, and what happens when that file is not as it was."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sdviewer.errors import Cancelled, CorruptCheckpoint, OpenError, RepairError, SaveError, UsageError
from sdviewer.formats import open_checkpoint
from sdviewer.formats.converting import takes_tensors_alone
from sdviewer.formats.other_files import OtherFiles
from sdviewer.formats.receipt import Receipt, TakenFile
from sdviewer.formats.saving import choose_container, save
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import parse_recipe
from tests.formats.conftest import Member, build_zip
from tests.formats.saved_files import damage, load_every_way, records, same
from tests.formats.test_gguf import gguf_file
from tests.formats.test_hf_index import write_index

DTYPES = "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 float8_e8m0fnu float4_e2m1fn_x2 complex64 "
DTYPES += "complex32 complex128 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool bits8 bits16"


def theirs() -> dict[str, torch.Tensor]:
    """What is taken: every dtype, bits that no number has, ties, views and odd shapes."""
    raw = torch.arange(256, dtype=torch.uint8).repeat(3)
    made = {f"d.{name}": raw[: 16 * 6].clone().view(getattr(torch, name)) for name in DTYPES.split() if name != "bool"}
    made["d.bool"] = torch.tensor([True, False])
    tied = torch.arange(3000.0).reshape(50, 60)
    made |= {
        "fc.weight": tied,
        "fc.tied": tied,
        "fc.view": tied[3:5],
        "fc.turned": tied.t()[:5],
        "fc.step": torch.arange(20.0)[::3],
        "fc.expanded": torch.tensor([1.5, 2]).expand(3, 2),
        "fc.scalar": torch.tensor(-0.0),
        "fc.empty": torch.empty(0, 3),
        "fc.conj": torch.tensor([1 + 2j, float("nan") - 1j]).conj(),
        "fc.bias": torch.tensor([float("nan"), float("inf"), 1e-45]),
    }
    return made


def ours() -> dict[str, torch.Tensor]:
    return {"fc.weight": torch.ones(2, 3), "fc.bias": torch.zeros(3), "head.weight": torch.ones(4, 4)}


def test_that_missing_rows_of_a_grown_vocabulary_are_taken_and_its_own_stay(tmp_path: Path) -> None:
    own, other = torch.randn(5, 3), torch.randn(9, 3)
    own[1] = float("nan")
    torch.save({"wte.weight": own, "h.bias": torch.ones(2)}, tmp_path / "a.pth")
    save_file({"wte.weight": other, "h.bias": torch.zeros(2)}, tmp_path / "b.safetensors")
    receipt = taken(tmp_path / "a.pth", "c.pth", 'from = "b.safetensors"\nrows = "missing"')
    made = torch.load(tmp_path / "c.pth", weights_only=True)
    assert same(made["wte.weight"], torch.cat([own, other[5:]])) and same(made["h.bias"], torch.ones(2))
    assert [file.file for file in receipt.taken] == [str(tmp_path / "b.safetensors")]


@pytest.mark.parametrize("row", ["wte.weight", "h.bias"])
def test_that_rows_cannot_be_taken_from_a_tensor_that_is_otherwise_unlike(tmp_path: Path, row: str) -> None:
    torch.save({"wte.weight": torch.ones(5, 3), "h.bias": torch.ones(4)}, tmp_path / "a.pth")
    save_file({"wte.weight": torch.ones(9, 4), "h.bias": torch.ones(6).half()}, tmp_path / "b.safetensors")
    with pytest.raises(RepairError, match="by more rows" if row == "wte.weight" else "cast it first"):
        taken(tmp_path / "a.pth", "c.pth", f'from = "b.safetensors"\nrows = "missing"\nkeys = ["{row}"]')
    assert not (tmp_path / "c.pth").exists()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    torch.save({"model": ours(), "epoch": 3}, tmp_path / "a.pth")
    return tmp_path / "a.pth"


def taken(source: Path, out: str, step: str, **options: Any) -> Receipt:
    """Carry out one step `take`, as the command line does it."""
    checkpoint = open_checkpoint(str(source))
    recipe = parse_recipe(f'format = "sdviewer-recipe/1"\n[[step]]\nop = "take"\n{step}\n')
    path = str(source.parent / out)
    container = choose_container(checkpoint, path, None)
    alone = takes_tensors_alone(checkpoint, container)
    plan = make_plan(recipe, checkpoint, tensors_alone=alone, others=OtherFiles(str(source.parent)))
    return save(checkpoint, plan, path, container=container, ask_torch=False, **options)


def own(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().resolve_conj().clone(memory_format=torch.contiguous_format)


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("zipped", [True, False])
def test_that_every_dtype_comes_out_bit_for_bit_and_ties_stay(here: Path, zipped: bool) -> None:
    torch.save({"net": theirs(), "lr": 0.1}, here.with_name("b.pth"), _use_new_zipfile_serialization=zipped)
    receipt = taken(here, "out.pth", 'from = "b.pth"')

    found = load_every_way(here.with_name("out.pth"))
    assert found["epoch"] == 3
    model = found["model"]
    assert list(model)[:2] == ["fc.weight", "fc.tied"]
    assert same({key: model[key] for key in theirs()}, {key: own(tensor) for key, tensor in theirs().items()})
    assert same(model["head.weight"], ours()["head.weight"])
    assert model["fc.weight"].data_ptr() == model["fc.tied"].data_ptr()
    places = {model[key].data_ptr() for key in ("fc.weight", "fc.view", "fc.turned", "fc.bias")}
    assert len(places) == 4
    path = str(here.with_name("b.pth"))
    assert receipt.taken == (TakenFile(path, len(theirs())),)
    assert receipt.to_json()["taken"] == [{"file": path, "tensors": len(theirs())}]
    assert any(f"taken: {len(theirs())} tensors from {path}" in line for line in receipt.lines())
    assert any(check.endswith(f"bytes taken from {path}, each equal to the byte there") for check in receipt.checks)
    assert f"{path} is the file it was too" in receipt.checks


PLAIN = {key: value for key, value in theirs().items() if key.startswith("fc.") and key != "fc.conj"}


def _torch(folder: Path, tensors: dict[str, torch.Tensor]) -> str:
    torch.save({"state_dict": tensors}, folder / "b.ckpt")
    return "b.ckpt"


def _module(folder: Path, tensors: dict[str, torch.Tensor]) -> str:
    module = torch.nn.Module()
    module.fc = torch.nn.Module()
    for key, tensor in tensors.items():
        module.fc.register_parameter(key.removeprefix("fc."), torch.nn.Parameter(tensor))
    torch.save(module, folder / "module.pt")
    return "module.pt"


def _safetensors(folder: Path, tensors: dict[str, torch.Tensor]) -> str:
    save_file({key: own(tensor) for key, tensor in tensors.items()}, folder / "b.safetensors")
    return "b.safetensors"


def _shards(folder: Path, tensors: dict[str, torch.Tensor]) -> str:
    first = {key: own(tensor) for key, tensor in tensors.items() if key < "fc.t"}
    second = {key: own(tensor) for key, tensor in tensors.items() if key not in first}
    write_index(folder / "sharded", {"m-1.safetensors": first, "m-2.safetensors": second})
    return "sharded"


def _npz(folder: Path, tensors: dict[str, torch.Tensor]) -> str:
    np.savez_compressed(folder / "b.npz", **{key: tensor.numpy() for key, tensor in tensors.items()})  # type: ignore[arg-type]
    return "b.npz"


@pytest.mark.parametrize("kind", [_torch, _module, _safetensors, _shards, _npz], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_that_tensors_of_any_container_go_into_any(
    here: Path, kind: Callable[[Path, dict[str, torch.Tensor]], str], suffix: str
) -> None:
    source = here
    if suffix == ".safetensors":
        source = here.with_suffix(suffix)
        save_file(ours(), source)
    taken(source, f"out{suffix}", f'from = "{kind(here.parent, PLAIN)}"')

    out = source.with_name(f"out{suffix}")
    found = load_file(out) if suffix == ".safetensors" else torch.load(out)["model"]
    assert same(found["head.weight"], ours()["head.weight"])
    # (an edited safetensors file has no second key for one tensor: it has the bytes twice)
    assert same({key: found[key] for key in PLAIN}, {key: own(tensor) for key, tensor in PLAIN.items()})


def test_that_shards_get_taken_tensors_and_a_big_endian_file_the_numbers(tmp_path: Path) -> None:
    write_index(tmp_path / "in", {"a-1.safetensors": ours(), "a-2.safetensors": {"z": torch.ones(2)}})
    np.savez(tmp_path / "b.npz", **{"fc.weight": np.array([[1, 2.5]], ">f4"), "new": np.arange(5, dtype=">i8")})  # type: ignore[arg-type]
    receipt = taken(tmp_path / "in", "out", 'from = "b.npz"')

    assert receipt.verified is not None
    assert receipt.verified.source_unchanged
    found: dict[str, torch.Tensor] = {}
    for file in (tmp_path / "out").glob("*.safetensors"):
        found |= load_file(file)
    assert found["fc.weight"].tolist() == [[1, 2.5]]
    assert found["new"].tolist() == [0, 1, 2, 3, 4]
    assert found["z"].tolist() == [1, 1]


def test_that_a_parameter_stays_one_with_its_gradient_and_what_is_new_is_a_plain_tensor(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(2, 3))
    torch.save({"w": parameter, "n": torch.ones(2, requires_grad=True), "x": torch.ones(2)}, tmp_path / "a.pth")
    b = {key: torch.nn.Parameter(torch.arange(6.0)) for key in ("w", "n", "x", "new")}
    torch.save(b, tmp_path / "b.pth")
    taken(tmp_path / "a.pth", "out.pth", 'from = "b.pth"')

    found = torch.load(tmp_path / "out.pth")
    told = {key: (type(value).__name__, value.requires_grad, value.tolist()) for key, value in found.items()}
    numbers = [0, 1, 2, 3, 4, 5]
    assert told == {
        "w": ("Parameter", True, numbers),
        "n": ("Tensor", True, numbers),
        "x": ("Tensor", False, numbers),
        "new": ("Tensor", False, numbers),
    }


def test_that_a_parameter_of_a_pickled_module_can_be_replaced_and_none_be_added(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 2), tmp_path / "a.pt")
    torch.save({"weight": torch.full((2, 3), 7.0), "extra": torch.ones(1)}, tmp_path / "b.pt")
    taken(tmp_path / "a.pt", "out.pt", 'from = "b.pt"\nkeys = ["weight"]')

    found = torch.load(tmp_path / "out.pt", weights_only=False)
    assert type(found) is torch.nn.Linear
    assert found.weight.tolist() == [[7] * 3] * 2
    assert found.weight.requires_grad
    with pytest.raises(RepairError, match="made of several"):
        taken(tmp_path / "a.pt", "out2.pt", 'from = "b.pt"')


def test_that_a_tensor_that_is_damaged_here_can_be_taken_from_a_good_file(here: Path) -> None:
    broken, lost = here.with_name("broken.pth"), torch.ones(4, 4).numpy().tobytes()
    members = [Member(f"a/{name}", content) for name, content in records(here).items() if content != lost]
    broken.write_bytes(build_zip(members).data)
    save_file({"head.weight": torch.full((4, 4), 2.0)}, here.with_name("b.safetensors"))
    with pytest.raises(SaveError):
        taken(broken, "out.pth", 'from = "b.safetensors"\nto = [["head.weight", "head.bias"]]')
    taken(broken, "out.pth", 'from = "b.safetensors"')
    found = torch.load(here.with_name("out.pth"))["model"]
    assert found["head.weight"].tolist() == [[2] * 4] * 4
    assert found["fc.weight"].tolist() == ours()["fc.weight"].tolist()


# The other file is an input


@pytest.fixture
def there(here: Path) -> Path:
    torch.save({"fc.weight": torch.arange(2_000_000.0), "new": torch.ones(3)}, here.with_name("b.pth"))
    return here.with_name("b.pth")


def test_that_the_other_file_is_never_written(here: Path, there: Path) -> None:
    before = there.read_bytes()
    os.link(there, there.with_name("link.pth"))
    there.with_name("symlink.pth").symlink_to(there)
    for name in ("b.pth", "link.pth", "symlink.pth"):
        with pytest.raises(UsageError, match="the output is an input"):
            taken(here, name, 'from = "b.pth"', overwrite=True)
        with pytest.raises(UsageError, match="the output is an input"):
            taken(here, name, 'from = "b.pth"', overwrite=True, dry_run=True)
    write_index(here.with_name("sharded"), {"s-1.safetensors": {"new": torch.ones(3)}})
    with pytest.raises(UsageError, match="the output is an input"):
        taken(here, "sharded/s-1.safetensors", 'from = "sharded"', overwrite=True)
    assert there.read_bytes() == before


def test_that_the_file_itself_can_be_taken_from(tmp_path: Path) -> None:
    torch.save({"model": ours(), "ema": {"fc.weight": torch.full((2, 3), 5.0)}}, tmp_path / "a.pth")
    taken(tmp_path / "a.pth", "out.pth", 'from = "a.pth"\nstate_dict = "ema"')
    found = torch.load(tmp_path / "out.pth")
    assert found["model"]["fc.weight"].tolist() == found["ema"]["fc.weight"].tolist() == [[5] * 3] * 2


@pytest.mark.parametrize(
    ("make", "error", "code"),
    [
        (lambda path: None, OpenError, "not_found"),
        (os.mkfifo, OpenError, "not_a_file"),
        (lambda path: path.write_bytes(b""), OpenError, "empty"),
        (lambda path: path.write_bytes(b"PK\3\4" + bytes(3000)), OpenError, ""),
        (lambda path: path.write_bytes(b"\x80\x02cos\nsystem\nU\x02idtR."), None, ""),
        (lambda path: path.mkdir(), OpenError, ""),
    ],
)
def test_that_what_is_no_checkpoint_is_named_and_nothing_is_written(
    here: Path, make: Callable[[Path], None], error: type[OpenError] | None, code: str
) -> None:
    make(here.with_name("b.pth"))
    with pytest.raises((OpenError, UsageError, RepairError)) as caught:
        taken(here, "out.pth", 'from = "b.pth"')
    assert not here.with_name("out.pth").exists()
    assert str(caught.value).startswith(str(here.with_name("b.pth")))
    assert "step 1 (Take all tensors" in str(caught.value)
    if error is not None:
        assert isinstance(caught.value, error)
    if code:
        assert caught.value.code == code


def test_that_blocks_that_torch_lacks_are_refused_in_words_and_plain_tensors_are_taken(here: Path) -> None:
    floats = struct.pack("<4f", 1, 2, 3, 4)
    entries = [("fc.weight", (2, 2), 0, 0), ("fc.q", (32,), 2, 32)]
    here.with_name("b.gguf").write_bytes(gguf_file(entries, floats + bytes(16) + bytes(18)))
    with pytest.raises(RepairError, match=r'cannot take "fc\.q": in "b\.gguf" it is a quantized tensor'):
        taken(here, "out.pth", 'from = "b.gguf"')
    taken(here, "out.pth", 'from = "b.gguf"\nkeys = ["fc.weight"]')
    assert torch.load(here.with_name("out.pth"))["model"]["fc.weight"].tolist() == [[1, 2], [3, 4]]


def test_that_damaged_bytes_are_not_given_a_new_checksum(here: Path, there: Path) -> None:
    damage(there, "data/0")
    with pytest.raises(SaveError, match=r"fc\.weight cannot be taken from it: its bytes have the checksum") as caught:
        taken(here, "out.pth", 'from = "b.pth"')
    assert (caught.value.code, caught.value.path) == ("other_unreadable", str(there))
    assert not here.with_name("out.pth").exists()
    taken(here, "out.pth", 'from = "b.pth"\nkeys = ["new"]')


def test_that_a_file_that_changed_after_it_was_planned_is_not_taken_from(here: Path, there: Path) -> None:
    checkpoint = open_checkpoint(str(here))
    recipe = parse_recipe('format = "sdviewer-recipe/1"\n[[step]]\nop = "take"\nfrom = "b.pth"\n')
    others = OtherFiles(str(here.parent))
    plan = make_plan(recipe, checkpoint, others=others)
    torch.save({"fc.weight": torch.ones(2)}, there)
    with pytest.raises(SaveError) as caught:
        save(checkpoint, plan, here.with_name("out.pth"))
    assert (caught.value.code, caught.value.path) == ("other_changed", str(there))
    # the same opener sees that it is another file now
    save(checkpoint, make_plan(recipe, checkpoint, others=others), here.with_name("out.pth"), ask_torch=False)
    assert torch.load(here.with_name("out.pth"))["model"]["fc.weight"].tolist() == [1, 1]


def _changed(path: Path, change: Callable[[bytearray], None], *, keep_time: bool = False) -> None:
    """Change a file where it lies."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    change(data)
    with path.open("r+b") as file:
        file.write(data)
        file.truncate(len(data))
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


class _When:
    """Does something once, when so much of a save is done."""

    def __init__(self, share: float, act: Callable[[], None]) -> None:
        self.share, self.act, self.done = share, act, False

    def __call__(self, done: int, total: int) -> None:
        if not self.done and total and done >= self.share * total:
            self.done = True
            self.act()


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_that_a_file_that_changes_or_goes_while_it_is_read_stops_the_save(
    here: Path, there: Path, share: float
) -> None:
    kept = there.read_bytes()
    for act in (lambda: _changed(there, lambda data: data.clear()), lambda: there.unlink()):
        there.write_bytes(kept)
        when = _When(share, act)
        with pytest.raises(SaveError) as caught:
            taken(here, "out.pth", 'from = "b.pth"', progress=when)
        assert when.done
        assert caught.value.code in ("other_changed", "other_unreadable")
        assert "cannot be taken" in str(caught.value)
        assert str(there) in str(caught.value)
        assert not here.with_name("out.pth").exists()


def test_that_what_was_written_is_compared_with_the_bytes_there(here: Path, there: Path) -> None:
    """Other bytes under the same times, as a disk gives that fails: nothing but the bytes tells them apart."""
    place = there.read_bytes().index(torch.arange(4.0).numpy().tobytes())

    def flip(data: bytearray) -> None:
        data[place + 4_000_000] ^= 1

    when = _When(0.5, lambda: _changed(there, flip, keep_time=True))
    with pytest.raises(SaveError, match=r"are not those of .*b\.pth") as caught:
        taken(here, "out.pth", 'from = "b.pth"', progress=when)
    assert when.done
    assert caught.value.code == "not_verified"
    assert not here.with_name("out.pth").exists()


def test_that_cancelling_leaves_nothing(here: Path, there: Path) -> None:
    def stop() -> None:
        raise Cancelled

    for share in (-1.0, 0.3, 0.7):
        with pytest.raises(Cancelled):
            taken(here, "out.pth", 'from = "b.pth"', progress=_When(share, stop))
        assert not here.with_name("out.pth").exists()
    assert sorted(path.name for path in here.parent.iterdir()) == ["a.pth", "b.pth"]


def test_that_a_truncated_file_says_what_is_missing(here: Path, there: Path) -> None:
    _changed(there, lambda data: data.__delitem__(slice(5_000_000, None)))
    with pytest.raises((CorruptCheckpoint, RepairError, OpenError)) as caught:
        taken(here, "out.pth", 'from = "b.pth"')
    assert "b.pth" in str(caught.value)
