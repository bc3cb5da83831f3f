"""Apply pruning masks."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Form

FORM = Form(
    "prune",
    "Apply &pruning masks…",
    "clip",
    hint="Every pair of weight_orig and weight_mask becomes their product, weight.",
    tip="weight_orig × weight_mask → weight",
    group="values",
    effect="masked",
)
