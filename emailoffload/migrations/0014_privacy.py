"""Privacy: when names and addresses were emptied, who was erased, and which administrators may do that.

Columns may be missing from an INSERT (NULL, or a default in the database), so that the code of the version before
goes on while this runs. MariaDB adds them without touching rows, and builds the index beside the table's use.
"""

from django.db import migrations, models

NAMES = {
    "export_person": "Can export everything that is held about one person",
    "erase_person": "Can erase what is held about one person",
}
ROLE = "Offload administrators"


def extend_role(apps, schema_editor):
    """Give the administrators both permissions, if their group is still there; nothing is taken from anybody."""
    group = apps.get_model("auth", "Group").objects.filter(name=ROLE).first()
    if group is None:
        return
    Permission = apps.get_model("auth", "Permission")
    ContentType = apps.get_model("contenttypes", "ContentType")
    kind, _ = ContentType.objects.get_or_create(app_label="emailoffload", model="erasedperson")
    for codename, name in NAMES.items():
        # Django makes them only after migrating.
        permission, _ = Permission.objects.get_or_create(
            codename=codename, content_type=kind, defaults={"name": name}
        )
        group.permissions.add(permission)


class Migration(migrations.Migration):

    dependencies = [
        ('emailoffload', '0013_dashboard_roles'),
        ('auth', '0012_alter_user_first_name_max_length'),
        ('contenttypes', '0002_remove_content_type_name'),
    ]

    operations = [
        migrations.CreateModel(
            name='ErasedPerson',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('user_id', models.BigIntegerField(unique=True, verbose_name='user')),
                ('deleted_seen_at', models.DateTimeField(blank=True, null=True, verbose_name='first seen as deleted')),
                ('erased_at', models.DateTimeField(blank=True, null=True, verbose_name='erased')),
                ('because', models.CharField(blank=True, choices=[('retention', 'kept for long enough'), ('request', 'somebody asked for it'), ('moodle', 'Moodle deleted the user')], default='', max_length=10, verbose_name='why')),
            ],
            options={
                'verbose_name': 'erased person',
                'verbose_name_plural': 'erased persons',
                'permissions': [('export_person', 'Can export everything that is held about one person'), ('erase_person', 'Can erase what is held about one person')],
            },
        ),
        migrations.AddField(
            model_name='claim',
            name='forgotten_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='name and address erased'),
        ),
        migrations.AddField(
            model_name='email',
            name='forgotten_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='name, address and subject erased'),
        ),
        migrations.AddField(
            model_name='email',
            name='forgotten_because',
            field=models.CharField(blank=True, choices=[('retention', 'kept for long enough'), ('request', 'somebody asked for it'), ('moodle', 'Moodle deleted the user')], db_default='', default='', max_length=10, verbose_name='why they were erased'),
        ),
        migrations.AddIndex(
            model_name='claim',
            index=models.Index(fields=['forgotten_at'], name='claim_forgotten'),
        ),
        migrations.AddIndex(
            model_name='erasedperson',
            index=models.Index(fields=['erased_at', 'deleted_seen_at'], name='erased_person_due'),
        ),
        migrations.RunPython(extend_role, migrations.RunPython.noop),
    ]
