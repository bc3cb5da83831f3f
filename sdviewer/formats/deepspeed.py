"""DeepSpeed: a folder of model and optimizer states, one file a rank, whose parameters ZeRO cut into flat pieces.

    latest                                                   the name of the folder of the last step, as text
    global_stepN/mp_rank_MM_model_states.pt                  ZeRO 0 to 2: the module, and the shapes of its parameters
    global_stepN/zero_pp_rank_R_mp_rank_MM_model_states.pt   ZeRO 3: the same, its tensors empty
    global_stepN/[bf16_]zero_pp_rank_R_mp_rank_MM_optim_states.pt

Each file is an ordinary `torch.save` file and is shown below its name. Under ZeRO the float32 parameters are only in
the optimizer states, as one flat tensor for each group of parameters, cut over the ranks. Where the shapes and the
number of ranks fit, they are put together again and shown as a state dict of their own, `fp32`: what DeepSpeed's own
`zero_to_fp32.py` writes, computed without running it.

Facts: DeepSpeed 0.19 and its `zero_to_fp32.py` (docs/formats.md).
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple, cast

from sdviewer.core.checkpoint import Checkpoint, Shard, StateDict, StorageInfo, TensorInfo
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import KeyPath, Step, TypedStep
from sdviewer.core.progress import Progress
from sdviewer.core.tensor_bytes import contiguous_stride
from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint, SDViewerError
from sdviewer.formats.assembly import Assembly, Box
from sdviewer.formats.file import opened
from sdviewer.formats.shards import (
    READ_ONLY,
    Rows,
    ShardProblems,
    UnsafeNameError,
    open_shard,
    shard_of,
    shard_path,
    total_size,
)
from sdviewer.formats.torch_source import StorageSpan
from sdviewer.formats.torch_tensors import layout_of

LATEST = "latest"
FP32 = "fp32"
"""The path of the state dict that is put together."""

_MODEL, _OPTIM = "_model_states.pt", "_optim_states.pt"
_PP_RANK = re.compile(r"(?:^|_)pp_rank_(\d{1,9})(?:_|$)")
_MP_RANK = re.compile(r"(?:^|_)mp_rank_(\d{1,9})(?:_|$)")
_LARGEST_TAG = 1024


class DeepSpeed:
    """The format object."""

    name = "DeepSpeed checkpoint"
    containers = ("deepspeed",)

    def matches(self, path: str, names: list[str]) -> bool:
        return _tag(path, names) is not None

    def open(self, path: str, progress: Progress) -> Checkpoint:
        """Read the headers of all files of the last step."""
        tag = _tag(path, os.listdir(path)) or ""  # noqa: PTH208
        return _Reading(path, tag).checkpoint(progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepSpeedSource:
    """Where each storage is: in a file of its own rank, or put together (`assemblies`)."""

    places: Mapping[str, tuple[str, str]]
    sources: Mapping[str, Any]
    assemblies: Mapping[str, Assembly] = field(default_factory=dict)

    def span(self, storage: str) -> StorageSpan | Assembly:
        """Where the bytes of a storage are."""
        found = self.assemblies.get(storage)
        if found is not None:
            return found
        name, inner = self.places[storage]
        return cast("StorageSpan", self.sources[name].span(inner)._replace(shard=name))


def _is_state(name: str) -> bool:
    return name.endswith((_MODEL, _OPTIM))


def _tag(path: str, names: list[str]) -> str | None:
    """The folder of the last step, "" for `path` itself; None where there are no files of DeepSpeed."""
    if any(_is_state(name) for name in names):
        return ""
    if LATEST not in names:
        return None
    try:
        with opened(os.path.join(path, LATEST)) as file:  # noqa: PTH118
            text = file.read(0, min(file.size, _LARGEST_TAG)).decode("utf-8", "surrogateescape").strip()
        inside = shard_path(path, text)
        return text if any(_is_state(name) for name in os.listdir(inside)) else None  # noqa: PTH208
    except (SDViewerError, UnsafeNameError, OSError):
        return None


class _Piece(NamedTuple):
    """A contiguous one-dimensional tensor of one file: its storage there, first byte and elements."""

    shard: str
    storage: str
    start: int
    numel: int
    dtype: str


class _Reading:
    """One folder on its way to a checkpoint."""

    def __init__(self, path: str, tag: str) -> None:
        self.path = path
        self.tag = tag
        self.problems = ShardProblems()
        self.shards: dict[str, Shard] = {}
        self.parts: dict[str, Checkpoint] = {}
        self.places: dict[str, tuple[str, str]] = {}
        self.rows = Rows()
        self.assemblies: dict[str, Assembly] = {}

    def checkpoint(self, progress: Progress) -> Checkpoint:
        self._open_files(progress)
        groups = _by_mp_rank(self.parts)
        for rank, names in groups.items():
            prefix: KeyPath = (FP32,) if len(groups) == 1 else (FP32, f"mp_rank_{rank:02}")
            try:
                self._put_together(prefix, _Ranks(names, self.parts))
            except _NotWholeError as error:
                message = f"the float32 parameters cannot be put together: {error}"
                self.problems.add_problem("warning", "incomplete", message, ".".join(map(str, prefix)))
        for name, part in self.parts.items():
            for inner, made in self.rows.add(part, (name,), name, name).items():
                self.places[made] = (name, inner)
            self.problems.from_shard(name, part.problems)
        first = next(iter(self.shards.values()))
        return Checkpoint(
            path=self.path,
            container="deepspeed",
            size=total_size(self.shards),
            byte_order="little",
            identity=first.identity,
            writer={"tag": self.tag} if self.tag else {},
            state_dicts=tuple(self.rows.state_dicts),
            tensors=tuple(self.rows.tensors),
            values=tuple(self.rows.values),
            objects=tuple(self.rows.objects),
            storages=self.rows.storages,
            problems=self.problems.all(),
            shards=self.shards,
            source=DeepSpeedSource(
                places=self.places,
                sources={name: part.source for name, part in self.parts.items()},
                assemblies=self.assemblies,
            ),
        )

    def _open_files(self, progress: Progress) -> None:
        folder = os.path.join(self.path, self.tag) if self.tag else self.path  # noqa: PTH118
        names = sorted([name for name in os.listdir(folder) if _is_state(name)], key=_file_order)  # noqa: PTH208
        failed: SDViewerError | None = None
        for n, name in enumerate(names):
            progress(n, len(names))
            try:
                path = shard_path(folder, name)
                part = open_shard(path, progress)
            except UnsafeNameError as error:
                self.problems.unsafe(name, error, 0)
            except SDViewerError as error:
                failed = error
                self.problems.not_read(name, error, 0)
            else:
                self.parts[name] = part
                self.shards[name] = shard_of(path, part)
        if not self.parts:
            why = f": {failed.message}" if failed is not None else ""
            raise CorruptCheckpoint(f"none of its {len(names):,} files can be read{why}", path=self.path)

    # The float32 parameters

    def _put_together(self, prefix: KeyPath, ranks: _Ranks) -> None:
        found = ranks.parameters() if ranks.optim else {}
        if not found:
            return
        owner = len(self.rows.state_dicts)
        keys, tensor_of, parameters, nbytes = [], [], 0, 0
        for key, whole in found.items():
            row = self._row(prefix, key, owner, whole)
            keys.append(key)
            tensor_of.append(len(self.rows.tensors))
            self.rows.tensors.append(row)
            parameters += row.elements
            nbytes += row.nbytes
        rows = dict(zip(keys, tensor_of, strict=True))
        for alias, name in ranks.shared.items():
            if name in rows and alias not in rows:
                row = self.rows.tensors[rows[name]]
                assert row.storage is not None
                shared = self.rows.storages[row.storage]
                self.rows.storages[row.storage] = shared._replace(tensors=shared.tensors + 1)
                keys.append(alias)
                rows[alias] = len(self.rows.tensors)
                tensor_of.append(rows[alias])
                self.rows.tensors.append(row._replace(path=(*prefix, alias), key=alias))
                parameters += row.elements
        self.rows.state_dicts.append(
            StateDict(prefix, "model", tuple(keys), tuple(tensor_of), parameters, nbytes, read_only=READ_ONLY)
        )

    def _row(self, prefix: KeyPath, key: str, owner: int, whole: Found) -> TensorInfo:
        shape, dtype, pieces = whole
        itemsize = DTYPES[dtype].itemsize
        boxes, done = [], 0
        for piece in pieces:
            part, nbytes = self.parts[piece.shard], piece.numel * itemsize
            if nbytes:
                span = part.source.span(piece.storage)
                boxes.append(Box(piece.shard, 0, part.size, (done,), (nbytes,), span, piece.start))
            done += nbytes
        storage = self.rows.new_id("/".join([*map(str, prefix), key]))
        self.rows.storages[storage] = StorageInfo(storage, done, done, 1)
        self.assemblies[storage] = Assembly((done,), 1, "", tuple(boxes))
        return TensorInfo(
            path=(*prefix, key),
            state_dict=owner,
            key=key,
            shape=shape,
            dtype=dtype,
            stride=contiguous_stride(shape),
            storage_offset=0,
            storage=storage,
            nbytes=done,
            requires_grad=None,
            kind="tensor",
            cls="torch.Tensor",
            location=None,
        )


class _NotWholeError(Exception):
    """Why the parameters cannot be put together."""


Found = tuple[tuple[int, ...], str, list[_Piece]]
"""Shape, dtype, and the pieces one behind the other."""


class _Ranks:
    """The files of one model-parallel rank: what they say about its parameters."""

    def __init__(self, names: list[str], parts: Mapping[str, Checkpoint]) -> None:
        self.parts = parts
        self.model = [name for name in names if name.endswith(_MODEL)]
        self.optim = [name for name in names if name.endswith(_OPTIM)]
        self.values: dict[KeyPath, Any] = {}
        for name in self.model[:1]:
            self.values = {value.path: value.value for value in parts[name].values}
        self.shared = {
            path[1]: value
            for path, value in self.values.items()
            if len(path) == 2 and path[0] == "shared_params" and isinstance(path[1], str) and isinstance(value, str)
        }

    def parameters(self) -> dict[str, Found]:
        """Every parameter and buffer, in the order of the groups.

        Raises:
            _NotWholeError: shapes, ranks and flat tensors do not fit.
        """
        if not self.model:
            raise _NotWholeError("the file with their shapes is not there")
        groups = self._shapes("param_shapes")
        flat = [self._flat_groups(name) for name in self.optim]
        if not groups and not any(pieces for pieces, _ in flat):
            return {}  # the optimizer is not ZeRO's: the module has the parameters
        self._check_ranks()
        stages = {is_three for pieces, is_three in flat if pieces}
        if len(stages) != 1:
            raise _NotWholeError("the optimizer states have no flat float32 groups")
        pieces = [found for found, _ in flat]
        found = dict(self._stage_three(groups, pieces) if True in stages else self._stage_two(groups, pieces))
        # In the order of DeepSpeed's own script; what it trains wins over a buffer of the same name.
        return self._buffers() | self._frozen(True in stages) | found

    def _check_ranks(self) -> None:
        """The number of ranks that the states count must be the number of files that are there.

        A group of experts is cut over fewer ranks than the others, so of several numbers the largest counts.
        """
        counts: list[Any] = []
        for value in self.parts[self.optim[0]].values:
            if value.path[:2] == ("optimizer_state_dict", "partition_count"):
                counts += value.value if isinstance(value.value, list) else [value.value]
        count = max([n for n in counts if type(n) is int], default=len(self.optim))
        if count != len(self.optim):
            there = f"the states of {len(self.optim):,} are there"
            raise _NotWholeError(f"they are cut over {count:,} ranks, and {there}")

    def _shapes(self, name: str) -> list[dict[str, tuple[int, ...]]]:
        """`param_shapes`: a dict of sizes for each group, or, in old files, one dict."""
        groups: dict[str, dict[str, tuple[int, ...]]] = {}
        for path, value in self.values.items():
            if path[:1] != (name,) or len(path) not in (2, 3) or not isinstance(path[-1], str):
                continue
            group = path[1] if len(path) == 3 else ""
            number = group.value if isinstance(group, TypedStep) else group
            if not isinstance(value, list) or not all(type(size) is int and size >= 0 for size in value):
                raise _NotWholeError(f"{visible(path[-1], 80)} has no size")
            layout = layout_of("float32", tuple(value), None)
            if layout.problem:
                raise _NotWholeError(f"{visible(path[-1], 80)}: {layout.problem}")
            groups.setdefault(number, {})[path[-1]] = tuple(value)
        return list(groups.values())

    def _flat_groups(self, name: str) -> tuple[list[_Piece], bool]:
        """The flat float32 tensors of one rank, and whether they are ZeRO 3's."""
        found: list[_Piece] = []
        three = False
        for tensor in self.parts[name].tensors:
            path = tensor.path
            if len(path) not in (2, 3) or path[0] != "optimizer_state_dict":
                continue
            if path[1] in ("single_partition_of_fp32_groups", "fp32_flat_groups"):
                three = path[1] == "fp32_flat_groups"
                found.append(self._piece(name, tensor))
        return found, three

    def _piece(self, name: str, tensor: TensorInfo) -> _Piece:
        if (
            tensor.unreadable
            or tensor.storage is None
            or tensor.storage_offset is None
            or self.parts[name].byte_order == "big"
        ):
            raise _NotWholeError(f"a tensor of {visible(name, 120)} cannot be read: {tensor.unreadable or 'no bytes'}")
        if tensor.stride != contiguous_stride(tensor.shape) and tensor.elements > 1:
            raise _NotWholeError(f"a tensor of {visible(name, 120)} does not lie in one run")
        start = tensor.storage_offset * DTYPES[tensor.dtype].itemsize
        return _Piece(name, tensor.storage, start, tensor.elements, tensor.dtype)

    def _stage_two(
        self, groups: list[dict[str, tuple[int, ...]]], flat: list[list[_Piece]]
    ) -> Iterator[tuple[str, Found]]:
        """ZeRO 1 and 2: group g of all ranks behind one another is all of its parameters behind one another."""
        if any(len(pieces) != len(groups) for pieces in flat):
            raise _NotWholeError(f"there are {len(groups)} groups of shapes and another number of flat tensors")
        align = 2 * len(flat)
        for g, shapes in enumerate(groups):
            run = _Run([pieces[g] for pieces in flat])
            offset = 0
            for key, shape in shapes.items():
                numel = layout_of("float32", shape, None).numel
                pieces = run.slice(offset, numel, key)
                offset += numel
                yield key, (shape, _dtype(pieces), pieces)
            # Padding is not told anywhere; DeepSpeed pads up to a multiple of twice the ranks, and checks no more.
            if -(-offset // align) != -(-run.numel // align):
                raise _NotWholeError(f"group {g + 1:,} has {run.numel:,} elements, and its parameters have {offset:,}")

    def _stage_three(
        self, groups: list[dict[str, tuple[int, ...]]], flat: list[list[_Piece]]
    ) -> Iterator[tuple[str, Found]]:
        """ZeRO 3: each parameter is cut over the ranks; a rank has its cuts of all parameters behind one another."""
        offset, world = 0, len(flat)
        runs = [_Run(pieces) for pieces in flat]
        for shapes in groups:
            for key, shape in shapes.items():
                numel = layout_of("float32", shape, None).numel
                each = -(-numel // world)
                pieces: list[_Piece] = []
                left = numel
                for run in runs:
                    wanted = min(each, left)
                    pieces += run.slice(offset, wanted, key)
                    left -= wanted
                offset += each
                yield key, (shape, _dtype(pieces), pieces)
        for run in runs:
            if run.numel != offset:
                message = f"a rank has {run.numel:,} elements, and its parts of the parameters have {offset:,}"
                raise _NotWholeError(message)

    def _frozen(self, three: bool) -> dict[str, Found]:
        """Parameters that are not trained: whole in the model states, or cut over the ranks like the others."""
        found: dict[str, Found] = {}
        names = self.model if three else self.model[:1]
        fragments = {name: self._fragments(name) for name in names}
        for shapes in self._shapes("frozen_param_shapes"):
            for key, shape in shapes.items():
                left = layout_of("float32", shape, None).numel
                pieces = []
                for name in names:
                    if key not in fragments[name]:
                        raise _NotWholeError(f"{visible(key, 80)} is not in {visible(name, 120)}")
                    piece = self._piece(name, fragments[name][key])
                    pieces.append(piece._replace(numel=min(piece.numel, left)))
                    left -= pieces[-1].numel
                if left:
                    raise _NotWholeError(f"{left:,} elements of {visible(key, 80)} are nowhere")
                found[key] = (shape, _dtype(pieces), pieces)
        return found

    def _buffers(self) -> dict[str, Found]:
        """The buffers, which ZeRO leaves whole in the module."""
        names: list[Any] = []
        for path, value in self.values.items():
            if path[:1] == ("buffer_names",):
                names += value if isinstance(value, list) else [value]
        wanted = {name for name in names if isinstance(name, str)}
        found: dict[str, Found] = {}
        for tensor in self.parts[self.model[0]].tensors:
            key = tensor.path[-1] if tensor.path[:1] == ("module",) and len(tensor.path) == 2 else None
            if isinstance(key, str) and key in wanted:
                piece = self._piece(self.model[0], tensor)
                found[key] = (tensor.shape, tensor.dtype, [piece])
        return found

    def _fragments(self, name: str) -> dict[Step, TensorInfo]:
        """What one model state has of the parameters that are not trained, by their names."""
        tensors = self.parts[name].tensors
        return {row.path[1]: row for row in tensors if len(row.path) == 2 and row.path[0] == "frozen_param_fragments"}


class _Run:
    """Pieces that lie one behind the other, `numel` elements in all."""

    def __init__(self, pieces: list[_Piece]) -> None:
        self.pieces = pieces
        self.starts = list(accumulate([piece.numel for piece in pieces], initial=0))
        self.numel = self.starts[-1]

    def slice(self, offset: int, numel: int, key: str) -> list[_Piece]:
        """Elements `offset` to `offset + numel`, as parts of the pieces.

        Raises:
            _NotWholeError: they are not all there.
        """
        if offset + numel > self.numel:
            missing = offset + numel - self.numel
            raise _NotWholeError(f"the flat tensors end {missing:,} elements before the end of {visible(key, 80)}")
        found: list[_Piece] = []
        place = bisect_right(self.starts, offset) - 1
        while numel:
            piece = self.pieces[place]
            skip = offset - self.starts[place]
            taken = min(piece.numel - skip, numel)
            if taken:
                start = piece.start + skip * DTYPES[piece.dtype].itemsize
                found.append(piece._replace(start=start, numel=taken))
            offset += taken
            numel -= taken
            place += 1
        return found


def _dtype(pieces: list[_Piece]) -> str:
    kinds = {piece.dtype for piece in pieces} or {"float32"}
    if len(kinds) != 1:
        raise _NotWholeError("its pieces have different dtypes")
    return kinds.pop()


def _by_mp_rank(parts: Mapping[str, Checkpoint]) -> dict[int, list[str]]:
    """File names by model-parallel rank, each in the order of the data-parallel ranks; others (layers) left out."""
    groups: dict[int, list[str]] = {}
    for name in parts:
        stem = name.removesuffix(".pt")
        found = _MP_RANK.search(stem)
        if found is not None and "expert" not in stem and "expp" not in stem:
            groups.setdefault(int(found[1]), []).append(name)
    return {rank: groups[rank] for rank in sorted(groups)}


def _file_order(name: str) -> tuple[bool, int, int, str]:
    """Model states before optimizer states, then by rank as a number."""
    stem = name.removesuffix(".pt")
    mp, pp = _MP_RANK.search(stem), _PP_RANK.search(stem)
    return name.endswith(_OPTIM), int(mp[1]) if mp else -1, int(pp[1]) if pp else -1, name
