"""Let the optimizer follow dropped keys."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Form

FORM = Form(
    "renumber_optimizer",
    "Let the optimi&zer follow…",
    "gauge",
    hint="What the optimizer keeps of parameters that go goes too; those behind them get lower numbers.",
    tip="For a recipe that drops keys of a model that is still trained",
    any_key=False,
    group="file",
)
