"""What the documents say is what the program has: codes, commands, files, links."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import sdviewer
from sdviewer.cli.main import COMMANDS
from sdviewer.formats import FORMATS
from sdviewer.repair.operations import OPERATIONS

ROOT = Path(sdviewer.__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
SEVERITIES = ("error", "warning", "info")


def texts(node: ast.expr | None, constants: dict[str, str]) -> Iterator[str]:
    """The texts that an expression can be, as far as they stand in the code."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Name) and node.id in constants:
        yield constants[node.id]
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body, constants)
        yield from texts(node.orelse, constants)


def codes_in(tree: ast.Module, constants: dict[str, str]) -> Iterator[str]:
    """Codes of errors (`code=`, `default_code`), of problems (after the severity) and of a plan's warnings."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=func, args=args, keywords=keywords):
                name = ast.unparse(func).rpartition(".")[2].lower()
                if name in ("planwarning", "warn"):
                    yield from texts(args[0], constants)
                if "problem" in name and len(args) > 1 and set(texts(args[0], constants)) & set(SEVERITIES):
                    yield from texts(args[1], constants)
                for keyword in keywords:
                    if keyword.arg == "code":
                        yield from texts(keyword.value, constants)
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if "code" in texts(key, constants):
                        yield from texts(value, constants)
            case ast.AnnAssign(target=ast.Name(id="default_code"), value=value):
                yield from texts(value, constants)
            case ast.Assign(targets=[ast.Name(id="default_code")], value=value):
                yield from texts(value, constants)
            case ast.arguments(kwonlyargs=only, kw_defaults=defaults):
                named = [*zip(reversed(node.args), reversed(node.defaults), strict=False)]
                for argument, default in [*named, *zip(only, defaults, strict=True)]:
                    if argument.arg == "code":
                        yield from texts(default, constants)


def codes_of_the_program() -> set[str]:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "sdviewer").rglob("*.py")]
    constants = {
        node.targets[0].id: node.value.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }
    return {code for tree in trees for code in codes_in(tree, constants) if re.fullmatch("[a-z_]+", code)}


def first_cells(document: str) -> set[str]:
    """The words in code type that begin the rows of a document's tables."""
    return set(re.findall(r"^\| `([^` ]+)[^|]*\|", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE))


def test_that_the_list_of_codes_is_closed() -> None:
    used, listed = codes_of_the_program(), first_cells("docs/problems.md")

    assert used - listed == set(), "used in the program and not in docs/problems.md"
    assert listed - used == set(), "in docs/problems.md and not used in the program"


def test_that_the_readme_lists_every_command() -> None:
    rows = re.findall(r"^\| `sdviewer ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert set(rows) == {*COMMANDS}


def test_that_the_command_line_document_lists_every_command() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")

    assert {name for name in COMMANDS if not re.search(rf"sdviewer {name}\b", text)} == set()


def test_that_the_formats_document_names_every_container_that_is_read() -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")

    assert [name for entry in FORMATS for name in entry.containers if f"`{name}`" not in text] == []


def test_that_the_recipe_document_names_every_operation() -> None:
    headings = re.findall(r"^### (.+)$", (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert {operation.op for operation in OPERATIONS} <= {name for line in headings for name in line.split(", ")}


def test_that_links_lead_somewhere() -> None:
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
        if "://" not in target and not (document.parent / target).exists()
    ]

    assert broken == []


def test_that_documents_which_the_code_names_exist() -> None:
    named = {
        name.removesuffix("/").removesuffix(".md")
        for folder in ("sdviewer", "packaging", "tests")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"docs/[a-z0-9/_.-]*[a-z0-9]", path.read_text(encoding="utf-8"))
    }
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*")}

    assert {name for name in named if not any(path.startswith(name) for path in there)} == set()
