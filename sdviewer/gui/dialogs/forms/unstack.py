"""Every place along a dimension a tensor of its own."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "unstack",
    "U&nstack…",
    "list",
    (
        Entry("from", "&From", placeholder="{x}.experts.weight"),
        Entry("into", "&Into", placeholder="{x}.experts.{e}.weight"),
        Entry("dim", "A&long dimension", "number", "0"),
    ),
    "The placeholder that only the second has takes the numbers of the places, from 0.",
    "experts.weight → experts.0.weight, experts.1.weight …",
    group="shapes",
    selected="from",
    effect="cut",
)
