"""Moodle's tables, as far as we read them.

Each model lists only the columns that are used: the list is also what `grants.py` asks for, so a column that
is not here cannot be read. Table and column names are Moodle's (facts §1); ids of other tables are plain
numbers, because Moodle's database has no foreign keys. Times are whole UNIX seconds of the Moodle host's
clock. Sites differ in the columns of `OPTIONAL_COLUMNS` and in the tables of `OPTIONAL_TABLES`; queries name
the columns they want (`values_list`), never all of them.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models


def table(name: str) -> str:
    """The full name of Moodle's table `name` (`{name}` in Moodle's own code): prefix and name."""
    return f"{settings.MOODLE_DB_PREFIX}{name}"


class MoodleTable(models.Model):
    """What all of Moodle's tables have in common: an `id`, and that Django never creates or changes them."""

    id = models.BigIntegerField(primary_key=True)

    class Meta:
        abstract = True
        managed = False
        app_label = "moodle"

    def __str__(self) -> str:
        return f"{self._meta.db_table} {self.pk}"


# --- mod_reengagement (facts §1.1) ---


class Reengagement(MoodleTable):
    """An activity of mod_reengagement."""

    course = models.BigIntegerField()
    name = models.CharField(max_length=255)
    emailuser = models.IntegerField()
    emailcontent = models.TextField()
    emailsubject = models.CharField(max_length=255)
    emailcontentmanager = models.TextField(null=True)
    emailsubjectmanager = models.CharField(max_length=255, null=True)
    emailrecipient = models.IntegerField()
    thirdpartyemails = models.TextField(null=True)
    emailsubjectthirdparty = models.CharField(max_length=255, null=True)
    emailcontentthirdparty = models.TextField(null=True)
    duration = models.BigIntegerField()
    remindercount = models.IntegerField()
    suppresstarget = models.BigIntegerField()
    emaildelay = models.BigIntegerField()

    class Meta(MoodleTable.Meta):
        db_table = table("reengagement")


class InProgress(MoodleTable):
    """A learner on the way through an activity; the row that is claimed."""

    reengagement = models.BigIntegerField()
    userid = models.BigIntegerField()
    completiontime = models.BigIntegerField()
    emailtime = models.BigIntegerField()
    emailsent = models.IntegerField()
    completed = models.IntegerField()

    class Meta(MoodleTable.Meta):
        db_table = table("reengagement_inprogress")


# --- Courses and their activities (facts §1.2) ---


class Course(MoodleTable):
    """A course; the one with category 0 is the front page."""

    category = models.BigIntegerField()
    fullname = models.CharField(max_length=1333)
    shortname = models.CharField(max_length=255)
    lang = models.CharField(max_length=30)

    class Meta(MoodleTable.Meta):
        db_table = table("course")


class CourseModule(MoodleTable):
    """The place of an activity in a course."""

    course = models.BigIntegerField()
    module = models.BigIntegerField()
    instance = models.BigIntegerField()
    visible = models.IntegerField()
    deletioninprogress = models.IntegerField()

    class Meta(MoodleTable.Meta):
        db_table = table("course_modules")


class Module(MoodleTable):
    """An installed activity plugin; `visible` 0 is disabled for the whole site."""

    name = models.CharField(max_length=20)
    visible = models.IntegerField()

    class Meta(MoodleTable.Meta):
        db_table = table("modules")


class ModuleCompletion(MoodleTable):
    """A learner's completion state of a course module."""

    coursemoduleid = models.BigIntegerField()
    userid = models.BigIntegerField()
    completionstate = models.IntegerField()

    class Meta(MoodleTable.Meta):
        db_table = table("course_modules_completion")


# --- People ---


class User(MoodleTable):
    """A person; only what mails and the gates before them need, never a password or secret."""

    auth = models.CharField(max_length=20)
    confirmed = models.IntegerField()
    deleted = models.IntegerField()
    suspended = models.IntegerField()
    mnethostid = models.BigIntegerField()
    username = models.CharField(max_length=100)
    firstname = models.CharField(max_length=100)
    lastname = models.CharField(max_length=100)
    firstnamephonetic = models.CharField(max_length=255, null=True)
    lastnamephonetic = models.CharField(max_length=255, null=True)
    middlename = models.CharField(max_length=255, null=True)
    alternatename = models.CharField(max_length=255, null=True)
    email = models.CharField(max_length=100)
    emailstop = models.IntegerField()
    institution = models.CharField(max_length=255)
    department = models.CharField(max_length=255)
    city = models.CharField(max_length=120)
    lang = models.CharField(max_length=30)
    timezone = models.CharField(max_length=100)
    mailformat = models.IntegerField()
    maildisplay = models.IntegerField()

    class Meta(MoodleTable.Meta):
        db_table = table("user")


class UserPreference(MoodleTable):
    """A preference of a user."""

    userid = models.BigIntegerField()
    name = models.CharField(max_length=255)
    value = models.TextField()

    class Meta(MoodleTable.Meta):
        db_table = table("user_preferences")


class UserInfoField(MoodleTable):
    """A custom profile field."""

    shortname = models.CharField(max_length=255)
    datatype = models.CharField(max_length=255)
    categoryid = models.BigIntegerField()
    param3 = models.TextField(null=True)

    class Meta(MoodleTable.Meta):
        db_table = table("user_info_field")


class UserInfoData(MoodleTable):
    """A user's value of a custom profile field."""

    userid = models.BigIntegerField()
    fieldid = models.BigIntegerField()
    data = models.TextField()
    dataformat = models.IntegerField()

    class Meta(MoodleTable.Meta):
        db_table = table("user_info_data")


class Group(MoodleTable):
    """A group of a course."""

    courseid = models.BigIntegerField()
    name = models.CharField(max_length=254)

    class Meta(MoodleTable.Meta):
        db_table = table("groups")


class GroupMember(MoodleTable):
    """Who belongs to a group."""

    groupid = models.BigIntegerField()
    userid = models.BigIntegerField()

    class Meta(MoodleTable.Meta):
        db_table = table("groups_members")


# --- Who may do what (facts §6) ---


class Context(MoodleTable):
    """A place in the tree of permissions: system 10, user 30, category 40, course 50, module 70."""

    contextlevel = models.IntegerField()
    instanceid = models.BigIntegerField()
    path = models.CharField(max_length=255, null=True)
    depth = models.IntegerField()
    locked = models.IntegerField()

    class Meta(MoodleTable.Meta):
        db_table = table("context")


class RoleAssignment(MoodleTable):
    """A user's role in a context."""

    roleid = models.BigIntegerField()
    contextid = models.BigIntegerField()
    userid = models.BigIntegerField()

    class Meta(MoodleTable.Meta):
        db_table = table("role_assignments")


class RoleCapability(MoodleTable):
    """What a role is allowed in a context: 1 allow, −1 prevent, −1000 prohibit."""

    contextid = models.BigIntegerField()
    roleid = models.BigIntegerField()
    capability = models.CharField(max_length=255)
    permission = models.IntegerField()

    class Meta(MoodleTable.Meta):
        db_table = table("role_capabilities")


class Capability(MoodleTable):
    """A capability that an installed component defines."""

    name = models.CharField(max_length=255)

    class Meta(MoodleTable.Meta):
        db_table = table("capabilities")


class Enrol(MoodleTable):
    """An enrolment method of a course; `status` 0 is enabled."""

    status = models.IntegerField()
    courseid = models.BigIntegerField()

    class Meta(MoodleTable.Meta):
        db_table = table("enrol")


class UserEnrolment(MoodleTable):
    """A user's enrolment; `status` 0 is active."""

    status = models.IntegerField()
    enrolid = models.BigIntegerField()
    userid = models.BigIntegerField()
    timestart = models.BigIntegerField()
    timeend = models.BigIntegerField()

    class Meta(MoodleTable.Meta):
        db_table = table("user_enrolments")


# --- The site ---


class Config(MoodleTable):
    """A site setting (`$CFG->name`); `site.py` lists the names that are read."""

    name = models.CharField(max_length=255)
    value = models.TextField()

    class Meta(MoodleTable.Meta):
        db_table = table("config")


class ConfigPlugin(MoodleTable):
    """A setting of a plugin."""

    plugin = models.CharField(max_length=100)
    name = models.CharField(max_length=100)
    value = models.TextField()

    class Meta(MoodleTable.Meta):
        db_table = table("config_plugins")


class MessageProvider(MoodleTable):
    """A kind of message that a component sends."""

    name = models.CharField(max_length=100)
    component = models.CharField(max_length=200)

    class Meta(MoodleTable.Meta):
        db_table = table("message_providers")


class MessageProcessor(MoodleTable):
    """A way messages go out: email, popup, …"""

    name = models.CharField(max_length=166)
    enabled = models.IntegerField()

    class Meta(MoodleTable.Meta):
        db_table = table("message_processors")


class ScheduledTask(MoodleTable):
    """A scheduled task of Moodle's cron; `classname` has a leading backslash."""

    component = models.CharField(max_length=255)
    classname = models.CharField(max_length=255)
    lastruntime = models.BigIntegerField(null=True)
    nextruntime = models.BigIntegerField(null=True)
    faildelay = models.BigIntegerField(null=True)
    disabled = models.IntegerField()
    timestarted = models.BigIntegerField(null=True)

    class Meta(MoodleTable.Meta):
        db_table = table("task_scheduled")


class AdhocTask(MoodleTable):
    """A queued ad hoc task; `classname` has a leading backslash."""

    classname = models.CharField(max_length=255)

    class Meta(MoodleTable.Meta):
        db_table = table("task_adhoc")


class TaskLog(MoodleTable):
    """A task that ran; `classname` has no leading backslash."""

    classname = models.CharField(max_length=255)
    timestart = models.DecimalField(max_digits=20, decimal_places=10)

    class Meta(MoodleTable.Meta):
        db_table = table("task_log")


class FilterActive(MoodleTable):
    """Where a text filter is on (1), off (−1) or disabled (−9999)."""

    filter = models.CharField(max_length=32)
    contextid = models.BigIntegerField()
    active = models.IntegerField()
    sortorder = models.BigIntegerField()

    class Meta(MoodleTable.Meta):
        db_table = table("filter_active")


class FilterConfig(MoodleTable):
    """A setting of a text filter in one context."""

    filter = models.CharField(max_length=32)
    contextid = models.BigIntegerField()
    name = models.CharField(max_length=255)
    value = models.TextField(null=True)

    class Meta(MoodleTable.Meta):
        db_table = table("filter_config")


# --- IOMAD and Totara; absent on plain Moodle (facts §1.3, §2.11) ---


class Company(MoodleTable):
    """A company of IOMAD; `reengccemail` exists only on sites that patched the plugin."""

    name = models.CharField(max_length=50)
    profileid = models.BigIntegerField()
    emailprofileid = models.BigIntegerField(null=True)
    """The profile field that holds the addresses of a user's supervisors."""
    reengccemail = models.TextField(null=True)

    class Meta(MoodleTable.Meta):
        db_table = table("company")


class CompanyUser(MoodleTable):
    """A user's place in a department of a company; the first row by id is the user's company.

    `managertype` is 1 for a company manager, 2 for a department manager.
    """

    companyid = models.BigIntegerField()
    userid = models.BigIntegerField()
    managertype = models.IntegerField()
    departmentid = models.BigIntegerField()
    suspended = models.IntegerField()

    class Meta(MoodleTable.Meta):
        db_table = table("company_users")


class Department(MoodleTable):
    """A department of a company; `parent` is 0 for the company's own, the top of its tree."""

    name = models.CharField(max_length=255)
    company = models.BigIntegerField()
    parent = models.BigIntegerField(null=True)

    class Meta(MoodleTable.Meta):
        db_table = table("department")


class QueuedEmail(MoodleTable):
    """A row of IOMAD's mail queue; `sent` NULL is waiting. The body may hold a password in clear text."""

    templatename = models.CharField(max_length=100, null=True)
    modifiedtime = models.BigIntegerField()
    sent = models.BigIntegerField(null=True)
    subject = models.CharField(max_length=255)
    body = models.TextField()
    companyid = models.BigIntegerField()
    courseid = models.BigIntegerField(null=True)
    userid = models.BigIntegerField()
    senderid = models.BigIntegerField(null=True)
    headers = models.TextField(null=True)
    due = models.BigIntegerField()

    class Meta(MoodleTable.Meta):
        db_table = table("email")


class EmailTemplate(MoodleTable):
    """A company's own version of a mail of IOMAD's: who else gets it, who it is from, whether it is off.

    One row per company, name and language; newer versions keep the languages in a table of their own.
    """

    companyid = models.BigIntegerField()
    name = models.CharField(max_length=50)
    lang = models.CharField(max_length=20)
    disabled = models.IntegerField()
    disabledmanager = models.IntegerField()
    disabledsupervisor = models.IntegerField()
    emailto = models.CharField(max_length=1333, null=True)
    emailtoother = models.CharField(max_length=1333, null=True)
    emailcc = models.CharField(max_length=1333, null=True)
    emailccother = models.CharField(max_length=1333, null=True)
    emailfrom = models.BigIntegerField(null=True)
    emailfromother = models.CharField(max_length=100, null=True)
    emailfromothername = models.TextField(null=True)
    emailreplyto = models.BigIntegerField(null=True)
    emailreplytoother = models.CharField(max_length=100, null=True)

    class Meta(MoodleTable.Meta):
        db_table = table("email_template")


class JobAssignment(MoodleTable):
    """Exists on Totara only; never read, but its presence tells."""

    class Meta(MoodleTable.Meta):
        db_table = table("job_assignment")


MODELS: tuple[type[MoodleTable], ...] = (
    Reengagement, InProgress, Course, CourseModule, Module, ModuleCompletion, User, UserPreference,
    UserInfoField, UserInfoData, Group, GroupMember, Context, RoleAssignment,
    RoleCapability, Capability, Enrol, UserEnrolment, Config, ConfigPlugin, MessageProvider,
    MessageProcessor, ScheduledTask, AdhocTask, TaskLog, FilterActive, FilterConfig, Company, CompanyUser,
    Department, QueuedEmail, EmailTemplate, JobAssignment,
)  # fmt: skip
IOMAD_TABLES: frozenset[str] = frozenset(
    {table("company"), table("company_users"), table("department"), table("email"), table("email_template")}
)
"""Tables that every IOMAD site has and plain Moodle has not."""
OPTIONAL_TABLES: frozenset[str] = IOMAD_TABLES | {table("job_assignment")}
OPTIONAL_COLUMNS: frozenset[tuple[str, str]] = frozenset(
    {
        (table("company"), "reengccemail"),
        (table("email_template"), "lang"),
        (table("email_template"), "emailfromothername"),
    }
)


def columns_of(model: type[models.Model]) -> tuple[str, ...]:
    """The columns of a model, in the order of its definition."""
    return tuple(field.attname for field in model._meta.concrete_fields)
