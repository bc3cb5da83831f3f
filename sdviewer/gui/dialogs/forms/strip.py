"""Strip a prefix, or path components."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "strip",
    "&Strip prefix…",
    "rulearrow",
    (
        Entry("prefix", "&Prefix", placeholder="module."),
        Entry("components", "Or &components", "lines", "module\n_orig_mod"),
        Entry(
            "when",
            "&If a key lacks it",
            "choice",
            choices=(("any", "it stays as it is"), ("all", "the step is refused")),
            needed=True,
        ),
    ),
    "End a prefix with a dot to take off a whole module path. Components go wherever they stand above a tensor's name.",
    "module.weight → weight",
    suggests="prefix",
)
