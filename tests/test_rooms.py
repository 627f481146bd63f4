"""The rooms of the house: which may know of which, and what opens without PyTorch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ORDER = "data_prep duetlib duetbook".split()
METHOD = "sessions backbones dynamic hypernetwork ppg swa umn precision".split()
TRAINING = "controls methods metrics cuda_graphs cache training finetuning recommend".split()
WITHOUT_TORCH = (
    "latency serving.payload serving.transport serving.device evidence.paper evidence.records "
    "evidence.tables evidence.statistics"
).split()


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the three packages, by its name."""
    for package in (ROOT / "data_prep", ROOT / "duetlib", ROOT / "book" / "duetbook"):
        for path in sorted(package.rglob("*.py")):
            name = ".".join(path.relative_to(package.parent).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


NAMES = {name for name, _ in modules()}


def imports(name: str, path: Path) -> set[str]:
    """The modules of ours that a module imports, at its top or within a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # one dot is the package that the module is in
                inside = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
                up = inside[: len(inside) - node.level + 1]
                base = ".".join([*up, *([base] if base else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in NAMES else base)
    return {each for each in found if each.split(".")[0] in ORDER}


IMPORTS = {name: imports(name, path) for name, path in modules()}


def room(name: str) -> str:
    """`method`, `training`, or a folder of `duetlib` or a file beside them."""
    part = name.split(".")[1] if "." in name else ""
    return "method" if part in METHOD else "training" if part in TRAINING else part


def test_no_package_knows_of_one_above_it() -> None:
    for name, known in IMPORTS.items():
        own = ORDER.index(name.split(".")[0])
        assert [each for each in known if ORDER.index(each.split(".")[0]) > own] == [], name


def test_within_the_library_arrows_run_one_way() -> None:
    """A room may know of those beside its name, and of the files that belong to no room."""
    may_know = {
        "method": {"method"},
        "training": {"method", "training"},
        "vision": {"method", "training", "vision"},
        "serving": {"method", "training", "serving"},
        "beyond": {"method", "training", "serving", "beyond"},
        "evidence": {"method", "training", "vision", "evidence"},
        "latency": {"evidence"},  # the paper's Table 3
    }
    rooms = set(may_know) | {"training", "method"}
    for name, known in IMPORTS.items():
        if name.split(".")[0] != "duetlib" or room(name) not in may_know:
            continue
        others = {room(each) for each in known if each.startswith("duetlib.")} & rooms
        allowed = may_know[room(name)] | {"latency"}
        assert others <= allowed, f"{name} imports {sorted(others - allowed)}"


def test_nothing_imports_itself_by_way_of_others() -> None:
    def reach(name: str, seen: set[str]) -> set[str]:
        for each in IMPORTS.get(name, set()) - seen:
            seen |= {each}
            reach(each, seen)
        return seen

    packages = {name for name, path in modules() if path.name == "__init__.py"}
    circles = [name for name in IMPORTS if name not in packages and name in reach(name, set())]
    assert circles == []


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_what_is_arithmetic_opens_without_torch(name: str) -> None:
    code = f"import sys, duetlib.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
