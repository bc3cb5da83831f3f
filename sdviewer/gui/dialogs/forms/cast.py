"""Give tensors another dtype."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

DTYPES = ("float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2", "int8", "uint8", "int64")

FORM = Form(
    "cast",
    "&Cast…",
    "value",
    (
        Entry("dtype", "&To", "choice", needed=True, choices=tuple((name, name) for name in DTYPES)),
        Entry("of", "&Which", "choice", choices=(("floating", "floating point tensors"), ("all", "all tensors"))),
    ),
    "What a cast loses is said before it is saved.",
    "Give tensors another dtype",
    group="values",
    selected="keys",
    effect="cast",
    at_once=True,
)
