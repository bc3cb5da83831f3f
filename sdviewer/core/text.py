"""The only formatter of numbers and of text that came out of a file.

Numbers for people: U+2212 minus, three or four significant digits, IEC bytes. Text from a file is untrusted: `visible`
makes every control, bidi and surrogate character a printed escape, so that no terminal or label interprets it.
"""

from __future__ import annotations

import math
import unicodedata

MINUS = "\u2212"


def count(n: int) -> str:
    """An exact count with thousands separators: `1,769,472`."""
    return f"{n:,}"


def short_count(n: int) -> str:
    """A count with three significant digits and powers of 1000: `768`, `1.54 K`, `86.6 M`, `8.03 B`."""
    if n < 1000:
        return str(n)
    value = float(n)
    for unit in ("K", "M", "B", "T"):
        value /= 1000
        if value < 999.5 or unit == "T":
            return f"{_three_digits(value)} {unit}"
    raise AssertionError


def size(nbytes: int) -> str:
    """Bytes with powers of 1024 and IEC names: `640 B`, `6.75 MiB`, `14.96 GiB`."""
    if nbytes < 1024:
        return f"{nbytes} B"
    value = float(nbytes)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        value /= 1024
        if value < 1023.5 or unit == "PiB":
            digits = 2 if value < 100 else 1 if value < 1000 else 0
            return f"{value:.{digits}f}".rstrip("0").rstrip(".") + f" {unit}"
    raise AssertionError


def value(x: float | int | bool | complex | None) -> str:
    """One number with four significant digits; exponent below 1e-4 and from 1e5; `nan`, `inf`; "–" for None."""
    if x is None:
        return "–"
    if isinstance(x, bool):
        return str(x)
    if isinstance(x, int):
        return f"{x:,}".replace("-", MINUS) if x.bit_length() < 200 else f"an int of {x.bit_length():,} bits"
    if isinstance(x, complex):
        sign = MINUS if math.copysign(1.0, x.imag) < 0 else "+"
        return f"{value(x.real)} {sign} {value(abs(x.imag))}i"
    if math.isnan(x):
        return "nan"
    if math.isinf(x):
        return "inf" if x > 0 else f"{MINUS}inf"
    if x == 0:
        return "0"
    magnitude = abs(x)
    text = f"{x:.3e}" if magnitude < 1e-4 or magnitude >= 99995 else f"{x:.4g}"
    return text.replace("-", MINUS)


def percent(ratio: float) -> str:
    """A share with two decimals: `2.04 %`, `< 0.01 %`; "0 %" only when exactly zero."""
    if ratio == 0:
        return "0 %"
    if ratio < 0.0001:
        return "< 0.01 %"
    return f"{ratio * 100:.2f} %"


def cosine(x: float) -> str:
    """A cosine or a correlation with four decimals; how far it is from one where that would be rounded away."""
    if math.isnan(x) or abs(x) < 0.99995 or abs(x) >= 1:
        return "nan" if math.isnan(x) else f"{x:.4f}".replace("-", MINUS) if abs(x) < 1 else value(round(x))
    away = f"{1 - abs(x):.1e}".replace("-", MINUS)
    return f"1 {MINUS} {away}" if x > 0 else f"{MINUS}1 + {away}"


def shape(sizes: tuple[int, ...]) -> str:
    """`768×3072`, `scalar` for no dimension."""
    if not sizes:
        return "scalar"
    if len(sizes) > 16:
        return "×".join(map(str, sizes[:12])) + f"×… ({len(sizes):,} dims)"
    return "×".join(map(str, sizes))


def plural(n: int, noun: str, nouns: str = "") -> str:
    """`1 tensor`, `152 tensors`; `nouns` where it is not made with an s."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {nouns or noun + 's'}"


def seconds(s: float) -> str:
    """`0.9 s`, `1 min 20 s`."""
    if s < 60:
        return f"{s:.1f} s"
    return f"{int(s // 60)} min {int(s % 60)} s"


def visible(text: str, limit: int = 500) -> str:
    """Untrusted text made printable: controls, bidi marks, surrogates and separators become escapes; cut at `limit`.

    The result is at most `limit` characters and an ellipsis long, and holds no character that a terminal, a label or a
    text layout acts upon.
    """
    if len(text) > limit:
        return visible(text[:limit], limit)[: limit * 2] + f"… ({len(text):,} characters)"
    if text.isascii() and text.isprintable():
        return text
    return "".join([ch if _harmless(ch) else _escape(ch) for ch in text])


_JOINERS = {"\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad"}


def _harmless(ch: str) -> bool:
    return ch == " " or (ch.isprintable() and ch not in _JOINERS and unicodedata.category(ch)[0] != "C")


def _escape(ch: str) -> str:
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}.get(ch)
    if named:
        return named
    code = ord(ch)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _three_digits(value: float) -> str:
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}"
