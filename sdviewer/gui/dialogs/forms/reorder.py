"""Put equal parts into another order."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "reorder",
    "Reorder p&arts…",
    "swap",
    (
        Entry("order", "&Order", "numbers", "1, 0: two halves exchanged; 2, 0, 1: the last third first"),
        Entry("dim", "A&long dimension", "number", "0"),
        Entry("groups", "In &groups", "number", "1: each part in one piece; as many as heads where they alternate"),
    ),
    "Gate and up, scale and shift, q, k and v: equal parts of one tensor.",
    "Equal parts in another order: gate, up → up, gate",
    group="sizes",
    selected="keys",
    effect="reordered",
)
