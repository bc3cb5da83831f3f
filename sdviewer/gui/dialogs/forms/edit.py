"""Write numbers into a tensor."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

WHAT = "?what"

FORM = Form(
    "edit",
    "&Edit numbers…",
    "rename",
    (
        Entry("key", "&Key", placeholder="fc.bias"),
        Entry("at", "&At", "numbers", "3, 0: one index for each dimension; with fewer, all cells below"),
        Entry(
            WHAT, "&Write", "choice", needed=True, choices=(("value", "one number"), ("values", "several, row by row"))
        ),
        Entry("value", "N&umber", "scalar", "0.5, nan, inf, 1+2j", when=(WHAT, "value")),
        Entry("values", "Nu&mbers", "scalars", "0.5, 1.0, 1.5", when=(WHAT, "values")),
        Entry("round", "A number that the dtype does not have becomes the nea&rest one", "flag"),
    ),
    "In the Values view of a tensor F2 or a double click edits one cell.",
    "One cell, a row, a whole bias",
    any_key=False,
    group="values",
    selected="key",
    effect="edited",
)
