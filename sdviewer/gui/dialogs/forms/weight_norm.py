"""Fold weight norm, or bring it into its other form."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.reparametrization import reparametrization

FORM = reparametrization(
    *("weight_norm", "Wei&ght norm…", "gauge", "weight norm"),
    old="weight_g, weight_v",
    new="parametrizations.weight.original0, original1",
)
