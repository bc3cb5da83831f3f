"""What can be done about a key of the model that the file has not, for it alone and for all that are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from sdviewer.core.dtypes import DTYPES
from sdviewer.core.key_table import ASSUMED_DTYPE
from sdviewer.engine.fit_choices import Other, RowChoice
from sdviewer.engine.fitted import Fitted
from sdviewer.repair.matching.names import role_of
from sdviewer.repair.matching.words import ROLES
from sdviewer.repair.operations.add import NORMAL
from sdviewer.repair.operations.cast import TARGETS
from sdviewer.repair.patterns import literal_pattern
from sdviewer.repair.scope import MOST_KEYS
from sdviewer.repair.state_dicts import AUTO
from sdviewer.repair.wording import file_named

Step = dict[str, Any]
Steps = Callable[[Sequence[int]], tuple[Step, ...]]
"""Makes the steps for the keys of the target at some places."""

STD: Final = 0.02
"""Of new weights: what transformers' `initializer_range` is by default."""

ZEROS, ONES = "zeros", "ones"
_ONES: Final = frozenset({"running_var", "weight_g"})


def missing_choices(fitted: Fitted, wanted: int, other: Other, settled: Collection[int] = ()) -> tuple[RowChoice, ...]:
    """The choices for the missing key at `wanted`, the likeliest first; to leave it to the model is always one.

    `settled` are places in the target for which something better is known: there are none for these.
    """
    missing = [at for at, status in enumerate(fitted.status) if status == "missing" and at not in settled]
    if wanted not in missing:
        return ()
    others = [at for at in missing if at != wanted][: MOST_KEYS - 1]
    found = []
    if (tensor := other(wanted)) is not None:
        found.append(_choice(f"Take it from {file_named(tensor.path)}.", wanted, others, _taken(fitted, other)))
    shapes = fitted.target.table.shapes
    if shapes[wanted] is not None:
        known = [at for at in others if shapes[at] is not None]
        begins = _begins(fitted, wanted)
        found.append(_choice(f"Add it new: {_SAID[begins]}.", wanted, known, _added(fitted)))
        if begins != ZEROS:
            found.append(_choice("Add it new: zeros.", wanted, known, _added(fitted, ZEROS)))
    names = [literal_pattern(fitted.target.table.keys[at]) for at in (wanted, *others)]
    left = "Leave it to the model, which begins with it anew (strict=False)."
    return *found, RowChoice(left, (), len(others), (), allow=(names[0],), allow_for_all=tuple(names))


_SAID: Final = {NORMAL: f"drawn at random, std {STD}", ZEROS: "zeros", ONES: "ones"}


def _choice(words: str, wanted: int, others: Sequence[int], steps: Steps) -> RowChoice:
    return RowChoice(words, steps([wanted]), len(others), steps([wanted, *others]))


def _taken(fitted: Fitted, other: Other) -> Steps:
    """The step that takes tensors of the target."""

    def steps(places: Sequence[int]) -> tuple[Step, ...]:
        tensors = [found for at in places if (found := other(at)) is not None]
        step: Step = {"op": "take", "from": tensors[0].path, "keys": [literal_pattern(one.key) for one in tensors]}
        return (step if tensors[0].state_dict == AUTO else step | {"state_dict": tensors[0].state_dict},)

    return steps


def _added(fitted: Fitted, fill: str = "") -> Steps:
    """The steps that add tensors, filled as layers of their kind begin unless `fill` says otherwise."""
    floats = Counter([entry.dtype for entry in fitted.entries if _is_float(entry.dtype) and _is_wide(entry.dtype)])
    common = floats.most_common(1)[0][0] if floats else ASSUMED_DTYPE
    table = fitted.target.table

    def steps(places: Sequence[int]) -> tuple[Step, ...]:
        made = []
        for at in places:
            dtype = table.dtypes[at]
            dtype = common if not dtype or _is_float(dtype) else dtype
            filled = fill or _begins(fitted, at)
            step: Step = {"op": "add", "key": table.keys[at], "fill": filled, "shape": list(table.shapes[at] or ())}
            step |= {"dtype": dtype} if dtype in TARGETS else {}
            made.append(step | ({"std": STD} if filled == NORMAL else {}))
        return tuple(made)

    return steps


def _begins(fitted: Fitted, at: int) -> str:
    """How a layer of its kind begins: a weight of more than one dimension at random, that of a norm with ones.

    A vector that is called nothing known begins with zeros.
    """
    table = fitted.target.table
    parts, shape, dtype = table.keys[at].split("."), table.shapes[at] or (), table.dtypes[at]
    role = role_of(parts)
    if dtype and not _is_float(dtype):
        return ZEROS
    if role in _ONES or (ROLES.get(parts[-1]) == "weight" and len(shape) == 1):
        return ONES
    return NORMAL if role == "weight" and len(shape) > 1 else ZEROS


def _is_float(dtype: str) -> bool:
    return dtype in DTYPES and DTYPES[dtype].kind == "float"


def _is_wide(dtype: str) -> bool:
    """Whether it is one to train in, and no quantised one."""
    return DTYPES[dtype].itemsize > 1
