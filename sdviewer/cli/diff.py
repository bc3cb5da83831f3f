"""`sdviewer diff A B`: which tensors pair, which differ and by how much."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdviewer.cli.output import print_json, print_line, progress_for, table
from sdviewer.cli.repair import recipe_text
from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, TensorInfo
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.pairing import MATCHES, Pair, Side, pair_up, side_of_state_dict, statuses
from sdviewer.core.paths import to_json
from sdviewer.core.tree import value_text
from sdviewer.core.value_diff import ValueDifference, value_differences
from sdviewer.errors import UsageError
from sdviewer.repair.state_dicts import choose_state_dict

if TYPE_CHECKING:
    from sdviewer.engine.comparing import Refusal, Tensors
    from sdviewer.stats.table import Columns

NAME = "diff"
HELP = "how two checkpoints differ: keys, shapes, types and values"

STATUSES = ("identical", "close", "changed", "shape", "dtype", "only_a", "only_b")
NUMBERS = ("max_abs", "mean_abs", "rel_l2", "cosine", "changed_share")
HEAD = ("", "key", "shape", "type", "‖B−A‖/‖A‖", "cosine", "max |B−A|", "")
DIFFERENT = 1
"""Exit code with `--exit-code`."""


def add_arguments(parser: ArgumentParser) -> None:
    """A, B, how to pair their keys, what is close."""
    parser.add_argument("a", metavar="A")
    parser.add_argument("b", metavar="B")
    parser.add_argument(
        "--match",
        choices=MATCHES,
        default="key",
        help="equal keys (the default); after one prefix exchange; or all that finds a partner",
    )
    parser.add_argument("--map", metavar="RECIPE", help="a recipe that is applied to A first; - reads it from stdin")
    parser.add_argument("--atol", type=_tolerance, metavar="X", help="close: |b - a| <= atol + rtol |a|")
    parser.add_argument("--rtol", type=_tolerance, metavar="X")
    parser.add_argument("--keys-only", action="store_true", help="compare keys, shapes and types; read no values")
    parser.add_argument("--exit-code", action="store_true", help="1 unless all is identical or close")
    parser.add_argument("--state-dict", metavar="DOTTED", help="the state dict of A")
    parser.add_argument("--state-dict-b", metavar="DOTTED", help="the state dict of B")
    parser.add_argument("--json", action="store_true")


def _tolerance(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise ArgumentTypeError(f"{text.visible(word, 40)} is no number from 0 up")
    return number


@dataclass(frozen=True, slots=True)
class _Compared:
    """The rows of the answer: pairs with their words, the columns of those that were measured by their places."""

    a: Tensors
    b: Tensors
    side_a: Side
    side_b: Side
    pairs: tuple[Pair, ...]
    words: list[str]
    places: dict[int, int]
    columns: Columns
    refusals: dict[int, Refusal]
    values: list[ValueDifference]


def run(arguments: Namespace) -> int:
    """Pair the keys, compare, print a line a pair."""
    found = _compare(arguments)
    counts = Counter(found.words)
    summary = {status: counts[status] for status in STATUSES} | {"values_changed": len(found.values)}
    if arguments.json:
        print_json(_as_json(found, summary, arguments.keys_only))
    else:
        for line in _as_text(found, summary, arguments.keys_only):
            print_line(line)
    same = not found.values and all(word in ("identical", "close") for word in found.words)
    return DIFFERENT if arguments.exit_code and not same else 0


def _compare(arguments: Namespace) -> _Compared:
    from sdviewer.engine.comparing import compare_pairs, contents_of
    from sdviewer.stats.pair_kernels import WORTH
    from sdviewer.stats.pair_sums import tolerance_of
    from sdviewer.stats.pair_table import STATUSES as WORDS
    from sdviewer.stats.pair_table import none_compared
    from sdviewer.stats.sweep import THREADS

    if arguments.keys_only and (arguments.atol is not None or arguments.rtol is not None):
        raise UsageError("--keys-only reads no values, so nothing can be close", remedy="Leave --atol and --rtol out.")
    (a, side_a), (b, side_b) = _side_a(arguments), _side_b(arguments)
    contents = None if arguments.keys_only else contents_of(a, side_a, b, side_b, progress_for(arguments, "Matching"))
    by_parameter = arguments.match != "key"
    pairing = pair_up(side_a, side_b, arguments.match, by_parameter=by_parameter, contents=contents)
    words = statuses(side_a, side_b, pairing.pairs)
    values = [] if arguments.keys_only else value_differences(a.checkpoint.values, b.checkpoint.values)
    if arguments.keys_only:
        words = [word or "identical" for word in words]
        return _Compared(a, b, side_a, side_b, pairing.pairs, words, {}, none_compared(0), {}, values)
    measured = [row for row, word in enumerate(words) if word in ("", "dtype")]
    indices = [(side_a.tensors[pairing.pairs[row].a], side_b.tensors[pairing.pairs[row].b]) for row in measured]
    columns, refused = compare_pairs(
        a,
        b,
        indices,
        tolerance_of(arguments.atol, arguments.rtol),
        compiled=sum(a[i].nbytes for i, _ in indices) >= WORTH,
        threads=THREADS,
        progress=progress_for(arguments, "Comparing"),
    )
    for row, code in zip(measured, columns["status"].tolist(), strict=True):
        # What cannot be read is not known to be the same.
        words[row] = words[row] or WORDS[code] or "changed"
    places = {row: place for place, row in enumerate(measured)}
    refusals = {measured[refusal.place]: refusal for refusal in refused}
    return _Compared(a, b, side_a, side_b, pairing.pairs, words, places, columns, refusals, values)


def _side_a(arguments: Namespace) -> tuple[Tensors, Side]:
    """A, as the recipe makes it."""
    from sdviewer.engine.comparing import Tensors
    from sdviewer.formats import open_checkpoint

    recipe = None
    if arguments.map is not None:
        from sdviewer.repair.planning import make_plan
        from sdviewer.repair.recipe import parse_recipe

        recipe = parse_recipe(recipe_text(arguments.map), path=arguments.map)
    checkpoint = open_checkpoint(arguments.a, progress=progress_for(arguments, "Reading A"))
    if recipe is None:
        return _as_it_is(checkpoint, arguments.state_dict)
    plan = make_plan(recipe, checkpoint, state_dict=arguments.state_dict, tensors_alone=True)
    index = choose_state_dict(checkpoint, arguments.state_dict) if plan.state_dict is None else plan.state_dict
    tensors = Tensors(checkpoint, plan)
    return tensors, side_of_state_dict(tensors.checkpoint, index, tensors.keys.get(index))


def _as_it_is(checkpoint: Checkpoint, state_dict: str | None) -> tuple[Tensors, Side]:
    from sdviewer.engine.comparing import Tensors

    return Tensors(checkpoint), side_of_state_dict(checkpoint, choose_state_dict(checkpoint, state_dict))


def _side_b(arguments: Namespace) -> tuple[Tensors, Side]:
    from sdviewer.formats import open_checkpoint

    checkpoint = open_checkpoint(arguments.b, progress=progress_for(arguments, "Reading B"))
    return _as_it_is(checkpoint, arguments.state_dict_b)


def _as_json(found: _Compared, summary: dict[str, int], keys_only: bool) -> dict[str, Any]:
    """The document of `docs/cli.md`."""
    return {
        "summary": summary,
        "keys_only": keys_only,
        "pairs": [_row(found, row) for row in range(len(found.pairs))],
        "values": [
            {
                "dotted": one.dotted,
                "a": None if one.a is None else one.a.value,
                "b": None if one.b is None else one.b.value,
                "only": _only(one),
            }
            for one in found.values
        ],
        "problems": [
            {
                "severity": "warning",
                "code": refusal.error.code,
                "message": refusal.error.message,
                "where": _key(found, row),
            }
            for row, refusal in found.refusals.items()
        ],
    }


def _only(one: ValueDifference) -> str | None:
    return "b" if one.a is None else "a" if one.b is None else None


def _key(found: _Compared, row: int) -> str:
    pair = found.pairs[row]
    return found.side_a.keys[pair.a] if pair.a >= 0 else found.side_b.keys[pair.b]


def _infos(found: _Compared, row: int) -> tuple[TensorInfo | None, TensorInfo | None]:
    """The tensor of either side."""
    pair = found.pairs[row]
    return (
        None if pair.a < 0 else found.a[found.side_a.tensors[pair.a]],
        None if pair.b < 0 else found.b[found.side_b.tensors[pair.b]],
    )


def _row(found: _Compared, row: int) -> dict[str, Any]:
    pair, infos = found.pairs[row], _infos(found, row)
    keys = (found.side_a.keys[pair.a] if pair.a >= 0 else None, found.side_b.keys[pair.b] if pair.b >= 0 else None)

    def both(name: str, values: Iterable[Any]) -> dict[str, Any]:
        return {name.format(side): value for side, value in zip("ab", values, strict=True)}

    return {
        **both("{}", [info and to_json(info.path) for info in infos]),
        **both("key_{}", keys),
        "status": found.words[row],
        **both("shape_{}", [info and list(info.shape) for info in infos]),
        **both("dtype_{}", [info and info.dtype for info in infos]),
        **_numbers(found, row),
        "matched_by": pair.by or None,
    }


def _numbers(found: _Compared, row: int) -> dict[str, Any]:
    """The metrics of a pair, all null where it was not measured."""
    from sdviewer.stats.pair_table import CASTS
    from sdviewer.stats.table import KNOWN

    place = found.places.get(row)
    if place is None or found.columns["state"][place] != KNOWN:
        return dict.fromkeys((*NUMBERS[:1], "max_at", *NUMBERS[1:], "nonfinite_differs", "sign_flips", "cast"))
    numbers = {name: None if math.isnan(x := float(found.columns[name][place])) else x for name in NUMBERS}
    flips = int(found.columns["sign_flips"][place])
    return {
        "max_abs": numbers["max_abs"],
        "max_at": _index(found, row, int(found.columns["max_at"][place])),
        **numbers,
        "nonfinite_differs": bool(found.columns["nonfinite_differs"][place]),
        "sign_flips": None if flips < 0 else flips,
        "cast": CASTS[found.columns["cast"][place]] or None,
    }


def _index(found: _Compared, row: int, at: int) -> list[int] | None:
    """A position in row-major order as an index; where values share a byte, their own number in the last dimension."""
    info, _ = _infos(found, row)
    if at < 0 or info is None:
        return None
    shape = list(info.shape)
    per_byte = DTYPES[info.dtype].per_byte if info.dtype in DTYPES else 1
    if shape:
        shape[-1] *= per_byte
    index = []
    for size in reversed(shape):
        at, place = divmod(at, size)
        index.append(place)
    return index[::-1]


def _as_text(found: _Compared, summary: dict[str, int], keys_only: bool) -> list[str]:
    """The same for people: one line a pair, one a value, the sum."""
    rows = [_line(found, row, keys_only) for row in range(len(found.pairs))]
    lines = table([HEAD, *rows], right=(4, 5, 6)) if rows else []
    for one in found.values:
        name = text.visible(one.dotted, 200)
        a, b = ("–" if info is None else value_text(info.value, 80) for info in (one.a, one.b))
        only = _only(one)
        lines.append(
            f"value      {name}: " + (f"only in {only.upper()}: {b if only == 'b' else a}" if only else f"{a} → {b}")
        )
    lines += [
        f"warning: {text.visible(_key(found, row), 200)}: {text.visible(refusal.error.message)}"
        for row, refusal in found.refusals.items()
    ]
    words = {"shape": "shape differs", "dtype": "type differs", "only_a": "only in A", "only_b": "only in B"}
    counts = [f"{summary[word]:,} {words.get(word, word)}" for word in STATUSES if summary[word]]
    if keys_only and summary["identical"]:
        counts[0] = f"{summary['identical']:,} equal in key, shape and type"
    if summary["values_changed"]:
        counts.append(f"{text.plural(summary['values_changed'], 'value')} changed")
    return [*lines, ", ".join(counts) or "nothing to compare"]


def _line(found: _Compared, row: int, keys_only: bool) -> list[str]:
    """A pair in the columns of `HEAD`."""
    pair, word = found.pairs[row], found.words[row]
    keys = [side.keys[at] for side, at in ((found.side_a, pair.a), (found.side_b, pair.b)) if at >= 0]
    infos = [info for info in _infos(found, row) if info is not None]
    numbers = _numbers(found, row)
    share = numbers["rel_l2"]
    return [
        "same" if keys_only and word == "identical" else word,
        _either([text.visible(key, 200) for key in keys]),
        _either([text.shape(info.shape) for info in infos]),
        _either([info.dtype for info in infos]),
        "" if share is None or word == "identical" else text.value(share) if math.isinf(share) else text.percent(share),
        "" if word == "identical" or numbers["cosine"] is None else f"{numbers['cosine']:.4f}",
        "" if word == "identical" or numbers["max_abs"] is None else text.value(numbers["max_abs"]),
        _notes(found, row, numbers),
    ]


def _either(sides: list[str]) -> str:
    return sides[0] if len(set(sides)) == 1 else " → ".join(sides)


def _notes(found: _Compared, row: int, numbers: dict[str, Any]) -> str:
    """What the columns do not say."""
    casts = {"equal": "equal values", "rounded_b": "B is A rounded", "rounded_a": "A is B rounded"}
    notes = []
    if numbers["max_at"]:
        notes.append(f"at {numbers['max_at']}")
    if numbers["nonfinite_differs"]:
        notes.append("NaN or infinity differs")
    if numbers["cast"]:
        notes.append(casts[numbers["cast"]])
    if row in found.refusals:
        notes.append("not readable")
    if found.pairs[row].by == "content":
        notes.append("by content")
    return ", ".join(notes)
