"""`sdviewer scan FILE`: what unpickling it would import and call; nothing of it is run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

from sdviewer.cli.output import print_json, print_line, progress_for, table
from sdviewer.core import text
from sdviewer.pickles.scan import Scan, merge, scan_stream

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
    found = scan_file(arguments.file, arguments)
    if arguments.json:
        print_json(found.to_json())
    else:
        for line in as_text(arguments.file, found):
            print_line(line)
    return 1 if found.verdict == "dangerous" or not found.complete else 0


def scan_file(path: str, arguments: Namespace) -> Scan:
    """One scan of all pickles of a file; one whose bytes cannot be had makes it incomplete."""
    from sdviewer.formats.pickle_streams import pickle_streams

    progress = progress_for(arguments, "Scanning")
    loaded: list[Scan] = []
    beside: list[Scan] = []
    refused = False
    for stream in pickle_streams(path, progress=progress):
        where = stream.name or Path(path).name
        if stream.broken:
            scan = Scan(False, 1, None, (), (f"{where}: {stream.broken}",))
        else:
            scan = scan_stream(stream.data, where, most=stream.pickles, number_ids=stream.number_ids, progress=progress)
        refused = refused or stream.refused
        (loaded if stream.loaded else beside).append(scan)
    if not loaded and not beside:
        return Scan(True, 0, None, ())
    found = merge(loaded, beside)
    return replace(found, weights_only_would_load=False) if refused else found


def as_text(path: str, found: Scan) -> list[str]:
    """The same for people: the verdict in words, then every name, then what could not be read."""
    lines = [f"{text.visible(path, 4000)}: {found.verdict}, {text.plural(found.pickles, 'pickle')}"]
    lines.append(f"  {VERDICTS[found.verdict] if found.pickles else 'There is no pickle in it.'}")
    if not found.complete:
        lines.append("  Not all of it could be read or known:")
        lines += [f"    {text.visible(gap)}" for gap in found.gaps[:20]]
    if found.weights_only_would_load is not None:
        answer = "accepts" if found.weights_only_would_load else "refuses"
        lines.append(f"  torch.load(weights_only=True) {answer} it.")
    rows = [
        (f"  {use.cls}", text.visible(use.name, 200), f"{use.uses}×", "called" if use.called else "", use.call or "")
        for use in found.globals
    ]
    return lines + table(rows)
