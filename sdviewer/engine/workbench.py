"""What the worker of a workbench answers: about a file to repair, what it has to fit, and the pairs between them.

It puts together the file and its recipe (`engine.fit_file`), the rows of it (`engine.fit_view`), what the program
proposes (`engine.fit_suggestions`) and what a person does with rows (`engine.fit_by_hand`).

The recipe is that of the file's own document in the window: an act here answers the steps that it means, the window
puts them there, and asks for the rows that follow. A *row* is a row number of the current sheet; rows are numbered anew
by what answers a SHEET, which translates `selected`. A question about rows of another sheet is not answered.

    open      {"a": path, "recipe", "target": TARGET of engine.target_check, "tab": "problems" | "all" | "tree"} ->
              SHEET and {"a": CARD_A, "b": CARD_B}; buffer "built": the target, where it was built (engine.building)
    recipe    {"recipe", "selected", "tab", "front"?: dotted} -> SHEET and {"a"}: the same file and target with another
              recipe, or with another state dict in front
    tab       {"tab", "selected"} -> SHEET
    proposed  {"plan"}, buffer "proposal" (engine.proposing) -> {"suggestions": [SUGGESTION], "dismissed": n,
              "cautions": [CAUTION that belongs to none of them]}    what the program proposes for the rows as they are;
              of another plan it is not taken
    preview   {"at": place of a suggestion | -1, "selected"} -> SHEET of what it would give, and {"preview": PREVIEW |
              null}
    try       {"plan", "entry", "wanted": those of "about" of WHY, "choice": place in its "choices", "others": for all?,
              "selected"} -> as preview
    choose    {"plan", "entry", "wanted", "choice", "others"} -> as accept: the steps of a choice
    search    {"step": {op table} | null, "selected"} -> as preview: what a step would give that somebody is making
    effects   {"keys"} -> {"effects": [what is at each key of the target in what is previewed: "match", "shape", ""]}
    keys      {"rows"} or {"status": "unexpected"} -> {"keys": those of the file, as they are now | null: all of them,
              "common": the longest part that all have}
    dismiss   {"at"} or {"all": true}, which brings all of them back -> as proposed
    accept    {"at", "caution"?: place in its "cautions", to take its remedy as well} or {"safe": true} ->
              {"steps": [[table, label]], "label", "state_dict": dotted, "at"?: before which step of the recipe they go,
              and not at its end, "instead"?: how many steps go there, "allow"?: patterns of keys that may be missing}
    rows      as those of a comparison -> {"matched": n shown | null, "filter_error"}; buffers "visible", "flags"
    step      {"row": row | -1, "forwards"} -> as rows and {"row": the next problem, -1: there is none}
    first     {"status"} -> as step: the first row of a status
    find      {"text", "limit"} -> {"rows": [[row, key]]}    for "go to"
    why       {"row"} -> WHY
    partners  {"row", "text", "limit"} -> {"rows": [[place, key, shape, whether the shape fits, what it has now]]}
    lesson    {"row", "partner": a place of `partners`} or {"row", "onto": row} -> {"key_a", "key_b",
              "shapes": [of the file, of the target], "variants": [VARIANT of engine.lessons]}: what pairing the two can
              mean
    rename    {"row", "key"} -> as accept, and {"problem": what stands against it}: the step that gives what the file
              has in a row another key; where it has nothing, the step that makes its `key` be what is missing
    drop      {"rows"} -> as accept: the step that leaves them out
    strict    {} -> {"problems"}; buffers "text": what a strict load would say (without what is previewed), and "shown":
              the same cut where it is long
    changed   {} -> as that of a document

    SHEET     {"sheet", "rows_total", "selected": [row | -1], "counts": COUNTS, "before": COUNTS | null, "problems",
              "total": rows at the bottom, "failed": FAILED of a document | null, "keys": n of the target, "allowed": n
              that are missing and may be, "alike": [ALIKE], empty where the file has one state dict of the kind};
              buffers: the columns of `core.fit_sheet.COLUMNS`, "text", "visible",
              "flags"; of `open` and `recipe` also {"plan"} and the buffers "source" and "values", of `open` also
              "target": what `engine.proposing` takes
    COUNTS    {"collision", "match", "shape", "missing", "unexpected", "dropped"}
    CARD_A    {"path", "name", "tensors", "state_dict": dotted, "begins": what all keys begin with, "identity",
              "others": [[dotted, name, tensors]], state dicts that could be looked at instead}
    CARD_B    {"name", "kind", "keys", "notes": [sentence], "incomplete", "approximate", "adapter": where one of the two
              is an adapter for the other {"text": sentence, "merged": whether the target is}, else null, "problems",
              "files": as those of engine.problems, nothing where it is no checkpoint}
    ALIKE     {"state_dict": dotted, "name", "front": whether it is the one that is looked at, "covered": whether the
              recipe is for it, "match": target keys that it has after the recipe, "problems": n of it without what is
              previewed, "keys": n of its own,
              "differs": what it has and the one in front has not, in words, "error": why the recipe cannot be for it}
    SUGGESTION {"verb", "lines": [text], "short": the same in one line, "text", "n", "evidence", "reasons": [text],
              "cautions": [CAUTION], "asks": [text]: what of the step is a guess, "examples": [[old, new]], "safe",
              "step": {op table}, "label"}
    CAUTION   [code, message, its remedy in words | ""]
    PREVIEW   {"at": -1 for a choice, "gain": target keys, "unknown": those of them whose shape is not known, "drops",
              "left": target keys that may be missing then, "worse": shapes that differ then, "lost": target keys that
              are missing only then, "astray": new keys that the target has not, "first": how many suggestions go with
              it because it needs them, "error"}
    WHY       {"row", "status", "key_a", "now", "key_b", "reasons": [[kind, text]] with the kinds "ok", "info" and
              "warn", "source": what the numbers pool takes | null, "drops": whether it can be dropped, "pairs",
              "about": {"entry": place of what the file has, "wanted": place of the target's key, both as they are
              without a preview, -1 for none}, "edits": the key of it that can be edited | null, "choices": [[text, how
              many others it can be for]], for what has another shape, collides or is missing, also while one is tried}

Failures arrive as those of a document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from sdviewer.core import text
from sdviewer.core.key_table import KeyTable, key_table_of_checkpoint
from sdviewer.core.progress import Progress, no_progress
from sdviewer.engine.alike import most_like
from sdviewer.engine.fit_by_hand import FitByHand
from sdviewer.engine.fit_file import FitFile
from sdviewer.engine.fit_reasons import Reasons
from sdviewer.engine.fit_rows import Pair
from sdviewer.engine.fit_steps import Preview
from sdviewer.engine.fit_suggestions import FitSuggestions
from sdviewer.engine.fit_view import FitView
from sdviewer.engine.fitting import Wanted, read_wanted, with_adapter
from sdviewer.engine.frames import Answer
from sdviewer.engine.packing import packed, unpacked
from sdviewer.engine.problems import told_problems
from sdviewer.engine.watch import Watch, files_of
from sdviewer.errors import SDViewerError, UsageError
from sdviewer.formats import open_checkpoint, tensor_source
from sdviewer.repair.recipe import Recipe, parse_recipe
from sdviewer.repair.state_dicts import likely_state_dict
from sdviewer.repair.target import Target

MOST_REASONS: Final = 6
MOST_NAMED: Final = 200
"""Keys of a kind that the text of a strict load shows; all of them are copied."""

Params = Mapping[str, Any]
Handler = Callable[[Params, Progress], Answer]


class Workbench:
    """The service of one workbench; every request but `open` needs an open one."""

    def __init__(self) -> None:
        file = self._file = FitFile()
        view = self._view = FitView(file)
        suggestions = self._suggestions = FitSuggestions(file)
        by_hand = self._by_hand = FitByHand(file, view, suggestions)
        self._reasons: Reasons | None = None
        self._watch = Watch(())
        requests: Mapping[str, Handler] = {
            "recipe": self.recipe,
            "tab": self.tab,
            "proposed": self.proposed,
            "preview": self.preview,
            "try": self.try_choice,
            "choose": by_hand.choose,
            "search": self.search,
            "effects": by_hand.effects,
            "keys": by_hand.keys,
            "dismiss": suggestions.dismiss,
            "accept": suggestions.accept,
            "rows": view.rows,
            "step": view.step,
            "first": view.first,
            "find": view.find,
            "why": self.why,
            "partners": by_hand.partners,
            "lesson": by_hand.lesson,
            "rename": by_hand.rename,
            "drop": by_hand.drop,
            "strict": self.strict,
            "changed": self.changed,
        }
        of_open = {name: partial(self._of_open, handler) for name, handler in requests.items()}
        self.requests: Mapping[str, Handler] = {"open": self.open, **of_open}

    def _of_open(self, handler: Handler, params: Params, progress: Progress) -> Answer:
        """A question that wants an open file: this process may have taken the place of one that died."""
        if not self._view.is_open:
            raise UsageError("no file is open", code="not_open")
        return handler(params, progress)

    # What is fitted

    def open(self, params: Params, progress: Progress) -> Answer:
        """Read the header of the file, and the target."""
        self._view.close()
        checkpoint = open_checkpoint(params["a"], progress=progress)
        state_dict = likely_state_dict(checkpoint)
        source = key_table_of_checkpoint(checkpoint, state_dict)
        built = unpacked(Target, params["built"]) if "built" in params else None
        # A checkpoint is opened again: its values are wanted, and not only its keys.
        if built is None or built.kind == "checkpoint":
            wanted = _read(params["target"], source, progress)
        else:
            wanted = with_adapter(Wanted(built), source)
        if wanted.target.kind != "message" and wanted.adapter is None:  # (these are about the one that is likely)
            state_dict = most_like(checkpoint, wanted.target.table, state_dict)
        self._file.open(checkpoint, state_dict, wanted)
        self._watch = Watch(files_of(checkpoint))
        self._suggestions.bring_back()
        answer = self._replan(params)
        return Answer({**answer.body, "b": self._card_b()}, {**answer.buffers, "target": packed(wanted.target)})

    def recipe(self, params: Params, progress: Progress) -> Answer:
        """Another recipe, or another state dict of it in front."""
        return self._replan(params)

    def _replan(self, params: Params) -> Answer:
        recipe = parse_recipe(params["recipe"]) if params["recipe"].strip() else Recipe()
        self._file.replan(recipe, params.get("front"))
        self._suggestions.forget()
        answer = self._show(None, params)
        body = {**answer.body, "plan": self._file.plan_number, "a": self._card_a()}
        return Answer(body, {**answer.buffers, **self._suggestions.question()})

    def _card_a(self) -> dict[str, Any]:
        """What the head tells of the file."""
        checkpoint, state_dict = self._file.checkpoint, self._file.checkpoint.state_dicts[self._file.state_dict]
        return {
            "path": checkpoint.path,
            "identity": asdict(checkpoint.identity),
            "name": text.visible(Path(checkpoint.path).name, 120),
            "tensors": state_dict.tensors,
            "state_dict": text.visible(self._file.place, 60),
            "begins": text.visible(_common_start(state_dict.keys), 60),
            "others": self._file.told_others(),
        }

    def _card_b(self) -> dict[str, Any]:
        """What the head tells of the target."""
        wanted, target = self._file.wanted, self._file.target
        adapter = None
        if wanted.adapter is not None:
            adapter = {"text": text.visible(target.notes[0], 600), "merged": wanted.merged}
        return {
            "name": text.visible(target.model or target.title, 120),
            "kind": target.kind,
            "keys": self._file.fitted.asked,
            "notes": [text.visible(note, 400) for note in target.notes],
            "incomplete": target.incomplete,
            "approximate": target.approximate,
            "adapter": adapter,
            **({"problems": [], "files": 0} if wanted.checkpoint is None else told_problems(wanted.checkpoint)),
        }

    # What is shown

    def _show(self, preview: Preview | None, params: Params) -> Answer:
        """Rows of what is previewed, or of what there is."""
        self._reasons = None
        return self._view.lay(params, preview)

    def tab(self, params: Params, progress: Progress) -> Answer:
        """The same pairs in other rows."""
        return self._show(self._view.preview, params)

    def preview(self, params: Params, progress: Progress) -> Answer:
        """The rows as a suggestion would make them."""
        return self._show(self._suggestions.preview(params["at"]), params)

    def try_choice(self, params: Params, progress: Progress) -> Answer:
        """The rows as a choice for one of them would make them."""
        return self._show(self._by_hand.preview_of_choice(params), params)

    def search(self, params: Params, progress: Progress) -> Answer:
        """The rows as a step would make them that is not in the recipe yet."""
        return self._show(self._by_hand.preview_of_step(params["step"]), params)

    def proposed(self, params: Params, progress: Progress) -> Answer:
        """What another process found: rows have more reasons then."""
        self._reasons = None
        return self._suggestions.proposed(params, progress)

    # One row

    def why(self, params: Params, progress: Progress) -> Answer:
        """Why a row is what it is."""
        file, view = self._file, self._view
        view.check(params)
        tree, row = view.laid.tree, params["row"]
        leaf = tree.leaf[row]
        if leaf < 0:
            empty: dict[str, Any] = {"status": "", "key_a": "", "now": "", "key_b": "", "reasons": [], "source": None}
            more: dict[str, Any] = {"drops": False, "pairs": False, "about": {}, "edits": None, "choices": []}
            return Answer({"row": row, **empty, **more})
        pair = view.laid.pairs[leaf]
        bare = view.without_preview(pair)
        edits = file.fitted.entries[bare.entry].key if bare.entry >= 0 else "" if pair.status == "missing" else None
        body = {
            "row": row,
            "status": pair.status,
            "key_a": text.visible(tree.key_a[row], 300),
            "now": text.visible(view.laid.now[row], 300),
            "key_b": text.visible(tree.key_b[row], 300),
            "reasons": self._why(pair)[:MOST_REASONS],
            "source": self._numbers_of(tree.tensor_a[row]),
            "drops": pair.source >= 0 and pair.status not in ("will_drop", "dropped"),
            "pairs": pair.status not in ("match", "will_drop", "dropped") and file.failed is None,
            "choices": [
                [text.visible(one.text, 300), one.others] for one in self._by_hand.choices(bare.entry, bare.wanted)
            ],
            "about": {"entry": bare.entry, "wanted": bare.wanted},
            "edits": edits,
        }
        return Answer(body)

    def _numbers_of(self, tensor: int) -> dict[str, Any] | None:
        if tensor < 0 or self._file.checkpoint.tensors[tensor].unreadable:
            return None
        try:
            return tensor_source(self._file.checkpoint, tensor).to_json()
        except SDViewerError:
            return None

    def _why(self, pair: Pair) -> list[list[str]]:
        """What `Reasons` knows, which is kept until anything that it looks at changes."""
        if self._reasons is None:
            file, shown = self._file, self._view.fitted
            about = (file.checkpoint, file.state_dict, shown, file.fitted, file.plan)
            self._reasons = Reasons(*about, self._suggestions.matching, file.collisions)
        return self._reasons.of(pair)

    # The load

    def strict(self, params: Params, progress: Progress) -> Answer:
        """What `load_state_dict` would say now."""
        whole, shown = (self._strict_words(most) for most in (None, MOST_NAMED))
        buffers = {name: _visible(words).encode("utf-8") for name, words in (("text", whole), ("shown", shown))}
        return Answer({"problems": self._file.fitted.problems}, buffers)

    def _strict_words(self, most: int | None) -> str:
        """What torch would say; before that, in our own words, what lets no file come about."""
        words = self._file.fitted.strict_words(most)
        collisions = self._file.collisions
        return words if collisions is None else f"{collisions.words(most)}\n\n{words}"

    def changed(self, params: Params, progress: Progress = no_progress) -> Answer:
        """How the file on disk stands to the one that was opened."""
        return Answer(self._watch.look())


def _read(wanted: Params, source: KeyTable, progress: Progress) -> Wanted:
    """A target that is there to be read; one that is built was built elsewhere (`engine.building`)."""
    state_dict = wanted.get("state_dict")
    return read_wanted(wanted["name"], wanted.get("text"), source, state_dict=state_dict, progress=progress)


def _common_start(keys: Sequence[str]) -> str:
    """The modules that all keys stand in, with a dot; "" for none."""
    first, last = min(keys, default=""), max(keys, default="")
    alike = next((at for at, (x, y) in enumerate(zip(first, last, strict=False)) if x != y), min(len(first), len(last)))
    return first[: first.rfind(".", 0, alike) + 1]


def _visible(words: str) -> str:
    """A text as it can be shown, its lines and tabs kept."""
    lines = []
    for line in words.split("\n"):
        said = line.lstrip("\t")
        lines.append("\t" * (len(line) - len(said)) + text.visible(said, 10 * len(said) + 10))
    return "\n".join(lines)
