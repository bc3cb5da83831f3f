"""`sdviewer fit FILE --target T`: the steps that make a checkpoint load into a model, as a recipe."""

from __future__ import annotations

import os
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdviewer.cli.output import print_json, print_line, progress_for, table
from sdviewer.cli.repair import WOULD_NOT_LOAD, seconds
from sdviewer.cli.stdin import STDIN, read_stdin
from sdviewer.core import text
from sdviewer.errors import UsageError

if TYPE_CHECKING:
    from sdviewer.engine.fitting import FittedFile
    from sdviewer.repair.fit import Fit
    from sdviewer.repair.key_check import KeyCheck
    from sdviewer.repair.suggestion import Suggestion

NAME = "fit"
HELP = "find the steps that make a checkpoint fit its model"

SHOWN = 8
"""Keys of a kind that are listed for people; `--json` has all."""

EXAMPLES = 2
WIDEST = 100


def add_arguments(parser: ArgumentParser) -> None:
    """FILE, what it has to fit, where the recipe goes."""
    parser.add_argument("file", metavar="FILE", help="a checkpoint, or a list of keys; - reads a list from stdin")
    parser.add_argument(
        "--target",
        required=True,
        metavar="T",
        help="a checkpoint, a config.json, a list of keys, the text of a load error (- reads it from stdin), or "
        "package.module:factory or file.py:factory, which is run in a process of its own",
    )
    parser.add_argument("-o", "--output", metavar="RECIPE", help="write the steps there; - is stdout, and no report")
    parser.add_argument("--overwrite", action="store_true", help="RECIPE may be there already")
    parser.add_argument("--accept", choices=("ambiguous",), help="take the steps that are not sure, too")
    parser.add_argument("--strict", action="store_true", help="exit 1 unless the result would load strictly")
    parser.add_argument(
        "--timeout", type=seconds, default=60.0, metavar="S", help="seconds to build the model in (default: 60)"
    )
    parser.add_argument("--state-dict", metavar="DOTTED", help="the state dict of FILE that is repaired")
    parser.add_argument("--state-dict-b", metavar="DOTTED", help="the state dict of T, where that is a checkpoint")
    parser.add_argument("--json", action="store_true")


def run(arguments: Namespace) -> int:
    """Match, suggest, write the recipe, say what is left."""
    from sdviewer.engine.fitting import fit_files
    from sdviewer.engine.targets import decoded

    if arguments.file == STDIN and arguments.target == STDIN:
        raise UsageError("only one text can come from stdin", remedy="Write the other one into a file.")
    if arguments.output == STDIN and arguments.json:
        raise UsageError("the recipe and the JSON document cannot both go to stdout", remedy="Name a file with -o.")
    stdin = decoded(read_stdin()) if STDIN in (arguments.file, arguments.target) else ""
    found = fit_files(
        arguments.file,
        arguments.target,
        file_text=stdin if arguments.file == STDIN else None,
        target_text=stdin if arguments.target == STDIN else None,
        state_dict=arguments.state_dict,
        state_dict_b=arguments.state_dict_b,
        accept_ambiguous=arguments.accept == "ambiguous",
        run=True,
        timeout=arguments.timeout,
        progress=progress_for(arguments, "Reading"),
    )
    if arguments.output not in (None, STDIN):
        _write(found, arguments.output, arguments.overwrite)
    if arguments.output == STDIN:
        sys.stdout.write(found.fit.recipe.to_text())
    elif arguments.json:
        print_json(found.to_json())
    else:
        for line in as_text(found, arguments):
            print_line(line)
    return WOULD_NOT_LOAD if arguments.strict and not found.fit.after.loads else 0


def _write(found: FittedFile, out: str, overwrite: bool) -> None:
    """The recipe as a file of its own, never in the place of an input.

    Raises:
        UsageError: it is an input.
        SaveError: there is something already, or it cannot be written.
    """
    from sdviewer.formats.other_files import identity_at
    from sdviewer.formats.saving import refuse_inputs
    from sdviewer.formats.temporary import Replacing, temporary_file

    refuse_inputs(out, found.inputs)
    there = identity_at(out)
    raw = found.fit.recipe.to_text().encode("utf-8")
    # Nobody loses anything by an empty file, such as one that was made to have a name.
    replacing = Replacing(allowed=overwrite or (there is not None and there.size == 0))
    with temporary_file(out, nbytes=len(raw), replacing=replacing) as temporary:
        os.write(temporary.fd, raw)
        temporary.put_in_place()


# For people


def as_text(found: FittedFile, arguments: Namespace) -> list[str]:
    """What matched, the steps, what is left, what to type next."""
    fit = found.fit
    model = text.visible(fit.target.title, 200)
    lines = [f"{text.visible(found.name, 200)} for {model}: {_keys(len(fit.target.table))}", ""]
    if found.adapter is not None:
        lines += [text.visible(fit.target.notes[0], 1000), ""]
    lines += [f"Before: {_standing(fit.before)}.", *_problems(fit.before, fit)]
    sure = [one for one, taken in zip(fit.suggestions, fit.accepted, strict=True) if taken]
    if sure:
        lines += ["", "Steps:", *_steps(sure, 1)]
    if fit.left_out:
        lines += ["", "Not sure, and left out (--accept ambiguous takes them):", *_steps(fit.left_out, 1 + len(sure))]
    if sure:
        lines += ["", f"After: {_standing(fit.after)}.", *_problems(fit.after, fit)]
    lines += ["", _verdict(fit, bool(sure)) if found.adapter is None else _of_adapter(found, bool(sure))]
    # (a target that has notes says that in its own words)
    told = ("unknown_shapes", "approximate_target") if fit.target.notes else ()
    said = fit.target.notes[:1] if found.adapter is not None else ()
    warnings = [one for one in fit.warnings if one.code not in told and one.message not in said]
    lines += [f"warning: {text.visible(warning.message)}" for warning in warnings]
    return [
        *lines,
        *_remedies(fit),
        *_undecided(found, arguments),
        *_next(found, arguments, bool(sure)),
        *_merge(found, arguments),
    ]


def _keys(n: int) -> str:
    return text.plural(n, "key")


def _standing(load: KeyCheck) -> str:
    """`99 of 152 keys match; 53 missing, 52 unexpected`."""
    counts = load.counts()
    wanted = counts["matched"] + counts["missing"] + counts["mismatched"]
    said = f"{text.count(counts['matched'])} of {_keys(wanted)} match"
    rest = [f"{text.count(counts[name])} {name}" for name in ("missing", "unexpected") if counts[name]]
    rest += [f"{text.count(counts['mismatched'])} of another shape"] if counts["mismatched"] else []
    return "; ".join([said, ", ".join(rest)] if rest else [said])


def _problems(load: KeyCheck, fit: Fit) -> list[str]:
    """The keys in the way, a few of each kind; those that differ in their numbers alone stand in one line."""
    wanted = dict(zip(fit.target.table.keys, fit.target.table.shapes, strict=True))
    lines = _some("missing", [(key, _shape(wanted.get(key))) for key in load.missing])
    # (a key that is missing and there at once stands for something that no parameter can be copied from)
    odd = set(load.missing)
    lines += _some("unexpected", [(key, "no tensor in the file" if key in odd else "") for key in load.unexpected])
    differ = [
        (one.key, f"{text.shape(one.source_shape)} in the file, {text.shape(one.target_shape)} in the model")
        for one in load.mismatched
    ]
    return lines + _some("another shape", differ)


def _some(kind: str, found: Sequence[tuple[str, str]]) -> list[str]:
    rows = [(_key(key), f"×{n:,}" if n > 1 else "", said) for key, n, said in folded(found)]
    more = [(f"… and {len(rows) - SHOWN:,} more", "", "")] if len(rows) > SHOWN else []
    lines = table([(f"{'' if at else kind:<13}", *row) for at, row in enumerate(rows[:SHOWN] + more)], right=(2,))
    return [f"  {line}" for line in lines]


def folded(rows: Sequence[tuple[str, str]]) -> list[tuple[str, int, str]]:
    """Keys with what is said of them, how many there are; `blocks.{0–11}.fc.weight` stands for some from 0 to 11."""
    alike: dict[tuple[str, str], list[list[int]]] = {}
    for key, said in rows:
        parts = key.replace("{", "{{").replace("}", "}}").split(".")
        template = ".".join(["{}" if part.isdecimal() else part for part in parts])
        alike.setdefault((template, said), []).append([int(part) for part in parts if part.isdecimal()])
    lines = []
    for (template, said), numbers in alike.items():
        spans = [
            str(min(some)) if min(some) == max(some) else f"{{{min(some)}–{max(some)}}}"
            for some in zip(*numbers, strict=True)
        ]
        lines.append((template.format(*spans), len(numbers), said))
    return lines


def _key(key: str) -> str:
    return text.visible(key, WIDEST)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else text.shape(shape)


def _steps(suggestions: Sequence[Suggestion], first: int) -> list[str]:
    rows = [
        (f"{number}.", _keys(one.n_keys), one.evidence, text.visible(one.text, 2 * WIDEST))
        for number, one in enumerate(suggestions, first)
    ]
    lines = []
    for line, one in zip(table(rows, right=(0, 1)), suggestions, strict=True):
        lines.append(f"  {line}")
        for old, new in one.examples[:EXAMPLES]:
            gone = f"       {_key(old)}"
            lines.append(f"{gone} → {_key(new)}" if new not in ("", old) else gone)
        lines += [f"       {name} = {one.step.get(name)} is a guess: state another in the recipe" for name in one.asks]
    return lines


def _verdict(fit: Fit, changed: bool) -> str:
    """In a sentence: would it load?"""
    subject = "With these steps it" if changed else "It"
    if fit.after.loads:
        known = "names and shapes" if fit.target.table.shapes_known else "names (not all shapes are known)"
        if not changed and fit.target.table.shapes_known:
            return f"Nothing to repair: it loads as it is, by its {known}."
        if not changed:
            return "Every key has its name in the model. Whether the shapes agree is not known."
        return f"{subject} loads with load_state_dict(strict=True), by its {known}."
    wanted, matched = len(fit.target.table), len(fit.after.matched)
    if not matched and fit.left_out:
        return "No step is sure: look at those that were left out."
    if not matched:
        return "No key of it has a place in this model: is it the right one?"
    if fit.after.unexpected or fit.after.mismatched:
        return f"{subject} does not load yet."
    said = f"{subject} loads with load_state_dict(strict=False): what is missing keeps what the model begins with."
    return (
        f"{said} That is most of it: {_keys(len(fit.after.missing))} of {wanted:,}." if 2 * matched < wanted else said
    )


def _of_adapter(found: FittedFile, changed: bool) -> str:
    """The same where one of the two is an adapter for the other."""
    loads, subject = found.fit.after.loads, "With these steps" if changed else "As it is"
    if found.merged:
        return f"{subject} the adapter is part of the weights." if changed else "No step merges it yet."
    if loads:
        return f"{subject} each pair has its tensor in the target."
    return f"{subject} not every pair has a tensor that it fits in the target."


def _merge(found: FittedFile, arguments: Namespace) -> list[str]:
    """The command that merges an adapter into the target."""
    if found.adapter is None or found.merged or found.fit.target.kind != "checkpoint" or arguments.file == STDIN:
        return []
    command = ["sdviewer", "fit", arguments.target, "--target", arguments.file, "-o", "merge.toml"]
    return ["", "The steps that merge it into the target:", f"  {_typed(command)}"]


def _undecided(found: FittedFile, arguments: Namespace) -> list[str]:
    """What to type where a person has to decide: take what is not sure, or give a tensor the size that is wanted."""
    fit = found.fit
    lines = []
    if fit.left_out:
        recipe = [] if arguments.output == STDIN else ["-o", arguments.output or "recipe.toml"]
        again = [*_again(arguments), "--accept", "ambiguous", *recipe]
        lines = ["", "If that is what you want:", f"  {_typed([*again, *_over(arguments)])}"]
    return [*lines, *_other_sizes(fit)]


def _other_sizes(fit: Fit) -> list[str]:
    """The step of one's own that gives a head the rows that the model has, as it stands in a recipe."""
    from sdviewer.repair.patterns import literal_pattern

    sizes: dict[int, list[str]] = {}
    for one in fit.after.mismatched:
        if one.source_shape and one.target_shape and one.source_shape[1:] == one.target_shape[1:]:
            sizes.setdefault(one.target_shape[0], []).append(literal_pattern(one.key))
    if not sizes or len(fit.after.mismatched) > SHOWN:
        return []
    steps = [{"op": "rows", "keys": keys, "size": size} for size, keys in sizes.items()]
    said = "Or give them the rows that the model has (new ones are zeros), by a step of your own in the recipe:"
    return ["", said, *_as_toml(steps)]


def _remedies(fit: Fit) -> list[str]:
    """The steps against known traps that only a person can know to be needed, as they stand in a recipe."""
    known = {caution.code: caution.steps for one in fit.suggestions for caution in one.cautions if caution.steps}
    said = "Where that is so, a step of your own behind the others in the recipe:"
    return [line for steps in known.values() for line in ("", said, *_as_toml(steps))]


def _as_toml(steps: Iterable[Mapping[str, Any]]) -> list[str]:
    """Steps as a recipe has them."""
    from sdviewer.repair.operations import operation_from_step
    from sdviewer.repair.recipe import Recipe

    written = Recipe(steps=tuple(map(operation_from_step, steps))).to_text()
    lines = written[written.index("[[step]]") :].rstrip().split("\n")
    return [f"  {text.visible(line, 4000)}".rstrip() for line in lines]


def _again(arguments: Namespace) -> list[str]:
    """The command that was typed, without its output."""
    chosen = ["--state-dict", arguments.state_dict] if arguments.state_dict else []
    chosen += ["--state-dict-b", arguments.state_dict_b] if arguments.state_dict_b else []
    return ["sdviewer", "fit", arguments.file, "--target", arguments.target, *chosen]


def _over(arguments: Namespace) -> list[str]:
    """The recipe that was just written is written anew."""
    return ["--overwrite"] if arguments.output not in (None, STDIN) else []


def _next(found: FittedFile, arguments: Namespace, changed: bool) -> list[str]:
    """The command that carries it out."""
    recipe = arguments.output
    if not changed:
        return ["", f"Wrote {text.visible(recipe, 4000)}, a recipe without a step."] if recipe else []
    if recipe is None:
        return ["", "Keep the steps:", f"  {_typed([*_again(arguments), '-o', 'recipe.toml'])}"]
    written = f"Wrote {text.visible(recipe, 4000)}."
    if not found.is_checkpoint:
        return ["", f"{written} It is for the checkpoint that the keys are of: sdviewer repair CHECKPOINT --recipe …"]
    path = Path(arguments.file)
    out = str(path.with_name(f"{path.stem}.fitted{path.suffix}"))
    wanted = [] if arguments.target == STDIN else ["--target", arguments.target]
    wanted += ["--state-dict-b", arguments.state_dict_b] if wanted and arguments.state_dict_b else []
    command = ["sdviewer", "repair", arguments.file, "--recipe", recipe, "-o", out, *wanted]
    return ["", f"{written} Next:", f"  {_typed(command)}"]


def _typed(words: Sequence[str]) -> str:
    return text.visible(shlex.join(words), 4000)
