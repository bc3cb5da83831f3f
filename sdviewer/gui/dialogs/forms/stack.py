"""Numbered tensors along a new dimension."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "stack",
    "Stac&k…",
    "depth",
    (
        Entry("from", "&From", placeholder="{x}.experts.{e}.weight"),
        Entry("over", "&Over", placeholder="e: the placeholder that takes the numbers from 0"),
        Entry("into", "&Into", placeholder="{x}.experts.weight"),
        Entry("dim", "As dimensio&n", "number", "0"),
    ),
    "All numbers from 0 without a gap, of one shape and dtype, become one tensor.",
    "experts.0.weight, experts.1.weight … → experts.weight",
    group="shapes",
    effect="joined",
)
