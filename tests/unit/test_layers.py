"""Imports point one way, without cycles, and the core knows neither redis nor an event loop."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = "interval_scheduler"
ROOT = Path(__file__).parents[2] / PACKAGE

# From the bottom to the top: a module may import from its own folder and from those below it. What stands in the root
# of the package is named one by one.
LAYERS = [
    "_version",
    "support",
    "model",
    "core",
    "protocol",
    "transport",
    "servers",
    "worker",
    "engine loop_thread",
    "base",
    "scheduler async_scheduler",
    "doctor",
    "testing service",
    "cli",
    "__init__ __main__",
]
PURE = ("model", "core", "protocol")
IMPURE = {"redis", "hiredis", "asyncio", "threading", "socket", "subprocess"}


def modules(package: str = PACKAGE) -> dict[str, Path]:
    """Every module of a package by its name without the package's own."""
    found, root = {}, ROOT.parent / package
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path
    return found


def layer(module: str) -> int:
    """The layer of a module: that of its folder."""
    for number, names in enumerate(LAYERS):
        if module.split(".")[0] in names.split():
            return number
    pytest.fail(f"{module} is in no layer: give it a place in LAYERS")


def imports(module: str, path: Path, *, runtime_only: bool = False, package: str = PACKAGE) -> set[str]:
    """The absolute names of what a module imports, anywhere in it; those for type checkers only if asked for."""
    tree = ast.parse(path.read_text())
    folder = module.split(".") if path.name == "__init__.py" and module != "__init__" else module.split(".")[:-1]
    skipped = _typing_only(tree) if runtime_only else set()
    found = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [package, *folder[: len(folder) - node.level + 1]] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import x` imports a module where there is one.
            found |= {
                f"{source}.{alias.name}" if _is_module(f"{source}.{alias.name}") else source for alias in node.names
            }
    return found


def _typing_only(tree: ast.Module) -> set[ast.AST]:
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}


def _is_module(name: str) -> bool:
    if not name.startswith((f"{PACKAGE}.", "benchmarks.")):
        return False
    path = ROOT.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def internal(names: set[str], package: str = PACKAGE) -> set[str]:
    prefix = f"{package}."
    names = {f"{prefix}__init__" if name == package else name for name in names}
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_module_imports_from_its_own_layer_or_lower_ones(module: str) -> None:
    for name in internal(imports(module, modules()[module])):
        assert layer(name) <= layer(module), f"{module} imports {name}, which is above it"


@pytest.mark.parametrize("module", [name for name in sorted(modules()) if name.split(".")[0] in PURE])
def test_the_core_does_no_io(module: str) -> None:
    roots = {name.split(".")[0] for name in imports(module, modules()[module])}
    assert not roots & IMPURE


@pytest.mark.parametrize("package", [PACKAGE, "benchmarks"])
def test_there_are_no_cycles(package: str) -> None:
    graph = {
        name: internal(imports(name, path, runtime_only=package == PACKAGE, package=package), package)
        for name, path in modules(package).items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"import cycle: {' -> '.join((*trail, name))}"
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_importing_the_package_loads_no_client() -> None:
    import subprocess
    import sys

    code = "import sys, interval_scheduler; from interval_scheduler import Task, Scheduler; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    loaded = set(result.stdout.split())
    assert not loaded & {"redis", "structlog", "fakeredis", "cronsim", "rich"}
