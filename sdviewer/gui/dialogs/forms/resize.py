"""Interpolate position tables and patch kernels."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "resize",
    "Resi&ze…",
    "shape",
    (
        Entry("to", "&Sizes", "numbers", "24, 24"),
        Entry("of", "&Of", "choice", choices=(("grid", "a grid of positions"), ("image", "the last dimensions"))),
        Entry("prefix", "&Class tokens before it", "number", "0"),
        Entry("grid", "Sizes it &has", "numbers", "square"),
        Entry("dim", "Positions a&long dimension", "number", "-2"),
        Entry(
            "mode",
            "&Mode",
            "choice",
            choices=(("bicubic", "bicubic"), ("bilinear", "bilinear"), ("nearest", "nearest")),
        ),
        Entry("sharp", "Not smoo&thed: antialias=False", "flag"),
    ),
    "As torch's interpolate. Position tables for pictures of another size, kernels for other patches.",
    "Position tables and kernels: 1×197×768 → 1×577×768",
    group="sizes",
    selected="keys",
    effect="resized",
)
