"""Fold weight norm, or bring it into its other form."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "weight_norm",
    "Wei&ght norm…",
    "gauge",
    (
        Entry(
            "to",
            "&Becomes",
            "choice",
            choices=(
                ("folded", "one tensor: weight"),
                ("old", "the old form: weight_g, weight_v"),
                ("new", "the new form: parametrizations.weight.original0, 1"),
            ),
        ),
    ),
    "Folded, it loads into a model without weight norm.",
    "weight_g, weight_v → weight",
    group="values",
    effect="folded",
    at_once=True,
)
