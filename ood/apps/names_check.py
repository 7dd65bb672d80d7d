"""Finding the names in a template that would be undefined at a launch.

This reads the template's syntax tree. Rendering the template with example values would check only
the branches that those values take.
"""

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches

from jinja2 import Environment, nodes
from jinja2.meta import find_undeclared_variables

Known = Mapping[str, Collection[str] | None]
"""The variables of a template with the names inside each, None for any. The key `a.b` stands for
attribute `b` of variable `a`."""
REFERENCES = (nodes.Name, nodes.Getattr, nodes.Getitem)


def unknown_names(
    environment: Environment, tree: nodes.Template, known: Known
) -> Iterator[tuple[int, str]]:
    """The line of each unknown name, and a description. Ignores names that the template tests with
    `is defined` or gives a `default`."""
    free = find_undeclared_variables(tree) - set(environment.globals) - {"loop"}
    guarded = {
        id(node)
        for guard in tree.find_all((nodes.Test, nodes.Filter))
        if guard.name in ("defined", "undefined", "default", "d") and guard.node is not None
        for node in (guard.node, *guard.node.find_all(REFERENCES))
    }
    for node in tree.find_all(REFERENCES):
        path = _path(node)
        if id(node) in guarded or not path or path[0] not in free:
            continue
        *above, last = path
        inside = known.get(".".join(above)) if above else known
        if inside is None or last in inside:
            continue
        close = get_close_matches(last, inside, 1)
        what = f"`{'.'.join(above)}` has no `{last}`" if above else f"there is no `{last}`"
        yield node.lineno, what + (f". Did you mean `{close[0]}`?" if close else "")


def _path(node: nodes.Node) -> list[str]:
    """The names in `context.cores` or `context["cores"]`; empty for other expressions."""
    match node:
        case nodes.Name():
            return [node.name]
        case nodes.Getattr(attr=name) | nodes.Getitem(arg=nodes.Const(value=str(name))):
            above = _path(node.node)
            return [*above, name] if above else []
    return []
