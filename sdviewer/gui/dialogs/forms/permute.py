"""Put the dimensions in another order."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "permute",
    "&Permute…",
    "replace",
    (Entry("order", "&Order", "numbers", "2, 0, 1: the last dimension becomes the first"),),
    "As torch.permute: every dimension once.",
    "The dimensions in another order: 64×3×7×7 → 7×7×3×64",
    group="shapes",
    selected="keys",
    effect="permuted",
)
