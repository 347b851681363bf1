"""Who changes what is counted says so: no writer of the product's may forget it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

WRITERS = {"update_each", "insert_with_ids"}
COUNTED = ("Email.objects", "Claim.objects", "LeftRow.objects")
EXCUSED = {
    ("outbox/transitions.py", "_record_accepted"): "record() notes all that ended",
    ("outbox/transitions.py", "_record_others"): "record() notes all that ended",
    ("outbox/transitions.py", "_record_attempts"): "attempts are not counted",
    ("outbox/reported.py", "_write"): "apply() notes what moved",
    ("outbox/intents.py", "_wake"): "_settle() notes all claims that it was given",
    ("worker/recover_intents.py", "_finish_releases"): "finish_releases() notes them",
    ("worker/smtp_route.py", "give_back"): "the lease only",
    ("worker/schedules.py", "ensure"): "schedules",
    ("feedback/alarms.py", "raise_alarm"): "alarms",
    ("feedback/reputation.py", "matched"): "its own hours",
    ("feedback/suppression.py", "_bring_up_to_date"): "suppressions",
}


def writes(call: ast.Call) -> bool:
    """Whether a call may change a state or a reason, insert or delete what is counted."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in WRITERS:
        return True
    if name == "update":
        named = {each.arg for each in call.keywords}
        return bool(named & {None, "state"}) or ("reason" in named and "LeftRow.objects" in ast.unparse(call))
    if name in ("delete", "bulk_create", "create"):
        return ast.unparse(call).startswith(COUNTED)
    return name in ("save", "bulk_update") and "'state'" in ast.unparse(call)


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function of the product that ends up on a real site: (file, function)."""
    root = Path(settings.BASE_DIR) / "emailoffload"
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name.startswith(("sandbox/", "migrations/")):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield name, node


def test_every_writer_notes_the_hours_that_it_changes_in_the_same_function() -> None:
    silent, seen = set(), set()
    for name, function in functions():
        inside = list(ast.walk(function))
        if not any(isinstance(node, ast.Call) and writes(node) for node in inside):
            continue
        seen.add((name, function.name))
        notes = {"hourchanges", "_note"}
        if not any(isinstance(node, ast.Name) and node.id in notes for node in inside):
            silent.add((name, function.name))
    assert silent - set(EXCUSED) == set()
    assert ("outbox/transitions.py", "move") in seen
    assert set(EXCUSED) <= seen, "no longer there, or no longer a writer"
