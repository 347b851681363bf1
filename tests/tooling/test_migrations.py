"""The check of migrations refuses what would stop a site that is at work, and lets through what does not."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import migrations, models
from django.db.migrations.loader import MigrationLoader

from tests.processes import ROOT

CHECK: dict[str, Any] = runpy.run_path(str(Path(ROOT) / "tools" / "check_migrations.py"))
NODE = ("emailoffload", "0011_feedback_roles")


def rows_of_claims(apps: Any, schema_editor: Any) -> None:
    """A data migration over a large table."""
    apps.get_model("emailoffload", "Claim").objects.update(note="x")


def found(*operations: Any) -> list[str]:
    """What is found in a migration that follows 0.1.0's last."""
    loader = MigrationLoader(None)
    migration = migrations.Migration("0012_bad", "emailoffload")
    migration.operations = list(operations)
    state = loader.project_state([NODE])
    return [finding for finding, _ in CHECK["findings"](migration, state, loader.project_state([NODE]))]


NEW = migrations.CreateModel(
    "New", [("id", models.BigAutoField(primary_key=True)), ("word", models.TextField())]
)


@pytest.mark.parametrize(
    ("finding", "operation"),
    [
        ("drop email.origin", migrations.RemoveField("email", "origin")),
        ("drop shadow", migrations.DeleteModel("shadow")),
        ("rename email", migrations.RenameField("email", "origin", "because")),
        ("rename shadow", migrations.RenameModel("Shadow", "Ghost")),
        ("rename shadow", migrations.AlterModelTable("shadow", "ghosts")),
        ("not-null run.word", migrations.AddField("run", "word", models.TextField(default=""))),
        ("not-null claim.run", migrations.AlterField("claim", "run", models.BigIntegerField())),
        (
            "unique run.word",
            migrations.AddField("run", "word", models.CharField(max_length=9, null=True, unique=True)),
        ),
        (
            "unique email.subject",
            migrations.AlterField("email", "subject", models.CharField(max_length=998, unique=True)),
        ),
        (
            "foreign-key email.run",
            migrations.AddField(
                "email", "run", models.ForeignKey("emailoffload.run", models.SET_NULL, null=True)
            ),
        ),
        (
            "type email.attempts",
            migrations.AlterField("email", "attempts", models.BigIntegerField(default=0)),
        ),
        (
            "shorter email.name",
            migrations.AlterField("email", "name", models.CharField(max_length=100, blank=True)),
        ),
        (
            "longer email.reason",
            migrations.AlterField("email", "reason", models.CharField(max_length=100, blank=True)),
        ),
        (
            "unique email.once",
            migrations.AddConstraint("email", models.UniqueConstraint(fields=["address"], name="once")),
        ),
        (
            "check email.tries",
            migrations.AddConstraint(
                "email", models.CheckConstraint(condition=models.Q(attempts__lt=9), name="tries")
            ),
        ),
        ("sql 0", migrations.RunSQL("UPDATE emailoffload_email SET reason = ''")),
        ("one-way rows_of_claims", migrations.RunPython(rows_of_claims)),
        ("rows rows_of_claims claim", migrations.RunPython(rows_of_claims, migrations.RunPython.noop)),
        ("unknown email AlterUniqueTogether", migrations.AlterUniqueTogether("email", {("ref", "address")})),
        (
            "drop email.origin",
            migrations.SeparateDatabaseAndState(
                database_operations=[migrations.RemoveField("email", "origin")]
            ),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_breaks_the_release_before_or_blocks_a_large_table_is_refused(
    finding: str, operation: Any
) -> None:
    assert finding in found(operation)


@pytest.mark.parametrize(
    "operations",
    [
        (
            NEW,
            migrations.AddField("new", "other", models.CharField(max_length=9, unique=True)),
            migrations.DeleteModel("new"),
        ),
        (migrations.AddField("email", "seen_at", models.DateTimeField(null=True)),),
        (migrations.AddField("email", "word", models.CharField(max_length=9, default="", db_default="")),),
        (migrations.AddIndex("email", models.Index(fields=["name"], name="email_name")),),
        (migrations.RemoveIndex("email", "email_due"),),
        (migrations.AlterField("email", "name", models.CharField("renamed", max_length=255, blank=True)),),
        (migrations.AlterField("email", "name", models.CharField(max_length=400, blank=True)),),
        (migrations.AlterField("run", "kind", models.CharField(max_length=200)),),
        (migrations.AlterModelOptions("email", {"ordering": ["-id"]}),),
    ],
    ids=[
        "new table",
        "nullable",
        "database default",
        "index",
        "no index",
        "words",
        "longer",
        "small table",
        "options",
    ],
)
def test_what_can_be_done_while_the_site_works_passes(operations: tuple[Any, ...]) -> None:
    assert found(*operations) == []


def test_a_large_table_and_rows_are_not_changed_in_one_migration() -> None:
    assert "mixed email" in found(
        migrations.AddField("email", "seen_at", models.DateTimeField(null=True)),
        migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop),
    )


def test_every_model_is_known_as_large_or_small() -> None:
    ours = {model._meta.model_name for model in apps.get_app_config("emailoffload").get_models()}
    assert CHECK["LARGE"] | CHECK["SMALL"] == ours
    assert not CHECK["LARGE"] & CHECK["SMALL"]


def test_the_migrations_since_the_release_pass_and_every_exception_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert CHECK["check"]() == []
    monkeypatch.setitem(
        CHECK["check"].__globals__["EXCEPTIONS"], ("0012_x", "drop email.origin"), "no reason"
    )
    assert CHECK["check"]() == ["0012_x: the exception [drop email.origin] is no longer needed"]
