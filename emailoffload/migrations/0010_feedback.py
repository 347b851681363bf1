import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('emailoffload', '0009_reconciliation'),
    ]

    operations = [
        migrations.CreateModel(
            name='EventProblem',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.CharField(editable=False, max_length=64, unique=True)),
                ('origin', models.CharField(max_length=10, verbose_name='came by')),
                ('reason', models.CharField(max_length=40, verbose_name='reason')),
                ('detail', models.CharField(blank=True, default='', max_length=255, verbose_name='detail')),
                ('size', models.PositiveIntegerField(verbose_name='bytes')),
                ('key_id', models.CharField(blank=True, default='', max_length=16)),
                ('body', models.BinaryField(null=True)),
                ('first_seen', models.DateTimeField(verbose_name='first seen')),
                ('last_seen', models.DateTimeField(db_index=True, verbose_name='last seen')),
                ('times', models.PositiveIntegerField(default=1, verbose_name='times')),
            ],
            options={
                'verbose_name': 'unreadable event',
                'verbose_name_plural': 'unreadable events',
                'ordering': ['-last_seen'],
            },
        ),
        migrations.AddField(
            model_name='email',
            name='clicked_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='clicked'),
        ),
        migrations.AddField(
            model_name='email',
            name='opened_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='opened'),
        ),
        migrations.AddField(
            model_name='routingrule',
            name='suppressed',
            field=models.CharField(choices=[('record', 'claim, do not send, record as suppressed'), ('moodle', 'leave the row to Moodle, which sends')], default='record', max_length=6, verbose_name='suppressed addresses'),
        ),
        migrations.CreateModel(
            name='Alarm',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('code', models.CharField(max_length=40, verbose_name='alarm')),
                ('subject', models.CharField(blank=True, default='', max_length=255, verbose_name='about')),
                ('active_key', models.CharField(blank=True, editable=False, max_length=255, null=True, unique=True)),
                ('level', models.CharField(choices=[('warning', 'warning'), ('critical', 'critical')], max_length=10, verbose_name='level')),
                ('text', models.TextField(verbose_name='text')),
                ('cure', models.TextField(blank=True, default='', verbose_name='what to do')),
                ('details', models.JSONField(blank=True, default=dict, verbose_name='figures')),
                ('raised_at', models.DateTimeField(verbose_name='raised')),
                ('seen_at', models.DateTimeField(verbose_name='last seen')),
                ('ended_at', models.DateTimeField(blank=True, null=True, verbose_name='ended')),
                ('told', models.JSONField(blank=True, default=dict, verbose_name='told')),
            ],
            options={
                'verbose_name': 'alarm',
                'verbose_name_plural': 'alarms',
                'ordering': ['-id'],
                'indexes': [models.Index(fields=['ended_at', '-id'], name='alarm_ended')],
            },
        ),
        migrations.CreateModel(
            name='Event',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(editable=False, max_length=64, unique=True)),
                ('type', models.CharField(choices=[('send', 'send'), ('reject', 'reject'), ('delivery', 'delivery'), ('bounce', 'bounce'), ('complaint', 'complaint'), ('delivery_delay', 'delivery delay'), ('open', 'open'), ('click', 'click'), ('rendering_failure', 'rendering failure'), ('subscription', 'subscription')], max_length=20, verbose_name='type')),
                ('at', models.DateTimeField(verbose_name='at')),
                ('received_at', models.DateTimeField(verbose_name='received')),
                ('message_id', models.CharField(blank=True, default='', max_length=128, verbose_name='SES message id')),
                ('ref', models.CharField(blank=True, default='', max_length=32, verbose_name='our reference')),
                ('address', models.CharField(blank=True, default='', max_length=254, verbose_name='recipient')),
                ('identity', models.CharField(blank=True, default='', max_length=255, verbose_name="sender's domain")),
                ('kind', models.CharField(blank=True, default='', max_length=20, verbose_name='kind')),
                ('subkind', models.CharField(blank=True, default='', max_length=40, verbose_name='sub-type')),
                ('status', models.CharField(blank=True, default='', max_length=20, verbose_name='status code')),
                ('diagnostic', models.CharField(blank=True, default='', max_length=500, verbose_name='diagnostic')),
                ('noted', models.BooleanField(default=False, verbose_name='noted only')),
                ('match_again_at', models.DateTimeField(blank=True, null=True, verbose_name='looked for again')),
                ('match_tries', models.PositiveSmallIntegerField(default=0, verbose_name='times looked for')),
                ('origin', models.CharField(default='queue', max_length=10, verbose_name='came by')),
                ('email', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='events', to='emailoffload.email', verbose_name='email')),
            ],
            options={
                'verbose_name': 'event',
                'verbose_name_plural': 'events',
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='ReputationHour',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('hour', models.DateTimeField(verbose_name='hour')),
                ('identity', models.CharField(blank=True, default='', max_length=255, verbose_name="sender's domain")),
                ('company_id', models.BigIntegerField(default=0, verbose_name='company')),
                ('sends', models.PositiveIntegerField(default=0)),
                ('deliveries', models.PositiveIntegerField(default=0)),
                ('permanent_bounces', models.PositiveIntegerField(default=0)),
                ('transient_bounces', models.PositiveIntegerField(default=0)),
                ('complaints', models.PositiveIntegerField(default=0)),
                ('rejects', models.PositiveIntegerField(default=0)),
            ],
            options={
                'verbose_name': 'hour of reputation',
                'verbose_name_plural': 'hours of reputation',
                'constraints': [models.UniqueConstraint(fields=('hour', 'identity', 'company_id'), name='reputation_hour_once')],
            },
        ),
        migrations.CreateModel(
            name='Suppression',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('address', models.CharField(max_length=254, verbose_name='address')),
                ('active_key', models.CharField(blank=True, editable=False, max_length=254, null=True, unique=True)),
                ('reason', models.CharField(choices=[('bounce', 'permanent bounce'), ('complaint', 'complaint'), ('transient', 'many transient bounces'), ('person', "a person's decision")], max_length=10, verbose_name='reason')),
                ('origin', models.CharField(max_length=10, verbose_name='came by')),
                ('detail', models.CharField(blank=True, default='', max_length=500, verbose_name='detail')),
                ('since', models.DateTimeField(verbose_name='since')),
                ('until', models.DateTimeField(blank=True, db_index=True, null=True, verbose_name='until')),
                ('added_by', models.CharField(blank=True, default='', max_length=150, verbose_name='added by')),
                ('removed_at', models.DateTimeField(blank=True, null=True, verbose_name='removed')),
                ('removed_by', models.CharField(blank=True, default='', max_length=150, verbose_name='removed by')),
                ('removal_reason', models.CharField(blank=True, default='', max_length=500, verbose_name='why removed')),
                ('agreement', models.CharField(choices=[('agreed', 'on both lists'), ('to_add', "to be added to SES's list"), ('to_remove', "to be removed from SES's list"), ('ours', 'on our list only')], default='to_add', max_length=10, verbose_name="SES's list")),
                ('checked_at', models.DateTimeField(blank=True, null=True, verbose_name='compared with SES')),
                ('email', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='emailoffload.email', verbose_name='email')),
                ('event', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='emailoffload.event', verbose_name='evidence')),
            ],
            options={
                'verbose_name': 'suppression',
                'verbose_name_plural': 'suppressions',
                'ordering': ['-id'],
                'permissions': [('lift_suppression', 'Can let a suppressed address get mail again')],
            },
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['email', 'at'], name='event_email'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['address', 'type', 'at'], name='event_address'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['match_again_at'], name='event_unmatched'),
        ),
        migrations.AddIndex(
            model_name='suppression',
            index=models.Index(fields=['address', '-id'], name='suppression_address'),
        ),
        migrations.AddIndex(
            model_name='suppression',
            index=models.Index(fields=['agreement'], name='suppression_agreement'),
        ),
    ]
