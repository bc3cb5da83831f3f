"""The look: colour tokens, fonts, palette and style sheet, and which of the two themes is on.

Colour belongs to data; the chrome is grey. Whatever paints itself asks `colour(token)` while painting, so that a change
of theme needs a repaint and nothing more. No font is shipped: the platform's own is used.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import Final, Literal

from PySide6.QtCore import QEvent, QObject, Qt, QTimer, Signal
from PySide6.QtGui import QColor, QFont, QFontDatabase, QFontInfo, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication, QWidget
from shiboken6 import isValid

import sdviewer
from sdviewer.gui.mnemonics import MnemonicStyle

ThemeName = Literal["light", "dark"]
ThemeChoice = Literal["system", "light", "dark"]

_LIGHT = {
    "win": "#F3F4F6",
    "panel": "#FFFFFF",
    "sunk": "#ECEEF1",
    "hover": "#EFF1F4",
    "sel": "#E4E8ED",
    "border": "#DCE0E5",
    "border2": "#C6CCD4",
    "edge": "#8A94A1",
    "text": "#1B222C",
    "text2": "#566170",
    "text3": "#6A7582",
    "accent": "#1B6EB7",
    "accentT": "#FFFFFF",
    "accentSoft": "#E3EFF9",
    "A": "#165F9F",
    "Af": "#3D8FD4",
    "tA": "#E2EFFA",
    "B": "#9A4C00",
    "Bf": "#F0962E",
    "tB": "#FDEFD8",
    "S": "#8C1247",
    "tS": "#EFD5E0",
    "ok": "#0B7A66",
    "tok": "#DFF2EC",
    "warn": "#7A5600",
    "tW": "#FFF4D6",
    "bW": "#E8CF8B",
    "neutral": "#8592A0",
    "series1": "#165F9F",
    "series2": "#DA6B07",
    "series3": "#A37A6D",
    "series4": "#452E39",
    "series5": "#7C2E0D",
    "series6": "#9A68FE",
}
_DARK = {
    "win": "#14171C",
    "panel": "#1B1F26",
    "sunk": "#12151A",
    "hover": "#232832",
    "sel": "#2F3743",
    "border": "#2B313B",
    "border2": "#3A424E",
    "edge": "#66717F",
    "text": "#E7EBF1",
    "text2": "#A5B0BF",
    "text3": "#808C9A",
    "accent": "#6CB6F5",
    "accentT": "#0C1722",
    "accentSoft": "#1E3A55",
    "A": "#6CB6F5",
    "Af": "#4D9BDE",
    "tA": "#1B3550",
    "B": "#F0A04B",
    "Bf": "#E8923A",
    "tB": "#4A3414",
    "S": "#FFC2D6",
    "tS": "#5E2A40",
    "ok": "#4CC9AC",
    "tok": "#17392F",
    "warn": "#EBCB6B",
    "tW": "#3A3014",
    "bW": "#6B5A22",
    "neutral": "#8390A0",
    "series1": "#6CB6F5",
    "series2": "#EB7E17",
    "series3": "#8E7D6D",
    "series4": "#BFED8A",
    "series5": "#FFD1D3",
    "series6": "#615AE6",
}
TOKENS: Final = MappingProxyType({"light": MappingProxyType(_LIGHT), "dark": MappingProxyType(_DARK)})

Stops = tuple[tuple[float, str], ...]
DIVERGING: Final[MappingProxyType[str, Stops]] = MappingProxyType(
    {
        "light": ((0, "#12385E"), (0.22, "#2166AC"), (0.5, "#F7F7F8"), (0.78, "#B2182B"), (1, "#610D17")),
        "dark": ((0, "#AFD3F7"), (0.22, "#6FB0F1"), (0.5, "#1B1F26"), (0.78, "#FF8A65"), (1, "#FFBEAA")),
    }
)
"""Negative, zero, positive; zero is the panel's colour in both themes."""

SEQUENTIAL: Final[MappingProxyType[str, Stops]] = MappingProxyType(
    {
        "light": ((0, "#ECEEF2"), (0.15, "#CDD6E8"), (0.4, "#8B9CD0"), (0.7, "#5454A0"), (1, "#2E1D5C")),
        "dark": ((0, "#242933"), (0.15, "#303A5C"), (0.4, "#545CA8"), (0.7, "#968AE8"), (1, "#EEE2FF")),
    }
)
"""Amounts from nothing to the most; lightness runs one way only."""

SERIES: Final = tuple(f"series{i}" for i in range(1, 7))
"""Tokens of things that are drawn over each other; no two look alike to any of the three kinds of colour blindness."""

SMALL, NOTE, BASE, CARD, PATH, HEADING = 11, 12, 13, 14, 17, 21
"""Text sizes in pixels where the platform's own size is 13; others are scaled alike."""

_PLEASANT_SANS = ("Inter", "Segoe UI", "SF Pro Text", "Noto Sans", "Cantarell", "Ubuntu")
_PLEASANT_MONO = ("JetBrains Mono", "SF Mono", "Cascadia Mono", "Noto Sans Mono", "Ubuntu Mono", "DejaVu Sans Mono")
# What fontconfig calls its defaults on a desktop that has set none: then a nicer installed family is taken.
_NOBODYS_CHOICE = {"sans serif", "sans", "dejavu sans", "helvetica", "monospace", "mono", "dejavu sans mono", "courier"}


def folder() -> Path:
    """Where icons and the style sheet lie: inside the package when installed, beside it in a checkout."""
    package = Path(sdviewer.__file__).parent
    inside = package / "resources"
    return inside if inside.is_dir() else package.parent / "resources"


class Theme(QObject):
    """Which theme is on; `changed` fires after palette and style sheet are in place."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.choice: ThemeChoice = "system"
        self.name: ThemeName = "light"
        self._applying = False
        self._turns = 0
        self._unseen = _Unseen()

    def apply(self, choice: ThemeChoice) -> None:
        """Turn to a theme at once; "system" follows the desktop from now on."""
        self.choice = choice
        self._turn_to(_system_theme() if choice == "system" else choice)

    def turn(self, choice: ThemeChoice) -> None:
        """Turn to a theme under the eyes of a person: in turns of the event loop, which all at once would stall.

        Nothing is painted before what is seen is dressed; nine of ten widgets are not, and are dressed behind that.
        """
        self.choice = choice
        self.name = _system_theme() if choice == "system" else choice
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        shown = [window for window in app.topLevelWidgets() if window.isVisible()]
        for window in shown:
            window.setUpdatesEnabled(False)

        self._turns += 1
        this = self._turns

        def dress_again() -> None:
            if this != self._turns:
                return  # it was turned once more meanwhile
            app.setStyleSheet(style_sheet(self.name))
            QTimer.singleShot(1, tell)

        def tell() -> None:
            self.changed.emit()
            QTimer.singleShot(1, paint)

        def paint() -> None:
            for window in filter(isValid, shown):
                window.setUpdatesEnabled(True)
            self._applying = False
            self._unseen.bring_back()

        self._applying = True
        app.setPalette(_palette(self.name))
        self._unseen.put_aside()
        app.setStyleSheet("")
        QTimer.singleShot(1, dress_again)

    @property
    def is_turning(self) -> bool:
        """Whether something still waits to be dressed."""
        return self._applying or self._unseen.waits

    def watch(self, app: QApplication) -> None:
        """Follow the desktop while the choice is "system"."""
        app.styleHints().colorSchemeChanged.connect(self._desktop_changed)

    def _desktop_changed(self) -> None:
        if self.choice == "system" and not self._applying and self.name != _system_theme():
            self.turn("system")

    def _turn_to(self, name: ThemeName) -> None:
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        self.name = name
        self._applying = True
        self._unseen.let_all_back()
        try:
            app.setPalette(_palette(name))
            # From one sheet to another each widget is polished once for each that it is in: 130 ms instead of 30.
            app.setStyleSheet("")
            app.setStyleSheet(style_sheet(name))
        finally:
            self._applying = False
        self.changed.emit()


class _Unseen:
    """Widgets that nobody sees, which a new style sheet passes over and which are dressed a few at a time afterwards.

    Dressing takes 0.1 ms each. Qt passes over those that claim to have a style of their own and not to be dressed yet.
    """

    PATIENCE = 0.006
    """Seconds that a few take."""

    def __init__(self) -> None:
        self._aside: list[QWidget] = []
        self._next = QTimer(interval=1, singleShot=True)
        self._next.timeout.connect(self._dress_some)

    @property
    def waits(self) -> bool:
        """Whether some are not dressed yet."""
        return bool(self._aside)

    def put_aside(self) -> None:
        """Take those that are not seen now out of what the application dresses."""
        self.let_all_back()
        for widget in QApplication.allWidgets():
            own = widget.testAttribute(_HAS_STYLE)
            if not widget.isVisible() and widget.testAttribute(_IS_DRESSED) and not own:
                self._aside.append(widget)
                _mark(widget, aside=True)

    def bring_back(self) -> None:
        """Dress them, behind what else there is to do."""
        self._next.start()

    def let_all_back(self) -> None:
        """Leave them to the application as they are."""
        self._next.stop()
        for widget in filter(isValid, self._aside):
            _mark(widget, aside=False)
        self._aside.clear()

    def _dress_some(self) -> None:
        end = time.perf_counter() + self.PATIENCE
        while self._aside and time.perf_counter() < end:
            widget = self._aside.pop()
            if not isValid(widget):
                continue
            _mark(widget, aside=False)
            style = widget.style()
            style.unpolish(widget)
            style.polish(widget)
            QApplication.sendEvent(widget, QEvent(QEvent.Type.StyleChange))
            widget.update()
        if self._aside:
            self._next.start()


_IS_DRESSED: Final = Qt.WidgetAttribute.WA_WState_Polished
_HAS_STYLE: Final = Qt.WidgetAttribute.WA_SetStyle


def _mark(widget: QWidget, *, aside: bool) -> None:
    widget.setAttribute(_HAS_STYLE, aside)
    widget.setAttribute(_IS_DRESSED, not aside)


_theme: Theme | None = None


def theme() -> Theme:
    """The one theme of this process; made on first use, after QApplication."""
    global _theme
    if _theme is None:
        _theme = Theme()
    return _theme


def dress(app: QApplication, choice: ThemeChoice) -> None:
    """Give the application its style, font and theme."""
    app.setStyle(MnemonicStyle("Fusion"))
    app.setFont(font(BASE))
    theme().watch(app)
    theme().apply(choice)


def colour(token: str) -> QColor:
    """The colour of a token in the theme that is on; not to be changed by who gets it."""
    return _colour(theme().name, token)


@functools.cache
def _colour(name: ThemeName, token: str) -> QColor:
    return QColor(TOKENS[name][token])


def _system_theme() -> ThemeName:
    scheme = QGuiApplication.styleHints().colorScheme()
    return "dark" if scheme == Qt.ColorScheme.Dark else "light"


# Fonts


@functools.cache
def _family(fixed: bool) -> str:
    system = QFontDatabase.systemFont(
        QFontDatabase.SystemFont.FixedFont if fixed else QFontDatabase.SystemFont.GeneralFont
    )
    if system.family().lower() not in _NOBODYS_CHOICE:
        return system.family()
    installed = set(QFontDatabase.families())
    pleasant = _PLEASANT_MONO if fixed else _PLEASANT_SANS
    return next((family for family in pleasant if family in installed), system.family())


@functools.cache
def _scale() -> float:
    """The platform's text size over 13 pixels; a desktop that has set no font gets 13."""
    system = QFontDatabase.systemFont(QFontDatabase.SystemFont.GeneralFont)
    if system.family().lower() in _NOBODYS_CHOICE:
        return 1.0
    return min(max(QFontInfo(system).pixelSize() / BASE, 0.85), 2.0)


def px(size: float) -> int:
    """A text size in the platform's proportion."""
    return max(round(size * _scale()), 8)


@functools.lru_cache(maxsize=128)
def font(size: int = BASE, weight: int = 400, mono: bool = False) -> QFont:
    """A font of the interface; digits are of equal width, and code has no ligatures."""
    made = QFont(_family(mono))
    made.setPixelSize(px(size))
    made.setWeight(QFont.Weight(weight))
    if mono:
        made.setStyleHint(QFont.StyleHint.Monospace)
        made.setFixedPitch(True)
    for feature, on in (("tnum", 1), ("calt", 0 if mono else 1)):
        made.setFeature(QFont.Tag(feature), on)
    return made


# Palette and style sheet


def _palette(name: ThemeName) -> QPalette:
    token = {key: QColor(value) for key, value in TOKENS[name].items()}
    role = QPalette.ColorRole
    palette = QPalette()
    for where, what in (
        (role.Window, "win"),
        (role.WindowText, "text"),
        (role.Base, "panel"),
        (role.AlternateBase, "sunk"),
        (role.Text, "text"),
        (role.PlaceholderText, "text3"),
        (role.Button, "panel"),
        (role.ButtonText, "text"),
        (role.BrightText, "accentT"),
        (role.ToolTipBase, "panel"),
        (role.ToolTipText, "text"),
        (role.Highlight, "accent"),
        (role.HighlightedText, "accentT"),
        (role.Accent, "accent"),
        (role.Link, "accent"),
        (role.LinkVisited, "accent"),
        (role.Light, "panel"),
        (role.Midlight, "border"),
        (role.Mid, "border2"),
        (role.Dark, "edge"),
        (role.Shadow, "border2"),
    ):
        palette.setColor(where, token[what])
    for where in (role.WindowText, role.Text, role.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, where, token["text3"])
    return palette


@functools.lru_cache(maxsize=4)
def style_sheet(name: ThemeName) -> str:
    """The application's style sheet in the colours of a theme."""
    sizes = {f"px{size}": f"{px(size)}px" for size in (SMALL, NOTE, BASE, CARD, PATH, HEADING)}
    families = {"mono": f'"{_family(True)}"'}
    # Style sheets draw ticks from files only, which have the colour `accentT` of their theme.
    ticks = {"tick": (folder() / "style" / f"tick-{name}.svg").as_posix()}
    source = (folder() / "style" / "sdviewer.qss").read_text(encoding="utf-8")
    return Template(source).substitute(TOKENS[name] | sizes | families | ticks)


def is_theme_change(event: QEvent) -> bool:
    """Whether a widget must drop what it has drawn in the old colours."""
    return event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange)
