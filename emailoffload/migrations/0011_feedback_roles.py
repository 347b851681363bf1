"""What the three groups may do with SES's events, suppressed addresses and alarms.

Only adds, and only to groups that are still there: what a site changed in its groups stays as it is.
"""

from django.db import migrations

NAMES = {
    "event": "event",
    "eventproblem": "unreadable event",
    "suppression": "suppression",
    "reputationhour": "hour of reputation",
    "alarm": "alarm",
}
LIFT = "lift_suppression"
ROLES = {
    "Offload administrators": [
        *((f"view_{model}", model) for model in NAMES),
        ("add_suppression", "suppression"),
        (LIFT, "suppression"),
    ],
    "Support staff": [
        ("view_event", "event"),
        ("view_suppression", "suppression"),
        ("add_suppression", "suppression"),
        (LIFT, "suppression"),
    ],
    "Auditors": [(f"view_{model}", model) for model in NAMES],
}


def name_of(codename):
    """The name that Django gives to a permission."""
    if codename == LIFT:
        return "Can let a suppressed address get mail again"
    action, model = codename.split("_", 1)
    return f"Can {action} {NAMES[model]}"


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
                codename=codename, content_type=kind, defaults={"name": name_of(codename)}
            )
            group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("emailoffload", "0010_feedback"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(extend_roles, migrations.RunPython.noop)]
