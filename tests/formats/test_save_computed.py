from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdviewer.errors import RepairError, SaveError
from sdviewer.formats.opening import open_checkpoint
from sdviewer.formats.pieces import Made
from sdviewer.formats.receipt import Receipt
from sdviewer.formats.saving import save
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import parse_recipe

CONTAINERS = ("torch-zip", "torch-legacy", "safetensors")
FLOATS = ("a", "b", "e", "h", "tied", "view")


def _state_dict() -> OrderedDict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = OrderedDict(
        a=torch.randn(5, 7, generator=generator),
        b=torch.randn(3, 4, generator=generator).t(),
        e=torch.randn(4, generator=generator).expand(3, 4),
        h=torch.randn(1000, 1300, generator=generator).half(),
        i=torch.arange(5),
        z=torch.empty(0, 3),
    )
    made["tied"] = made["a"]
    made["view"] = made["a"][1:3]
    return made


def _written(tmp_path: Path, container: str) -> Path:
    path = tmp_path / ("in.safetensors" if container == "safetensors" else "in.pt")
    if container == "safetensors":
        save_file({key: tensor.contiguous().clone() for key, tensor in _state_dict().items()}, path, {"format": "pt"})
    else:
        whole = {"state_dict": _state_dict(), "epoch": 3}
        torch.save(whole, path, _use_new_zipfile_serialization=container == "torch-zip")
    return path


def _saved(path: Path, *steps: str) -> tuple[dict[str, Any], Receipt]:
    out = path.with_name("out" + path.suffix)
    checkpoint = open_checkpoint(str(path))
    recipe = parse_recipe('format = "sdviewer-recipe/1"\n' + "".join(f"[[step]]\n{step}\n" for step in steps))
    receipt = save(checkpoint, make_plan(recipe, checkpoint), out, ask_torch=False)
    if path.suffix == ".safetensors":
        return load_file(out), receipt
    loaded = torch.load(out, weights_only=True)
    assert loaded["epoch"] == 3
    return loaded["state_dict"], receipt


@pytest.mark.parametrize("container", CONTAINERS)
class TestEveryContainer:
    def test_that_a_cast_gives_what_torch_gives_and_leaves_the_rest(self, container: str, tmp_path: Path) -> None:
        found, receipt = _saved(_written(tmp_path, container), 'op = "cast"\ndtype = "bfloat16"')
        for key, tensor in _state_dict().items():
            wanted = tensor.bfloat16() if tensor.is_floating_point() else tensor
            assert found[key].dtype == wanted.dtype and found[key].is_contiguous()
            assert torch.equal(found[key], wanted)
        assert receipt.computed_bytes >= 2 * 1_300_000

    def test_that_a_cast_of_some_keys_leaves_the_bytes_of_the_others(self, container: str, tmp_path: Path) -> None:
        path = _written(tmp_path, container)
        found, receipt = _saved(path, 'op = "cast"\ndtype = "float64"\nkeys = ["b"]', 'op = "prefix"\nadd = "m."')
        for key, tensor in _state_dict().items():
            assert torch.equal(found[f"m.{key}"], tensor.double() if key == "b" else tensor)
        assert receipt.computed_bytes == 12 * 8

    def test_that_a_tie_shows_the_tensor_under_both_keys(self, container: str, tmp_path: Path) -> None:
        found, _ = _saved(_written(tmp_path, container), 'op = "tie"\nfrom = "a"\nto = ["b", "new.a"]')
        assert torch.equal(found["b"], found["a"]) and torch.equal(found["new.a"], found["a"])
        if container != "safetensors":
            assert found["b"].data_ptr() == found["a"].data_ptr() == found["new.a"].data_ptr()
            assert list(found) == ["a", "new.a", "b", "e", "h", "i", "z", "tied", "view"]

    def test_that_a_byte_that_changes_on_its_way_to_the_disk_is_found(
        self, container: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from sdviewer.formats import verify

        path = _written(tmp_path, container)
        computed_runs = verify.computed_runs

        def flipped(written: Any, file: Any, made: dict[str, Made]) -> Any:
            runs = computed_runs(written, file, made)
            with Path(file.path).open("r+b") as again:
                again.seek(runs[0].start)
                first = again.read(1)
                again.seek(runs[0].start)
                again.write(bytes([first[0] ^ 1]))
            return runs

        monkeypatch.setattr(verify, "computed_runs", flipped)
        with pytest.raises(SaveError, match="not those that were computed"):
            _saved(path, 'op = "cast"\ndtype = "float64"\nkeys = ["b"]')
        assert not path.with_name("out" + path.suffix).exists()


class TestTorchFiles:
    @pytest.mark.parametrize("container", ["torch-zip", "torch-legacy"])
    def test_that_what_was_tied_stays_tied_through_a_cast(self, container: str, tmp_path: Path) -> None:
        found, _ = _saved(_written(tmp_path, container), 'op = "cast"\ndtype = "float16"')
        assert found["a"].data_ptr() == found["tied"].data_ptr()
        assert found["view"].data_ptr() != found["a"].data_ptr()

    def test_that_clones_share_nothing(self, tmp_path: Path) -> None:
        found, _ = _saved(_written(tmp_path, "torch-zip"), 'op = "clone"')
        storages = [tensor.untyped_storage() for tensor in found.values() if tensor.numel()]
        assert len({storage.data_ptr() for storage in storages}) == len(storages)
        assert all(torch.equal(found[key], tensor) for key, tensor in _state_dict().items())
        assert found["e"].untyped_storage().nbytes() == 12 * 4

    def test_that_a_file_that_is_cast_as_a_whole_still_loads_in_every_way(self, tmp_path: Path) -> None:
        from torch._subclasses import FakeTensorMode
        from torch.utils.serialization import config

        path = _written(tmp_path, "torch-zip")
        found, _ = _saved(path, 'op = "cast"\ndtype = "float64"\nof = "all"')
        out = path.with_name("out.pt")
        mapped = torch.load(out, mmap=True, weights_only=True)["state_dict"]
        with config.patch("load.calculate_storage_offsets", True):
            computed = torch.load(out, mmap=True, weights_only=True)["state_dict"]
        for key, tensor in found.items():
            assert torch.equal(mapped[key], tensor) and torch.equal(computed[key], tensor)
        with FakeTensorMode():
            fake = torch.load(out, weights_only=True)["state_dict"]
        assert fake["b"].dtype == torch.float64 and fake["b"].shape == (4, 3)

    def test_that_a_parameter_of_a_whole_module_stays_one(self, tmp_path: Path) -> None:
        path = tmp_path / "m.pt"
        torch.save(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)), path)
        checkpoint = open_checkpoint(str(path))
        recipe = parse_recipe('format = "sdviewer-recipe/1"\n[[step]]\nop = "cast"\ndtype = "float16"')
        save(checkpoint, make_plan(recipe, checkpoint), tmp_path / "out.pt", ask_torch=False)
        module = torch.load(tmp_path / "out.pt", weights_only=False)
        assert isinstance(module[0].weight, torch.nn.Parameter) and module[0].weight.requires_grad
        assert module[0].weight.dtype == module[1].running_mean.dtype == torch.float16
        assert module[1].num_batches_tracked.dtype == torch.int64

    def test_that_types_that_a_legacy_file_cannot_give_back_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RepairError, match="legacy"):
            _saved(_written(tmp_path, "torch-legacy"), 'op = "cast"\ndtype = "float8_e5m2"\nkeys = ["a"]')

    def test_that_float8_comes_back_from_a_zip(self, tmp_path: Path) -> None:
        found, _ = _saved(_written(tmp_path, "torch-zip"), 'op = "cast"\ndtype = "float8_e4m3fn"')
        assert torch.equal(found["b"].float(), _state_dict()["b"].to(torch.float8_e4m3fn).float())

    def test_that_a_parameter_keeps_its_attributes_while_its_numbers_change(self, tmp_path: Path) -> None:
        weight = torch.nn.Parameter(torch.ones(2, 3))
        weight.partition_dim = 0  # type: ignore[attr-defined]
        torch.save({"state_dict": {"w": weight, "v": torch.zeros(2)}, "epoch": 3}, tmp_path / "in.pt")
        found, _ = _saved(tmp_path / "in.pt", 'op = "cast"\ndtype = "float64"')
        assert found["w"].partition_dim == 0 and found["w"].dtype == torch.float64

    def test_that_tensors_that_are_tied_after_a_cast_can_be_untied(self, tmp_path: Path) -> None:
        steps = ('op = "cast"\ndtype = "float64"', 'op = "untie"')
        found, _ = _saved(_written(tmp_path, "torch-zip"), *steps)
        assert torch.equal(found["a"], found["tied"]) and found["a"].data_ptr() != found["tied"].data_ptr()


def test_that_tensors_of_two_dtypes_or_signs_on_one_storage_are_not_tied(tmp_path: Path) -> None:
    numbers = torch.randn(3, dtype=torch.complex64)
    path = tmp_path / "in.pt"
    torch.save({"a": numbers, "b": numbers.conj(), "c": torch.ones(2)}, path)
    checkpoint = open_checkpoint(str(path))
    plan = make_plan(parse_recipe('format = "sdviewer-recipe/1"\n[[step]]\nop = "untie"\n'), checkpoint)
    assert plan.steps[0].matched == 0


def test_that_a_tensor_of_too_many_dimensions_stays_and_is_not_computed_with(tmp_path: Path) -> None:
    path = tmp_path / "in.pt"
    torch.save({"epoch": 3, "state_dict": {"a": torch.ones([1] * 70), "b": torch.ones(2)}}, path)
    with pytest.raises(RepairError, match="70 dimensions"):
        _saved(path, 'op = "cast"\ndtype = "float16"')
    found, _ = _saved(path, 'op = "cast"\ndtype = "float16"\nkeys = ["b"]')
    assert found["a"].dim() == 70 and found["b"].dtype == torch.float16


def test_that_an_empty_tensor_is_computed_from_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "in.pt"
    parts = {"w.weight_orig": torch.empty(0, 5), "w.weight_u": torch.empty(0), "w.weight_v": torch.empty(5)}
    torch.save({"epoch": 3, "state_dict": {**parts, "x": torch.ones(2)}}, path)
    found, _ = _saved(path, 'op = "spectral_norm"\ndim = 0', 'op = "transpose"\nkeys = ["w.weight"]')
    assert found["w.weight"].shape == (5, 0)
