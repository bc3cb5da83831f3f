"""Multiply by a number."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "scale",
    "&Multiply…",
    "x",
    (Entry("factor", "&By", "decimal", "0.5"),),
    "Every float and complex number, rounded once; integers stay.",
    "Every float times a number",
    group="values",
    selected="keys",
    effect="multiplied",
)
