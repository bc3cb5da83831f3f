"""Fold spectral norm, or bring it into its other form."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "spectral_norm",
    "&Spectral norm…",
    "spectrum",
    (
        Entry(
            "to",
            "&Becomes",
            "choice",
            choices=(
                ("folded", "one tensor: weight"),
                ("old", "the old form: weight_orig, weight_u, weight_v"),
                ("new", "the new form: parametrizations.weight.original …"),
            ),
        ),
    ),
    "Folded, it loads into a model without spectral norm.",
    "weight_orig, weight_u, weight_v → weight",
    group="values",
    effect="folded",
    at_once=True,
)
