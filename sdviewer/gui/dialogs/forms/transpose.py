"""Exchange two dimensions."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "transpose",
    "&Transpose…",
    "swap",
    (Entry("dims", "&Dimensions", "numbers", "0, 1 — the two of a matrix where it is empty"),),
    "As torch.transpose. Choose the tensors below: others than matrices need their dimensions named.",
    "3072×1024 → 1024×3072",
    group="shapes",
    selected="keys",
    effect="transposed",
    at_once=True,
)
