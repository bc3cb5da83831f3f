"""The patterns and rules of a recipe as the regular expressions of Python, and what their matches become, as code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sdviewer.repair.patterns import FULL, SEARCH, Above, Arithmetic, Pattern, Rule, compile_pattern, split_flags

NUMBER = "\N{SYMBOL FOR NULL}"
"""Stands in a numbered result for the number that it is given."""


class Code(str):
    """A text that stands in a program as it is."""

    __slots__ = ()


class RuleCode(NamedTuple):
    """A rule as a program says it: a regular expression to be searched, and what its match becomes.

    `result` is a replacement as `re.sub` takes it, or the code of a function of the match; `counts`: the function is a
    `Counting`, which is given an `n`.
    """

    pattern: str
    result: str | Code
    counts: bool = False


def regex(text: str) -> str:
    """A pattern as a regular expression to be searched."""
    return _searched(compile_pattern(text))


def rule_code(rule: Rule, *, numbered: bool = False) -> RuleCode:
    """A rule as a program says it; `numbered`: `NUMBER` in the result is a number, the function's last argument."""
    pattern, groups = _searched(rule.pattern), rule.pattern.groups
    if groups is None:
        return RuleCode(pattern, rule.result)
    parts = rule.parts
    if rule.pattern.literal is not None:
        parts = (rule.renamer(())(rule.pattern.literal) or "",)
    plain = [part for part in parts if isinstance(part, str | int)]
    if len(plain) == len(parts) and not numbered:
        return RuleCode(pattern, _replacement(plain))
    counted = list(dict.fromkeys([part.counted for part in parts if isinstance(part, Arithmetic) and part.counted]))
    counts = {name: f"n{i}" if len(counted) > 1 else "n" for i, name in enumerate(counted)}
    pieces = [piece for part in parts for piece in _pieces(part, groups, counts, numbered=numbered)]
    arguments = ["match", *counts.values(), *(["number"] if numbered else [])]
    code = f"lambda {', '.join(arguments)}: {' + '.join(pieces)}"
    if counted:
        code = f"Counting([{', '.join([str(groups[name]) for name in counted])}], {code})"
    return RuleCode(pattern, Code(code), bool(counted))


def means(patterns: Sequence[str]) -> Code:
    """The code of a function that says whether a key is meant by one of the patterns."""
    if all(compile_pattern(text).literal is not None for text in patterns):
        return Code(f"{_set(patterns)}.__contains__")
    texts = list(map(regex, patterns))
    if len(texts) == 1:
        return Code(f"re.compile({raw(texts[0])}).search")
    return Code(f"lambda key: any(re.search(pattern, key) for pattern in [{', '.join(map(raw, texts))}])")


def raw(text: str) -> str:
    """A text as Python says it, raw where it holds backslashes."""
    plain = text.isprintable() and not text.endswith("\\") and '"' not in text
    return f'r"{text}"' if "\\" in text and plain else quoted_code(text)


def quoted_code(text: str) -> str:
    """A text between double quotes."""
    quote = '"' if '"' not in text or "'" in text else "'"
    return quote + "".join([ch if ch in "\"'" and ch != quote else _escaped(ch, quote) for ch in text]) + quote


def _escaped(ch: str, quote: str) -> str:
    return f"\\{ch}" if ch == quote else repr(ch)[1:-1]


def _set(texts: Sequence[str]) -> str:
    return "{" + ", ".join(map(quoted_code, dict.fromkeys(texts))) + "}"


def _searched(pattern: Pattern) -> str:
    if pattern.literal is not None:
        return rf"^{re.escape(pattern.literal)}\Z"
    if pattern.text.startswith(SEARCH):
        return pattern.text[len(SEARCH) :]
    if pattern.text.startswith(FULL):
        flags, body = split_flags(pattern.text[len(FULL) :])
        return rf"{flags}\A(?:{body}{chr(10) if 'x' in flags else ''})\Z"
    assert pattern.regex is not None
    text = _without_atomic(pattern.regex.pattern).replace("++)", "+)").replace("}+)", "})")
    return rf"{'(?s)' if any(dots in text for dots in ('(.', '(?:.')) else ''}^{text}\Z"


def _without_atomic(text: str) -> str:
    """An expression without its atomic groups: they only make it quick, and older Pythons have no word for them."""
    kept: list[str] = []
    opened: list[bool] = []
    for piece in re.findall(r"\\.|\(\?>|\(|\)|[^\\()]+", text, re.DOTALL):
        if piece.startswith("("):
            opened.append(piece == "(?>")
        if piece != "(?>" and not (piece == ")" and opened[-1]):
            kept.append(piece)
        if piece == ")":
            opened.pop()
    return "".join(kept)


def _replacement(parts: Sequence[str | int]) -> str:
    """What `re.sub` puts in: text, and groups by their numbers."""
    text = ""
    for i, part in enumerate(parts):
        if isinstance(part, str):
            text += part.replace("\\", r"\\")
            continue
        following = parts[i + 1] if i + 1 < len(parts) else ""
        digit = isinstance(following, str) and following[:1].isdigit()
        text += rf"\g<{part}>" if digit or part > 9 else rf"\{part}"
    return text


def _pieces(
    part: str | int | Above | Arithmetic, groups: Mapping[str, int], counts: Mapping[str, str], *, numbered: bool
) -> Iterator[str]:
    """The code of the texts that a part of a result gives, one behind the other."""
    match part:
        case str():
            for i, text in enumerate(part.split(NUMBER) if numbered else [part]):
                if i:
                    yield "str(number)"
                if text:
                    yield raw(text)
        case int():
            yield f"match[{part}]"
        case Above(group, dot):
            # (it took its dot along)
            yield f'({raw(dot)} + match[{group}][:-1] if match[{group}] else "")' if dot else f"match[{group}][:-1]"
        case Arithmetic(_, tree, _, counted):
            n = counts.get(counted, "n")
            names = {name: f"int(match[{group}])" for name, group in groups.items()}
            yield f"index({re.sub(r'[A-Za-z_][A-Za-z0-9_]*', lambda name: names.get(name[0], n), ast.unparse(tree))})"
