"""What a document's worker answers about edits: what a step would do, which step an act in the tree means, recipes.

`rows` and `row` are row numbers of the current sheet, `recipe` is a recipe's text (JSON or TOML), DRAFT a recipe as
`repair.history.Draft.to_body` tells it.

    preview     {"recipe", "step": {op table}, "limit", "scope"?: SCOPE, "skip"?: bool, "for"?: who asks} -> PREVIEW
                {"start", "limit", "for"?} -> {"rows", "total", "start"}    more rows of the last one for who asks
    step        {"act": "drop" | "keep" | "move", "rows", "to"?: row} -> {"step": {op table}, "label"}
    cell        {"row", "at": [index], "text"} -> {"step": {op table} | null, "label", "warning": what it would become,
                "error": why it cannot be}    one number of a tensor, exact in its dtype
    keys        {"rows", "limit"} -> {"keys": [key of a tensor at or below them], "more": n}
    common      {"rows"} -> {"text": the longest part that all their keys have in common}
    alike       {"row", "by": "leaf" | "shape" | "family"} -> {"filter": text that finds what is like it}
    read_recipe {"path"} or {"text"} -> {"draft": DRAFT}    with the paths of other files in full
    recipe_text {"recipe", "path"?: where it will be written} -> {"text": TOML}

    SCOPE    {"kind": "rows", "rows"}, {"kind": "keys", "keys"}, {"kind": "filter"}: what the filter of the tree finds
    PREVIEW  {"keys": n the step looks at, "changed": n, "dropped": n, "blocked": n that collide, "rows": [[old, new |
             null, shape, problem]], "total": n rows, "start": n, "problems": [text], "error": "", "step": {op table},
             "label", "seconds", "skip": {"step", "label", "keys": n left as they are} | null, "matched": n things of
             the file | null for a step on keys, "warnings": [what should be known of it]}; old and new are [[text,
             kind]] with the kinds of `repair.marks`; problem rows come first. An operation that cannot be read is an
             error text.
    PLAIN    {"path": dotted, "type": "int", "value": as a step's table has it}
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, ValueInfo
from sdviewer.core.key_filter import as_regex
from sdviewer.core.paths import KeyPath, TypedStep, dotted
from sdviewer.core.shown_rows import ShownRows
from sdviewer.core.tree import ModuleTree
from sdviewer.engine.deadline import deadline
from sdviewer.engine.frames import Answer
from sdviewer.engine.planned import element_texts
from sdviewer.errors import NoMatch, SDViewerError, UsageError
from sdviewer.formats.other_files import OtherFiles
from sdviewer.repair.elements import element, exact, number
from sdviewer.repair.fields import Scalar
from sdviewer.repair.history import Draft
from sdviewer.repair.marks import Parts, mark
from sdviewer.repair.operations import (
    Drop,
    Edit,
    Keep,
    LeaveOut,
    Operation,
    Rename,
    ReplacePrefix,
    operation_from_step,
)
from sdviewer.repair.operations.file_operation import FileOperation
from sdviewer.repair.operations.leave_out import PARTS
from sdviewer.repair.operations.set_value import PLAIN_TYPES
from sdviewer.repair.operations.tensor_operation import TensorOperation
from sdviewer.repair.operations.whole_file import WholeFile
from sdviewer.repair.other_files import anchored, beside, placed
from sdviewer.repair.patterns import SEARCH, literal_pattern, literal_rule, prefix_rule
from sdviewer.repair.plan import Plan
from sdviewer.repair.planning import Preview, PreviewRow, make_plan, preview_operation
from sdviewer.repair.recipe import Recipe, parse_recipe
from sdviewer.repair.scope import MOST_KEYS, below, can_be_restricted, common_part, is_for_file, restricted, without

Params = Mapping[str, Any]

LARGEST_RECIPE = 32 * 2**20
"""Bytes of a file that is read as a recipe."""
PICKLED = ("torch-zip", "torch-legacy")
"""Containers whose copies can differ in what stands beside the tensors."""
LONGEST_LINE = 10_000
"""Characters of a text that is edited in one line."""
PATIENCE = 5.0
"""Seconds of computing after which a preview is given up: an expression that backtracks for ever is the reason."""
EVERY = ("**",)
"""The patterns of a whole state dict."""
ROUNDS = 20
"""How often keys are left out of a step because others that were left out are in their way now."""


class Opened(Protocol):
    """What is known of the open file."""

    @property
    def checkpoint(self) -> Checkpoint: ...
    @property
    def plan(self) -> Plan | None: ...
    @property
    def recipe_text(self) -> str: ...
    @property
    def others(self) -> OtherFiles: ...
    @property
    def tree(self) -> ModuleTree: ...
    @property
    def edited(self) -> int | None: ...
    def edits(self, state_dict: int) -> bool: ...
    @property
    def result(self) -> Checkpoint: ...
    @property
    def shown(self) -> ShownRows: ...
    def prefix(self, row: int) -> str: ...
    def key(self, row: int) -> str: ...


class Edits:
    """Answers for one open file; `requests` maps names to handlers."""

    def __init__(self, document: Opened) -> None:
        self._document = document
        # By who asked: a key that is edited in the tree must not take the rows of find and replace away.
        self._previewed: dict[str, tuple[Operation, Preview]] = {}
        self._planned: tuple[Checkpoint, str, Plan] | None = None
        self.requests: Mapping[str, Callable[[Params], Answer]] = {
            "preview": self.preview,
            "step": self.step,
            "keys": self.keys,
            "cell": self.cell,
            "common": self.common,
            "alike": self.alike,
            "read_recipe": self.read_recipe,
            "recipe_text": self.recipe_text,
        }

    # What a step would do

    def preview(self, params: Params) -> Answer:
        """What one more step would change."""
        start, limit, last = params.get("start", 0), params["limit"], self._previewed.get(params.get("for", ""))
        if start and last is not None:
            operation, found = last
            rows = [_row(operation, row) for row in found.rows[start : start + limit]]
            return Answer({"rows": rows, "total": len(found.rows), "start": start})
        try:
            with deadline(PATIENCE, "this takes too long on these keys", "Is there a repetition inside a repetition?"):
                return self._preview(params, limit)
        except SDViewerError as error:
            message = error.message.removeprefix("the step: ")
            said = f"{message[:1].upper()}{message[1:]}. {error.remedy}".strip()
            empty = {
                "keys": 0,
                "changed": 0,
                "dropped": 0,
                "blocked": 0,
                "rows": [],
                "total": 0,
                "start": 0,
                "problems": [],
            }
            nothing: dict[str, Any] = {
                "step": None,
                "label": "",
                "seconds": 0.0,
                "skip": None,
                "matched": None,
                "warnings": [],
            }
            return Answer({**empty, **nothing, "error": said})

    def _preview(self, params: Params, limit: int) -> Answer:
        began = time.perf_counter()
        operation = operation_from_step(params["step"]).with_paths(lambda path: placed(path, ""))
        checkpoint = self._document.checkpoint
        plan = self._plan_of(params["recipe"], checkpoint)

        def look(at: Operation) -> Preview:
            return preview_operation(Recipe(), at, checkpoint, plan=plan, others=self._document.others)

        matched: int | None = None
        warnings: Sequence[str] = ()
        if is_for_file(operation):
            matched, warnings = self._matched(params["recipe"], operation)
        if isinstance(operation, FileOperation | WholeFile):
            # It looks at no keys, so it does not matter whose they would be.
            found = Preview()
        else:
            operation, found = self._scoped(operation, params.get("scope"), look)
        skip = _skipping(operation, found, look) if params.get("skip") else None
        # The other half of a collision stays what it is: it is named beside the one that changes.
        if not isinstance(operation, TensorOperation):
            found = replace(found, rows=tuple(row for row in found.rows if row.new != row.old))
        self._previewed[params.get("for", "")] = (operation, found)
        return Answer(
            {
                "keys": found.keys,
                "changed": found.changed,
                "dropped": found.dropped,
                "blocked": sum(bool(row.problem) for row in found.rows),
                "rows": [_row(operation, row) for row in found.rows[:limit]],
                "total": len(found.rows),
                "start": 0,
                "problems": list(found.problems[:100]),
                "error": "",
                "step": operation.to_step(),
                "label": operation.label,
                "seconds": time.perf_counter() - began,
                "skip": skip,
                "matched": matched,
                "warnings": [text.visible(warning, 400) for warning in (*warnings, *found.warnings)],
            }
        )

    def _matched(self, recipe_text: str, operation: Operation) -> tuple[int, Sequence[str]]:
        """How many things an operation on the whole file finds, which its keys do not tell, and what it warns of."""
        recipe = parse_recipe(recipe_text) if recipe_text.strip() else Recipe()
        known: set[str] = set()
        if recipe.steps:
            known = {warning.message for warning in self._plan_of(recipe_text, self._document.checkpoint).warnings}
        recipe = replace(recipe, steps=(*recipe.steps, replace(operation, enabled=True)))
        plan = make_plan(recipe, self._document.checkpoint, others=self._document.others)
        messages = [warning.message for warning in plan.warnings]
        return plan.steps[-1].matched, [message for message in messages if message not in known]

    def _plan_of(self, recipe: str, checkpoint: Checkpoint) -> Plan:
        """The plan of the steps before the one that is looked at; while somebody types it stays the same."""
        if recipe == self._document.recipe_text and self._document.plan is not None:
            return self._document.plan
        if self._planned is None or self._planned[0] is not checkpoint or self._planned[1] != recipe:
            read = parse_recipe(recipe) if recipe.strip() else Recipe()
            made = make_plan(read, checkpoint, others=self._document.others)
            self._planned = checkpoint, recipe, made
        return self._planned[2]

    def _scoped(
        self, operation: Operation, scope: Params | None, look: Callable[[Operation], Preview]
    ) -> tuple[Operation, Preview]:
        """The operation inside a scope, and what it does there."""
        if scope is None or not can_be_restricted(operation):
            return operation, look(operation)
        if scope["kind"] == "rows":
            patterns = self._patterns(scope["rows"])
            operation = operation if patterns == EVERY else restricted(operation, patterns)
            return operation, look(operation)
        if scope["kind"] == "keys":
            return self._named(operation, frozenset(scope["keys"]), "none of these keys would change", look)
        shown = self._document.shown
        if shown.matched is None:
            return operation, look(operation)
        expression = as_regex(shown.filter)
        if expression is not None:
            operation = restricted(operation, (SEARCH + expression,))
            return operation, look(operation)
        # The filter looks at shapes or dtypes, which no pattern does.
        tree = self._document.tree
        inside = frozenset(self._document.key(row) for row in shown.matched if tree.entry[row] >= 0)
        return self._named(operation, inside, "nothing that the filter finds would change", look)

    def _named(
        self, operation: Operation, inside: frozenset[str], none: str, look: Callable[[Operation], Preview]
    ) -> tuple[Operation, Preview]:
        """The operation on those of some keys that it changes, named one by one where it changes others too."""
        found = look(operation)
        changing = [row.old for row in found.rows if row.new != row.old]
        keys = [key for key in changing if key in inside]
        if not keys:
            raise NoMatch(none)
        if len(keys) == len(changing):
            return operation, found
        operation = restricted(operation, [literal_pattern(key) for key in keys])
        return operation, look(operation)

    # Which step an act in the tree means

    def step(self, params: Params) -> Answer:
        """One step for all rows that were chosen."""
        act, rows = params["act"], self._outermost(params["rows"])
        operation: Operation
        if act == "drop":
            beside = [path for row in rows if (path := self.leaves(row))]
            if beside and len(beside) < len(rows):
                raise UsageError(
                    "what stands beside the state dict and keys of it cannot go in one step",
                    remedy="Select the ones or the others.",
                )
            operation = LeaveOut(paths=tuple(beside)) if beside else Drop(keys=self._patterns(rows))
        elif act == "keep":
            operation = self._kept(rows)
        else:
            operation = self._moved(rows, params["to"])
        return Answer({"step": operation.to_step(), "label": operation.label})

    def _kept(self, rows: Sequence[int]) -> Operation:
        """Of keys all others go; of a whole state dict, or of what stands beside one, all that stands beside it."""
        tree = self._document.tree
        whole = [row for row in rows if self._is_whole(row)]
        if len(whole) < len(rows):
            if any(self.leaves(row) for row in rows):
                raise UsageError(
                    "it stands beside the state dict, which cannot be left out",
                    remedy="Keep the state dict, or drop what is not wanted.",
                )
            return Keep(keys=self._patterns(rows))
        kept = {row for top in whole for row in (*tree.ancestors(top), *range(top, tree.end[top]))}
        others: list[str] = []
        row = 0
        while row < len(tree):
            inside = row in kept and row not in whole
            if row not in kept and (path := self.leaves(row, tree.state_dict[whole[0]])):
                others.append(path)
            row = row + 1 if inside else tree.end[row]
        if not others:
            raise NoMatch("nothing stands beside it that could be left out")
        return LeaveOut(paths=tuple(others))

    def _is_whole(self, row: int) -> bool:
        """Whether a row is a state dict that can be edited."""
        tree = self._document.tree
        index = tree.state_dict[row]
        return index >= 0 and tree.entry[row] < 0 and self._document.checkpoint.state_dicts[index].role != "optimizer"

    def leaves(self, row: int, index: int | None = None) -> str:
        """The pattern with which a row can be left out that is no part of a state dict, else "".

        `index` is the state dict that stays; without it the one that the recipe edits, or would edit.
        """
        tree, document = self._document.tree, self._document
        if tree.kind[row] == "fold" or tree.dropped[row] or document.checkpoint.container not in PICKLED:
            return ""
        path = self._path(row)
        if not path or (isinstance(path[-1], TypedStep) and path[-1].type in PARTS):
            return ""
        home = self._home_of(row)
        if home is not None and (home == index or document.edited is None or document.edits(home)):
            return ""  # its keys are edited as keys
        if index is None:
            index = document.edited
        if index is None:
            models = [i for i, one in enumerate(document.checkpoint.state_dicts) if one.role == "model"]
            if len(models) > 1:
                return ""
            index = models[0] if models else None
        kept = document.checkpoint.state_dicts[index].path if index is not None else None
        if kept is not None and (kept[: len(path)] == path or path[: len(kept)] == kept):
            return ""
        return literal_pattern(dotted(path))

    def _home_of(self, row: int) -> int | None:
        """The state dict of named tensors that a row stands in, None for none."""
        tree = self._document.tree
        for at in tree.ancestors(row):
            if tree.state_dict[at] >= 0 and tree.entry[at] < 0 and tree.kind[at] != "optimizer":
                return tree.state_dict[at]
        return None

    def _path(self, row: int) -> KeyPath:
        """Where a row stands in the file, which of a container the first thing below it tells; () where it does not."""
        tree = self._document.tree
        if (own := self._own_path(row)) is not None:
            return own
        first = next((at for at in range(row + 1, tree.end[row]) if self._own_path(at) is not None), None)
        if first is None or self._home_of(row) is not None:
            return ()
        path = self._own_path(first) or ()
        while first != row:
            path = path if tree.kind[first] == "fold" else path[:-1]
            first = tree.parent[first]
        # A row may stand for several containers, each of which holds nothing but the next.
        return path if path and dotted(path[-1:]) == tree.name[row].rpartition(".")[2] else ()

    def _own_path(self, row: int) -> KeyPath | None:
        tree, checkpoint = self._document.tree, self._document.checkpoint
        if tree.tensor[row] >= 0:
            # A computed tensor is nowhere in the file.
            return checkpoint.tensors[tree.tensor[row]].path if tree.tensor[row] < len(checkpoint.tensors) else ()
        if tree.value[row] >= 0:
            return checkpoint.values[tree.value[row]].path
        if tree.state_dict[row] >= 0 and tree.entry[row] < 0:
            return checkpoint.state_dicts[tree.state_dict[row]].path
        return checkpoint.objects[tree.object[row]].path if tree.object[row] >= 0 else None

    def plain(self, info: ValueInfo) -> dict[str, Any] | None:
        """A value as it can be edited, None where it cannot."""
        path, value = dotted(info.path), info.value
        if self._document.checkpoint.container not in PICKLED:
            return None
        if info.type not in PLAIN_TYPES or isinstance(value, (list, dict)) or info.occurrence:
            return None
        if isinstance(value, str) and (not value.isprintable() or len(value) > LONGEST_LINE):
            return None
        if isinstance(value, float) and not math.isfinite(value):
            value = str(value)
        told = {"repr": "None"} if value is None else value
        return {"path": path, "type": info.type.removeprefix("builtins."), "value": told}

    # One number of a tensor

    def cell(self, params: Params) -> Answer:
        """The step that writes one number, exact in the dtype of its tensor."""
        row, at = params["row"], tuple(params["at"])
        tree, typed = self._document.tree, str(params["text"]).strip()
        info = self._document.result.tensors[tree.tensor[row]]
        nothing = {"step": None, "label": "", "warning": "", "error": ""}
        try:
            raw = element(_as_scalar(typed), info.dtype, rounded=True)
        except SDViewerError as error:
            return Answer({**nothing, "error": f"{error.message}. {error.remedy}".strip()})
        (becomes,) = element_texts(raw, info.dtype)
        operation = Edit(key=self._document.key(row), at=at, value=exact(raw, info.dtype))
        same = _same_number(typed, becomes)
        warning = "" if same else f"{info.dtype} has no {text.visible(typed, 60)}: it becomes {becomes}."
        return Answer({**nothing, "step": operation.to_step(), "label": operation.label, "warning": warning})

    def _moved(self, rows: Sequence[int], to: int) -> Operation:
        """Put what is chosen below another module, with its own name."""
        target = self._home(to)
        rules: list[tuple[str, str]] = []
        prefixes: list[tuple[str, str]] = []
        for old, is_module, name in self._places(rows):
            new = f"{target}{name}{'.' if is_module else ''}"
            if new == old:
                continue
            if is_module and target.startswith(old):
                raise UsageError("a module cannot be moved into itself")
            if is_module:
                prefixes.append((old, new))
                rules.append(prefix_rule(old, new))
            else:
                rules.append(literal_rule(old, new))
        if not rules:
            raise NoMatch("it stands there already")
        if len(rules) == 1 and prefixes:
            return ReplacePrefix(old=prefixes[0][0], new=prefixes[0][1])
        return Rename(rules=tuple(rules))

    def _home(self, row: int) -> str:
        """The prefix of the module that a row is, or stands in; "" for the state dict itself."""
        tree = self._document.tree
        while row >= 0:
            if prefix := self._document.prefix(row):
                return prefix
            if tree.state_dict[row] >= 0 and tree.entry[row] < 0:
                return ""
            row = tree.parent[row]
        raise UsageError("there is no module at this place", remedy="Drop it on a module or on a state dict.")

    def _places(self, rows: Sequence[int]) -> Iterator[tuple[str, bool, str]]:
        """Keys and prefixes of rows, whether each is a module's prefix, and its own name; of a fold those inside."""
        tree = self._document.tree
        for row in rows:
            if prefix := self._document.prefix(row):
                yield prefix, True, tree.name[row]
            elif tree.kind[row] == "fold":
                child = row + 1
                while child < tree.end[row]:
                    if prefix := self._document.prefix(child):
                        yield prefix, True, tree.name[child]
                    child = tree.end[child]
            elif tree.entry[row] >= 0 and not tree.dropped[row]:
                yield self._document.key(row), False, tree.name[row]

    def _patterns(self, rows: Sequence[int]) -> tuple[str, ...]:
        """The patterns that mean rows and all below them; none for a whole state dict."""
        tree = self._document.tree
        if any(tree.state_dict[row] >= 0 and tree.entry[row] < 0 for row in rows):
            return EVERY
        found = tuple(
            below(place) if is_module else literal_pattern(place)
            for place, is_module, _ in self._places(self._outermost(rows))
        )
        if not found:
            raise NoMatch("nothing that is selected has a key", remedy="Select tensors or modules of a state dict.")
        if len(found) > MOST_KEYS:
            raise UsageError(
                f"More than {MOST_KEYS:,} rows are selected",
                remedy="Select their modules instead, or use a step that names a prefix.",
            )
        return found

    def _outermost(self, rows: Sequence[int]) -> list[int]:
        """The rows that are not below another of them, from the top."""
        end = self._document.tree.end
        found: list[int] = []
        covered = 0
        for row in sorted(rows):
            if row >= covered:
                found.append(row)
                covered = end[row]
        return found

    # Keys of rows

    def keys(self, params: Params) -> Answer:
        """The keys of all tensors at or below rows."""
        limit = params["limit"]
        found = list(self._keys(params["rows"]))
        return Answer({"keys": found[:limit], "more": max(0, len(found) - limit)})

    def _keys(self, rows: Sequence[int]) -> Iterator[str]:
        tree = self._document.tree
        for top in self._outermost(rows):
            for row in range(top, tree.end[top]):
                if (tree.entry[row] >= 0 or tree.tensor[row] >= 0) and (row == top or not tree.dropped[row]):
                    yield self._document.key(row)

    def common(self, params: Params) -> Answer:
        """The longest run of whole components that all keys of some rows have."""
        keys = [place for place, _, _ in self._places(self._outermost(params["rows"]))]
        return Answer({"text": common_part(keys)})

    def alike(self, params: Params) -> Answer:
        """A filter that finds what is like a row: the same last name, shape, or key but for its numbers."""
        tree, row = self._document.tree, params["row"]
        if tree.tensor[row] < 0:
            raise NoMatch("this row is no tensor", remedy="Choose a tensor.")
        by, key = params["by"], self._document.key(row)
        if by == "shape":
            shape = self._document.shown.checkpoint.tensors[tree.tensor[row]].shape
            return Answer({"filter": f"shape:={'×'.join(map(str, shape))}" if shape else "shape:scalar"})
        if by == "leaf":
            return Answer({"filter": _as_filter(f"(^|\\.){re.escape(key.rpartition('.')[2])}$")})
        pieces = [r"\d+" if piece.isascii() and piece.isdigit() else re.escape(piece) for piece in key.split(".")]
        return Answer({"filter": _as_filter("^" + r"\.".join(pieces) + "$")})

    # Recipes

    def read_recipe(self, params: Params) -> Answer:
        """Read a recipe, from a file or as a person typed it."""
        path = params.get("path", "")
        recipe = parse_recipe(_read(path) if path else params["text"], path)
        recipe = anchored(recipe, os.path.dirname(path))  # noqa: PTH120  a path of any bytes
        return Answer({"draft": Draft.of(recipe).to_body()})

    def recipe_text(self, params: Params) -> Answer:
        """A recipe as TOML; in a file of its own it names what lies beside that by shorter paths."""
        recipe, path = parse_recipe(params["recipe"]), params.get("path", "")
        if path:
            recipe = beside(recipe, os.path.dirname(path))  # noqa: PTH120  a path of any bytes
        return Answer({"text": recipe.to_text()})


def _as_scalar(typed: str) -> Scalar:
    """What a person types into a cell, as a recipe has it."""
    if typed.lower() in ("true", "false"):
        return typed.lower() == "true"
    for read in (int, float):
        try:
            found: int | float = read(typed)
        except ValueError:
            continue
        return found if math.isfinite(found) else typed
    return typed


def _same_number(typed: str, becomes: str) -> bool:
    """Whether a dtype has what was typed: its own text for the number it takes is the same number."""
    wanted, found = number(_as_scalar(typed)), number(_as_scalar(becomes))
    return wanted == found or (wanted != wanted and found != found)


def _skipping(operation: Operation, found: Preview, look: Callable[[Operation], Preview]) -> dict[str, Any] | None:
    """The step without the keys that are in another's way, None where there are none or nothing would be left."""
    skipped: set[str] = set()
    current = found
    for _ in range(ROUNDS):
        if not current.problems:
            break
        blocked = {row.old for row in current.rows if row.problem and row.new != row.old}
        if not blocked or not can_be_restricted(operation):
            return None
        skipped |= blocked
        try:
            smaller = without(operation, skipped)
        except UsageError:
            return None
        current = look(smaller)
    if not skipped or current.problems or not current.changed:
        return None
    return {"step": smaller.to_step(), "label": smaller.label, "keys": len(skipped)}


def _row(operation: Operation, row: PreviewRow) -> list[Any]:
    if row.new is None:
        return [[[text.visible(row.old), "gone"]], None, row.shape, row.problem]
    old, new = mark(operation, row.old, row.new)
    return [_visible(old), _visible(new), row.shape, row.problem]


def _visible(parts: Parts) -> list[list[str]]:
    return [[text.visible(part.text), part.kind] for part in parts]


def _as_filter(expression: str) -> str:
    """A regular expression as a word of the tree's filter, which ends at a slash or a blank."""
    return "/" + expression.replace("\\/", "/").replace("/", "\\x2f").replace("\\ ", "\\x20") + "/"


def _read(path: str) -> str:
    try:
        with open(path, "rb") as stream:  # noqa: PTH123  a path of any bytes
            raw = stream.read(LARGEST_RECIPE + 1)
    except OSError as error:
        raise UsageError(f"the recipe cannot be read: {os.strerror(error.errno or 0)}", path=path) from None
    if len(raw) > LARGEST_RECIPE:
        raise UsageError("this is no recipe: it is too large", path=path, code="bad_recipe")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("this is no recipe: it is no text", path=path, code="bad_recipe") from None
