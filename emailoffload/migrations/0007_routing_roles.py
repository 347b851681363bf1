"""What the three groups may do with routing rules, shadows and the pause.

Only adds, and only to groups that are still there: what a site changed in its groups stays as it is.
"""

from django.db import migrations, models

ACTIONS = ("view", "add", "change", "delete")
NAMES = {"routingrule": "routing rule", "shadow": "shadow"}
ROLES = {
    "Offload administrators": [
        *((f"{action}_routingrule", "routingrule") for action in ACTIONS),
        ("view_shadow", "shadow"),
        ("pause", "state"),
    ],
    "Support staff": [("view_routingrule", "routingrule")],
    "Auditors": [("view_routingrule", "routingrule"), ("view_shadow", "shadow")],
}


def name_of(codename):
    """The name that Django gives to a permission."""
    if codename == "pause":
        return "Can pause and resume claiming and sending"
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
        ("emailoffload", "0006_routing"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="state",
            options={
                "permissions": [("pause", "Can pause and resume claiming and sending")],
                "verbose_name": "shared state",
                "verbose_name_plural": "shared states",
            },
        ),
        migrations.AddField(
            model_name="shadow",
            name="is_last",
            field=models.BooleanField(default=False, verbose_name="last mail owed"),
        ),
        migrations.RunPython(extend_roles, migrations.RunPython.noop),
    ]
