"""The architecture that docs/architecture.md describes is the one the code has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
MODULES = sorted(path for package in ("models", "streamer") for path in (ROOT / package).rglob("*.py"))

MAX_MODULE_LINES = 350
MAX_CLASS_LINES = 250
MAX_ENTRIES = 12


def test_every_path_in_the_page_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:streamer|models|tests|docs)/[\w./-]*)`", text))
    linked = set(re.findall(r"\]\((?!https?:)([^)#]+)", text))

    missing = [path for path in named if not (ROOT / path).exists()]
    missing += [path for path in linked if not (PAGE.parent / path).exists()]

    assert len(named) > 20
    assert sorted(missing) == []


def test_every_package_is_drawn_in_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")

    packages = [path.parent.name for path in (ROOT / "streamer").glob("*/__init__.py")]

    assert [name for name in packages if f"<b>streamer/{name}</b>" not in text] == []


def test_modules_stay_small() -> None:
    lines = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}

    assert {name: count for name, count in lines.items() if count > MAX_MODULE_LINES} == {}


def test_classes_stay_small() -> None:
    lines = {
        f"{_name(path)}: {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }

    assert {name: count for name, count in lines.items() if count > MAX_CLASS_LINES} == {}


def test_few_entries_lie_directly_in_streamer() -> None:
    entries = [path.name for path in (ROOT / "streamer").iterdir() if path.name != "__pycache__"]

    assert len(entries) <= MAX_ENTRIES, sorted(entries)


def test_no_module_imports_itself_through_others() -> None:
    graph = grimp.build_graph("models", "streamer", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}

    assert list(_cycles(imports)) == []


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _cycles(imports: dict[str, set[str]]) -> Iterator[list[str]]:
    """Groups of modules of which each imports each other, directly or not."""
    reach = {module: _reachable(module, imports) for module in imports}
    circular = {module for module in imports if module in reach[module]}
    while circular:
        module = min(circular)
        group = {other for other in circular if other in reach[module] and module in reach[other]}
        yield sorted(group)
        circular -= group


def _reachable(module: str, imports: dict[str, set[str]]) -> set[str]:
    """Modules imported by `module`, directly or not; itself only if it lies on a cycle."""
    found: set[str] = set()
    todo = [module]
    while todo:
        for imported in imports[todo.pop()] - found:
            found.add(imported)
            todo.append(imported)
    return found
