"""Adapt input channels."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "channels",
    "Adapt input &channels…",
    "replace",
    (
        Entry("to", "How man&y", "number", "1: their sum; 4: in turn, scaled by 3 / 4"),
        Entry("dim", "A&long dimension", "number", "1"),
    ),
    "A stem for colour pictures takes grey ones, or four channels, and answers about the same.",
    "Input channels of a convolution: 64×3×7×7 → 64×1×7×7",
    group="sizes",
    selected="keys",
    effect="adapted",
)
