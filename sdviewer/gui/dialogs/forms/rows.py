"""Choose, reorder or add rows."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

WHAT = "?what"

FORM = Form(
    "rows",
    "R&ows…",
    "list",
    (
        Entry(
            WHAT,
            "What to d&o",
            "choice",
            needed=True,
            choices=(
                ("slice", "keep a range"),
                ("take", "choose and reorder"),
                ("delete", "leave out"),
                ("pad", "add rows"),
                ("size", "make it so many"),
                ("reverse", "reverse their order"),
            ),
        ),
        Entry(
            "slice",
            "&From, to",
            "numbers",
            "0, 50257: all before the second; 100: the rest from there",
            when=(WHAT, "slice"),
        ),
        Entry("take", "&Places", "numbers", "2, 0, 1; -1 is the last", when=(WHAT, "take")),
        Entry("delete", "P&laces", "numbers", "0, 3; -1 is the last", when=(WHAT, "delete")),
        Entry("pad", "How man&y", "number", "64", when=(WHAT, "pad")),
        Entry("size", "How many in &all", "number", "50257: the last ones go, or are added", when=(WHAT, "size")),
        Entry(
            "fill",
            "F&illed with",
            "scalar",
            "zeros, mean (of the others), copy:0 or a number",
            choices=(("zeros", ""), ("mean", ""), ("copy:0", "")),
            when=(WHAT, "pad", "size"),
        ),
        Entry("at", "&Before row", "number", "at the end", when=(WHAT, "pad")),
        Entry("reverse", "&Reverse them", "flag", when=(WHAT, "reverse")),
        Entry("dim", "Dimensio&n", "number", "0"),
    ),
    "A vocabulary that grows, output channels that go: the same along any other dimension.",
    "Choose, reorder, leave out or add rows, as of a vocabulary",
    group="sizes",
    selected="keys",
    effect="changed",
)
