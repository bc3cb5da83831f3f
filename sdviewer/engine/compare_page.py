"""A comparison as one HTML page that needs nothing else: no script, no picture, nothing from elsewhere.

Text from a file is made visible and escaped, and a policy in the page forbids whatever should get through.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, TensorInfo
from sdviewer.engine.compare_reports import (
    CAST_WORDS,
    TITLES,
    CompareReport,
    ReportedPair,
    change_in_words,
    counts_in_words,
    file_names,
    unchanged_parts,
    value_in_words,
)

MOST_ROWS = 5000
"""Pairs that a page shows: those that differ before those that do not; the CSV has all."""

GLYPHS: Mapping[str, str] = {
    "identical": "=",
    "close": "≈",
    "changed": "≠",
    "shape": "▯",
    "dtype": "≠",
    "only_a": "◀",
    "only_b": "▶",
    "": "…",
}

_STYLE = """
:root { color-scheme: light dark; --text: #1b222c; --soft: #566170; --line: #dce0e5; --panel: #fff; --page: #f3f4f6;
  --a: #165f9f; --at: #e2effa; --b: #9a4c00; --bt: #fdefd8; --s: #8c1247; --st: #efd5e0; --bar: #5454a0; }
@media (prefers-color-scheme: dark) { :root { --text: #e7ebf1; --soft: #a5b0bf; --line: #2b313b; --panel: #1b1f26;
  --page: #14171c; --a: #6cb6f5; --at: #1b3550; --b: #f0a04b; --bt: #4a3414; --s: #ffc2d6; --st: #5e2a40;
  --bar: #968ae8; } }
body { margin: 24px auto; max-width: 1200px; padding: 0 16px; background: var(--page); color: var(--text);
  font: 14px/1.45 system-ui, sans-serif; }
h1 { font-size: 20px; font-weight: 500; } h2 { font-size: 16px; font-weight: 500; margin-top: 28px; }
code, td { font-variant-numeric: tabular-nums; } code { font-family: ui-monospace, monospace; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; background: var(--panel); border: 1px solid var(--line); }
th { text-align: left; color: var(--soft); font-weight: 500; } th, td { padding: 4px 10px; }
tr { border-top: 1px solid var(--line); } td.n, th.n { text-align: right; white-space: nowrap; }
.only_a td { background: var(--at); } .only_b td { background: var(--bt); } .shape td { background: var(--st); }
.only_a .status, .a { color: var(--a); } .only_b .status, .b { color: var(--b); } .shape .status { color: var(--s); }
.bar { display: inline-block; height: 6px; border-radius: 3px; background: var(--bar); vertical-align: middle; }
.soft { color: var(--soft); }
"""


def as_html(report: CompareReport) -> str:
    """The page."""
    a, b = (escape(name) for name in file_names(report))
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width">',
        f"<title>{a} ↔ {b}</title><style>{_STYLE}</style></head><body>",
        f'<h1><span class="a">A</span> {a} ↔ <span class="b">B</span> {b}</h1>',
        f"<p>{_file('A', report.a)}<br>{_file('B', report.b)}</p>",
        f"<p>{escape(counts_in_words(report))}</p>",
    ]
    frozen = unchanged_parts(report)
    if frozen:
        parts.append(f"<p>Unchanged: {', '.join(f'<code>{escape(part)}</code>' for part in frozen)}</p>")
    parts += _pairs(report)
    if report.values:
        rows = "".join(f"<tr><td><code>{escape(value_in_words(one))}</code></td></tr>" for one in report.values)
        parts.append(f"<h2>Values that are no tensors</h2><table>{rows}</table>")
    if report.problems:
        rows = "".join(
            f"<tr><td><code>{_name(report.pairs[one.pair].key)}</code></td><td>{_name(one.message)}</td></tr>"
            for one in report.problems
        )
        parts.append(f"<h2>Not compared</h2><table>{rows}</table>")
    return "\n".join([*parts, "</body></html>\n"])


def _file(side: str, checkpoint: Checkpoint) -> str:
    tensors = text.plural(len(checkpoint.tensors), "tensor")
    facts = f"{checkpoint.container}, {text.size(checkpoint.size)}, {tensors}"
    return (
        f'<b class="{side.lower()}">{side}</b> <code>{_name(checkpoint.path)}</code> <span class="soft">{facts}</span>'
    )


def _pairs(report: CompareReport) -> list[str]:
    words = report.statuses()
    different = [at for at, word in enumerate(words) if word not in ("identical", "close")]
    same = [at for at, word in enumerate(words) if word in ("identical", "close")]
    shown = sorted([*different, *same][:MOST_ROWS])
    limit = max((x for x in report.table["rel_l2"].tolist() if math.isfinite(x)), default=0.0)
    head = "".join(
        f'<th class="{kind}">{title}</th>'
        for title, kind in (
            ("", ""), ("key", ""), ("shape", ""), ("type", ""), ("‖B − A‖ / ‖A‖", "n"), ("cosine", "n"),
            ("max |B − A|", "n"), ("", ""),
        )
    )  # fmt: skip
    rows = [_pair(report.pairs[at], words[at], report.numbers(at), limit) for at in shown]
    left = len(words) - len(shown)
    more = [f'<p class="soft">{left:,} more pairs are not shown here.</p>'] if left else []
    return [f"<h2>Tensors</h2><table><tr>{head}</tr>", *rows, "</table>", *more]


def _pair(pair: ReportedPair, word: str, numbers: Mapping[str, Any], limit: float) -> str:
    infos = [info for info in (pair.a, pair.b) if info is not None]
    keys = [key for key in (pair.key_a, pair.key_b) if key is not None]
    share, cosine, most = numbers["rel_l2"], numbers["cosine"], numbers["max_abs"]
    told = word not in ("identical", "") and share is not None
    width = 60 * min(share, limit) / limit if told and limit and share else 0
    bar = f'<span class="bar" style="width:{width:.0f}px"></span> ' if width >= 1 else ""
    notes = [] if not numbers["max_at"] else [f"at {numbers['max_at']}"]
    notes += ["NaN or infinity differs"] if numbers["nonfinite_differs"] else []
    notes += [CAST_WORDS[numbers["cast"]]] if numbers["cast"] else []
    return (
        f'<tr class="{word}"><td class="status">{GLYPHS[word]} {TITLES.get(word, "not compared")}</td>'
        f"<td><code>{_both(keys)}</code></td><td>{_both(map(_shape, infos))}</td>"
        f"<td>{_both([info.dtype for info in infos])}</td>"
        f'<td class="n">{bar}{escape(change_in_words(numbers)) if told else ""}</td>'
        f'<td class="n">{text.cosine(cosine) if told and cosine is not None else ""}</td>'
        f'<td class="n">{text.value(most) if told and most is not None else ""}</td>'
        f"<td>{escape(', '.join(notes))}</td></tr>"
    )


def _shape(info: TensorInfo) -> str:
    return text.shape(info.shape)


def _both(sides: Iterable[str]) -> str:
    """What both sides have, once where it is the same."""
    return " → ".join(dict.fromkeys(map(_name, sides)))


def _name(words: str) -> str:
    return escape(text.visible(words, 400))
