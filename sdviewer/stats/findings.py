"""What is worth a look in a checkpoint: sentences with numbers, worst first, each with the tensors that it is about.

They come from the header and from what is known so far of the statistics (`stats.table`), so a list made early is
right and not yet complete. What is usual is said mildly and in one line for all it holds for, or not at all.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, Severity
from sdviewer.core.depth import Series
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import dotted
from sdviewer.stats.table import UNREADABLE, StatisticsTable

MOST_TENSORS: Final = 1000
"""Tensors of one finding that are told by their indexes."""
MOST_JUMPS: Final = 3
MOST_DTYPES: Final = 3
JUMP_MADS: Final = 3.0
LEAST_JUMP: Final = 0.25
"""The least change against the neighbours, as a share, that is called a jump."""
SHORTEST_LINE: Final = 6
LEAST_UNUSED: Final = 1 << 20
FEW_UNUSED: Final = 1 << 10
"""Bytes of no tensor from which they are told: fewer where they are a hundredth of the file, but never very few."""
MODEL, EMA, OPTIMIZER, OTHER = range(4)
_ROLES: Final = {"model": MODEL, "ema": EMA, "optimizer": OPTIMIZER, "other": OTHER}

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence. `tensors` are the first `MOST_TENSORS` of the `count` that it is about."""

    severity: Severity
    kind: str
    title: str
    detail: str
    tensors: tuple[int, ...] = ()
    count: int = 0


class Subjects:
    """What the header says of all tensors, as arrays; made once for a checkpoint."""

    def __init__(self, checkpoint: Checkpoint, series: Sequence[Series] = ()) -> None:
        self.checkpoint = checkpoint
        # Stages one behind the other are not neighbours.
        self.series = [one for one in series if "*" not in one.name]
        tensors = checkpoint.tensors
        roles = [_ROLES[state_dict.role] for state_dict in checkpoint.state_dicts]
        # By state dict, -1 for none, which is the last.
        of_dict = np.array([*roles, OTHER], "u1")
        self.role = of_dict[np.array([-1 if t.state_dict is None else t.state_dict for t in tensors], "i8")]
        forms: dict[tuple[str, tuple[int, ...]], int] = {}
        self.form = np.array([forms.setdefault((t.dtype, t.shape), len(forms)) for t in tensors], "i8")
        self.dims = np.array([len(shape) for _, shape in forms], "i8")[self.form]
        self.elements = np.array([min(math.prod(shape), 2**62) for _, shape in forms], "i8")[self.form]
        self.unreadable = np.array([t.unreadable != "" for t in tensors], bool)
        self.is_meta = np.array([t.kind == "meta" for t in tensors], bool)
        places: dict[Any, int] = {}
        self.place = np.array(
            [
                places.setdefault(at if t.storage is None else (t.storage, t.storage_offset, t.shard), len(places))
                for at, t in enumerate(tensors)
            ],
            "i8",
        )
        lasts = [(t.key or "").rpartition(".") for t in tensors]
        self.last = np.array([last[:32] for _, _, last in lasts] or [""])[: len(tensors)]
        norm = re.compile(r"(?:norm|bn|[._]ln)[^.]*$", re.IGNORECASE)
        # Of its last component, with the dot: in a long path the pattern would be tried at every place.
        known = {
            module: "layernorm" in module.lower() or bool(norm.search(f".{module.rpartition('.')[2]}"))
            for module in {module for module, _, _ in lasts}
        }
        self.in_norm = np.array([known[module] for module, _, _ in lasts], bool)
        self.is_bias = np.isin(self.last, ("bias", "beta"))
        self.is_weight = np.isin(self.last, ("weight", "gamma", "scale"))
        self.is_running = np.isin(self.last, ("running_mean", "running_var"))

    def name(self, index: int) -> str:
        """A tensor's key in its model, else where it stands in the file; printable."""
        info = self.checkpoint.tensors[index]
        model = self.role[index] == MODEL and info.key is not None
        return text.visible(str(info.key) if model else dotted(info.path), 160)

    def where(self, indices: Indices | Sequence[int]) -> str:
        """Which tensors: the name of one, what several have in common with their blocks, else the first and a count."""
        if len(indices) == 1:
            return self.name(int(indices[0]))
        names = [self.name(int(at)) for at in indices[:MOST_TENSORS]]
        split = {_PATTERN.sub("*", name) for name in names}
        if len(split) == 1 and len(indices) <= MOST_TENSORS:
            numbers = [[int(digits[:9]) for digits in _PATTERN.findall(name)] for name in names]
            changing = [at for at in range(len(numbers[0])) if len({row[at] for row in numbers}) > 1]
            if len(changing) == 1:
                before, after = _around(names[0], changing[0])
                blocks = ranges(sorted(row[changing[0]] for row in numbers))
                return f"{before} {blocks}, {after}" if after else f"{before} {blocks}"
        return f"{names[0]} and {len(indices) - 1:,} more"


_PATTERN = re.compile(r"(?<![^.])\d+(?![^.])")


def _around(name: str, number: int) -> tuple[str, str]:
    """What stands before and behind a name's number of this place."""
    hit = list(_PATTERN.finditer(name))[number]
    return name[: hit.start()].rstrip("."), name[hit.end() :].lstrip(".")


def ranges(numbers: Iterable[int]) -> str:
    """`0–3, 7`; of many pieces the first."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    said = [str(a) if a == b else f"{a}–{b}" for a, b in runs[:4]]
    return ", ".join(said) + (" …" if len(runs) > 4 else "")


def find(subjects: Subjects, table: StatisticsTable | None, digests: Mapping[int, str] | None = None) -> list[Finding]:
    """What is worth a look, worst first.

    `digests` are SHA-256 of tensors that looked equal (`look_equal`), as far as they are known.
    """
    found: list[Finding] = list(_unreadable(subjects, table))
    if table is not None and len(table) == len(subjects.role):
        for search in (_not_finite, _negative, _flat, _dead_rows, _jumps):
            found += search(subjects, table)
        found += _duplicates(subjects, table, digests or {})
    for of_header in (_unused, _shared, _mixed):
        found += of_header(subjects)
    order = {"error": 0, "warning": 1, "info": 2}
    found.sort(key=lambda one: order[one.severity])
    return found


def _finding(severity: Severity, kind: str, title: str, detail: str, indices: Indices | Sequence[int]) -> Finding:
    return Finding(severity, kind, title, detail, tuple(int(at) for at in indices[:MOST_TENSORS]), len(indices))


# Found in the numbers


def _unreadable(subjects: Subjects, table: StatisticsTable | None) -> Iterable[Finding]:
    lost = subjects.unreadable
    if table is not None and len(table) == len(lost):
        lost = lost | (table["state"] == UNREADABLE)
    meta = lost & subjects.is_meta
    indices = np.flatnonzero(lost & ~meta)
    if len(indices):
        title = f"{text.plural(len(indices), 'tensor')} cannot be read"
        yield _finding("error", "unreadable", title, subjects.where(indices), indices)
    indices = np.flatnonzero(meta)
    if len(indices):
        title = f"{text.plural(len(indices), 'tensor')} without numbers"
        yield _finding("info", "meta", title, f"{subjects.where(indices)} · saved from the meta device", indices)


def _not_finite(subjects: Subjects, table: StatisticsTable) -> Iterable[Finding]:
    nan, inf = table["nan"] > 0, (table["posinf"] > 0) | (table["neginf"] > 0)
    optimizer = subjects.role == OPTIMIZER
    for mask, word, counts in ((nan, "NaN", ("nan",)), (inf, "Inf", ("posinf", "neginf"))):
        indices = np.flatnonzero(mask & ~optimizer)
        if not len(indices):
            continue
        verb = "holds" if len(indices) == 1 else "hold"
        values = sum(_total(table[name][indices]) for name in counts)
        every = _total(table["count"][indices])
        detail = f"{subjects.where(indices)} · {values:,} of {every:,} values"
        yield _finding("error", word.lower(), f"{text.plural(len(indices), 'tensor')} {verb} {word}", detail, indices)
    indices = np.flatnonzero((nan | inf) & optimizer)
    if len(indices):
        title = f"Optimizer state is not finite in {text.plural(len(indices), 'tensor')}"
        yield _finding("error", "optimizer_not_finite", title, subjects.where(indices), indices)


def _total(counts: NDArray[np.int64]) -> int:
    """Their sum, which expanded tensors bring beyond 64 bits."""
    return sum(counts.clip(0).tolist())


def _negative(subjects: Subjects, table: StatisticsTable) -> Iterable[Finding]:
    below = table["min"] < 0
    indices = np.flatnonzero(below & (subjects.last == "running_var"))
    if len(indices):
        title = f"{text.plural(len(indices), 'running variance')} below zero"
        low = text.value(float(table["min"][indices].min()))
        yield _finding("error", "negative_variance", title, f"{subjects.where(indices)} · down to {low}", indices)


def _flat(subjects: Subjects, table: StatisticsTable) -> Iterable[Finding]:
    """One value throughout: what is odd in a weight is usual in the bias of a layer that was not trained."""
    counted = (table["count"] > 1) & (subjects.role != OPTIMIZER)
    zero = counted & (table["zeros"] == table["count"])
    constant = counted & (table["constant"] == 1)
    matrix = subjects.dims > 1
    adapter = _named(subjects, zero & matrix, "lora")
    yield from _each(subjects, zero & matrix & ~adapter, "warning", "zero", "weight", "all zero")
    indices = np.flatnonzero(zero & matrix & adapter)
    if len(indices):
        title = f"{text.plural(len(indices), 'adapter matrix', 'adapter matrices')} all zero"
        yield _finding("info", "zero", title, f"{subjects.where(indices)} · as before training", indices)
    yield from _each(subjects, constant & ~zero & matrix, "warning", "constant", "weight", "of one value throughout")
    running = subjects.is_running & (constant | zero)
    indices = np.flatnonzero(running)
    if len(indices):
        title = f"{text.plural(len(indices), 'running statistic')} never updated"
        yield _finding("info", "constant", title, subjects.where(indices), indices)
    vector = ~matrix & ~subjects.is_running & (subjects.role != OTHER)
    for mask, noun, nouns in (
        (subjects.is_bias & subjects.in_norm, "norm bias", "norm biases"),
        (subjects.is_bias & ~subjects.in_norm, "bias", "biases"),
        (~subjects.is_bias, "vector", "vectors"),
    ):
        indices = np.flatnonzero(zero & vector & mask)
        if len(indices):
            verb = "is" if len(indices) == 1 else "are"
            title = f"{text.plural(len(indices), noun, nouns)} {verb} exactly zero"
            yield _finding("info", "zero", title, subjects.where(indices), indices)
    ones = constant & vector & (table["min"] == 1.0)
    indices = np.flatnonzero(ones & subjects.is_weight)
    if len(indices):
        verb = "is" if len(indices) == 1 else "are"
        title = f"{text.plural(len(indices), 'norm weight')} {verb} exactly one"
        yield _finding("info", "constant", title, subjects.where(indices), indices)
    rest = constant & ~zero & vector & ~(ones & subjects.is_weight)
    yield from _each(subjects, rest, "info", "constant", "vector", "of one value throughout")


def _named(subjects: Subjects, among: Mask, part: str) -> Mask:
    found = np.zeros(len(among), bool)
    for at in np.flatnonzero(among):
        found[at] = part in (subjects.checkpoint.tensors[int(at)].key or "").lower()
    return found


def _each(subjects: Subjects, mask: Mask, severity: Severity, kind: str, noun: str, what: str) -> Iterable[Finding]:
    indices = np.flatnonzero(mask)
    if len(indices):
        verb = "is" if len(indices) == 1 else "are"
        title = f"{text.plural(len(indices), noun)} {verb} {what}"
        yield _finding(severity, kind, title, subjects.where(indices), indices)


def _dead_rows(subjects: Subjects, table: StatisticsTable) -> Iterable[Finding]:
    dead = (table["zero_rows"] > 0) & (table["zeros"] < table["count"]) & (subjects.role != OPTIMIZER)
    # One row of zeros in an embedding is that of the padding.
    indices = np.flatnonzero(dead & ~((table["zero_rows"] == 1) & _named(subjects, dead, "emb")))
    if len(indices):
        rows = _total(table["zero_rows"][indices])
        every = sum(subjects.checkpoint.tensors[int(at)].shape[0] for at in indices)
        inside = "" if len(indices) == 1 else f" in {len(indices):,} tensors"
        title = f"{text.plural(rows, 'row')} {'is' if rows == 1 else 'are'} all zero{inside}"
        yield _finding(
            "warning", "dead_rows", title, f"{subjects.where(indices)} · {rows:,} of {every:,} rows", indices
        )


class _Jump(NamedTuple):
    """How far off in MADs, the tensor, its std, that of its neighbours, its component."""

    size: float
    tensor: int
    std: float
    neighbours: float
    component: str


def _jumps(subjects: Subjects, table: StatisticsTable) -> Iterable[Finding]:
    """Blocks whose std is far from that of the blocks around, against how much it varies along the line."""
    told = _jumps_by_block(subjects, table["std"])
    for (name, block), hits in told[:MOST_JUMPS]:
        first = hits[0]
        detail = f"{first.component} · {text.value(first.std)}, neighbours {text.value(first.neighbours)}"
        if len(hits) > 1:
            detail += f" · and {text.plural(len(hits) - 1, 'other')}"
        where = f"block {block}" if len(subjects.series) == 1 else f"{text.visible(name, 60)} {block}"
        yield _finding("warning", "jump", f"std jumps at {where}", detail, [hit.tensor for hit in hits])
    if rest := [hit.tensor for _, hits in told[MOST_JUMPS:] for hit in hits]:
        title = f"std jumps in {text.plural(len(told) - MOST_JUMPS, 'more block')}"
        yield _finding("warning", "jump", title, subjects.where(rest), rest)


def _jumps_by_block(subjects: Subjects, std: NDArray[np.float64]) -> list[tuple[tuple[str, str], list[_Jump]]]:
    """The blocks with jumps, by series and block, the farthest off first."""
    by_block: dict[tuple[str, str], list[_Jump]] = defaultdict(list)
    seen: set[int] = set()
    for series in subjects.series:
        for line in series.lines:
            if not line.matrix or len(line.tensors) < SHORTEST_LINE:
                continue
            values = std[np.array(line.tensors)]
            for at, neighbours, size in jumps(values):
                tensor = line.tensors[at]
                # A block of experts is met twice, in its layer and among the experts.
                if tensor not in seen:
                    seen.add(tensor)
                    component = text.visible(line.name.removesuffix(".weight"), 100)
                    jump = _Jump(size, tensor, float(values[at]), neighbours, component)
                    by_block[series.name, series.blocks[line.places[at]]].append(jump)
    for hits in by_block.values():
        hits.sort(reverse=True)
    return sorted(by_block.items(), key=lambda item: -item[1][0].size)


def jumps(values: NDArray[np.float64]) -> list[tuple[int, float, float]]:
    """(place, the median of the four neighbours, how far off in MADs) of what stands out from the values around it.

    The first and the last are left alone: what ends a model differs from its middle in most.
    """
    n = len(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values)
    logs[~np.isfinite(logs)] = np.nan
    known = np.isfinite(logs)
    if n < SHORTEST_LINE or not known.any():
        return []
    padded = np.full(n + 4, np.nan)
    padded[2:-2] = logs
    around = np.stack([padded[:-4], padded[1:-3], padded[3:-1], padded[4:]])
    # As many on either side, or a line that only rises would jump near its ends.
    near_end = np.isnan(around[0]) | np.isnan(around[3])
    around[np.ix_([0, 3], near_end)] = np.nan
    use = known & np.isfinite(around[1]) & np.isfinite(around[2])
    if not use.any():
        return []
    middle = np.nanmedian(around[:, use], axis=0)
    off = logs[use] - middle
    mad = float(np.median(np.abs(off - np.median(off))))
    least = max(JUMP_MADS * mad, float(np.log1p(LEAST_JUMP)))
    # Of two neighbours one can be what is odd: there it must be far from both.
    nearest = np.min(np.abs(logs - around[1:3]), axis=0)[use]
    odd = (np.abs(off) > least) & ((nearest > least) | ~near_end[use])
    places = np.flatnonzero(use)
    return [
        (int(places[at]), float(np.exp(middle[at])), float(abs(off[at]) / max(mad, 1e-9))) for at in np.flatnonzero(odd)
    ]


# Equal tensors


def look_equal(subjects: Subjects, table: StatisticsTable) -> list[Indices]:
    """Groups of tensors of one shape and dtype whose statistics are all the same, and that lie in different places."""
    use = np.flatnonzero((table["state"] == 1) & (table["count"] > 1) & (table["constant"] == 0))
    use = use[np.isfinite(table["l2"][use]) & (table["zeros"][use] < table["count"][use])]
    if not len(use):
        return []
    numbers = [table[name][use] for name in ("min", "max", "mean", "std", "absmean", "l2")]
    numbers += [table["zeros"][use].astype("f8"), table["nan"][use].astype("f8"), subjects.form[use].astype("f8")]
    order = np.lexsort(numbers)
    rows = np.stack(numbers, axis=1)[order]
    same = np.r_[False, (rows[1:] == rows[:-1]).all(axis=1)]
    starts = np.flatnonzero(~same)
    groups = []
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        if end - start < 2:
            continue
        members = np.sort(use[order[start:end]])
        _, first = np.unique(subjects.place[members], return_index=True)
        if len(first) > 1:
            groups.append(members[np.sort(first)])
    groups.sort(key=lambda members: -int(subjects.elements[members[0]]) * len(members))
    return groups


def _duplicates(subjects: Subjects, table: StatisticsTable, digests: Mapping[int, str]) -> Iterable[Finding]:
    sure: list[Indices] = []
    likely: list[Indices] = []
    for members in look_equal(subjects, table):
        if any(int(at) not in digests for at in members):
            likely.append(members)
            continue
        by_digest: dict[str, list[int]] = defaultdict(list)
        for at in members:
            by_digest[digests[int(at)]].append(int(at))
        sure += [np.array(equal) for digest, equal in by_digest.items() if digest and len(equal) > 1]
    for groups, what in ((sure, "equal bit for bit"), (likely, "of equal statistics")):
        if not groups:
            continue
        every = np.concatenate(groups)
        between = {tuple(sorted({int(subjects.role[at]) for at in members})) for members in groups}
        if len(groups) > 1 and between == {(MODEL, EMA)}:
            title = f"{text.plural(len(groups), 'tensor')} {what} in model and average"
            yield _finding("info", "duplicates", title, subjects.where([int(groups[0][0])]) + " …", every)
            continue
        title = f"{text.plural(len(every), 'tensor')} are {what}"
        first = " and ".join(subjects.name(int(at)) for at in groups[0][:2])
        detail = first if len(every) == 2 else f"{first}, {len(every) - 2:,} more"
        yield _finding("info", "duplicates", title, detail, every)


# Found in the header


def _unused(subjects: Subjects) -> Iterable[Finding]:
    checkpoint = subjects.checkpoint
    lost = {info.storage for info in checkpoint.tensors if info.unreadable}
    idle = {
        key: one.nbytes - one.used_bytes
        for key, one in checkpoint.storages.items()
        if one.nbytes > one.used_bytes and key not in lost
    }
    unused = sum(idle.values())
    # What is more than the file is packed in it, or a lie.
    if unused < max(FEW_UNUSED, min(LEAST_UNUSED, checkpoint.size // 100)) or unused > checkpoint.size:
        return
    indices = [at for at, info in enumerate(checkpoint.tensors) if info.storage in idle]
    share = unused / checkpoint.size
    title = f"{text.size(unused)} of the file belong to no tensor"
    detail = f"{text.percent(share)} · in {text.plural(len(idle), 'storage')}, kept with views into them"
    yield _finding("warning" if share > 0.1 else "info", "unused", title, detail, indices)


def _shared(subjects: Subjects) -> Iterable[Finding]:
    checkpoint = subjects.checkpoint
    several = {key for key, one in checkpoint.storages.items() if one.tensors > 1}
    if not several:
        return
    users: dict[str, list[int]] = defaultdict(list)
    for at, info in enumerate(checkpoint.tensors):
        if info.storage in several:
            users[str(info.storage)].append(at)
    indices = [at for group in users.values() for at in group]
    if len(indices) < 2:
        return
    if len(users) == 1:
        title = f"{text.plural(len(indices), 'tensor')} share one storage"
    else:
        title = f"{text.plural(len(indices), 'tensor')} share {len(users):,} storages"
    first = next(iter(users.values()))
    detail = " and ".join(subjects.name(at) for at in first[:2]) + (" …" if len(indices) > 2 else "")
    yield _finding("info", "shared", title, detail, indices)


def _mixed(subjects: Subjects) -> Iterable[Finding]:
    """Weights of another float type than most."""
    checkpoint = subjects.checkpoint
    by_dtype: dict[str, list[int]] = defaultdict(list)
    for at in np.flatnonzero((subjects.role == MODEL) & (subjects.dims > 0)):
        info = checkpoint.tensors[int(at)]
        if info.dtype in DTYPES and DTYPES[info.dtype].kind == "float":
            by_dtype[info.dtype].append(int(at))
    if len(by_dtype) < 2:
        return
    main = max(by_dtype, key=lambda dtype: sum(int(subjects.elements[at]) for at in by_dtype[dtype]))
    others = sorted(at for dtype, members in by_dtype.items() if dtype != main for at in members)
    names = ", ".join(sorted(dtype for dtype in by_dtype if dtype != main))
    title = f"{text.plural(len(others), 'tensor')} {'is' if len(others) == 1 else 'are'} not {main}"
    if len(by_dtype) > MOST_DTYPES:
        title, names = f"Floats of {len(by_dtype)} types", f"most are {main}"
    yield _finding("info", "mixed", title, f"{names} · {subjects.where(others)}", others)
