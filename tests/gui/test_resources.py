"""The look: colours that can be read, and a theme that turns."""

from __future__ import annotations

import pytest
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication

from sdviewer.gui import resources
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
def test_that_the_style_sheet_has_no_token_left(theme: resources.ThemeName) -> None:
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
