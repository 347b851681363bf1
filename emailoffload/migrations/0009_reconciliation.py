"""Findings of the reconciler, and who may look at them among the records.

Only adds, and only to groups that are still there: what a site changed in its groups stays as it is.
"""

import django.db.models.deletion
from django.db import migrations, models

ROLES = ("Offload administrators", "Support staff", "Auditors")


def extend_roles(apps, schema_editor):
    """Add the permission. It is made here too: Django makes it only after migrating."""
    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    ContentType = apps.get_model("contenttypes", "ContentType")
    kind, _ = ContentType.objects.get_or_create(app_label="emailoffload", model="reconcilefinding")
    permission, _ = Permission.objects.get_or_create(
        codename="view_reconcilefinding",
        content_type=kind,
        defaults={"name": "Can view reconciliation finding"},
    )
    for group in Group.objects.filter(name__in=ROLES):
        group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("emailoffload", "0008_handle_fallback"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.CreateModel(
            name="ReconcileFinding",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("source", models.CharField(max_length=30, verbose_name="source")),
                ("user_id", models.BigIntegerField(verbose_name="user")),
                ("company_id", models.BigIntegerField(blank=True, null=True, verbose_name="company")),
                ("verdict", models.CharField(max_length=20, verbose_name="verdict")),
                ("detail", models.CharField(max_length=30, verbose_name="detail")),
                ("seen", models.JSONField(blank=True, default=dict, verbose_name="what was seen")),
                ("first_seen", models.DateTimeField(verbose_name="first seen")),
                ("closed_at", models.DateTimeField(blank=True, null=True, verbose_name="closed")),
                (
                    "closed_because",
                    models.CharField(blank=True, default="", max_length=10, verbose_name="closed because"),
                ),
                (
                    "claim",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="findings",
                        to="emailoffload.claim",
                        verbose_name="claim",
                    ),
                ),
            ],
            options={
                "verbose_name": "reconciliation finding",
                "verbose_name_plural": "reconciliation findings",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["closed_at", "-id"], name="finding_open"),
                    models.Index(fields=["verdict", "closed_at", "-id"], name="finding_verdict"),
                    models.Index(fields=["user_id", "-id"], name="finding_user"),
                    models.Index(fields=["company_id", "-id"], name="finding_company"),
                ],
                "constraints": [models.UniqueConstraint(fields=("claim", "verdict"), name="finding_once")],
            },
        ),
        migrations.RunPython(extend_roles, migrations.RunPython.noop),
    ]
