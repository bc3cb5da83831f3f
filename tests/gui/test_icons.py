"""The icon set: complete, in the theme's colour, crisp."""

from __future__ import annotations

import re

import pytest
from PySide6.QtCore import QSize
from PySide6.QtGui import QColor, QImage
from PySide6.QtWidgets import QApplication, QCheckBox

from sdviewer.core.tree import KINDS
from sdviewer.gui import icons, resources
from sdviewer.gui.actions import ACTIONS
from sdviewer.gui.panels.tree_rows import ICONS
from sdviewer.gui.plots import PLOTS

FILES = sorted((resources.folder() / "icons").glob("*.svg"))


def darkest(image: QImage) -> QColor:
    """The colour of the pixel that is covered most."""
    pixels = [image.pixelColor(x, y) for x in range(image.width()) for y in range(image.height())]
    return max(pixels, key=lambda colour: colour.alpha())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_that_an_icon_is_drawn_in_one_colour_on_the_grid(app: QApplication, path: object) -> None:
    source = path.read_text()  # type: ignore[attr-defined]
    assert 'viewBox="0 0 24 24"' in source
    assert not re.search(r"#[0-9a-fA-F]{3,8}|rgb|url\(|href", source)
    image = icons.pixmap(path.stem, 24, "text").toImage()  # type: ignore[attr-defined]
    inked = sum(image.pixelColor(x, y).alpha() > 100 for x in range(24) for y in range(24))
    assert inked > 10


def test_that_everything_that_names_an_icon_finds_it() -> None:
    there = {path.stem for path in FILES}
    named = {action.icon for action in ACTIONS if action.icon} | {plot.icon for plot in PLOTS} | set(ICONS.values())
    assert named <= there
    assert set(ICONS) == set(KINDS)


def test_that_an_icon_follows_the_theme(app: QApplication) -> None:
    icon = icons.icon("stop", "text")
    assert darkest(icon.pixmap(QSize(48, 48)).toImage()) == QColor(resources.TOKENS["light"]["text"])
    resources.theme().apply("dark")
    assert darkest(icon.pixmap(QSize(48, 48)).toImage()) == QColor(resources.TOKENS["dark"]["text"])
    resources.theme().apply("light")


@pytest.mark.parametrize("ratio", [1.0, 1.5, 2.0])
def test_that_an_icon_has_the_pixels_of_its_screen(app: QApplication, ratio: float) -> None:
    drawn = icons.icon("tensor").pixmap(QSize(16, 16), ratio)
    assert (drawn.width(), drawn.devicePixelRatio()) == (round(16 * ratio), ratio)
    assert icons.pixmap("tensor", 16, "text2", ratio).width() == round(16 * ratio)


def test_that_an_icon_is_drawn_once_for_a_size_and_colour(app: QApplication) -> None:
    assert icons.pixmap("module", 15, "text2").cacheKey() == icons.pixmap("module", 15, "text2").cacheKey()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_that_a_checked_box_has_a_tick_and_not_only_a_colour(app: QApplication, theme: resources.ThemeName) -> None:
    resources.theme().apply(theme)
    box = QCheckBox()
    box.setStyleSheet(resources.style_sheet(theme))
    box.setChecked(True)
    box.resize(40, 20)
    image = box.grab().toImage()
    colours = {image.pixelColor(x, y).name() for x in range(image.width()) for y in range(image.height())}
    tokens = resources.TOKENS[theme]
    assert {QColor(tokens["accent"]).name(), QColor(tokens["accentT"]).name()} <= colours
    resources.theme().apply("light")
