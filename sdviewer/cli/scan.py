"""`sdviewer scan FILE`: what unpickling it would import and call; nothing of it is run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from sdviewer.cli.output import print_json, print_line, progress_for, table
from sdviewer.core import text
from sdviewer.pickles.scan import ONLY_ATTRIBUTES, Scan, takes_only_attributes

NAME = "scan"
HELP = "what unpickling a file would import and call"

VERDICTS = {
    "clean": "Every name it asks for is torch's own or a plain data holder.",
    "unknown": "It asks for names that are on no list: what they would do is not known.",
    "dangerous": "Unpickling it would run commands.",
}


def add_arguments(parser: ArgumentParser) -> None:
    """FILE, --json."""
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--json", action="store_true")


def run(arguments: Namespace) -> int:
    """Print what was found; 1 when that is dangerous or not all of it could be read."""
    from sdviewer.formats.scanning import scan_file

    found = scan_file(arguments.file, progress=progress_for(arguments, "Scanning"))
    if arguments.json:
        print_json(found.to_json())
    else:
        for line in as_text(arguments.file, found):
            print_line(line)
    return 1 if found.verdict == "dangerous" or not found.complete else 0


def as_text(path: str, found: Scan) -> list[str]:
    """The same for people: the verdict in words, then every name, then what could not be read."""
    lines = [f"{text.visible(path, 4000)}: {found.verdict}, {text.plural(found.pickles, 'pickle')}"]
    lines.append(f"  {VERDICTS[found.verdict] if found.pickles else 'There is no pickle in it.'}")
    if not found.complete:
        lines.append("  Not all of it could be read or known:")
        lines += [f"    {text.visible(gap)}" for gap in found.gaps[:20]]
    if found.verdict == "unknown" and takes_only_attributes(use.name for use in found.globals if use.cls == "unknown"):
        lines.append(f"  {ONLY_ATTRIBUTES}")
    if found.weights_only_would_load is not None:
        answer = "accepts" if found.weights_only_would_load else "refuses"
        lines.append(f"  torch.load(weights_only=True) {answer} it.")
    rows = [
        (f"  {use.cls}", text.visible(use.name, 200), f"{use.uses}×", "called" if use.called else "", use.call or "")
        for use in found.globals
    ]
    return lines + table(rows)
