"""Put in a dimension of size 1."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "unsqueeze",
    "&Unsqueeze…",
    "plus",
    (Entry("dim", "As &dimension", "number", "0; -1: behind the last", needed=True),),
    "As torch.unsqueeze.",
    "Put in a dimension of size 1: 512×256 → 1×512×256",
    group="shapes",
    selected="keys",
    effect="unsqueezed",
)
