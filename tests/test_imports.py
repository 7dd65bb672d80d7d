"""Imports point only downward, in the order that `ood/__init__.py` gives, and never in a circle."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter

import ood
from tests.conftest import ROOT

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "ood").rglob("*.py")
}


def imports(module: str) -> set[str]:
    """The modules of `ood` that a module imports anywhere in it, also inside functions and for
    types only."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{module}: relative imports are not counted here"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in MODULES else node.module)
    return (found & MODULES.keys()) - {module}


def test_no_circles() -> None:
    try:
        TopologicalSorter({module: imports(module) for module in MODULES}).prepare()
    except CycleError as error:
        raise AssertionError(" imports ".join(reversed(error.args[1]))) from None


def test_imports_point_downward() -> None:
    assert ood.__doc__ is not None
    lines = re.findall(r"(?m)^- ([\w, ]+):", ood.__doc__)
    order = [name for line in lines for name in line.split(", ")]
    rooms = {module.split(".")[1] for module in MODULES if module != "ood"}
    assert sorted(order) == sorted(rooms), "ood/__init__.py lists every package and module"
    level = {room: place for place, room in enumerate(order)}
    upward = [
        f"{module} imports {other}"
        for module in sorted(MODULES.keys() - {"ood"})
        for other in sorted(imports(module) - {"ood"})
        if level[module.split(".")[1]] > level[other.split(".")[1]]
    ]
    assert upward == []
