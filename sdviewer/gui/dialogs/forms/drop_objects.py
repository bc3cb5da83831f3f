"""Leave out what torch's own list of names lacks."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Form

FORM = Form(
    "drop_objects",
    "Leave out &objects…",
    "shield",
    hint="Every object whose class torch's own list lacks goes, in the whole file. Tensors and plain values stay.",
    tip="What torch.load(weights_only=True) would refuse",
    any_key=False,
    group="file",
)
