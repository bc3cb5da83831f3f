"""Several dimensions become one."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "flatten",
    "F&latten…",
    "line",
    (
        Entry("start", "&From dimension", "number", "0"),
        Entry("end", "&To dimension", "number", "-1: the last"),
    ),
    "Both included, as torch.flatten.",
    "Several dimensions become one: 64×3×7×7 → 64×147",
    group="shapes",
    selected="keys",
    effect="flattened",
    at_once=True,
)
