"""What commands print: one JSON document, or lines for people; errors in one line; progress only to a terminal."""

from __future__ import annotations

import json
import math
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sdviewer.core import text
from sdviewer.core.progress import Progress, no_progress
from sdviewer.errors import SDViewerError

if TYPE_CHECKING:
    from sdviewer.formats.receipt import Receipt


def print_json(document: Any) -> None:
    """One ASCII JSON document and nothing else; what is not finite becomes "nan", "inf" or "-inf"."""
    json.dump(_finite(document), sys.stdout, ensure_ascii=True, allow_nan=False, separators=(", ", ": "))
    sys.stdout.write("\n")


def print_line(line: str = "") -> None:
    """A line for people. Text from a file must have gone through `text.visible`."""
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def print_receipt(receipt: Receipt, as_json: bool) -> None:
    """What a save did, as its JSON document or for people."""
    if as_json:
        print_json(receipt.to_json())
    else:
        for line in receipt.lines():
            print_line(line)


def print_error(error: SDViewerError, as_json: bool) -> None:
    """`sdviewer: FILE: cause. remedy` on stderr, and the JSON error on stdout if asked for."""
    line = f"sdviewer: {text.visible(error.path, 4000)}: " if error.path else "sdviewer: "
    body = SDViewerError(text.visible(error.message, 2000), remedy=error.remedy)
    sys.stderr.write((line + str(body)).encode("utf-8", "backslashreplace").decode("utf-8") + "\n")
    if as_json:
        fields = {"file": error.path, "code": error.code, "message": error.message, "remedy": error.remedy}
        print_json({"error": fields})


def progress_for(arguments: Namespace, verb: str) -> Progress:
    """Progress in one line of stderr, only to a terminal and not with `-q`."""
    if arguments.quiet or not sys.stderr.isatty():
        return no_progress

    def show(done: int, total: int) -> None:
        share = f"{done * 100 // total:3d} %" if total else text.size(done)
        sys.stderr.write(f"\r{verb} {share}\x1b[K" + ("\r\x1b[K" if total and done >= total else ""))
        sys.stderr.flush()

    return show


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Lines with aligned columns; the columns in `right` are aligned to the right."""
    if not rows:
        return []
    columns = range(len(rows[0]))
    widths = [max([len(row[i]) for row in rows]) for i in columns]
    line = "  ".join([f"{{:{'>' if i in right else '<'}{widths[i]}}}" for i in columns]).format
    return [line(*row).rstrip() for row in rows]


def _finite(value: Any) -> Any:
    """`value` with every float that JSON lacks as text."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
