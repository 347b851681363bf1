"""Checks that the migrations since the last release are safe on a site at work. Exit status 1 names what is not.

Two promises (docs/upgrading.md): the code of the release before goes on reading and writing while the tables are
changed already, and no statement keeps a table of millions of rows from being used. What an operation does is judged by
the operation and the models before it, not by the text of SQL, which differs from one database to the next; so no
database is needed.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import django
from django.db import models
from django.db.migrations import Migration, operations
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

ROOT: Final = Path(__file__).resolve().parent.parent
APP: Final = "emailoffload"
RELEASED: Final = {"0.1.0": "0011_feedback_roles"}
"""The last migration of each release. A release adds its own (docs/releasing.md); what it had is not checked again."""

LARGE: Final = frozenset(
    {"claim", "email", "content", "attempt", "event", "shadow", "leftrow", "rowerror", "hourcount", "reconcilefinding",
     "auditentry"}
)  # fmt: skip
"""Models with a row for each mail, or for many: here a statement that copies the table, or blocks it, lasts."""
SMALL: Final = frozenset(
    {"run", "lease", "state", "copyrule", "routingrule", "sensitivetemplate", "groupcompany", "eventproblem",
     "suppression", "reputationhour", "alarm", "choice", "savedview", "countsum", "hourchange", "erasedperson"}
)  # fmt: skip
"""All others; a test holds that each model is in one of the two."""

EXCEPTIONS: Final[dict[tuple[str, str], str]] = {
    ("0014_privacy", "mixed claim"): "adds permissions to a group, and may do so twice (`migrate --resume`)",
}
"""What is done all the same, by migration and finding (`code model.field`), with the reason."""

HARMLESS: Final = (
    operations.CreateModel,
    operations.AlterModelOptions,
    operations.AlterModelManagers,
    operations.AddIndex,  # InnoDB builds it while the table is read and written
    operations.RenameIndex,
    operations.RemoveIndex,
    operations.RemoveConstraint,
)
SHORT: Final = 63
"""A VARCHAR of utf8mb4 up to this length has its length in one byte; beyond, in two, which is another table."""


def findings(migration: Migration, state: ProjectState, released: ProjectState) -> Iterator[tuple[str, str]]:
    """What is wrong with a migration: (finding, in words). `state` is changed to what the migration leaves.

    `released` are the models of the last release: what is in there exists on sites, and its code is still at work.
    """
    schema = [each for each in migration.operations if not isinstance(each, operations.RunPython)]
    for number, operation in enumerate(_all(migration.operations)):
        yield from _of(operation, number, state, released)
        operation.state_forwards(migration.app_label, state)
    known = {name for app, name in released.models if app == migration.app_label}
    if any(_table(each) in known & LARGE for each in schema) and len(schema) < len(migration.operations):
        touched = next(_table(each) for each in schema if _table(each) in known & LARGE)
        yield (
            f"mixed {touched}",
            "changes a large table and rows in one migration: MariaDB cannot undo the one when the other fails",
        )


def _all(wanted: list[Any]) -> Iterator[Any]:
    for operation in wanted:
        if isinstance(operation, operations.SeparateDatabaseAndState):
            yield from _all(operation.database_operations)
        else:
            yield operation


def _table(operation: Any) -> str:
    return str(getattr(operation, "model_name_lower", "") or getattr(operation, "name_lower", ""))


def _of(
    operation: Any, number: int, state: ProjectState, released: ProjectState
) -> Iterator[tuple[str, str]]:
    name = _table(operation)
    field_name = getattr(operation, "name", "") if hasattr(operation, "field") else ""
    where = f"{name}.{field_name}" if field_name else name
    if isinstance(operation, operations.RunPython):
        yield from _code(operation)
    elif isinstance(operation, operations.RunSQL):
        yield f"sql {number}", "runs SQL that nobody can judge here: use an operation, or name the reason"
    elif name and (APP, name) not in released.models:
        return  # a table that no release has: nobody uses it yet, and it is empty
    elif isinstance(operation, operations.AddField):
        yield from _added(where, name, operation.field)
    elif isinstance(operation, operations.AlterField):
        old = state.models[APP, name].get_field(field_name)
        yield from _altered(where, name, old, operation.field)
    elif isinstance(operation, operations.RemoveField):
        where = f"{name}.{operation.name}"
        yield (
            f"drop {where}",
            "drops a column that the release before still reads and writes: drop it one release later",
        )
    elif isinstance(operation, operations.DeleteModel):
        yield f"drop {name}", "drops a table that the release before still uses: drop it one release later"
    elif isinstance(operation, (operations.RenameField, operations.RenameModel, operations.AlterModelTable)):
        yield (
            f"rename {name}",
            "renames what the release before knows by the old name: add the new one beside it",
        )
    elif isinstance(operation, operations.AddConstraint):
        yield from _constraint(f"{name}.{operation.constraint.name}", name, operation.constraint)
    elif not isinstance(operation, HARMLESS):
        kind = type(operation).__name__
        yield f"unknown {name} {kind}", f"{kind} is nothing that this check knows: judge it, and teach it"


def _added(where: str, model: str, field: Any) -> Iterator[tuple[str, str]]:
    if field.many_to_many:
        return
    if not field.null and field.db_default is models.NOT_PROVIDED:
        yield (
            f"not-null {where}",
            "a column without NULL that has no default in the database: what the release before inserts is refused. "
            "Give it db_default, or null=True",
        )
    if field.unique:
        yield (
            f"unique {where}",
            "a unique column in a table that is in use: what the release before writes may be refused",
        )
    if field.remote_field and field.db_constraint and model in LARGE:
        yield (
            f"foreign-key {where}",
            "a foreign key copies the table while nobody can write: use db_constraint=False",
        )


def _altered(where: str, model: str, old: Any, new: Any) -> Iterator[tuple[str, str]]:
    if old.null and not new.null:
        yield f"not-null {where}", "no longer takes NULL, which the release before may write"
    if new.unique and not old.unique:
        yield f"unique {where}", "becomes unique: what the release before writes may be refused"
    kinds = type(old), type(new)
    if kinds[0] is not kinds[1] or getattr(old, "db_column", None) != getattr(new, "db_column", None):
        yield (
            f"type {where}",
            "becomes another column: the table is copied, and the release before knows the old one",
        )
    elif isinstance(new, models.CharField) and old.max_length != new.max_length:
        if (new.max_length or 0) < (old.max_length or 0):
            yield (
                f"shorter {where}",
                "becomes shorter: what is there, or what the release before writes, may not fit",
            )
        elif model in LARGE and (old.max_length or 0) <= SHORT < (new.max_length or 0):
            yield (
                f"longer {where}",
                f"grows beyond {SHORT} characters, for which MariaDB copies the whole table",
            )
    elif getattr(new, "max_digits", None) != getattr(old, "max_digits", None):
        yield f"type {where}", "becomes another column: the table is copied"


def _constraint(where: str, model: str, constraint: Any) -> Iterator[tuple[str, str]]:
    if isinstance(constraint, models.UniqueConstraint):
        yield (
            f"unique {where}",
            "a new unique constraint: what the release before writes may be refused, and what is there",
        )
    else:
        yield (
            f"check {where}",
            "a new check: what the release before writes may be refused, and the table is copied",
        )


def _code(operation: Any) -> Iterator[tuple[str, str]]:
    name = operation.code.__name__
    if not operation.reversible:
        yield (
            f"one-way {name}",
            "cannot be undone: give it reverse_code, RunPython.noop where nothing needs undoing",
        )
    source = inspect.getsource(inspect.getmodule(operation.code) or operation.code).lower()
    for model in sorted(LARGE):
        if f'get_model("{APP}", "{model}")' in source or f'get_model("{APP}.{model}")' in source:
            yield (
                f"rows {name} {model}",
                "works through a large table: leave that to a pass of the worker, in batches",
            )


def check() -> list[str]:
    """All that is wrong with the migrations since the last release, and with the list of exceptions."""
    loader = MigrationLoader(None)
    last = (APP, list(RELEASED.values())[-1])
    leaf = next(node for node in loader.graph.leaf_nodes() if node[0] == APP)
    before = set(loader.graph.forwards_plan(last))
    since = [node for node in loader.graph.forwards_plan(leaf) if node[0] == APP and node not in before]
    released = loader.project_state([last])
    wrong, used = [], set()
    for node in since:
        state = loader.project_state([node], at_end=False)
        for finding, words in findings(loader.graph.nodes[node], state, released):
            used.add((node[1], finding))
            if (node[1], finding) not in EXCEPTIONS:
                wrong.append(f"{node[1]}: {words} [{finding}]")
    wrong += [
        f"{name}: the exception [{finding}] is no longer needed" for name, finding in EXCEPTIONS.keys() - used
    ]
    return wrong


def main() -> int:
    """Say what is wrong."""
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "offloadsite.settings")
    django.setup()
    wrong = check()
    for line in wrong:
        print(line)
    if wrong:
        print(
            "docs/upgrading.md says how each is done safely; an exception has its reason in tools/check_migrations.py."
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
