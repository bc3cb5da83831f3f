"""What the forms of weight norm and spectral norm share."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form


def reparametrization(op: str, title: str, icon: str, name: str, old: str, new: str) -> Form:
    """The form of a step that folds a weight that is kept as several tensors, named `old` or `new` in their forms."""
    choices = (("folded", "one tensor: weight"), ("old", f"the old form: {old}"), ("new", f"the new form: {new}"))
    return Form(
        op,
        title,
        icon,
        (Entry("to", "&Becomes", "choice", choices=choices),),
        f"Folded, it loads into a model without {name}.",
        f"{old} → weight",
        group="values",
        effect="folded",
        at_once=True,
    )
