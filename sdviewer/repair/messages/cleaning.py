"""A pasted text without what terminals, loggers and web pages put around it.

Law of this folder: every pattern goes once through the text. Nothing repeats inside a repetition, and a search for the
end of something stops where the next thing begins.
"""

from __future__ import annotations

import html
import re

MOST_TEXT = 32 << 20
"""Characters of a text that are read: 400,000 keys of a common length. What follows is cut off, and said."""

_CONTROL_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, moves
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # titles, links
    r"|(?:\^\[|\\x1b|\\033|\\u001b|␛)?\[[0-9]{1,3}(?:;[0-9]{1,3}){0,8}m"  # a colour whose escape was lost or spelled
    r"|\x1b."
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_QUOTES = str.maketrans("“”„‘’", '"""\'\'')

_AROUND_LINE = re.compile(
    r"[ \t]*(?:"
    r"[│┃╎▌]"  # the frame of a rich traceback
    r"|E(?=[ \t]{2,})"  # pytest
    r"|\[(?:rank|default)\d{1,6}\]:?"
    r"|\[\d{1,6},\d{1,6}\](?:<std(?:err|out)>)?:?"  # mpirun
    r"|\d{1,6}:(?=[ \t])"  # srun
    r"|\([^()\n]{1,80} pid=\d{1,10}[^()\n]{0,60}\)"  # ray
    r"|\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?\]?"
    r"|\[?\d\d:\d\d:\d\d(?:[.,]\d{1,9})?\]?"
    r"|\[?(?:DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL)\]?(?=[:\s|-])"
    r")[ \t]?"
)
_BEHIND_IT = re.compile(
    r"[ \t]*(?:-[ \t][\w.]{1,80}[ \t](?=-[ \t](?:DEBUG|INFO|WARN|ERROR|CRIT))"  # a logger's name
    r"|[-:|](?=[ \t]))[ \t]?"
)
_QUOTATION = re.compile(r"[ \t]*[|>](?=[ \t]|$)[ \t]?")
_PIECES_BEFORE = 12
_FRAME_AFTER = re.compile(r"[ \t]*[│┃][ \t]*$")


def cleaned(text: str) -> tuple[str, bool]:
    """The text with plain newlines and nothing in front of its lines; and whether its end had to be cut off."""
    cut = len(text) > MOST_TEXT
    text = text[:MOST_TEXT]
    text = _CONTROL_SEQUENCE.sub("", text) if "[" in text or "\x1b" in text else text
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\\n" in text and ("\\tMissing key" in text or "\\tUnexpected key" in text or "\\tsize mismatch" in text):
        # The message as a log of JSON or the repr of an exception writes it.
        text = text.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"').replace("\\'", "'")
    if "&quot;" in text or "&#34;" in text or "&#39;" in text or "&lt;" in text:
        text = html.unescape(text)
    text = _CONTROL.sub("", text.translate(_QUOTES))
    lines = text.split("\n")
    quotations = [_QUOTATION.match(line) for line in lines]
    if 2 * sum([found is not None for found in quotations]) > len(lines) - lines.count(""):
        # A line that was wrapped in a table begins so too, but not most of them do.
        lines = [line[found.end() :] if found else line for line, found in zip(lines, quotations, strict=True)]
    return "\n".join([_bare(line) for line in lines]), cut


def _bare(line: str) -> str:
    if not line:
        return line
    at = 0
    for _ in range(_PIECES_BEFORE):
        around = _AROUND_LINE.match(line, at) or (_BEHIND_IT.match(line, at) if at else None)
        if around is None:
            break
        at = around.end()
    if line.endswith(("│", "┃")) or "│" in line[-8:] or "┃" in line[-8:]:
        line = _FRAME_AFTER.sub("", line)
    return line[at:]
