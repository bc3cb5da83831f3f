"""The state dict of a whole module: what torch's own state_dict() says, without the module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.ao.nn.intrinsic.qat
import torch.ao.nn.intrinsic.quantized
import torch.ao.nn.quantized
import torch.ao.quantization.observer
from torch import fx, nn
from torch.nn.utils import spectral_norm

from sdviewer.errors import KeyCollision, RepairError
from sdviewer.formats import Receipt, open_checkpoint, save
from sdviewer.formats.torch_extract import _version
from sdviewer.repair.extraction import _PACKING
from sdviewer.repair.operations import Cast, Drop, DropObjects, Extract, Operation, Rename, Unwrap, Wrap
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe, Source
from tests.formats.saved_files import same


class Net(nn.Module):
    """A module with everything that state_dict() has a rule for."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.block = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
        self.again = self.block
        self.embedding = nn.Embedding(4, 3)
        self.head = nn.Linear(3, 4)
        self.head.weight = self.embedding.weight
        self.lstm = nn.LSTM(3, 4)
        self.nothing = None
        self.register_module("empty", None)
        self.register_parameter("unset", None)
        self.register_buffer("mask", torch.ones(7), persistent=False)
        self.register_buffer("scale", torch.ones(2, requires_grad=True))
        self.marked = nn.Buffer(torch.arange(5))
        self.frozen = nn.Parameter(torch.zeros(2, 3).t(), requires_grad=False)
        self.frozen.note = "an attribute"
        self.cache = torch.arange(11.0)
        self.register_forward_hook(print)


class Tagged(torch.Tensor):
    """A class of tensors that torch's list lacks."""


def extracted(source: Path, *around: Operation, state_dict: str = "auto", first: tuple[Operation, ...] = ()) -> Receipt:
    checkpoint = open_checkpoint(source)
    recipe = Recipe(source=Source(state_dict=state_dict), steps=(*first, Extract(), *around))
    return save(checkpoint, make_plan(recipe, checkpoint), source.with_name("out.pt"), ask_torch=False)


def loaded(receipt: Receipt) -> Any:
    assert receipt.output is not None
    return torch.load(receipt.output, weights_only=True)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [lambda net: net, lambda net: {"epoch": 3, "model": net}])
def test_that_it_is_what_torch_says_and_loads_strictly_with_weights_only(
    tmp_path: Path, zipped: bool, wrap: Callable[[Any], Any]
) -> None:
    net = Net()
    torch.save(wrap(net), tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    found, wanted = loaded(extracted(tmp_path / "net.pt")), net.state_dict()
    assert list(found) == list(wanted)
    assert found._metadata == wanted._metadata
    for key, tensor in found.items():
        assert same(tensor, wanted[key])
        assert (type(tensor), tensor.requires_grad, vars(tensor)) == (torch.Tensor, False, {})
        assert tensor.stride() == wanted[key].stride()
    assert found["head.weight"].data_ptr() == found["embedding.weight"].data_ptr()
    Net().load_state_dict(found, strict=True)
    assert b"Net" not in (tmp_path / "out.pt").read_bytes()


def test_that_what_goes_is_listed_and_lost_numbers_are_warned_of(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "model": Net()}, tmp_path / "net.pt")
    receipt = extracted(tmp_path / "net.pt")
    assert receipt.dropped == ("epoch", "model.mask", "model.cache")
    warning = next(one for one in receipt.warnings if one.code == "tensors_left_out")
    assert warning.keys == ("model.mask", "model.cache")


def test_that_any_key_can_be_changed_and_metadata_follows(tmp_path: Path) -> None:
    torch.save(Net(), tmp_path / "net.pt")
    rename = Rename(rules=(("block.{rest...}", "body.{rest}"),))
    found = loaded(extracted(tmp_path / "net.pt", rename, first=(Drop(keys=("again.**",)),)))
    assert "body.1.running_mean" in found
    assert not [key for key in found if key.startswith(("again", "block"))]
    assert found._metadata["body.1"] == {"version": 2}
    assert "block" not in found._metadata


def test_that_one_of_several_modules_is_taken_by_its_path(tmp_path: Path) -> None:
    torch.manual_seed(0)
    nets = {"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}
    torch.save(nets, tmp_path / "nets.pt")
    found = loaded(extracted(tmp_path / "nets.pt", state_dict="b"))
    assert torch.equal(found["weight"], nets["b"].weight)


def test_that_with_drop_objects_tensors_of_other_classes_go_too(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    net.register_buffer("tag", torch.ones(3).as_subclass(Tagged))
    net.register_buffer("last", torch.ones(1))
    torch.save(net, tmp_path / "net.pt")
    receipt = extracted(tmp_path / "net.pt", DropObjects())
    assert list(loaded(receipt)) == ["weight", "bias", "last"]
    assert "tag" in receipt.dropped


def test_that_it_can_stand_under_a_key_of_its_own(tmp_path: Path) -> None:
    net = nn.BatchNorm1d(2)
    torch.save(net, tmp_path / "net.pt")
    found = loaded(extracted(tmp_path / "net.pt", Wrap(key="model")))
    assert list(found) == ["model"]
    assert found["model"]._metadata == net.state_dict()._metadata


@pytest.mark.parametrize("clean", [False, True])
def test_that_entries_can_be_computed_on_the_way(tmp_path: Path, clean: bool) -> None:
    net = Net()
    net.register_buffer("tag", torch.ones(3).as_subclass(Tagged))
    torch.save(net, tmp_path / "net.pt")
    around = (Cast(dtype="float16", keys=("fc.weight", "head.weight", "embedding.weight")),)
    receipt = extracted(tmp_path / "net.pt", *around, *((DropObjects(),) if clean else (Drop(keys=("tag",)),)))
    found = loaded(receipt)
    assert torch.equal(found["fc.weight"], net.fc.weight.detach().half())
    assert type(found["fc.weight"]) is torch.Tensor
    assert not found["fc.weight"].requires_grad
    assert found["head.weight"].data_ptr() == found["embedding.weight"].data_ptr()
    assert torch.equal(found["fc.bias"], net.fc.bias)
    assert "tag" not in found


def test_that_hooks_of_state_dict_are_told(tmp_path: Path) -> None:
    torch.save(nn.Sequential(spectral_norm(nn.Linear(2, 2))), tmp_path / "net.pt")
    receipt = extracted(tmp_path / "net.pt")
    assert [one.keys for one in receipt.warnings if one.code == "state_dict_hooks"] == [("0",)]
    assert list(loaded(receipt)) == ["0.bias", "0.weight_orig", "0.weight_u", "0.weight_v"]


def test_that_a_lost_batch_count_is_made_by_torch_on_loading(tmp_path: Path) -> None:
    old = nn.BatchNorm1d(2)
    del old._buffers["num_batches_tracked"]
    torch.save(old, tmp_path / "old.pt")
    found = loaded(extracted(tmp_path / "old.pt"))
    nn.BatchNorm1d(2).load_state_dict(found, strict=True)


def traced(tmp_path: Path) -> Any:
    return nn.Sequential(fx.symbolic_trace(nn.Linear(2, 2)))


def in_itself(tmp_path: Path) -> Any:
    net = nn.Sequential(nn.Linear(2, 2))
    net._modules["me"] = net
    return net


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda _: {"weight": torch.ones(2)}, "no pickled module"),
        (traced, r'"0" is not told'),
        (in_itself, r'"me" is not told'),
        (lambda _: nn.LazyLinear(3), r'"weight" is not told'),
    ],
)
def test_that_what_has_no_such_state_dict_is_refused(tmp_path: Path, made: Callable[[Path], Any], said: str) -> None:
    torch.save(made(tmp_path), tmp_path / "a.pt")
    with pytest.raises(RepairError, match=said) as caught:
        extracted(tmp_path / "a.pt")
    assert caught.value.remedy
    assert not (tmp_path / "out.pt").exists()


def test_that_two_tensors_of_one_key_are_refused(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    net._buffers["weight"] = torch.ones(1)
    torch.save(net, tmp_path / "net.pt")
    with pytest.raises(KeyCollision, match="weight"):
        extracted(tmp_path / "net.pt")


def test_that_a_module_is_not_unwrapped_and_the_way_out_is_named(tmp_path: Path) -> None:
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "net.pt")
    checkpoint = open_checkpoint(tmp_path / "net.pt")
    plan = make_plan(Recipe(steps=(Unwrap(),)), checkpoint)
    with pytest.raises(RepairError, match="`extract`"):
        save(checkpoint, plan, tmp_path / "out.pt")


def test_that_the_versions_are_those_of_the_classes_of_torch() -> None:
    classes: list[type[nn.Module]] = [nn.Module]
    for cls in classes:
        classes += [sub for sub in cls.__subclasses__() if sub not in classes]
    names = {f"{cls.__module__}.{cls.__qualname__}": cls._version for cls in classes if cls.__qualname__[0] != "_"}
    mine = [name for name in names if name.startswith(("torch.nn.modules.", "torch.ao."))]
    abstract = ("torch.ao.quantization.observer.UniformQuantizationObserverBase",)
    checked = [name for name in mine if not name.startswith((*_PACKING, *abstract))]
    assert {name: _version(name, "", frozenset()) for name in checked} == {name: names[name] for name in checked}
    assert len(checked) > 100
    assert _version("torch.nn.quantized.modules.batchnorm.BatchNorm2d", "", frozenset()) == 2
    assert _version("mine.Norm", "a.", frozenset({"a.running_mean", "a.num_batches_tracked"})) == 2
