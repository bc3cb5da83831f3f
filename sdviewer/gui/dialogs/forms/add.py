"""A new tensor."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.cast import DTYPES
from sdviewer.gui.dialogs.forms.form import Entry, Form

SHAPE = "?shape"

FORM = Form(
    "add",
    "&Add a tensor…",
    "plus",
    (
        Entry("key", "&Key", placeholder="head.bias"),
        Entry(
            SHAPE,
            "I&ts shape",
            "choice",
            needed=True,
            choices=(("like", "that of another tensor"), ("shape", "as given here")),
        ),
        Entry(
            "like", "&Like", placeholder="head.weight, or head.weight[0]: its dimension 0 alone", when=(SHAPE, "like")
        ),
        Entry("shape", "&Shape", "numbers", "10, 768", when=(SHAPE, "shape")),
        Entry(
            "fill",
            "F&illed with",
            "scalar",
            "zeros, ones, arange (0, 1, 2 …), normal or a number",
            choices=(("zeros", ""), ("ones", ""), ("arange", ""), ("normal", "")),
        ),
        Entry("mean", "M&ean", "decimal", "0", when=("fill", "normal")),
        Entry("std", "De&viation", "decimal", "1", when=("fill", "normal")),
        Entry("seed", "Seed &number", "number", "0", when=("fill", "normal")),
        Entry(
            "dtype",
            "dt&ype",
            "choice",
            choices=(("", "that of the other tensor, else float32"), *((name, name) for name in DTYPES)),
        ),
        Entry("after", "&Behind", placeholder="at the end"),
    ),
    "The same seed gives the same numbers everywhere.",
    "A new tensor of zeros, ones, random numbers",
    any_key=False,
    group="values",
    effect="added",
)
