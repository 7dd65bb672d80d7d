"""Whether a template names only what it will be given: each other name would fail at a launch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches

from jinja2 import Environment, nodes
from jinja2.meta import find_undeclared_variables

Known = Mapping[str, Collection[str] | None]
"""What a template is given: name -> the names in it (None: anything). `a.b` is what `a` has as
`b`."""


def unknown_names(environment: Environment, text: str, known: Known) -> Iterator[tuple[int, str]]:
    """The line of each name that will not be there, and what is wrong with it. A name that is asked
    for with `is defined` or has a `default` may be missing."""
    tree = environment.parse(text)
    free = find_undeclared_variables(tree) - set(environment.globals) - {"loop"}
    spared = {
        id(each)
        for guard in tree.find_all((nodes.Test, nodes.Filter))
        if guard.name in ("defined", "undefined", "default", "d") and guard.node is not None
        for each in (guard.node, *guard.node.find_all((nodes.Name, nodes.Getattr, nodes.Getitem)))
    }
    told = set()
    for node in tree.find_all((nodes.Name, nodes.Getattr, nodes.Getitem)):
        path = _path(node)
        if id(node) in spared or not path or path[0] not in free:
            continue
        *above, last = path
        inside = known.get(".".join(above)) if above else known
        if inside is None or last in inside or (node.lineno, path) in told:
            continue
        told.add((node.lineno, path))
        close = get_close_matches(last, list(inside), 1)
        instead = f"; is it `{close[0]}`?" if close else ""
        where = f"`{'.'.join(above)}` has no `{last}`" if above else f"there is no `{last}`"
        yield node.lineno, f"{where}{instead}"


def _path(node: nodes.Node) -> tuple[str, ...]:
    """`context.cores` and `context["cores"]` as their names; empty for what is only known later."""
    match node:
        case nodes.Name():
            return (node.name,)
        case nodes.Getattr():
            above = _path(node.node)
            return (*above, node.attr) if above else ()
        case nodes.Getitem(arg=nodes.Const(value=str(name))):
            above = _path(node.node)
            return (*above, name) if above else ()
    return ()
