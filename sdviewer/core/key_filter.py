"""The filter language of the module tree, plain words first.

Words are substrings of the key, `*` and `?` make a glob, `/.../` is a regular expression; `shape:768`, `shape:*×768`,
`shape:=768` (a vector), `dtype:bf16`, `params:>1M`, `size:>10MiB`, `shared` and `problem` look at the tensor; `nan`,
`inf`, `zero` (all of it), `constant`, `outlier`, `std:>0.1`, `norm:<1e-3`, `zeros:>50%` and so on look at its numbers
and pass none that is not measured; `-` in front of any of them leaves out. All must hold. Case does not matter outside
regular expressions.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from sdviewer.core.checkpoint import Checkpoint, TensorInfo
from sdviewer.core.dtypes import DTYPES
from sdviewer.core.tree import LEAVES, ModuleTree
from sdviewer.errors import UsageError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
_BYTE_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_NUMBER = re.compile(r"(<=|>=|<|>|=)?\s*([0-9.]+)\s*([a-z]*)")

_REAL = re.compile(r"(<=|>=|<|>|=)?\s*([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?)\s*(%?)")

KeyTest = Callable[[str], bool]
TensorTest = Callable[[TensorInfo], bool]


class NumberTest(NamedTuple):
    """A test of what was measured of a tensor: `what` is one of `NUMBER_WORDS` (then `sign` is ""), or of `NUMBERS`.

    `share`: `limit` is a share of the tensor's values and not a number of them.
    """

    what: str
    sign: str = ""
    limit: float = 0.0
    share: bool = False
    negated: bool = False


class Numbers(Protocol):
    """What is known of the numbers in the tensors of a tree."""

    def passing(self, test: NumberTest) -> Sequence[int]:
        """For each tensor whether it is measured and passes, whatever `negated` says."""

    def sort_keys(self, column: str, descending: bool) -> Sequence[float | None]:
        """What each row is sorted by; None for one that has no such number."""


NUMBER_WORDS = ("nan", "inf", "zero", "constant", "outlier")
"""Words that find tensors by what is odd about their numbers."""

NUMBERS = ("mean", "std", "norm", "min", "max", "absmean", "kurtosis", "zeros", "nan", "inf", "outliers")
"""Numbers that can be compared; the last four are counts."""

COUNTS = frozenset(NUMBERS[-4:])


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """A parsed filter: substrings and other tests of the lower-cased key, and tests of the tensor and its numbers."""

    words: tuple[str, ...] = ()
    key_tests: tuple[KeyTest, ...] = ()
    tensor_tests: tuple[TensorTest, ...] = ()
    number_tests: tuple[NumberTest, ...] = ()


def parse_filter(text: str) -> KeyFilter:
    """Read a filter as a person types it.

    Raises:
        UsageError: a regular expression, number or field that cannot be read; the message says which.
    """
    words: list[str] = []
    key_tests: list[KeyTest] = []
    tensor_tests: list[TensorTest] = []
    number_tests: list[NumberTest] = []
    for kind, body, negated in _parts(text):
        field, _, argument = body.partition(":")
        match kind:
            case "regex":
                key_tests.append(_regex(body, negated))
            case "number word":
                number_tests.append(NumberTest(body.lower(), negated=negated))
            case "number":
                if argument:
                    number_tests.append(_number_test(field.lower(), argument, negated))
            case "field":
                if argument:
                    tensor_tests.append(_negate(_FIELDS[field.lower()](argument), negated))
            case "shared":
                tensor_tests.append(_SharedTest(negated))
            case "problem":
                tensor_tests.append(_negate(lambda info: bool(info.unreadable), negated))
            case "glob":
                key_tests.append(_glob(body.lower(), negated))
            case "word" if negated:
                key_tests.append(_without(body.lower()))
            case "word":
                words.append(body.lower())
    return KeyFilter(tuple(words), tuple(key_tests), tuple(tensor_tests), tuple(number_tests))


def marked_words(text: str) -> tuple[str, ...]:
    """The texts, in lower case, that the words and globs of a filter that must hold find in a component of a key.

    No regular expression is carried out by a window, nor compiled, which could hold it up.
    """
    found: list[str] = []
    for kind, body, negated in _parts(text):
        if kind in ("glob", "word") and not negated:
            found += _last_parts(re.split(r"[*?]+", body.lower()))
    return tuple(found)


Kind = Literal["regex", "number word", "number", "field", "shared", "problem", "glob", "word"]


def _parts(text: str) -> Iterator[tuple[Kind, str, bool]]:
    """The parts of a filter: what each one is, its text, and whether a minus stands before it."""
    for token in _tokens(text):
        negated = len(token) > 1 and token.startswith("-")
        body = token[1:] if negated else token
        yield _kind(body), body, negated


def _kind(body: str) -> Kind:
    lower = body.lower()
    field, colon, _ = lower.partition(":")
    if body.startswith("/"):
        return "regex"
    if lower in NUMBER_WORDS:
        return "number word"
    if colon and field in NUMBERS:
        return "number"
    if colon and field in _FIELDS:
        return "field"
    if lower == "shared":
        return "shared"
    if lower == "problem":
        return "problem"
    return "glob" if "*" in body or "?" in body else "word"


def _last_parts(texts: Iterable[str]) -> list[str]:
    """Of `attn.qkv` the last part: the others stand in the rows above."""
    return [last for text in texts if (last := text.rpartition(".")[2])]


def as_regex(text: str) -> str | None:
    """One regular expression that finds the same keys as a filter, None where the filter looks at more than keys.

    Raises:
        UsageError: as `parse_filter`.
    """
    parse_filter(text)
    tests = []
    for token in _tokens(text):
        negated = len(token) > 1 and token.startswith("-")
        body = token[1:] if negated else token
        field, colon, argument = body.partition(":")
        if body.startswith("/"):
            inside = _inside(body)
            if inside.startswith("(?") and ")" in inside and inside[2:3].isalpha():
                return None  # flags of the whole expression
            inside = f".*?(?:{inside})"
        elif (colon and argument and field.lower() in (*_FIELDS, *NUMBERS)) or body.lower() in (
            *("shared", "problem"),
            *NUMBER_WORDS,
        ):
            return None
        elif "*" in body or "?" in body:
            inside = f"(?i:{fnmatch.translate(body)})"
        else:
            inside = f".*?(?i:{re.escape(body)})"
        tests.append(f"(?{'!' if negated else '='}{inside})")
    return f"^{''.join(tests)}" if tests else None


def matching_rows(
    tree: ModuleTree,
    checkpoint: Checkpoint,
    key_filter: KeyFilter,
    lower: Sequence[str],
    numbers: Numbers | None = None,
) -> list[int]:
    """The leaf rows that pass; `lower` are the tree's `path_text`s in lower case, made once for many filters."""
    kind = tree.kind
    rows = [row for row in range(len(tree)) if kind[row] in LEAVES or tree.end[row] == row + 1]
    for word in key_filter.words:
        rows = [row for row in rows if word in lower[row]]
    for test in key_filter.key_tests:
        rows = [row for row in rows if test(tree.path_text[row])]
    for tensor_test in key_filter.tensor_tests:
        if isinstance(tensor_test, _SharedTest):
            tensor_test.bind(checkpoint)
        tensors = checkpoint.tensors
        rows = [row for row in rows if tree.tensor[row] >= 0 and tensor_test(tensors[tree.tensor[row]])]
    for number_test in key_filter.number_tests:
        passing = numbers.passing(number_test) if numbers is not None else bytes(len(checkpoint.tensors))
        wanted = not number_test.negated
        rows = [row for row in rows if tree.tensor[row] >= 0 and bool(passing[tree.tensor[row]]) == wanted]
    return rows


_TOKEN = re.compile(r"-?/(?:[^/\\]|\\.)*/?|\S+")


def _tokens(text: str) -> list[str]:
    """Cut at blanks, but not inside `/.../`."""
    return _TOKEN.findall(text)


def regexes_in(text: str) -> list[tuple[int, str]]:
    """Where the regular expressions of a filter begin, and what they are, without their slashes."""
    found = []
    for token in _TOKEN.finditer(text):
        body = token[0].removeprefix("-") if len(token[0]) > 1 else token[0]
        if body.startswith("/"):
            found.append((token.end() - len(body) + 1, _inside(body)))
    return found


def _inside(body: str) -> str:
    return body[1:-1] if len(body) > 1 and body.endswith("/") else body[1:]


def _regex(body: str, negated: bool) -> KeyTest:
    pattern = _inside(body)
    try:
        found = re.compile(pattern).search
    except re.error as error:
        raise UsageError(f"/{pattern}/ is no regular expression: {error}", code="bad_filter") from None
    return lambda key: (found(key) is None) == negated


def _glob(pattern: str, negated: bool) -> KeyTest:
    found = re.compile(fnmatch.translate(pattern)).match
    return lambda key: (found(key.lower()) is None) == negated


def _without(word: str) -> KeyTest:
    return lambda key: word not in key.lower()


def _negate(test: TensorTest, negated: bool) -> TensorTest:
    return (lambda info: not test(info)) if negated else test


class _SharedTest:
    """Whether a tensor's storage has other tensors too; needs the checkpoint's storages."""

    def __init__(self, negated: bool) -> None:
        self.negated = negated
        self.shared: frozenset[str] = frozenset()

    def bind(self, checkpoint: Checkpoint) -> None:
        self.shared = frozenset(name for name, storage in checkpoint.storages.items() if storage.tensors > 1)

    def __call__(self, info: TensorInfo) -> bool:
        return (info.storage in self.shared) != self.negated


def _shape(argument: str) -> TensorTest:
    exact = argument.startswith("=")
    wanted = argument.lower().removeprefix("=").replace("x", "×").split("×")
    if len(wanted) == 1 and not exact:
        return lambda info: argument == "scalar" if not info.shape else argument in map(str, info.shape)
    return lambda info: (
        len(info.shape) == len(wanted)
        and all(want in ("*", str(size)) for want, size in zip(wanted, info.shape, strict=True))
    )


def _dtype(argument: str) -> TensorTest:
    wanted = argument.lower().removeprefix("torch.")
    return lambda info: info.dtype == wanted or (info.dtype in DTYPES and DTYPES[info.dtype].short == wanted)


def _comparison(argument: str, units: dict[str, int], of: Callable[[TensorInfo], int]) -> TensorTest:
    match = _NUMBER.fullmatch(argument.strip().lower())
    if match is None or match[3] not in units:
        raise UsageError(f"{argument!r} is no number such as >1M", code="bad_filter")
    try:
        limit = float(match[2]) * units[match[3]]
    except ValueError:
        raise UsageError(f"{argument!r} is no number such as >1M", code="bad_filter") from None
    sign = match[1] or "="
    compare: dict[str, Callable[[int], bool]] = {
        "<": lambda n: n < limit,
        ">": lambda n: n > limit,
        "<=": lambda n: n <= limit,
        ">=": lambda n: n >= limit,
        "=": lambda n: n == limit,
    }
    test = compare[sign]
    return lambda info: test(of(info))


def _number_test(what: str, argument: str, negated: bool) -> NumberTest:
    match = _REAL.fullmatch(argument.strip().lower().replace("\N{MINUS SIGN}", "-"))
    if match is None or (match[3] and what not in COUNTS):
        example = ">50%" if what in COUNTS else ">0.1"
        raise UsageError(f"{argument!r} is no number such as {example}", code="bad_filter")
    share = bool(match[3])
    return NumberTest(what, match[1] or "=", float(match[2]) / (100 if share else 1), share, negated)


_FIELDS: dict[str, Callable[[str], TensorTest]] = {
    "shape": _shape,
    "dtype": _dtype,
    "params": lambda argument: _comparison(argument, _UNITS, lambda info: info.elements),
    "size": lambda argument: _comparison(argument, _BYTE_UNITS, lambda info: info.nbytes),
}
