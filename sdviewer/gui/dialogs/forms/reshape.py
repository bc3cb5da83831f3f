"""The same elements in another shape."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "reshape",
    "&Reshape…",
    "shape",
    (Entry("shape", "&Shape", "numbers", "12, -1"),),
    "Row by row, as torch.reshape. One size may be -1 and follows from the others.",
    "The same elements, row by row: 3×3 → 9",
    group="shapes",
    selected="keys",
    effect="reshaped",
)
