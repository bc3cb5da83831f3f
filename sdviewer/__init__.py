"""sdviewer: open, look into, compare and repair PyTorch checkpoints without running anything in them."""

__version__ = "0.1.0"

APP_ID = "io.github.sdviewer.sdviewer"
"""The one application id: desktop entry, icons, Wayland app id, settings."""
