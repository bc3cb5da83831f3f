"""Give tied tensors a storage of their own."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Form

FORM = Form(
    "untie",
    "&Untie…",
    "x",
    hint="Every tensor that stands under another key too gets a copy of its own; all others stay as they are.",
    tip="Tied tensors become copies",
    group="values",
    selected="keys",
    effect="untied",
)
