"""What can be done where a tensor and the one that a model asks for under its key have different shapes.

Nothing says what is meant: a person chooses, and nothing of it is ever done unasked. The order is that of what people
mean by such a pair, by what the key is called: positions are interpolated, a vocabulary gets rows, a head goes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sdviewer.core import text
from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.execution import carried_out
from sdviewer.repair.matching.found import Evidence
from sdviewer.repair.matching.leftovers import why_computed_again
from sdviewer.repair.matching.relations import permutations_of
from sdviewer.repair.operations import operation_from_step
from sdviewer.repair.operations.tensor_operation import Entry
from sdviewer.repair.patterns import literal_pattern, literal_rule
from sdviewer.repair.plan import Kept
from sdviewer.repair.rules.cells import shape_of
from sdviewer.repair.rules.covering import covering
from sdviewer.repair.rules.steps import Step
from sdviewer.repair.state_dicts import AUTO
from sdviewer.repair.suggestion import Suggestion
from sdviewer.repair.wording import file_named, listed

Shape = tuple[int, ...]

MOST_PATTERNS = 500
"""Patterns of one step, at most."""

SHOWN = 3

CLASS_TOKENS = (0, 1, 2)
"""How many places may stand ahead of a grid: none, a class token, and that of a distilled DeiT besides."""

COLOURS = 3
"""Input channels up to which a convolution looks at a picture; one of more looks at features or latents."""

_POSITIONS = re.compile(r"(?:^|[._])(?:wpe|abs_pos|rel_pos|pos(?:ition)?(?:s|al)?)(?:_?(?:emb|enc|bias)|[._]|$)", re.I)
_PICTURES = re.compile(r"(?:^|[._])(?:visual|vision|image|img|patch|vit|swin|grid|relative_position|rel_pos)", re.I)
_ONE_AXIS = re.compile(r"(?:^|[._])rel_pos_[hwt]$")
_VOCABULARY = re.compile(
    r"(?:^|[._])(?:wte|embed_tokens|embed_in|embed_out|lm_head|vocab|shared|(?:tok|token|word)s?_embeddings?|"
    r"predictions)(?:[._]|$)",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to make a tensor fit: steps of a recipe, in their order, and what comes of them in a sentence."""

    steps: tuple[Step, ...]
    text: str
    evidence: Evidence = "ambiguous"


class OtherTensor(NamedTuple):
    """A tensor of another checkpoint that has the shape wanted: the path of a recipe, its state dict, its key there."""

    path: str
    key: str
    state_dict: str = AUTO


def choices(
    source: Shape,
    target: Shape,
    key: str,
    *names: str,
    dtype: str = "float32",
    other: OtherTensor | None = None,
) -> tuple[Choice, ...]:
    """The ways to make a tensor fit, the likeliest first; the last resort, to leave it out, is always among them.

    Args:
        source: the shape that it has.
        target: the shape that is asked for, another one.
        key: its key where the steps are put: at the end of a recipe.
        names: what else it is called, as the target's key where that is another.
        dtype: what it holds; integers are not interpolated.
        other: the tensor of the target, where that is a checkpoint.
    """
    return tuple(_choices(Entry(key, Kept(0), source, dtype), target, (key, *names), other))


def cards(entries: Sequence[Entry], wanted: Mapping[str, Shape]) -> tuple[Suggestion, ...]:
    """The likeliest choice for each tensor whose key stands in `wanted` with another shape, alike ones on one card.

    `entries` are those of the state dict as the steps before leave them.
    """
    groups: dict[str, tuple[Choice, list[str]]] = {}
    known: dict[Hashable, tuple[Choice, list[str]]] = {}
    for entry in entries:
        shape = wanted.get(entry.key)
        if shape is None or entry.shape is None or entry.shape == shape:
            continue
        kind = shape_of(entry.key), entry.shape, shape, entry.dtype
        if kind not in known:
            best = next(_choices(entry, shape, (entry.key,), None))
            alike = repr([{name: value for name, value in step.items() if name != "keys"} for step in best.steps])
            known[kind] = groups.setdefault(alike, (best, []))
        known[kind][1].append(entry.key)
    return tuple([card for choice, keys in groups.values() for card in _cards(choice, keys, entries)])


def _cards(choice: Choice, keys: Sequence[str], entries: Sequence[Entry]) -> Iterator[Suggestion]:
    chosen = set(keys)
    others = [entry.key for entry in entries if entry.key not in chosen]
    patterns = list(map(literal_pattern, keys))
    if len(keys) > SHOWN:  # (few keys say more than a pattern)
        patterns = covering(keys, others, most=MOST_PATTERNS) or patterns
    for step in choice.steps:
        operation = operation_from_step({**step, "keys": patterns})
        gone = step["op"] == "drop"
        which = "which has" if len(keys) == 1 else "which have"
        said = f"{operation.label}, {which} another shape in the model"
        examples = tuple([(key, "" if gone else key) for key in keys[:SHOWN]])
        yield Suggestion(
            operation.to_step(),
            said if gone else f"{operation.label}: {listed(patterns)}",
            len(keys),
            choice.evidence,
            examples,
            (choice.text,),
        )


def _choices(entry: Entry, target: Shape, names: Sequence[str], other: OtherTensor | None) -> Iterator[Choice]:
    """Those of all ways that end in the shape wanted; each is carried out before it is offered."""
    found: list[tuple[Step, ...]] = []
    for way in _ways(_Pair(entry.shape or (), target, names, other)):
        steps = tuple([step if "keys" in step else step | {"keys": [literal_pattern(entry.key)]} for step in way.steps])
        if steps not in found and _ends_in(entry, target, steps):
            found.append(steps)
            yield Choice(steps, way.text)


def _ends_in(entry: Entry, target: Shape, steps: Iterable[Step]) -> bool:
    """Whether steps leave nothing, or a tensor of this shape; what another file has is believed."""
    entries = [entry]
    try:
        for step in steps:
            if step["op"] == "take":
                return True
            entries = carried_out(operation_from_step(step), entries)
    except (RepairError, UsageError):
        return False
    return all(one.shape == target for one in entries)


class _Way(NamedTuple):
    """Steps without the keys that they are for."""

    steps: tuple[Step, ...]
    text: str


class _Pair(NamedTuple):
    """Two shapes of what bears these names."""

    source: Shape
    target: Shape
    names: Sequence[str]
    other: OtherTensor | None

    @property
    def differing(self) -> list[int]:
        """The dimensions in which they differ; none where there are not as many on both sides."""
        if len(self.source) != len(self.target):
            return []
        return [at for at, sizes in enumerate(zip(self.source, self.target, strict=True)) if sizes[0] != sizes[1]]

    @property
    def is_table(self) -> bool:
        """Whether it is a table of positions, as `(1, 197, 768)`, `(512, 768)` or `(169, 12)`."""
        listed_once = len(self.source) == 3 and self.source[0] == 1
        return listed_once or (len(self.source) < 4 and self.named(_POSITIONS))

    def named(self, pattern: re.Pattern[str]) -> bool:
        """Whether one of its names says so."""
        return any(map(pattern.search, self.names))


def _ways(pair: _Pair) -> Iterator[_Way]:
    again = why_computed_again(pair.names[0].rpartition(".")[2], pair.source)
    if again:
        yield _dropped(again)
    yield from _same_elements(pair)
    yield from _convolution(pair)
    if pair.is_table:
        yield from _positions(pair)
    vocabulary = not pair.is_table and pair.differing == [0] and pair.named(_VOCABULARY)
    if vocabulary:
        yield from _missing_rows(pair)
        yield from _rows(pair, 0)
    yield from _taken(pair)
    if not again:
        yield _dropped()
    if len(pair.differing) == 1 and not vocabulary:
        yield from _missing_rows(pair)
        yield from _rows(pair, pair.differing[0])


def _dropped(why: str = "") -> _Way:
    reason = why or "another shape in the model, which keeps its own"
    said = f"Leave it out: {why or 'the model keeps what it begins with'}."
    return _Way(({"op": "drop", "why": reason},), said)


# The same elements


def _same_elements(pair: _Pair) -> Iterator[_Way]:
    source, target = pair.source, pair.target
    if math.prod(source) != math.prod(target):
        return
    count = f"the same {text.plural(math.prod(source), 'element')}"
    if [size for size in source if size != 1] == [size for size in target if size != 1]:
        yield from _ones(pair)
    elif len(source) == len(target) == 2:
        yield _Way(({"op": "transpose"},), "Transpose: rows become columns.")
    elif sorted(source) == sorted(target):
        for order in permutations_of(source, target):
            said = f"Permute its dimensions to the order {', '.join(map(str, order))}."
            yield _Way(({"op": "permute", "order": order},), said)
    yield _Way(
        ({"op": "reshape", "shape": list(target)},),
        f"Reshape to {text.shape(target)}: {count} in the same order.",
    )


def _ones(pair: _Pair) -> Iterator[_Way]:
    """Dimensions of size 1 that go, or come."""
    more = len(pair.source) - len(pair.target)
    long, short = (pair.source, pair.target) if more > 0 else (pair.target, pair.source)
    dims = [at for at, size in enumerate(long) if size == 1]
    kept = [size for at, size in enumerate(long) if at not in dims[-abs(more) :]]
    if more > 0 and kept == list(short):
        dims = dims[-more:]
        said = f"Take away {text.plural(more, 'dimension')} of size 1."
        yield _Way(({"op": "squeeze", "dims": dims},), said)
    elif more < 0 and kept == list(short):
        steps = tuple([{"op": "unsqueeze", "dim": dim} for dim in dims[more:]])
        yield _Way(steps, f"Add {text.plural(-more, 'dimension')} of size 1.")


# Convolutions


def _convolution(pair: _Pair) -> Iterator[_Way]:
    """Kernels of another size, as of patches; other input channels, as of a stem; or both."""
    differing = pair.differing
    if len(pair.source) < 3 or pair.is_table or not differing or differing[0] == 0 or 0 in pair.source:
        return
    wide = [at for at in differing if at > 1]
    kernels: tuple[Step, ...] = ()
    resized = ""
    if wide:
        old_size, size = pair.source[wide[0] :], pair.target[wide[0] :]
        kernels = ({"op": "resize", "to": list(size), "of": "image"},)
        resized = f"interpolate {text.shape(old_size)} to {text.shape(size)}"
    if 1 not in differing:
        yield _Way(kernels, f"{resized[:1].upper()}{resized[1:]}, as a picture.")
        return
    old, new = pair.source[1], pair.target[1]
    then = f"; {resized}" if resized else ""
    summed = "their sum" if new == 1 else f"in turn, scaled by {old}/{new}"
    adapted = _Way(
        ({"op": "channels", "to": new}, *kernels),
        f"Adapt {text.plural(old, 'input channel')} to {new}: {summed}{then}.",
    )
    padded = _Way(
        ({"op": "rows", "dim": 1, "size": new}, *kernels),
        f"Keep its {text.plural(old, 'input channel')} and add {new - old} of zeros{then}."
        if new > old
        else f"Keep the first{f' {new:,}' if new > 1 else ''} of {old:,} input channels{then}.",
    )
    yield from (adapted, padded) if old <= COLOURS or new < old else (padded, adapted)


# Positions


def _positions(pair: _Pair) -> Iterator[_Way]:
    """A table of positions, of a picture's grid or of a line of text."""
    differing = pair.differing
    if len(differing) != 1 or 0 in pair.source:
        return
    dim = differing[0]
    if len(pair.source) > 1 and dim == len(pair.source) - 1:
        return
    grid, line = list(_grid(pair, dim)), list(_line(pair, dim))
    of_picture = len(pair.source) == 3 or (pair.named(_PICTURES) and not pair.named(_ONE_AXIS))
    yield from (grid or line) if of_picture else (*line, *grid)


def _grid(pair: _Pair, dim: int) -> Iterator[_Way]:
    """A square grid on both sides, behind as many class tokens or others."""
    old, new = pair.source[dim], pair.target[dim]
    for ours, theirs in sorted(
        [(ours, theirs) for ours in CLASS_TOKENS for theirs in CLASS_TOKENS], key=lambda two: abs(two[0] - two[1])
    ):
        side, wanted = _root(old - ours), _root(new - theirs)
        if not side or not wanted:
            continue
        steps: list[Step] = []
        if side != wanted:
            steps.append(_of_grid(pair, dim, {"op": "resize", "to": [wanted, wanted]}, ours))
        tokens = f"; {text.plural(min(ours, theirs), 'class token')} stay{'s' if min(ours, theirs) == 1 else ''}"
        changed = ""
        if ours > theirs:
            steps.append(_along(dim, {"op": "rows", "delete": list(range(theirs, ours))}))
            changed = f"; {text.plural(ours - theirs, 'class token')} go{'es' if ours - theirs == 1 else ''}"
        elif ours < theirs:
            steps.append(_along(dim, {"op": "rows", "pad": theirs - ours, "at": ours}))
            changed = f"; {text.plural(theirs - ours, 'class token')} of zeros come{'s' if theirs - ours == 1 else ''}"
        said = f"Interpolate the grid from {side}×{side} to {wanted}×{wanted}" if side != wanted else "Keep the grid"
        yield _Way(tuple(steps), f"{said}{tokens if min(ours, theirs) else ''}{changed}.")
        return


def _of_grid(pair: _Pair, dim: int, step: Step, prefix: int) -> Step:
    """The step with the dimension of the places, where that is not the last but one, and the class tokens."""
    last_but_one = dim == len(pair.source) - 2
    return step | ({} if last_but_one else {"dim": dim}) | ({"prefix": prefix} if prefix else {})


def _along(dim: int, step: Step) -> Step:
    return step | ({"dim": dim} if dim else {})


def _root(places: int) -> int:
    """The side of a square grid, 0 where it is none: of one place nothing can be interpolated."""
    side = math.isqrt(places) if places > 1 else 0
    return side if side * side == places else 0


def _line(pair: _Pair, dim: int) -> Iterator[_Way]:
    """Positions one after the other: the first of them, or all interpolated."""
    old, new = pair.source[dim], pair.target[dim]
    if new < old:
        yield from _rows(pair, dim)
    if dim == len(pair.source) - 2:
        yield _Way(
            (_of_grid(pair, dim, {"op": "resize", "to": [new]}, 0),),
            f"Interpolate {text.plural(old, 'place')} of a line to {new:,}.",
        )


# Rows

_FILLS = (("mean", "the mean of the others"), ("zeros", "zeros"), ("copy:0", "copies of the first"))
"""What new rows hold; of input features only zeros leave alone what comes out."""


def _rows(pair: _Pair, dim: int) -> Iterator[_Way]:
    """The first places along a dimension, or all and more."""
    old, new = pair.source[dim], pair.target[dim]
    step = _along(dim, {"op": "rows", "size": new})
    what = "row" if dim == 0 else "place"
    if new < old:
        yield _Way((step,), f"Keep the first {new:,} of {text.plural(old, what)}.")
        return
    for fill, said in _FILLS if dim == 0 or pair.is_table else [fill for fill in _FILLS if fill[0] == "zeros"]:
        added = f"Keep its {text.plural(old, what)} and add {new - old:,}: {said}."
        yield _Way((step if fill == "zeros" else step | {"fill": fill},), added)


def _missing_rows(pair: _Pair) -> Iterator[_Way]:
    if pair.other is not None and pair.differing == [0] and pair.source[0] < pair.target[0]:
        more = pair.target[0] - pair.source[0]
        said = f"Keep its {text.plural(pair.source[0], 'row')} and take {more:,} from {file_named(pair.other.path)}."
        yield _Way((_take(pair, pair.other) | {"rows": "missing"},), said)


def _taken(pair: _Pair) -> Iterator[_Way]:
    if pair.other is not None:
        yield _Way((_take(pair, pair.other),), f"Take all of it from {file_named(pair.other.path)}.")


def _take(pair: _Pair, other: OtherTensor) -> Step:
    step: Step = {"op": "take", "from": other.path, "keys": [literal_pattern(other.key)]}
    if other.state_dict != AUTO:
        step["state_dict"] = other.state_dict
    key = pair.names[0]
    return step if other.key == key else step | {"to": [list(literal_rule(other.key, key))]}
