"""`sdviewer diff A B`: which tensors pair, which differ and by how much."""

from __future__ import annotations

import math
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sdviewer.cli.output import print_json, print_line, progress_for, table
from sdviewer.cli.repair import folder_of, recipe_text
from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.pairing import MATCHES, Pairing, Side, pair_up, side_of_state_dict, statuses
from sdviewer.core.value_diff import value_differences
from sdviewer.errors import UsageError
from sdviewer.repair.state_dicts import choose_state_dict

if TYPE_CHECKING:
    from sdviewer.engine.compare_reports import CompareReport, PairProblem
    from sdviewer.engine.comparing import Tensors
    from sdviewer.stats.pair_table import PairTable

NAME = "diff"
HELP = "how two checkpoints differ: keys, shapes, types and values"

HEAD = ("", "key", "shape", "type", "‖B−A‖/‖A‖", "cosine", "max |B−A|", "")
DIFFERENT = 1
"""Exit code with `--exit-code`."""

FORMS = ("lines", "markdown", "csv", "html")
"""Of `--as`."""


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
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true")
    shape.add_argument("--as", dest="form", choices=FORMS, help="a few lines, Markdown, a table, or a page to keep")


def _tolerance(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise ArgumentTypeError(f"{text.visible(word, 40)} is no number from 0 up")
    return number


def run(arguments: Namespace) -> int:
    """Pair the keys, compare, print a line a pair."""
    from sdviewer.engine.compare_reports import as_json

    report = _compare(arguments)
    if arguments.json:
        print_json(as_json(report))
    elif arguments.form:
        _print(_form(arguments.form)(report))
    else:
        for line in _as_text(report):
            print_line(line)
    same = not report.values and all(word in ("identical", "close") for word in report.statuses())
    return DIFFERENT if arguments.exit_code and not same else 0


def _form(name: str) -> Callable[[CompareReport], str]:
    from sdviewer.engine.compare_page import as_html
    from sdviewer.engine.compare_reports import as_csv, as_lines, as_markdown

    forms: dict[str, Callable[[CompareReport], str]] = {
        "lines": lambda report: "\n".join(as_lines(report)) + "\n",
        "markdown": as_markdown,
        "csv": as_csv,
        "html": as_html,
    }
    return forms[name]


def _print(document: str) -> None:
    """A document that states or means UTF-8, whatever the terminal has."""
    sys.stdout.flush()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(document)


def _compare(arguments: Namespace) -> CompareReport:
    from sdviewer.engine.compare_reports import CompareReport, ReportedPair
    from sdviewer.engine.comparing import contents_of
    from sdviewer.engine.matching import matched
    from sdviewer.stats.pair_table import PairTable

    if arguments.keys_only and (arguments.atol is not None or arguments.rtol is not None):
        raise UsageError("--keys-only reads no values, so nothing can be close", remedy="Leave --atol and --rtol out.")
    (a, side_a), (b, side_b) = _side_a(arguments), _side_b(arguments)
    contents = None if arguments.keys_only else contents_of(a, side_a, b, side_b, progress_for(arguments, "Matching"))
    by_parameter = arguments.match != "key"
    pairing = pair_up(side_a, side_b, arguments.match, by_parameter=by_parameter, contents=contents, matcher=matched)
    pair_table = PairTable(statuses(side_a, side_b, pairing.pairs))
    problems: list[PairProblem] = []
    if not arguments.keys_only:
        problems = _measure(arguments, a, side_a, b, side_b, pairing, pair_table)
    pairs = [
        ReportedPair(
            side_a.keys[i] if i >= 0 else None,
            a[side_a.tensors[i]] if i >= 0 else None,
            side_b.keys[j] if j >= 0 else None,
            b[side_b.tensors[j]] if j >= 0 else None,
            by,
        )
        for i, j, by in pairing.pairs
    ]
    values = [] if arguments.keys_only else value_differences(a.checkpoint.values, b.checkpoint.values)
    return CompareReport(a.checkpoint, b.checkpoint, pairs, pair_table, values, problems, arguments.keys_only)


def _measure(
    arguments: Namespace,
    a: Tensors,
    side_a: Side,
    b: Tensors,
    side_b: Side,
    pairing: Pairing,
    pair_table: PairTable,
) -> list[PairProblem]:
    """Compare the bytes of all pairs of equal shape; what could not be."""
    from sdviewer.engine.compare_reports import PairProblem
    from sdviewer.engine.comparing import compare_pairs
    from sdviewer.stats.pair_kernels import WORTH
    from sdviewer.stats.pair_sums import tolerance_of
    from sdviewer.stats.sweep import THREADS
    from sdviewer.stats.table import NOT_YET

    measured = [at for at, state in enumerate(pair_table["state"].tolist()) if state == NOT_YET]
    indices = [(side_a.tensors[pairing.pairs[at].a], side_b.tensors[pairing.pairs[at].b]) for at in measured]
    columns, refusals = compare_pairs(
        a,
        b,
        indices,
        tolerance_of(arguments.atol, arguments.rtol),
        compiled=sum(a[i].nbytes for i, _ in indices) >= WORTH,
        threads=THREADS,
        progress=progress_for(arguments, "Comparing"),
    )
    # What cannot be read has the status that its header tells.
    told = pair_table["status"][measured]
    pair_table.put(measured, columns)
    unknown = columns["status"] == 0
    pair_table["status"][[at for at, without in zip(measured, unknown, strict=True) if without]] = told[unknown]
    return [PairProblem(measured[place], error.code, error.message) for place, error in refusals]


def _side_a(arguments: Namespace) -> tuple[Tensors, Side]:
    """A, as the recipe makes it."""
    from sdviewer.engine.comparing import Tensors
    from sdviewer.formats import open_checkpoint

    recipe = None
    if arguments.map is not None:
        from sdviewer.formats.other_files import OtherFiles
        from sdviewer.repair.planning import make_plan
        from sdviewer.repair.recipe import parse_recipe

        recipe = parse_recipe(recipe_text(arguments.map), path=arguments.map)
    checkpoint = open_checkpoint(arguments.a, progress=progress_for(arguments, "Reading A"))
    if recipe is None:
        return _as_it_is(checkpoint, arguments.state_dict)
    others = OtherFiles(folder_of(arguments.map))
    plan = make_plan(recipe, checkpoint, state_dict=arguments.state_dict, tensors_alone=True, others=others)
    index = choose_state_dict(checkpoint, arguments.state_dict) if plan.state_dict is None else plan.state_dict
    tensors = Tensors(checkpoint, plan)
    return tensors, side_of_state_dict(tensors.checkpoint, index, tensors.keys.get(index))


def _side_b(arguments: Namespace) -> tuple[Tensors, Side]:
    from sdviewer.formats import open_checkpoint

    checkpoint = open_checkpoint(arguments.b, progress=progress_for(arguments, "Reading B"))
    return _as_it_is(checkpoint, arguments.state_dict_b)


def _as_it_is(checkpoint: Checkpoint, state_dict: str | None) -> tuple[Tensors, Side]:
    from sdviewer.engine.comparing import Tensors

    return Tensors(checkpoint), side_of_state_dict(checkpoint, choose_state_dict(checkpoint, state_dict))


def _as_text(report: CompareReport) -> list[str]:
    """For people: one line a pair, one a value, the sum."""
    from sdviewer.engine.compare_reports import counts_in_words, value_in_words

    unread = {problem.pair for problem in report.problems}
    words = report.statuses()
    rows = [_line(report, at, word, at in unread) for at, word in enumerate(words)]
    lines = table([HEAD, *rows], right=(4, 5, 6)) if rows else []
    lines += [f"value      {value_in_words(one)}" for one in report.values]
    lines += [
        f"warning: {text.visible(report.pairs[problem.pair].key, 200)}: {text.visible(problem.message)}"
        for problem in report.problems
    ]
    return [*lines, counts_in_words(report)]


def _line(report: CompareReport, at: int, word: str, unread: bool) -> list[str]:
    """A pair in the columns of `HEAD`."""
    from sdviewer.engine.compare_reports import change_in_words

    pair, numbers = report.pairs[at], report.numbers(at)
    keys = [key for key in (pair.key_a, pair.key_b) if key is not None]
    infos = [info for info in (pair.a, pair.b) if info is not None]
    cosine, most = numbers["cosine"], numbers["max_abs"]
    told = word != "identical"
    return [
        "same" if report.keys_only and not told else word,
        _either([text.visible(key, 200) for key in keys]),
        _either([text.shape(info.shape) for info in infos]),
        _either([info.dtype for info in infos]),
        change_in_words(numbers) if told else "",
        text.cosine(cosine) if told and cosine is not None else "",
        text.value(most) if told and most is not None else "",
        _notes(numbers, unread, by_content=pair.by == "content"),
    ]


def _either(sides: list[str]) -> str:
    return sides[0] if len(set(sides)) == 1 else " → ".join(sides)


def _notes(numbers: Mapping[str, Any], unread: bool, by_content: bool) -> str:
    """What the columns do not say."""
    from sdviewer.engine.compare_reports import CAST_WORDS

    notes = [f"at {numbers['max_at']}"] if numbers["max_at"] else []
    notes += ["NaN or infinity differs"] if numbers["nonfinite_differs"] else []
    notes += [CAST_WORDS[numbers["cast"]]] if numbers["cast"] else []
    notes += ["not readable"] if unread else []
    notes += ["equal under another name"] if by_content else []
    return ", ".join(notes)
