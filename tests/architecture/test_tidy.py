"""House numbers, after TigerBeetle's tidy: the style that a linter can't see is a test."""

import ast
import re
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
MODULE_LINES = 500
FUNCTION_LINES = 60
FUNCTION_LINES_P90 = 30
LINE_LENGTH = 100
POSITIONAL = 5

# Nothing imports these: they are where programs begin.
ENTRY_POINTS = {"everbell.__main__", "everbell.cli.main"}
# The tests and users of the library import these.
ENTRY_PACKAGES = ("everbell.testing",)
MARKS = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
# Absolute paths of somebody's machine; /tmp and system paths are a program's business.
MACHINE_PATHS = re.compile(r"/(?:home/[a-z]|Users/|root/|work/)[\w./-]*")
TEXT_SUFFIXES = {
    ".py",
    ".md",
    ".toml",
    ".sh",
    ".yml",
    ".yaml",
    ".json",
    ".lock",
    ".sql",
    ".txt",
    "",
}


def tracked() -> list[Path]:
    """Files of the project: tracked ones and new ones that are not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode != 0:  # an unpacked sdist has no git
        skip = {".venv", "node_modules", "__pycache__", ".git"}
        found = [p for p in ROOT.rglob("*") if not skip & set(p.parts)]
    else:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    return sorted(p for p in found if p.is_file())


FILES = tracked()
PYTHON = [p for p in FILES if p.suffix == ".py"]
SOURCES = [p for p in PYTHON if p.is_relative_to(SRC)]


def name_of(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring: prose is welcome."""
    assert node.end_lineno is not None
    first = node.body[0]
    prose = 0
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        if isinstance(first.value.value, str):
            prose = (first.end_lineno or first.lineno) - first.lineno + 1
    return node.end_lineno - node.lineno + 1 - prose


def test_modules_are_short() -> None:
    sizes = {shown(p): len(p.read_text().splitlines()) for p in PYTHON}
    assert {p: n for p, n in sizes.items() if n > MODULE_LINES} == {}


def test_functions_are_short() -> None:
    long = {
        f"{shown(path)}:{node.lineno} {node.name}": size
        for path in SOURCES
        for node in functions(path)
        if (size := body_lines(node)) > FUNCTION_LINES
    }
    assert long == {}


def test_most_functions_are_very_short() -> None:
    sizes = [body_lines(node) for path in SOURCES for node in functions(path)]
    assert statistics.quantiles(sizes, n=10)[-1] <= FUNCTION_LINES_P90


def test_functions_take_few_positional_arguments() -> None:
    many = [
        f"{shown(path)}:{node.lineno} {node.name}"
        for path in SOURCES
        if "cli" not in path.parts  # click passes options by keyword
        for node in functions(path)
        if len([a for a in node.args.posonlyargs + node.args.args if a.arg not in {"self", "cls"}])
        > POSITIONAL
    ]
    assert many == []


def test_lines_are_short() -> None:
    long = [
        f"{shown(path)}:{number}"
        for path in PYTHON
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > LINE_LENGTH
    ]
    assert long == []


def test_nothing_is_left_for_later() -> None:
    marked = [
        f"{shown(path)}:{number}"
        for path in FILES
        if path.suffix in TEXT_SUFFIXES and "node_modules" not in path.parts
        for number, line in enumerate(read(path).splitlines(), 1)
        if MARKS.search(line)
    ]
    assert marked == []


def test_no_path_of_somebodys_machine() -> None:
    found = [
        f"{shown(path)}:{number}: {hit.group()}"
        for path in FILES
        if path.suffix in TEXT_SUFFIXES and path != Path(__file__)
        for number, line in enumerate(read(path).splitlines(), 1)
        if (hit := MACHINE_PATHS.search(re.sub(r"https?://\S+", "", line)))
    ]
    assert found == []


def test_no_minified_vendor_code_is_tracked() -> None:
    assert [shown(p) for p in FILES if p.name.endswith((".min.js", ".min.css"))] == []


def test_no_registry_host_is_pinned() -> None:
    locks = [p for p in FILES if p.suffix == ".lock" or p.name == "package-lock.json"]
    assert [shown(p) for p in locks if '"resolved"' in read(p) or "index-url" in read(p)] == []


def test_every_module_has_an_importer() -> None:
    modules = {name_of(p): p for p in SOURCES}
    imported = {name for path in PYTHON if path.is_relative_to(SRC) for name in imports(path)}
    orphans = [
        name
        for name, path in modules.items()
        if name not in imported
        and name not in ENTRY_POINTS
        and not name.startswith(ENTRY_PACKAGES)
        and path.name != "__init__.py"
    ]
    assert orphans == []


def imports(path: Path) -> Iterator[str]:
    """Names of modules that a file imports or names in a string (lazily loaded commands)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.startswith("everbell."):
                yield node.value.partition(":")[0]


@pytest.mark.parametrize("package", ["domain", "ports", "services", "config", "cli", "stores"])
def test_except_exception_stays_at_the_borders(package: str) -> None:
    """Service loop, executor boundary and HTTP boundary only; these packages hold none of them."""
    caught = [
        f"{shown(path)}:{node.lineno}"
        for path in sorted((SRC / "everbell" / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and is_broad(node)
    ]
    assert caught == []


def is_broad(handler: ast.ExceptHandler) -> bool:
    reraises = any(isinstance(node, ast.Raise) for node in ast.walk(handler))
    name = handler.type.id if isinstance(handler.type, ast.Name) else ""
    return (handler.type is None or name == "Exception") and not reraises


def test_unit_tests_do_not_sleep() -> None:
    sleeping = [
        shown(path)
        for path in PYTHON
        if path.is_relative_to(ROOT / "tests" / "unit")
        and re.search(r"\b(?:time|asyncio)\.sleep\((?!0\))", path.read_text())
    ]
    assert sleeping == []


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
