"""Leave out dimensions of size 1."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "squeeze",
    "S&queeze…",
    "neq",
    (Entry("dims", "&Dimensions", "numbers", "all of size 1"),),
    "As torch.squeeze, but a dimension that is named and not of size 1 is refused.",
    "Leave out dimensions of size 1: 512×256×1×1 → 512×256",
    group="shapes",
    selected="keys",
    effect="squeezed",
    at_once=True,
)
