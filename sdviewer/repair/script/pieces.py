"""Cuts the modules of `parts` into their top-level names, and finds those that a piece of program needs."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

OURS = "sdviewer."
PARTS = "sdviewer.repair.script.parts"


@dataclass(frozen=True, slots=True)
class Piece:
    """A top-level definition: the names it defines and uses, and its text."""

    names: tuple[str, ...]
    uses: frozenset[str]
    text: str


@dataclass(frozen=True, slots=True)
class Module:
    """The pieces of a module, what it imports from outside, and which names come from which other module of ours.

    `imports` is the statement that brings a name: ("collections.abc", "Sequence"), ("torch", "").
    """

    pieces: tuple[Piece, ...]
    imports: Mapping[str, tuple[str, str]]
    ours: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Gathered:
    """The pieces that a program needs, in the order to be written, and its imports."""

    pieces: tuple[Piece, ...]
    imports: frozenset[tuple[str, str]]


def gather(text: str, modules: Mapping[str, str], last: Sequence[str]) -> Gathered:
    """What a text uses that it does not define, and what that uses in turn.

    `modules` says in which module a name is that the text uses. Modules stand in the order in which they are first
    needed, those of `last` behind them.
    """
    needed: dict[str, set[str]] = {}
    imports: set[tuple[str, str]] = set()
    todo = [(modules[name], name) for name in _uses(ast.parse(text)) if name in modules]
    todo.sort(key=lambda found: list(modules).index(found[1]))
    for module, name in todo:
        found = read_module(module)
        if name in found.imports:
            imports.add(found.imports[name])
        elif name in found.ours:
            todo.append((found.ours[name], name))
        elif name not in needed.setdefault(module, set()):
            piece = next(piece for piece in found.pieces if name in piece.names)
            needed[module].update(piece.names)
            todo += [(module, other) for other in sorted(piece.uses) if _is_known(found, other)]
    order = [module for module in needed if module not in last] + [module for module in last if module in needed]
    pieces = [piece for module in order for piece in read_module(module).pieces if needed[module] & {*piece.names}]
    return Gathered(tuple(pieces), frozenset(imports))


def _is_known(module: Module, name: str) -> bool:
    if name in module.imports or name in module.ours or any(name in piece.names for piece in module.pieces):
        return True
    assert hasattr(builtins, name), name
    return False


@lru_cache(maxsize=64)
def read_module(name: str) -> Module:
    """Cut a module, which is read and never imported."""
    package, _, last = name.rpartition(".")
    text = (files(package) / f"{last}.py").read_text("utf-8")
    # The zip of Python 3.9 does not know the word.
    text = re.sub(r",\s*strict=(True|False)", "", text)
    lines = text.splitlines()
    imports: dict[str, tuple[str, str]] = {}
    ours: dict[str, str] = {}
    pieces: list[Piece] = []
    end = 0
    for node in ast.parse(text).body:
        start, before = _start(node, lines, end), end
        end = node.end_lineno or node.lineno
        if isinstance(node, ast.Import):
            imports |= {alias.asname or alias.name: (_said(alias), "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if source.startswith(OURS):
                ours |= {alias.name: source for alias in node.names}
            elif source != "__future__":
                imports |= {alias.name: (source, alias.name) for alias in node.names}
        elif isinstance(node, ast.Expr):
            # (a text behind a constant says what it is)
            if pieces:
                pieces[-1] = Piece(pieces[-1].names, pieces[-1].uses, "\n".join([pieces[-1].text, *lines[before:end]]))
        else:
            pieces.append(Piece(tuple(_defined(node)), _uses(node), "\n".join(lines[start:end])))
    return Module(tuple(pieces), imports, ours)


def import_lines(imports: Iterable[tuple[str, str]], standard: Iterable[str]) -> Iterator[str]:
    """Import statements, those of the standard library first, and a blank line before the others."""
    groups: list[list[tuple[str, str]]] = [[], []]
    for module, name in imports:
        groups[module.partition(".")[0] not in standard].append((module, name))
    for group in filter(None, groups):
        yield from [f"import {module}" for module, name in sorted(group) if not name]
        for module in sorted({module for module, name in group if name}):
            yield f"from {module} import {', '.join(sorted(name for found, name in group if name and found == module))}"
        yield ""


def _said(alias: ast.alias) -> str:
    return f"{alias.name} as {alias.asname}" if alias.asname else alias.name


def _start(node: ast.stmt, lines: Sequence[str], end: int) -> int:
    """The first line of a statement, with its decorators and the comments above it."""
    decorators = getattr(node, "decorator_list", [])
    start: int = min([node.lineno, *[decorator.lineno for decorator in decorators]]) - 1
    while start > end and re.match("#", lines[start - 1]):
        start -= 1
    return start


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from [found.id for target in node.targets for found in ast.walk(target) if isinstance(found, ast.Name)]
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id


def _uses(node: ast.AST) -> frozenset[str]:
    """The names that a statement takes from outside: what it reads and nowhere binds."""
    read: set[str] = set()
    bound: set[str] = set()
    for found in ast.walk(node):
        if isinstance(found, ast.Name):
            (read if isinstance(found.ctx, ast.Load) else bound).add(found.id)
        elif isinstance(found, ast.arg):
            bound.add(found.arg)
        elif isinstance(found, ast.FunctionDef | ast.ClassDef):
            bound.add(found.name)
        elif isinstance(found, ast.Import | ast.ImportFrom):
            bound.update([alias.asname or alias.name for alias in found.names])
        elif isinstance(found, ast.ExceptHandler) and found.name:
            bound.add(found.name)
    return frozenset(read - bound)
