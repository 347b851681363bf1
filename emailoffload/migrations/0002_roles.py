"""The groups Offload administrators, Support staff and Auditors, with what each may see.

Administrators of a site may change the groups afterwards: they are only made here, never reset.
"""

from django.db import migrations

RECORDS = ["run", "rowerror", "claim", "email", "attempt", "lease", "state"]
ROLES = {
    "Offload administrators": [*RECORDS, "content", "auditentry"],
    "Support staff": ["run", "claim", "email", "attempt", "content"],
    "Auditors": [*RECORDS, "auditentry"],
}
NAMES = {
    "run": "run",
    "rowerror": "row error",
    "claim": "claim",
    "email": "email",
    "attempt": "attempt",
    "lease": "lease",
    "state": "shared state",
    "content": "content",
    "auditentry": "audit entry",
}


def create_roles(apps, schema_editor):
    """Make the groups that are missing. Permissions are made here too: Django adds them only after migrating."""
    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    ContentType = apps.get_model("contenttypes", "ContentType")
    for name, models in ROLES.items():
        group, created = Group.objects.get_or_create(name=name)
        if not created:
            continue
        for model in models:
            kind, _ = ContentType.objects.get_or_create(app_label="emailoffload", model=model)
            permission, _ = Permission.objects.get_or_create(
                codename=f"view_{model}", content_type=kind, defaults={"name": f"Can view {NAMES[model]}"}
            )
            group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("emailoffload", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(create_roles, migrations.RunPython.noop)]
