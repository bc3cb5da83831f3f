"""The state dict of a whole pickled module, as new nodes around the tensors that the file holds.

What comes out is what `torch.save(module.state_dict(), ...)` writes: an OrderedDict of plain tensors with `_metadata`,
the versions of the modules. Storages stay what they are, and tensors that shared one go on sharing it.

Facts: torch 2.13 (`torch.nn.Module.state_dict`; the `_version` of every class in `torch.nn` and `torch.ao`, read off).
"""

from __future__ import annotations

from sdviewer.core.checkpoint import Checkpoint, StateDict
from sdviewer.core.text import visible
from sdviewer.errors import KeyCollision
from sdviewer.formats import grafts
from sdviewer.formats.torch_source import TorchSource
from sdviewer.formats.torch_tensors import PARAMETER, TENSOR
from sdviewer.formats.torch_values import arguments_of, qualified_name
from sdviewer.pickles.machine import Pickle
from sdviewer.pickles.nodes import FRESH, Call, Const, Group, Node, TensorRecord, value_at
from sdviewer.repair.extraction import module_classes
from sdviewer.repair.plan import Plan, sources

_QUANTIZED = "torch.ao.nn.quantized.modules"
_FUSED = "torch.ao.nn.intrinsic"
_OBSERVERS = "torch.ao.quantization.observer"

_VERSIONS = {
    "torch.nn.modules.batchnorm": 2,
    "torch.nn.modules.instancenorm": 2,
    f"{_QUANTIZED}.batchnorm": 2,
    f"{_QUANTIZED}.normalization.InstanceNorm1d": 2,
    f"{_QUANTIZED}.normalization.InstanceNorm2d": 2,
    f"{_QUANTIZED}.normalization.InstanceNorm3d": 2,
    f"{_FUSED}.quantized.modules.bn_relu": 2,
    f"{_FUSED}.qat.modules.conv_fused.ConvBn1d": 2,
    f"{_FUSED}.qat.modules.conv_fused.ConvBn2d": 2,
    f"{_FUSED}.qat.modules.conv_fused.ConvBn3d": 2,
    f"{_FUSED}.qat.modules.conv_fused.ConvBnReLU1d": 2,
    f"{_FUSED}.qat.modules.conv_fused.ConvBnReLU2d": 2,
    f"{_FUSED}.qat.modules.conv_fused.ConvBnReLU3d": 2,
    f"{_OBSERVERS}.HistogramObserver": 3,
    f"{_OBSERVERS}.MinMaxObserver": 3,
    f"{_OBSERVERS}.MovingAverageMinMaxObserver": 3,
    f"{_OBSERVERS}.MovingAveragePerChannelMinMaxObserver": 3,
    f"{_OBSERVERS}.PerChannelMinMaxObserver": 3,
}
"""Classes, and modules all of whose classes, have another version than 1, which is nn.Module's own."""

_OLD_NAMES = ("nn.quantized.", "nn.intrinsic.", "quantization.")
"""What stands in `torch.ao` since torch 1.13, and in `torch` before."""

_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_FROM_TYPE = (
    "torch._tensor._rebuild_from_type_v2",
    "torch._tensor._rebuild_from_type",
    "torch.tensor._rebuild_from_type",
)
_STRIDED = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3")
_REQUIRES_GRAD, _HOOKS = 4, 5
"""Which arguments of these two say so."""


def extracted(checkpoint: Checkpoint, source: TorchSource, plan: Plan) -> Call:
    """The OrderedDict that the plan's targets are; of a computed one with what it is made of in its place.

    Raises:
        KeyCollision: two of them have one key.
        RepairError: the file does not say what its state dict is.
    """
    assert plan.state_dict is not None
    state_dict = checkpoint.state_dicts[plan.state_dict]
    places = source.mappings[plan.state_dict].places
    keys = [target.key for target in plan.targets]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise KeyCollision(
            f"two entries of the state dict would be called {visible(twice)}",
            path=checkpoint.path,
            key=twice,
            remedy="Rename or drop one of them.",
        )
    plain = _Detached(source.pickle)
    anchors = [next(sources(target.value), None) for target in plan.targets]
    entries = [
        (key, grafts.const(None) if entry is None else plain.of(value_at(places[entry])))
        for key, entry in zip(keys, anchors, strict=True)
    ]
    versions = [
        (path, grafts.group("dict", [grafts.const("version"), grafts.const(version)]))
        for path, version in module_versions(checkpoint, state_dict, plan).items()
    ]
    return grafts.state_dict(entries, [("_metadata", grafts.state_dict(versions, []))])


def module_versions(checkpoint: Checkpoint, state_dict: StateDict, plan: Plan) -> dict[str, int]:
    """The `_metadata` of the result: module path -> version, where the plan lets the path be."""
    keys = frozenset(state_dict.keys)
    found: dict[str, int] = {}
    for path, cls in module_classes(checkpoint, state_dict).items():
        place = plan.modules.get(path, path)
        if place is not None:
            found[place] = _version(cls, f"{path}." if path else "", keys)
    return found


def is_detached(cls: str) -> bool:
    """Whether the entry of a tensor of this class becomes a plain tensor without attributes."""
    return cls in (TENSOR, PARAMETER)


def _version(cls: str, prefix: str, keys: frozenset[str]) -> int:
    """What the class says; of one that is not torch's, what its buffers look like."""
    if cls.removeprefix("torch.").startswith(_OLD_NAMES):
        cls = f"torch.ao.{cls.removeprefix('torch.')}"
    counts = f"{prefix}num_batches_tracked" in keys
    if f"{prefix}running_mean" in keys and not counts:
        return 1  # a batch norm of torch < 0.4.1: with this version torch makes the count that it lacks
    return _VERSIONS.get(cls) or _VERSIONS.get(cls.rpartition(".")[0]) or (2 if counts else 1)


class _Detached:
    """Entries as state_dict() gives them: no Parameter, no gradient, no hooks, no Python attributes."""

    def __init__(self, pickle: Pickle) -> None:
        self.pickle = pickle
        self.made: dict[Node, Node] = {}

    def of(self, node: Node) -> Node:
        """The plain tensor of an entry; one that stands under two names is one here too."""
        found = self.made.get(node)
        if found is None:
            found = self.made[node] = self._plain(_inner(node))
        return found

    def _plain(self, node: Node) -> Node:
        if isinstance(node, TensorRecord) and (node.requires_grad or node.effects):
            return self._plain(self.pickle.expand(node))
        if not isinstance(node, Call) or qualified_name(node.function) not in _STRIDED:
            return node
        arguments = arguments_of(node)
        if len(arguments) <= _HOOKS or not (
            _is_true(arguments[_REQUIRES_GRAD]) or _holds(arguments[_HOOKS]) or node.effects
        ):
            return node
        arguments[_REQUIRES_GRAD] = grafts.const(False)
        arguments[_HOOKS] = grafts.state_dict([], [])
        return Call(FRESH, "reduce", node.function, [grafts.group("tuple", arguments)])


def _inner(node: Node) -> Node:
    """What a Parameter holds, and what a tensor with attributes is without them."""
    seen: set[Node] = set()
    while isinstance(node, Call) and node not in seen:
        seen.add(node)
        arguments = arguments_of(node)
        name = qualified_name(node.function)
        if name in _PARAMETERS and arguments:
            node = arguments[0]
        elif name in _FROM_TYPE and len(arguments) > 2 and is_detached(qualified_name(arguments[1])):
            node = Call(FRESH, "reduce", arguments[0], [arguments[2]])
        else:
            break
    return node


def _is_true(node: Node) -> bool:
    return isinstance(node, Const) and node.value is True


def _holds(hooks: Node) -> bool:
    """Whether anything was put into a dict of hooks."""
    return bool(hooks.effects) or (isinstance(hooks, Group) and bool(hooks.items))
