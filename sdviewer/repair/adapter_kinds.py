"""The kinds of adapters: the keys of each, and what its factors make of a weight.

An adapter changes a weight W, seen as a matrix `(out_features, in_features times the kernel)`, into W + s D, where s is
alpha over the rank. D is a matrix or what is made of two; a matrix stands whole in the file or as the product of two
factors, with a third one, `(rank, rank, *kernel)`, between them (Tucker). Lengths (DoRA) may stand beside each kind:
then every row of W + s D, or every column, is brought to its length.

Facts: PEFT `tuners/lora/layer.py` and `dora.py` (LoRA, also of embeddings; lengths are those of the rows),
`tuners/loha/layer.py`, `tuners/lokr/layer.py` (the scale is alpha / r there, also of whole matrices). LyCORIS
`modules/locon.py`, `loha.py`, `lokr.py` (whole matrices are not scaled) and `functional/general.py` (the Tucker
product; lengths are those of the columns, with `wd_on_out` of the rows; the eps that it adds to a norm is left out
here). kohya-ss sd-scripts `networks/lora.py`, `loha.py`, `lokr.py`: as LyCORIS.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Matrix(NamedTuple):
    """One matrix of an adapter, by the names of its parts: `whole`, or `left @ right`, or these and what is between.

    `left` is `(rows, rank)`, where something is `between` and it `turns` `(rank, rows)`; `right` is `(rank, columns)`.
    """

    left: str
    right: str
    between: str = ""
    whole: str = ""
    turns: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """All names that it can have, in the order in which they are multiplied."""
        return tuple(filter(None, (self.whole, self.left, self.between, self.right)))

    def is_told(self, names: Mapping[str, object]) -> bool:
        """Whether these are there: the whole one alone, or both factors."""
        factors = [name in names for name in (self.left, self.right, self.between)]
        return not any(factors) if self.whole in names else all(factors[:2])


class Kind(NamedTuple):
    """A kind of adapter: its matrices, and how two of them are `joined` (element by element, Kronecker product).

    `turned`: it is for weights that lie as `(in_features, out_features)`.
    """

    name: str
    matrices: tuple[Matrix, ...]
    joined: str = ""
    turned: bool = False


KINDS = (
    Kind("LoRA", (Matrix("up", "down", "mid"),)),
    Kind("LoRA", (Matrix("embedding_B", "embedding_A"),), turned=True),
    Kind(
        "LoHa",
        (
            Matrix("hada_w1_a", "hada_w1_b", "hada_t1", turns=True),
            Matrix("hada_w2_a", "hada_w2_b", "hada_t2", turns=True),
        ),
        "times",
    ),
    Kind(
        "LoKr",
        (
            Matrix("lokr_w1_a", "lokr_w1_b", whole="lokr_w1"),
            Matrix("lokr_w2_a", "lokr_w2_b", "lokr_t2", "lokr_w2", turns=True),
        ),
        "kron",
    ),
)

LENGTHS = ("magnitude", "dora_scale")
"""The lengths of the rows (PEFT), and those of which the shape says whether they are of rows or columns (LyCORIS)."""

BESIDE = (*LENGTHS, "alpha")
"""What may stand beside the factors of each kind."""

PARTS = (*[part for kind in KINDS for matrix in kind.matrices for part in matrix.parts], *BESIDE)
"""All parts of all kinds, in the order in which they are given to what computes with them."""

KEY = re.compile(
    r"(?P<layer>.*?)\.(?:"
    r"lora_(?P<peft>A|B)(?:\.(?P<peft_name>[^.]+))?\.weight"
    r"|(?:lora_|lora\.|lora_linear_layer\.)(?P<kohya>down|up)\.weight|lora_(?P<between>mid)\.weight"
    r"|lora_(?P<embedding>embedding_[AB])(?:\.(?P<embedding_name>[^.]+))?"
    r"|lora_(?P<lengths>magnitude)_vector(?:\.(?P<lengths_name>[^.]+))??(?:\.weight)?"
    r"|(?P<lycoris>(?:hada|lokr)_\w+)(?:\.(?P<lycoris_name>[^.]+))?"
    r"|(?P<beside>dora_scale|alpha))"
)
"""A key of an adapter. PEFT writes the name of the adapter into the keys of a model, and not into those of a file."""

PEFT = {"A": "down", "B": "up"}
"""PEFT's names for factors."""


class Part(NamedTuple):
    """What a key of an adapter is: of which layer, of which adapter where several have names, and what of it."""

    layer: str
    name: str
    part: str


def part_of(key: str) -> Part | None:
    """What a key of an adapter is, None for any other key."""
    match = KEY.fullmatch(key)
    if match is None:
        return None
    groups = match.groupdict("")
    name = groups["peft_name"] or groups["embedding_name"] or groups["lengths_name"] or groups["lycoris_name"]
    part = PEFT.get(groups["peft"], "") or groups["kohya"] or groups["between"] or groups["embedding"]
    return Part(groups["layer"], name, part or groups["lengths"] or groups["lycoris"] or groups["beside"])


class AdapterKeys(NamedTuple):
    """One adapter of one layer: its keys by their parts. `kind` is None where these make none up."""

    layer: str
    kind: Kind | None
    keys: Mapping[str, str]

    @property
    def title(self) -> str:
        """What people call it."""
        named = "" if self.kind is None else self.kind.name
        return "DoRA" if named == "LoRA" and has_lengths(self.keys) else named


def adapters(keys: Sequence[str]) -> Iterator[AdapterKeys]:
    """The adapters that these keys are of, in the order of their first keys."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    alphas: dict[str, str] = {}
    for key in keys:
        what = part_of(key)
        if what is None:
            continue
        if what.part == "alpha":
            alphas[what.layer] = key
            continue
        parts = found.setdefault((what.layer, what.name), {})
        # (two keys that would be one part are those of no kind)
        parts[key if what.part in parts else what.part] = key
    for (layer, _), parts in found.items():
        if layer in alphas:
            parts["alpha"] = alphas[layer]
        yield AdapterKeys(layer, kind_of(parts), parts)


def kind_of(parts: Mapping[str, object]) -> Kind | None:
    """The kind that has these parts, all that it needs and no others."""
    if all(part in parts for part in LENGTHS):
        return None
    for kind in KINDS:
        names = {part for matrix in kind.matrices for part in matrix.parts}
        if names.issuperset([part for part in parts if part not in BESIDE]):
            return kind if all(matrix.is_told(parts) for matrix in kind.matrices) else None
    return None


def add_numbered(parts: dict[int, int], adapter: Mapping[str, int]) -> None:
    """Take the parts of an adapter behind those that there are, each by the number that it has of `PARTS`."""
    first = 1 + math.ceil(max(parts) / len(PARTS)) * len(PARTS)
    parts.update({first + PARTS.index(part): place for part, place in adapter.items()})


def in_turn(parts: Mapping[int, T]) -> list[dict[str, T]]:
    """The parts of each adapter by their names, in the order of `PARTS`; number 0, the weight, is none."""
    found: dict[int, dict[str, T]] = {}
    for number in sorted(parts.keys() - {0}):
        which, part = divmod(number - 1, len(PARTS))
        found.setdefault(which, {})[PARTS[part]] = parts[number]
    return list(found.values())


class View(NamedTuple):
    """A weight as `(out_features, in_features, *kernel)`; `turned`: it lies the other way round."""

    out: int
    inner: tuple[int, ...]
    turned: bool


def view_of(kind: Kind, weight: Sequence[int], transposed: bool) -> View | None:
    """How an adapter of a kind sees a weight, which may lie `transposed`; None where it cannot be for it."""
    turned = kind.turned or transposed
    if len(weight) < 2 or (turned and len(weight) > 2):
        return None
    return View(weight[1], (weight[0],), True) if turned else View(weight[0], tuple(weight[1:]), False)


def fits(kind: Kind, shapes: Mapping[str, Sequence[int]], view: View | None) -> bool:
    """Whether what the parts make, by their shapes, is of the shape of the weight."""
    made = [matrix_shape(matrix, shapes) for matrix in kind.matrices]
    if view is None or None in made:
        return False
    wanted = (view.out, math.prod(view.inner))
    if kind.joined == "kron":
        return tuple([math.prod(sizes) for sizes in zip(*filter(None, made), strict=True)]) == wanted
    return all(one == wanted for one in made)


def matrix_shape(matrix: Matrix, shapes: Mapping[str, Sequence[int]]) -> tuple[int, int] | None:
    """The rows and columns of a matrix by the shapes of its parts; None where they do not fit together."""
    if any(len(shapes[part]) < 2 for part in matrix.parts if part in shapes):
        return None
    if matrix.whole in shapes:
        whole = shapes[matrix.whole]
        return whole[0], math.prod(whole[1:])
    left, right, between = shapes[matrix.left], shapes[matrix.right], shapes.get(matrix.between)
    rows, rank = (left[1], left[0]) if between is not None and matrix.turns else (left[0], left[1])
    kernel = 1
    if between is not None:
        if (rank, right[0]) != tuple(between[:2]) or math.prod(right[2:]) != 1:
            return None
        rank, kernel = right[0], math.prod(between[2:])
    fitting = rank == right[0] > 0 and math.prod(left[2:]) == 1
    return (rows, math.prod(right[1:]) * kernel) if fitting else None


def rank_of(kind: Kind, shapes: Mapping[str, Sequence[int]]) -> int | None:
    """The rank that alpha is divided by; None where the parts do not tell it."""
    return next((shapes[matrix.right][0] for matrix in kind.matrices if matrix.right in shapes), None)


def misfit(kind: Kind, shapes: Mapping[str, Sequence[int]], weight: Sequence[int], transposed: bool) -> str:
    """What keeps an adapter from being merged into a weight: its "alpha", its "factors", its "lengths", or nothing."""
    view = view_of(kind, weight, transposed)
    if math.prod(shapes.get("alpha", ())) != 1:
        return "alpha"
    if view is None or not fits(kind, shapes, view):
        return "factors"
    return "lengths" if has_lengths(shapes) and lengths_axis(shapes, view) is None else ""


def tells_rank(kind: Kind, parts: Mapping[str, object]) -> bool:
    """Whether one of the matrices is of factors, so that the parts tell a rank."""
    return any(matrix.right in parts for matrix in kind.matrices)


def is_guess(shapes: Mapping[str, Sequence[int]], alpha: float | None, rank: int | None) -> bool:
    """Whether nothing says how much of an adapter is added; `alpha` and `rank` as for `change_by`."""
    kind = kind_of(shapes)
    is_scaled = alpha is not None and (rank is not None or (kind is not None and tells_rank(kind, shapes)))
    return "alpha" not in shapes and not is_scaled


def has_lengths(parts: Mapping[str, object]) -> bool:
    """Whether lengths stand beside the factors."""
    return any(part in parts for part in LENGTHS)


def lengths_axis(shapes: Mapping[str, Sequence[int]], view: View) -> int | None:
    """0 where lengths are those of the rows of a weight, 1 where of its columns; None where their shape tells neither.

    A column is all that stands behind one of the `in_features`. Lengths of PEFT are always those of rows, `(out,)` or
    `(1, out, 1, 1)`. Those of LyCORIS lie as in the weight, `(out, 1)` or `(1, in)`; of a list how long it is tells it,
    but for a square.
    """
    sizes = (view.out, view.inner[0])
    if LENGTHS[0] in shapes:
        shape = shapes[LENGTHS[0]]
        return 0 if view.out == math.prod(shape) == max(shape, default=0) else None
    shape = shapes[LENGTHS[1]]
    if len(shape) == 1:
        return None if sizes[0] == sizes[1] else sizes.index(shape[0]) if shape[0] in sizes else None
    return next((axis for axis in (0, 1) if len(shape) > axis and shape[axis] == sizes[axis] == math.prod(shape)), None)


class Change(NamedTuple):
    """What an adapter makes of a weight: `parts` are those that it has, in the order in which they are given.

    D is multiplied by `factor` and, where it is `scaled`, by the alpha among the parts. `axis`: that of the lengths.
    """

    kind: Kind
    parts: tuple[str, ...]
    factor: float
    scaled: bool
    axis: int | None
    turned: bool


def change_by(
    kind: Kind,
    shapes: Mapping[str, Sequence[int]],
    weight: Sequence[int],
    transposed: bool,
    scale: float,
    alpha: float | None,
    rank: int | None,
) -> Change:
    """What an adapter that fits makes of a weight.

    `alpha` is of adapters without a number beside them, and `rank` of those whose parts do not tell it: only with both
    are these scaled by more than `scale`.
    """
    view = view_of(kind, weight, transposed)
    assert view is not None, "it fits"
    own = rank_of(kind, shapes)
    scaled = "alpha" in shapes and own is not None
    known, over = (alpha, own or rank) if "alpha" not in shapes else (1.0, own)
    factor = scale if known is None or over is None else scale * known / over
    axis = lengths_axis(shapes, view) if has_lengths(shapes) else None
    return Change(kind, tuple([part for part in PARTS if part in shapes]), factor, scaled, axis, view.turned)
