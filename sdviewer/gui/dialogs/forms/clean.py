"""Replace what is not finite."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "clean",
    "Clean &NaN and infinities…",
    "nan",
    (
        Entry("nan", "&NaN becomes", "decimal", "0"),
        Entry("posinf", "&Infinity", "decimal", "the largest number of the dtype"),
        Entry("neginf", "Minus in&finity", "decimal", "the smallest number of the dtype"),
    ),
    "As torch.nan_to_num; the receipt says how many there were.",
    "What is not finite becomes a number",
    group="values",
    selected="keys",
    effect="cleaned",
    at_once=True,
)
