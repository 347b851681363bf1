"""What the three groups may do with the audit log, exports, unsent mails, the effective settings and coverage.

Only adds, and only to groups that are still there: what a site changed in its groups stays as it is.
"""

from django.db import migrations

NAMES = {
    "cancel_email": "Can cancel an email that has not left",
    "export_email": "Can export emails as CSV",
    "view_configuration": "Can see the effective settings and the doctor's findings",
    "view_leftrow": "Can view row left to Moodle",
    "view_hourcount": "Can view hourly count",
    "change_savedview": "Can change saved view",
}
ROLES = {
    "Offload administrators": [
        ("cancel_email", "email"),
        ("export_email", "email"),
        ("view_configuration", "state"),
        ("view_leftrow", "leftrow"),
        ("view_hourcount", "hourcount"),
        ("change_savedview", "savedview"),
    ],
    "Support staff": [("cancel_email", "email"), ("view_leftrow", "leftrow"), ("view_hourcount", "hourcount")],
    "Auditors": [
        ("export_email", "email"),
        ("view_configuration", "state"),
        ("view_leftrow", "leftrow"),
        ("view_hourcount", "hourcount"),
    ],
}


def extend_roles(apps, schema_editor):
    """Add the permissions. They are made here too: Django makes them only after migrating."""
    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    ContentType = apps.get_model("contenttypes", "ContentType")
    for role, permissions in ROLES.items():
        group = Group.objects.filter(name=role).first()
        if group is None:
            continue
        for codename, model in permissions:
            kind, _ = ContentType.objects.get_or_create(app_label="emailoffload", model=model)
            permission, _ = Permission.objects.get_or_create(
                codename=codename, content_type=kind, defaults={"name": NAMES[codename]}
            )
            group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("emailoffload", "0012_figures_and_choices"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(extend_roles, migrations.RunPython.noop)]
