"""The look: colours that can be read, and a theme that turns."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QImage, QPalette
from PySide6.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QLineEdit,
    QSlider,
    QSpinBox,
    QStackedWidget,
    QTableWidget,
    QVBoxLayout,
    QWidget,
)
from pytestqt.qtbot import QtBot

from sdviewer.gui import resources, widgets
from sdviewer.gui.resources import TOKENS


def luminance(code: str) -> float:
    """Relative luminance of WCAG 2."""
    colour = QColor(code)
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.getRgbF()[:3]]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("token", ["text", "text2", "text3", "accent", "A", "B", "S", "ok", "warn"])
def test_that_text_can_be_read_on_a_panel(theme: str, token: str) -> None:
    assert contrast(TOKENS[theme][token], TOKENS[theme]["panel"]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    ("token", "on"), [("accentT", "accent"), ("A", "tA"), ("B", "tB"), ("S", "tS"), ("warn", "tW")]
)
def test_that_text_can_be_read_on_its_tint(theme: str, token: str, on: str) -> None:
    assert contrast(TOKENS[theme][token], TOKENS[theme][on]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_that_outlines_of_fields_are_seen(theme: str) -> None:
    assert contrast(TOKENS[theme]["edge"], TOKENS[theme]["panel"]) >= 3.0


def test_that_both_themes_have_the_same_tokens() -> None:
    assert set(TOKENS["light"]) == set(TOKENS["dark"])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_that_the_style_sheet_has_no_token_left(app: QApplication, theme: resources.ThemeName) -> None:
    assert "$" not in resources.style_sheet(theme)


def test_that_a_theme_turns_palette_and_colours_at_once(app: QApplication) -> None:
    told: list[str] = []
    turned = resources.theme().changed.connect(lambda: told.append(resources.theme().name))
    resources.theme().apply("dark")
    assert app.palette().color(QPalette.ColorRole.Window) == QColor(TOKENS["dark"]["win"])
    assert resources.colour("text") == QColor(TOKENS["dark"]["text"])
    resources.theme().apply("light")
    assert app.palette().color(QPalette.ColorRole.Window) == QColor(TOKENS["light"]["win"])
    assert told == ["dark", "light"]
    resources.theme().changed.disconnect(turned)


def test_that_the_desktop_is_followed_one_part_in_a_turn_and_only_where_it_changed(
    app: QApplication, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    theme = resources.theme()
    theme.apply("light")
    monkeypatch.setattr(theme, "choice", "system")
    monkeypatch.setattr(resources, "_system_theme", lambda: "dark")
    theme._desktop_changed()
    assert app.styleSheet() == "", "the widgets are dressed in a later turn"
    with qtbot.waitSignal(theme.changed):
        pass
    assert app.styleSheet() == resources.style_sheet("dark")
    theme._desktop_changed()
    assert app.styleSheet() == resources.style_sheet("dark")
    theme.apply("light")


# Machado 2009, full severity: what the eyes see of linear light.
VISIONS = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def lab(code: str, vision: str) -> tuple[float, float, float]:
    """CIELAB of what is left of a colour."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in QColor(code).getRgbF()[:3]]
    seen = [min(max(sum(m * c for m, c in zip(row, linear, strict=True)), 0.0), 1.0) for row in VISIONS[vision]]
    to_xyz = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
    x, y, z = (
        (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116)
        for t in (sum(m * c for m, c in zip(row, seen, strict=True)) / sum(row) for row in to_xyz)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("vision", VISIONS)
def test_that_no_two_series_look_alike_to_anybody(theme: str, vision: str) -> None:
    seen = [lab(TOKENS[theme][token], vision) for token in resources.SERIES]
    for i, one in enumerate(seen):
        for other in seen[:i]:
            assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 > 25
    assert all(contrast(TOKENS[theme][token], TOKENS[theme]["panel"]) >= 3 for token in resources.SERIES)


def _page() -> QWidget:
    """One of each that the style sheet has something to say about."""
    made = QWidget()
    column = QVBoxLayout(made)
    table = QTableWidget(2, 2)
    table.setHorizontalHeaderLabels(["key", "shape"])
    box = QComboBox()
    box.addItem("float32")
    check = QCheckBox("checked")
    check.setChecked(True)
    slider = QSlider(Qt.Orientation.Horizontal)
    slider.setValue(40)
    for widget in (
        widgets.Card("Title", "subtitle"), widgets.button("Save", primary=True), widgets.button("link", link=True),
        widgets.Chip("NaN", "warn", "warn"), widgets.label("note", "note"), QLineEdit("layers.0.weight"), QSpinBox(),
        table, box, check, slider,
    ):  # fmt: skip
        column.addWidget(widget)
    return made


def test_that_what_was_hidden_while_the_theme_turned_looks_as_if_it_had_been_seen(
    app: QApplication, qtbot: QtBot
) -> None:
    stack = QStackedWidget()
    qtbot.addWidget(stack)
    for _ in range(2):
        stack.addWidget(_page())
    stack.resize(400, 700)
    stack.show()
    stack.setCurrentIndex(1)

    def turned(choice: resources.ThemeChoice, *, at_once: bool) -> QImage:
        stack.setCurrentIndex(0)
        if at_once:
            resources.theme().apply(choice)
        else:
            with qtbot.waitSignal(resources.theme().changed):
                resources.theme().turn(choice)
            qtbot.waitUntil(lambda: not resources.theme().is_turning)
        stack.setCurrentIndex(1)
        return stack.grab().toImage()

    try:
        dark, light = (turned(choice, at_once=False) for choice in ("dark", "light"))
        assert dark != light
        # A second turn while the first is still at work.
        resources.theme().turn("light")
        assert turned("dark", at_once=False) == dark
        assert turned("light", at_once=True) == light
        assert turned("dark", at_once=True) == dark
    finally:
        resources.theme().apply("light")
