"""One tensor into every block."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "broadcast",
    "Copy into &blocks…",
    "copy",
    (
        Entry("from", "&From", placeholder="embed.weight"),
        Entry("to", "&To", placeholder="blocks.{i}.embed.weight"),
        Entry("tied", "All are &one tensor, tied", "flag"),
    ),
    "The blocks are those that there are now; a tensor that has the key is replaced.",
    "embed.weight → blocks.0.embed.weight, blocks.1.embed.weight …",
    any_key=False,
    group="values",
    selected="from",
    effect="copied",
)
