"""What the three groups may do with copy rules, sensitive templates, bound groups and resending.

Only adds, and only to groups that are still there: what a site changed in its groups stays as it is.
"""

from django.db import migrations

NAMES = {"copyrule": "copy rule", "sensitivetemplate": "sensitive template", "groupcompany": "company of a group"}
ACTIONS = ("view", "add", "change", "delete")
ROLES = {
    "Offload administrators": [
        *((f"{action}_{model}", model) for model in NAMES for action in ACTIONS),
        ("resend_email", "email"),
    ],
    "Support staff": [("view_copyrule", "copyrule"), ("resend_email", "email")],
    "Auditors": [(f"view_{model}", model) for model in NAMES],
}


def name_of(codename):
    """The name that Django gives to a permission."""
    if codename == "resend_email":
        return "Can resend an email"
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
        ("emailoffload", "0003_policy_and_templates"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(extend_roles, migrations.RunPython.noop)]
