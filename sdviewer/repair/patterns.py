"""The pattern language of recipes: which keys are meant, and what they become.

A template matches a whole key: `*` is one component, `**` any, `{name}` one component, `{name...}` one or more; all
else is literal. `re:` and `re.full:` are Python regular expressions. `docs/recipe.md` has the exact rules.

Templates never hang: a wildcard takes as little as it can, and what stands between two wildcards of any length is
matched where it first fits, in an atomic group. That finds a match whenever there is one, because what stands between
them spans a fixed number of components. A regular expression is the user's own and can take for ever.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, NoReturn, TypeAlias

from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.wording import quoted

SEARCH = "re:"
FULL = "re.full:"
COUNT = "n"
LARGEST = 10**18
"""Integers in keys and in results of arithmetic are below this."""
LONGEST = 4096
"""Characters of a key that a pattern with a quadratic worst case still looks at."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FLAGS = re.compile(r"\(\?[aimsux]+\)")
_ARITHMETIC = re.compile(r"(?:\s*(?:[A-Za-z_][A-Za-z0-9_]*|[0-9]{1,18}(?![A-Za-z0-9_])|//|[-+*%()]))+\s*")


class Text(NamedTuple):
    """Literal text."""

    text: str


class Star(NamedTuple):
    """`*`: one whole component, or any text inside one."""

    at: int
    whole: bool


class Any(NamedTuple):
    """`**`: `above` is zero or more components with the dot after them, `below` one or more, `text` any text at all."""

    at: int
    reach: Literal["above", "below", "text"]


class One(NamedTuple):
    """`{name}`: one whole component, or the digits inside one."""

    at: int
    name: str
    whole: bool


class Rest(NamedTuple):
    """`{name...}`: one or more components."""

    at: int
    name: str


Token: TypeAlias = Text | Star | Any | One | Rest


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern. `literal` is set where it means exactly one key, else `regex`, searched or matched whole.

    `groups` says which group of the match holds a name, `stars` and `anys` those of `*` and `**` in their order.
    """

    text: str
    literal: str | None = None
    regex: re.Pattern[str] | None = None
    search: bool = False
    groups: Mapping[str, int] | None = None
    stars: tuple[int, ...] = ()
    anys: tuple[tuple[int, bool], ...] = ()
    longest: int | None = None

    @property
    def components(self) -> frozenset[str]:
        """Components that each key has which is meant; of a regular expression nobody knows them."""
        if self.text.startswith((SEARCH, FULL)):
            return frozenset()
        return frozenset([part for part in self.text.split(".") if part and not any(ch in part for ch in "*{}")])

    def match(self, key: str) -> re.Match[str] | None:
        """The match of a pattern that is no literal, or None."""
        if self.regex is None or (self.longest is not None and len(key) > self.longest):
            return None
        return self.regex.search(key) if self.search else self.regex.fullmatch(key)

    @property
    def matcher(self) -> Callable[[str], re.Match[str] | None]:
        """`match` as the shortest function there is, for loops over all keys."""
        if self.regex is None or self.longest is not None:
            return self.match
        return self.regex.search if self.search else self.regex.fullmatch

    def matches(self, key: str) -> bool:
        """Whether this key is meant."""
        return key == self.literal if self.literal is not None else self.match(key) is not None


Part: TypeAlias = "str | int | Above | Arithmetic"


class Above(NamedTuple):
    """What a `**` of zero or more components took, without its dot; `dot` goes before it unless it took nothing."""

    group: int
    dot: str


class Arithmetic(NamedTuple):
    """Arithmetic on integer placeholders; `counted` is the one that `n` counts, "" where there is no such `n`."""

    text: str
    tree: ast.expr
    names: tuple[str, ...]
    counted: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern and what a key that matches becomes."""

    pattern: Pattern
    result: str
    parts: tuple[Part, ...] = ()

    @property
    def text(self) -> str:
        """The rule for people: `blocks.{i}.** -> layers.{i}.**`."""
        return f"{self.pattern.text} -> {self.result}"

    def renamer(self, keys: Iterable[str]) -> Callable[[str], str | None]:
        """A function from a key to its new one, None where the rule does not match; `keys` are all keys of the step.

        Raises (the function):
            RepairError: arithmetic leaves the range of indexes on a key.
        """
        pattern, parts = self.pattern, self.parts
        if pattern.literal is not None:
            literal, new = pattern.literal, "".join([_said_of(part, pattern.literal) for part in parts])
            return lambda key: new if key == literal else None
        if pattern.regex is None or pattern.groups is None:
            return self._regex_renamer()
        counts = self._counts(keys)
        fills = {i: _filler(part, pattern.groups, counts) for i, part in enumerate(parts) if not _is_plain(part)}
        match = pattern.matcher
        # The result with a group number, or a computed piece's place, in every gap.
        gaps = [(i, part) for i, part in enumerate(parts) if not isinstance(part, str)]
        pieces = [part if isinstance(part, str) else "" for part in parts]

        def rename(key: str) -> str | None:
            found = match(key)
            if found is None:
                return None
            for i, part in gaps:
                pieces[i] = found[part] if isinstance(part, int) else fills[i](found, key)
            return "".join(pieces)

        return rename

    def _regex_renamer(self) -> Callable[[str], str | None]:
        match, result = self.pattern.matcher, self.result
        plain = "\\" not in result
        if self.pattern.search and not plain:
            assert self.pattern.regex is not None
            replace_first = self.pattern.regex.subn

            def rename_first(key: str) -> str | None:
                # Up to Python 3.11 `Match.expand` reads the result anew for every key, which takes most of the time.
                new, found = replace_first(result, key, 1)
                return new if found else None

            return rename_first

        def rename(key: str) -> str | None:
            found = match(key)
            if found is None:
                return None
            start, end = found.span()
            return key[:start] + (result if plain else found.expand(result)) + key[end:]

        return rename

    def _counts(self, keys: Iterable[str]) -> dict[str, int]:
        """For each placeholder that an `n` counts: one more than its largest value."""
        groups = self.pattern.groups or {}
        counted = {part.counted for part in self.parts if isinstance(part, Arithmetic)} - {""}
        counts = dict.fromkeys(counted, 0)
        if counted:
            for key in keys:
                found = self.pattern.match(key)
                if found is not None:
                    for name in counted:
                        counts[name] = max(counts[name], int(found[groups[name]]) + 1)
        return counts


@lru_cache(maxsize=4096)
def compile_pattern(text: str) -> Pattern:
    """Compile one pattern.

    Raises:
        UsageError: it is empty or breaks the language's rules; names the position and the reason.
    """
    return _compile(text, frozenset())


@lru_cache(maxsize=4096)
def compile_rule(pattern: str, result: str) -> Rule:
    """Compile a pattern with its result.

    Raises:
        UsageError: one of them breaks the language's rules; names the position and the reason.
    """
    if pattern.startswith((SEARCH, FULL)):
        compiled = _compile(pattern, frozenset())
        _check_regex_result(compiled, result)
        return Rule(compiled, result)
    if not result:
        raise UsageError(f"the result of {quoted(pattern)} is empty", remedy="To leave keys out, use a drop step.")
    tokens = _result_tokens(result)
    integers = frozenset(name for token in tokens if isinstance(token, Arithmetic) for name in token.names)
    compiled = _compile(pattern, integers)
    return Rule(compiled, result, _result_parts(compiled, result, tokens))


def literal_pattern(key: str) -> str:
    """A pattern that means exactly this key, whatever characters it holds."""
    special = not key or key.startswith((SEARCH, FULL)) or any(ch in key for ch in "*{}")
    return FULL + (re.escape(key) or "(?:)") if special else key


def literal_rule(old: str, new: str) -> tuple[str, str]:
    """A rule that renames exactly one key, whatever characters the two keys hold."""
    pattern = literal_pattern(old)
    if pattern == old and not any(ch in new for ch in "*{}"):
        return old, new
    return FULL + (re.escape(old) or "(?:)"), new.replace("\\", r"\\")


def prefix_rule(old: str, new: str) -> tuple[str, str]:
    """A rule that exchanges a module's prefix, with its dot, whatever characters it holds."""
    if any(ch in old + new for ch in "*{}") or old.startswith((SEARCH, FULL)):
        return f"{SEARCH}^{re.escape(old)}", new.replace("\\", r"\\")
    return f"{old}**", f"{new}**"


def split_flags(body: str) -> tuple[str, str]:
    """Flags that must stand first in a regular expression, and the rest of it."""
    flags = _FLAGS.match(body)
    return (flags[0], body[flags.end() :]) if flags else ("", body)


def _bad(text: str, at: int, reason: str, remedy: str = "") -> NoReturn:
    raise UsageError(f"{quoted(text)}, position {at + 1}: {reason}", remedy=remedy)


# Patterns


def _compile(text: str, integers: frozenset[str]) -> Pattern:
    for mark in (SEARCH, FULL):
        if text.startswith(mark):
            return _compile_regex(text, text[len(mark) :], mark == SEARCH)
    if not text:
        raise UsageError("a pattern is empty", remedy="`**` means every key.")
    tokens = _tokens(text)
    if all(isinstance(token, Text) for token in tokens):
        return Pattern(text, literal=text, groups={})
    return _Compiler(text, tokens, integers).compile()


def _compile_regex(text: str, body: str, search: bool) -> Pattern:
    if not body:
        raise UsageError(f"pattern {quoted(text)} is empty", remedy="`**` means every key.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            regex = re.compile(body)
    except re.error as error:
        at = len(text) - len(body) + (error.pos or 0)
        _bad(text, at, f"no regular expression: {error.msg}")
    except (OverflowError, RecursionError, MemoryError) as error:
        _bad(text, 0, f"no regular expression: {error}")
    return Pattern(text, regex=regex, search=search)


def _tokens(text: str) -> list[Token]:
    """Cut a template into its tokens."""
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        ch = text[at]
        if ch == "{":
            token, end = _placeholder(text, at)
        elif ch == "*":
            token, end = _wildcard(text, at)
        else:
            end = at
            while end < len(text) and text[end] not in "{*":
                if text[end] == "}":
                    _bad(text, end, "`}` closes nothing", "A key that holds braces is written as re.full:.")
                end += 1
            token = Text(text[at:end])
        _check_neighbours(text, at, tokens[-1] if tokens else None, token)
        tokens.append(token)
        at = end
    return tokens


def _is_whole(text: str, start: int, end: int) -> bool:
    return (start == 0 or text[start - 1] == ".") and (end == len(text) or text[end] == ".")


def _wildcard(text: str, at: int) -> tuple[Token, int]:
    end = at
    while end < len(text) and text[end] == "*":
        end += 1
    if end - at > 2:
        _bad(text, at, "more than two stars side by side")
    whole = _is_whole(text, at, end)
    if end - at == 1:
        return Star(at, whole), end
    if not whole or len(text) == 2:
        return Any(at, "text"), end
    # The dot after it goes with it, so that `**.weight` means `weight` too.
    return (Any(at, "above"), end + 1) if end < len(text) else (Any(at, "below"), end)


def _braces(text: str, at: int) -> tuple[str, int]:
    end = text.find("}", at)
    if end < 0:
        _bad(text, at, "`{` is not closed", "A key that holds braces is written as re.full:.")
    return text[at + 1 : end], end + 1


def _placeholder(text: str, at: int) -> tuple[Token, int]:
    inside, end = _braces(text, at)
    name = inside.removesuffix("...")
    if not _NAME.fullmatch(name):
        _bad(text, at, f"{{{inside}}} is no placeholder", "A name is letters, digits and _; arithmetic is for results.")
    whole = _is_whole(text, at, end)
    if name == inside:
        return One(at, name, whole), end
    if not whole:
        _bad(text, at, f"{{{inside}}} stands for whole components and needs a dot on each side")
    return Rest(at, name), end


def _check_neighbours(text: str, at: int, before: Token | None, token: Token) -> None:
    if before is None or isinstance(before, Text):
        return
    if isinstance(token, Text):
        if isinstance(before, One) and not before.whole and token.text[0] in "0123456789":
            _bad(text, at, f"a digit after {{{before.name}}}, which already takes all digits")
        return
    above = isinstance(before, Any) and before.reach == "above"
    if not above or isinstance(token, (Any, Rest)):
        _bad(text, at, "two wildcards side by side: nothing says where the first ends")


class _Compiler:
    """Turns the tokens of one template into a regular expression, in which every wildcard is one group."""

    def __init__(self, text: str, tokens: Sequence[Token], integers: frozenset[str]) -> None:
        self.text = text
        self.tokens = tokens
        self.integers = integers
        self.count = 0
        self.groups: dict[str, int] = {}
        self.stars: list[int] = []
        self.anys: list[tuple[int, bool]] = []
        self.repeated = -1
        self.atomic = False

    def compile(self) -> Pattern:
        longs = [i for i, token in enumerate(self.tokens) if isinstance(token, (Any, Rest))]
        starts = [0, *longs]
        ends = [*longs, len(self.tokens)]
        regex = ""
        for start, end in zip(starts, ends, strict=True):
            part = self._segment(self.tokens[start:end])
            if end < len(self.tokens) and part:
                # What follows can be matched at will behind the first fit: never come back to look for another.
                part = f"(?>{part})"
                self.atomic = self.atomic or start in longs
            regex += part
        if self.repeated >= 0 and self.atomic:
            _bad(
                self.text, self.repeated, "a name that stands twice, beside several wildcards", "Write it as re.full:."
            )
        return Pattern(
            self.text,
            regex=re.compile(regex, re.DOTALL),
            groups=self.groups,
            stars=tuple(self.stars),
            anys=tuple(self.anys),
            longest=LONGEST if self._is_quadratic() else None,
        )

    def _is_quadratic(self) -> bool:
        inside = any(isinstance(token, Any) and token.reach == "text" for token in self.tokens)
        return inside and any(isinstance(token, Star) and not token.whole for token in self.tokens)

    def _segment(self, tokens: Sequence[Token]) -> str:
        pieces: list[str] = []
        open_at = -1
        for i, token in enumerate(tokens):
            if isinstance(token, Text) and "." in token.text:
                open_at = -1
            if isinstance(token, Star) and not token.whole:
                if open_at >= 0:
                    pieces[open_at] = "(?>" + pieces[open_at]
                    pieces.append(")")
                    self.atomic = True
                open_at = len(pieces)
            pieces.append(self._piece(token, last=i == len(tokens) - 1))
        return "".join(pieces)

    def _piece(self, token: Token, last: bool) -> str:
        if isinstance(token, Text):
            return re.escape(token.text)
        if isinstance(token, (One, Rest)) and token.name in self.groups:
            self.repeated = token.at
            return f"(?:\\{self.groups[token.name]})"
        self.count += 1
        if isinstance(token, Star):
            self.stars.append(self.count)
            return "([^.]++)" if token.whole else "([^.]*?)"
        if isinstance(token, Any):
            self.anys.append((self.count, token.reach == "above"))
            # (in the order of `reach`: above, below, text)
            return "((?:.*?\\.)??)" if token.reach == "above" else "(.+)" if token.reach == "below" else "(.*?)"
        self.groups[token.name] = self.count
        if isinstance(token, Rest):
            if token.name in self.integers:
                _bad(self.text, token.at, f"{{{token.name}...}} is no integer and cannot be used in arithmetic")
            return "(.+)" if last and token is self.tokens[-1] else "(.+?)"
        if token.name in self.integers:
            return "([0-9]{1,18}+)"
        return "([^.]++)" if token.whole else "([0-9]++)"


# Results


_ResultToken: TypeAlias = "Token | Arithmetic"


def _result_tokens(text: str) -> list[_ResultToken]:
    tokens: list[_ResultToken] = []
    at = 0
    while at < len(text):
        ch = text[at]
        if ch == "{":
            inside, end = _braces(text, at)
            name = inside.removesuffix("...")
            tokens.append(One(at, name, True) if _NAME.fullmatch(name) else _arithmetic(text, at, inside))
        elif ch == "*":
            token, end = _wildcard(text, at)
            if isinstance(token, Any):
                end = at + 2
            tokens.append(token)
        elif ch == "}":
            _bad(text, at, "`}` closes nothing", "A key that holds braces is written as re.full:.")
        else:
            end = at
            while end < len(text) and text[end] not in "{}*":
                end += 1
            tokens.append(Text(text[at:end]))
        at = end
    return tokens


def _result_parts(pattern: Pattern, text: str, tokens: Sequence[_ResultToken]) -> tuple[Part, ...]:
    groups = pattern.groups or {}
    stars, anys = list(pattern.stars), list(pattern.anys)
    parts: list[Part] = []
    swallow = False
    for i, token in enumerate(tokens):
        match token:
            case Text(literal):
                literal = literal[1:] if swallow else literal
                following = tokens[i + 1] if i + 1 < len(tokens) else None
                # The dot before a last `**` belongs to it, so that it goes where `**` took nothing.
                if isinstance(following, Any) and anys and anys[0][1] and i + 2 == len(tokens):
                    literal = literal.removesuffix(".")
                parts.append(literal)
            case One(at, name, _):
                if name not in groups:
                    _bad(text, at, f"{{{name}}} is not in the pattern {quoted(pattern.text)}")
                parts.append(groups[name])
            case Star(at, _):
                if not stars:
                    _bad(text, at, f"`*` has no counterpart in the pattern {quoted(pattern.text)}")
                parts.append(stars.pop(0))
            case Any(at, _):
                if not anys:
                    _bad(text, at, f"`**` has no counterpart in the pattern {quoted(pattern.text)}")
                parts.append(_any_part(*anys.pop(0), tokens, i))
            case Arithmetic():
                parts.append(_bound(token, groups, pattern, text))
            case _:
                raise AssertionError(token)
        swallow = isinstance(token, Any) and isinstance(parts[-1], int) and (parts[-1], True) in pattern.anys
    return tuple(part for part in parts if part != "")


def _any_part(group: int, above: bool, tokens: Sequence[_ResultToken], i: int) -> Part:
    following = tokens[i + 1] if i + 1 < len(tokens) else None
    if not above or (isinstance(following, Text) and following.text.startswith(".")):
        return group
    before = tokens[i - 1] if i else None
    dotted = following is None and isinstance(before, Text) and before.text.endswith(".")
    return Above(group, "." if dotted else "")


def _bound(expression: Arithmetic, groups: Mapping[str, int], pattern: Pattern, text: str) -> Arithmetic:
    """Say what the names of an expression are; `n` may be the count of the only other one."""
    unknown = [name for name in expression.names if name not in groups]
    if not unknown:
        return expression
    known = [name for name in expression.names if name in groups]
    if unknown == [COUNT] and len(known) == 1:
        return expression._replace(counted=known[0])
    at = text.find("{" + expression.text + "}")
    name = unknown[0]
    if name == COUNT:
        _bad(text, at, "n is the count of one placeholder, which must be the only other name in the same braces")
    _bad(text, at, f"{{{name}}} is not in the pattern {quoted(pattern.text)}")


def _arithmetic(text: str, at: int, inside: str) -> Arithmetic:
    if len(inside) > 200 or not _ARITHMETIC.fullmatch(inside):
        _bad(
            text,
            at,
            f"{{{inside}}} is neither a name nor arithmetic",
            "It holds names, integers, + - * // % ( ).",
        )
    try:
        tree = ast.parse(inside.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError):
        _bad(text, at, f"{{{inside}}} is no arithmetic")
    names: list[str] = []
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name):
                if name not in names:
                    names.append(name)
            case ast.BinOp(op=ast.FloorDiv() | ast.Mod(), right=ast.Constant(value=0)):
                _bad(text, at, f"{{{inside}}} divides by zero")
            case (
                ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult() | ast.FloorDiv() | ast.Mod())
                | ast.UnaryOp(op=ast.USub() | ast.UAdd())
                | ast.Constant(value=int())
                | ast.operator()
                | ast.unaryop()
                | ast.expr_context()
            ):
                pass
            case _:
                _bad(text, at, f"{{{inside}}} holds more than names, integers and + - * // % ( )")
    return Arithmetic(inside, tree, tuple(names), "")


def _said_of(part: Part, key: str) -> str:
    """What a piece of a result is for a pattern without wildcards: text, or arithmetic on numbers alone."""
    return _index(part, {}, key) if isinstance(part, Arithmetic) else str(part)


def _is_plain(part: Part) -> bool:
    return isinstance(part, (str, int))


def _filler(part: Part, groups: Mapping[str, int], counts: Mapping[str, int]) -> Callable[[re.Match[str], str], str]:
    """A function from a match and its key to the text of a computed piece of the result."""
    if isinstance(part, Above):
        above = part

        def fill_above(found: re.Match[str], key: str) -> str:
            taken = found[above.group][:-1]
            return above.dot + taken if taken else ""

        return fill_above
    assert isinstance(part, Arithmetic)
    expression = part
    names = [name for name in expression.names if name in groups]
    numbers = [groups[name] for name in names]
    known: dict[str | tuple[str | int, ...], str] = {}

    def fill(found: re.Match[str], key: str) -> str:
        # A few indexes stand for very many keys.
        taken = found.group(*numbers)
        text = known.get(taken)
        if text is None:
            values = {name: int(found[number]) for name, number in zip(names, numbers, strict=True)}
            if expression.counted:
                values[COUNT] = counts[expression.counted]
            text = known[taken] = _index(expression, values, key)
        return text

    return fill


def _index(expression: Arithmetic, values: Mapping[str, int], key: str) -> str:
    try:
        number = _evaluate(expression.tree, values)
    except ZeroDivisionError:
        raise RepairError(f"{{{expression.text}}} divides by zero on {quoted(key)}", key=key) from None
    if not 0 <= number < LARGEST:
        raise RepairError(f"{{{expression.text}}} is {number} on {quoted(key)}, which is no index", key=key)
    return str(number)


def _evaluate(node: ast.expr, values: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.Name(id=name):
            return values[name]
        case ast.UnaryOp(op=op, operand=operand):
            number = _evaluate(operand, values)
            return -number if isinstance(op, ast.USub) else number
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _evaluate(left, values), _evaluate(right, values)
            match op:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.FloorDiv():
                    return a // b
                case _:
                    return a % b
    raise AssertionError(node)


def _check_regex_result(pattern: Pattern, result: str) -> None:
    assert pattern.regex is not None
    try:
        pattern.regex.sub(result, "")
    except (re.error, IndexError) as error:
        at = error.pos if isinstance(error, re.error) and error.pos is not None else 0
        reason = error.msg if isinstance(error, re.error) else str(error)
        _bad(result, at, f"the result of a regular expression: {reason}", r"A backslash is written \\, a group \1.")
