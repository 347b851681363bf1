"""The mutants of a module: each is the module with one small mistake in it.

Operators of Python, of Django's queries and of SQL: what a hasty hand would get wrong in code that claims and moves.
Texts for people, docstrings, annotations and what a module does at its import are left alone; the tables of states
are mutated entry by entry (`tools/mutation.py`).
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
SQL = (
    (" AND ", " OR "),
    (" OR ", " AND "),
    ("NOT ", ""),
    (" IS NULL", " IS NOT NULL"),
    (" = ", " <> "),
    (" + ", " - "),
)
QUERY_STEPS = {"filter", "exclude", "select_for_update", "order_by", "reversed"}
TEXTS = {"_", "gettext", "gettext_lazy", "pgettext_lazy", "warning", "info", "error", "debug", "exception"}
"""Calls whose arguments are words for people."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake: the function that has it, in words what it is, and the whole module's source with it."""

    function: str
    what: str
    line: int
    tree: ast.Module


def of(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    for name, function in _functions(tree, ""):
        for node, parent in _nodes(function):
            for replacement in _changes(node):
                if ast.dump(replacement) != ast.dump(node):
                    yield _mutant(tree, name, node, replacement, parent)


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef):
            yield f"{prefix}{child.name}", child


def _nodes(function: ast.FunctionDef) -> Iterator[tuple[ast.AST, ast.AST]]:
    """The nodes of a function that run when it is called, each with its parent, without words for people."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    waiting: list[tuple[ast.AST, ast.AST]] = [(node, function) for node in reversed(body)]
    while waiting:
        node, parent = waiting.pop()
        yield node, parent
        skipped = {"annotation", "returns", "decorator_list", "exc"}
        children: list[ast.AST] = []
        if isinstance(node, ast.Call) and _name(node.func) in TEXTS:
            continue
        if isinstance(node, ast.keyword) and node.arg == "strict":
            continue
        for field, value in ast.iter_fields(node):
            if field not in skipped:
                children += [
                    v for v in (value if isinstance(value, list) else [value]) if isinstance(v, ast.AST)
                ]
        waiting += [(child, node) for child in reversed(children)]


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand by mistake where a node is."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                yield _with(node, ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])
    elif isinstance(node, ast.BoolOp):
        yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        for place in range(len(node.values)):
            rest = [*node.values[:place], *node.values[place + 1 :]]
            yield rest[0] if len(rest) == 1 else _with(node, values=rest)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield _with(node, op=ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.Constant):
        yield from (ast.Constant(value) for value in _values(node.value))
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield _with(node, test=ast.Constant(True))
        yield _with(node, test=ast.Constant(False))
    elif isinstance(node, ast.comprehension):
        for place in range(len(node.ifs)):
            yield _with(node, ifs=[*node.ifs[:place], *node.ifs[place + 1 :]])
    elif isinstance(node, ast.Return) and node.value is not None:
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Expr | ast.AugAssign | ast.Raise | ast.Continue | ast.Break):
        if not _is_needed(node):
            yield ast.Pass()
    elif isinstance(node, ast.With):
        for place, item in enumerate(node.items):
            if item.optional_vars is None:
                rest = [*node.items[:place], *node.items[place + 1 :]]
                yield _with(node, items=rest) if rest else _with(node, items=[_nothing()])
    elif isinstance(node, ast.ExceptHandler):
        yield _with(node, body=[ast.Raise()])
    elif isinstance(node, ast.Slice) and node.upper is not None:
        yield _with(node, upper=None)
    elif isinstance(node, ast.Call):
        for place, keyword in enumerate(node.keywords):
            if keyword.arg not in (None, "strict"):
                yield _with(node, keywords=[*node.keywords[:place], *node.keywords[place + 1 :]])
        if isinstance(node.func, ast.Attribute) and node.func.attr in QUERY_STEPS:
            yield node.func.value


def _is_needed(node: ast.stmt) -> bool:
    """Whether a statement cannot be left out: a yield, and what says that a place is never reached."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        return _name(node.exc.func) == "AssertionError"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Yield)


def _values(value: object) -> Iterator[object]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
        yield value - 1
    elif isinstance(value, str):
        for old, new in SQL:
            for part in range(value.count(old)):
                pieces = value.split(old)
                yield old.join(pieces[: part + 1]) + new + old.join(pieces[part + 1 :])
        if value.isidentifier():
            yield f"{value}x"


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _nothing() -> ast.withitem:
    return ast.parse("with __import__('contextlib').nullcontext(): pass").body[0].items[0]  # type: ignore[attr-defined,no-any-return]


class _Exchange(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def _mutant(tree: ast.Module, function: str, node: ast.AST, new: ast.AST, parent: ast.AST) -> Mutant:
    memo: dict[int, object] = {}
    whole = copy.deepcopy(tree, memo)
    old = memo[id(node)]
    assert isinstance(old, ast.AST)
    replacement = copy.deepcopy(new)
    if isinstance(node, ast.stmt | ast.expr | ast.excepthandler) and hasattr(old, "lineno"):
        ast.copy_location(replacement, old)
    mutated = ast.fix_missing_locations(_Exchange(old, replacement).visit(whole))
    what = f"{_shown(node)} → {_shown(new)}"
    if isinstance(node, ast.Constant) and not isinstance(parent, ast.FunctionDef):
        shown = copy.deepcopy(parent, memo := {})
        blank = ast.Constant("…") if isinstance(parent, ast.JoinedStr) else ast.Name("…")
        what += f" in {_shown(_Exchange(memo[id(node)], blank).visit(shown))}"  # type: ignore[arg-type]
    return Mutant(function, what, getattr(node, "lineno", 0) or _line(node), mutated)


def _line(node: ast.AST) -> int:
    return next((child.lineno for child in ast.walk(node) if hasattr(child, "lineno")), 0)


def _shown(node: ast.AST) -> str:
    """One line of source for a node; of a block its head."""
    if isinstance(node, ast.Slice):
        return f"[{ast.unparse(node)}]"
    text = ast.unparse(node).strip()
    if isinstance(node, ast.ExceptHandler):
        return " ".join(text.splitlines()[:2])
    return text.splitlines()[0] if isinstance(node, ast.With | ast.If | ast.While) else " ".join(text.split())
