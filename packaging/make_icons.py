"""Draw the icons of `resources/linux/icons` from the SVGs of `resources/app-icons`, with Qt alone.

    .venv/bin/python packaging/make_icons.py

The pictures are committed: `sdviewer register` copies them without starting Qt, and GTK file managers show no SVG icon
where librsvg is not installed. Run it after an SVG has changed.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZES = (16, 22, 24, 32, 48, 64, 128, 256)
APP_ID = "io.github.sdviewer.sdviewer"
ICONS = {"app": ("apps", APP_ID), "document": ("mimetypes", "application-x-pytorch")}
"""SVG -> (context, name) in the hicolor theme."""


def draw(svg: Path, size: int, png: Path) -> None:
    """Draw `svg` as a square picture of `size` pixels with a transparent ground."""
    from PySide6.QtCore import QRectF, Qt
    from PySide6.QtGui import QImage, QPainter
    from PySide6.QtSvg import QSvgRenderer

    image = QImage(size, size, QImage.Format.Format_ARGB32)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    QSvgRenderer(str(svg)).render(painter, QRectF(0, 0, size, size))
    painter.end()
    png.parent.mkdir(parents=True, exist_ok=True)
    if not image.save(str(png)):
        raise OSError(f"cannot write {png}")


def main() -> int:
    """Draw every icon in every size."""
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    theme = ROOT / "resources" / "linux" / "icons" / "hicolor"
    for stem, (context, name) in ICONS.items():
        svg = ROOT / "resources" / "app-icons" / f"{stem}.svg"
        for size in SIZES:
            draw(svg, size, theme / f"{size}x{size}" / context / f"{name}.png")
        scalable = theme / "scalable" / context / f"{name}.svg"
        scalable.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(svg, scalable)
    print(f"{len(ICONS) * (len(SIZES) + 1)} icons in {theme.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
