"""Who may deal with mails that did not go by the cloud: administrators and support staff.

Only adds, and only to groups that are still there: what a site changed in its groups stays as it is.
"""

from django.db import migrations

ROLES = ("Offload administrators", "Support staff")
NAME = "Can deal with mails that did not go by the cloud"


def extend_roles(apps, schema_editor):
    """Add the permission. It is made here too: Django makes it only after migrating."""
    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    ContentType = apps.get_model("contenttypes", "ContentType")
    kind, _ = ContentType.objects.get_or_create(app_label="emailoffload", model="email")
    permission, _ = Permission.objects.get_or_create(
        codename="handle_fallback", content_type=kind, defaults={"name": NAME}
    )
    for group in Group.objects.filter(name__in=ROLES):
        group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("emailoffload", "0007_routing_roles"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="email",
            options={
                "ordering": ["-id"],
                "permissions": [("resend_email", "Can resend an email"), ("handle_fallback", NAME)],
                "verbose_name": "email",
                "verbose_name_plural": "emails",
            },
        ),
        migrations.RunPython(extend_roles, migrations.RunPython.noop),
    ]
