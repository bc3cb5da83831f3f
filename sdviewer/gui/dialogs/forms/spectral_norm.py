"""Fold spectral norm, or bring it into its other form."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.reparametrization import reparametrization

FORM = reparametrization(
    *("spectral_norm", "&Spectral norm…", "spectrum", "spectral norm"),
    old="weight_orig, weight_u, weight_v",
    new="parametrizations.weight.original, 0._u, 0._v",
)
