"""The result of a recipe on a checkpoint: known before any byte moves.

`formats.save` carries a plan out; the window and `repair --dry-run` show it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.paths import KeyPath
from sdviewer.repair.transforms import Taken, Transform


class Kept(NamedTuple):
    """Expression: entry number `entry` of the source state dict, its bytes untouched."""

    entry: int


@dataclass(frozen=True, slots=True)
class Computed:
    """Expression: what `transform` makes of `inputs`, a contiguous tensor of this shape and dtype.

    Equal expressions are one tensor, so what was tied stays tied.
    """

    transform: Transform
    inputs: tuple[Expression, ...]
    shape: tuple[int, ...]
    dtype: str


Expression: TypeAlias = "Kept | Computed"


class Target(NamedTuple):
    """One entry of the result: its key and where its value comes from."""

    key: str
    value: Expression

    @property
    def entry(self) -> int | None:
        """The source entry whose bytes it keeps, None where its value is computed."""
        return self.value.entry if isinstance(self.value, Kept) else None


def sources(value: Expression, *, read: bool = False) -> Iterator[int]:
    """The source entries that an expression is made of, in the order of its inputs; one may come again.

    What it only stands in the place of counts too, unless only those are wanted whose numbers are `read`.
    """
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, Kept):
            yield one.entry
        elif one.transform.reads or not read:
            todo.extend(reversed(one.inputs))


def shifted(value: Expression, by: int) -> Expression:
    """The same expression over entries that stand `by` places further on."""
    around = []
    while isinstance(value, Computed) and len(value.inputs) == 1:  # (of edits there may be thousands)
        around.append(value)
        (value,) = value.inputs
    made: Expression
    if isinstance(value, Kept):
        made = Kept(value.entry + by)
    else:
        made = replace(value, inputs=tuple([shifted(one, by) for one in value.inputs]))
    for one in reversed(around):
        made = replace(one, inputs=(made,))
    return made


def taken(value: Expression) -> Iterator[Taken]:
    """The tensors of other files that an expression is made of."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, Computed):
            if isinstance(one.transform, Taken):
                yield one.transform
            else:
                todo.extend(reversed(one.inputs))


class OptimizerChange(NamedTuple):
    """What becomes of the parameters of one optimizer, `optimizer` being its index in `Checkpoint.state_dicts`.

    `numbers` are the old numbers and the new ones, None for a parameter that goes; `names` the old `param_names` that
    change and their new ones.
    """

    optimizer: int
    numbers: Mapping[int, int | None]
    names: Mapping[str, str]


class PlanWarning(NamedTuple):
    """Something a person should know before saving; `keys` are the first few it is about."""

    code: str
    keys: tuple[str, ...]
    message: str


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step of the recipe did: how many keys it matched and changed, which of its rules matched nothing."""

    op: str
    text: str
    enabled: bool
    matched: int
    changed: int
    dead_rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe makes of one state dict.

    `state_dict` is the index into `Checkpoint.state_dicts` that the steps see, or None for a recipe without steps on a
    checkpoint without one, or with several. `targets` are the entries of the result in their order. `dropped` are the
    indexes of the source entries that nothing of the result is made of, `would_be` the keys that those would have which
    a step on keys dropped, had it not. `unwrap`: the state dict becomes the root;
    `keep_rest`: with the other entries of the root beside it. `left_out` are dotted paths outside the state dict that
    an unwrap or `drop_objects` leaves out. `modules` maps each `_metadata` path that changes to its new one, None where
    it goes. `reasons` are the notes of the steps that dropped a source entry, where they have one. `drop_objects`: what
    torch's own list of names lacks is left out of the whole file; the format knows what that is
    (`formats.torch_clean`). `values` are plain values of the file that change, `removed` the paths outside the state
    dict that go, `wrap` the key under which the root is put, `optimizers` what follows the keys, `metadata` the
    entries of a safetensors file's text that change: the new text, None where one goes. `extract`: the state dict is a
    pickled module's, and becomes a mapping of its own and the root (with `unwrap`). `others` are the checkpoints that
    tensors are taken from, by their paths. `collisions` are keys that the last step gives to several targets, and
    `before` the key that each target had before that step: only in a plan made to be looked at, never to be saved.
    """

    state_dict: int | None
    targets: tuple[Target, ...] = ()
    dropped: tuple[int, ...] = ()
    would_be: Mapping[int, str] = field(default_factory=dict)
    unwrap: bool = False
    keep_rest: bool = False
    left_out: tuple[str, ...] = ()
    modules: Mapping[str, str | None] = field(default_factory=dict)
    steps: tuple[StepReport, ...] = ()
    warnings: tuple[PlanWarning, ...] = ()
    reasons: Mapping[int, str] = field(default_factory=dict)
    drop_objects: bool = False
    extract: bool = False
    values: Mapping[KeyPath, bool | int | float | str | None] = field(default_factory=dict)
    removed: tuple[KeyPath, ...] = ()
    wrap: str = ""
    optimizers: tuple[OptimizerChange, ...] = ()
    metadata: Mapping[str, str | None] = field(default_factory=dict)
    others: Mapping[str, Checkpoint] = field(default_factory=dict)
    collisions: tuple[str, ...] = ()
    before: tuple[str, ...] = ()

    @property
    def changes_file(self) -> bool:
        """Whether it changes more of a pickle than the state dict, its versions and its place."""
        return bool(self.drop_objects or self.values or self.removed or self.wrap or self.optimizers)

    @property
    def computes(self) -> bool:
        """Whether it is more than names: a value is computed, or stands under two keys."""
        kept = [target.entry for target in self.targets]
        return None in kept or len(set(kept)) != len(kept)


def warnings_of_all(of_each: Sequence[Sequence[PlanWarning]]) -> list[PlanWarning]:
    """What is said of any of several plans of one recipe; a rule is dead that matches nothing in all of them."""
    found = dict.fromkeys([warning for warnings in of_each for warning in warnings])
    return [one for one in found if one.code != "dead_rule" or all(one in warnings for warnings in of_each)]
