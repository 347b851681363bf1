"""What is read from Moodle, as plain immutable values.

Rendering and decisions work on these and never on the database, so that they can be tested with rows from
anywhere. Times are Moodle's: whole UNIX seconds of the Moodle host's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

EMAILUSER_NEVER, EMAILUSER_COMPLETION, EMAILUSER_TIME, EMAILUSER_RESERVED = 0, 1, 2, 3
RECIPIENT_USER, RECIPIENT_MANAGER, RECIPIENT_BOTH = 0, 1, 2


@dataclass(frozen=True, slots=True)
class User:
    """A row of `user`; the columns that mails and gates need (facts §1.2)."""

    id: int
    auth: str = "manual"
    confirmed: int = 1
    deleted: int = 0
    suspended: int = 0
    mnethostid: int = 1
    username: str = ""
    firstname: str = ""
    lastname: str = ""
    firstnamephonetic: str | None = None
    lastnamephonetic: str | None = None
    middlename: str | None = None
    alternatename: str | None = None
    email: str = ""
    emailstop: int = 0
    institution: str = ""
    department: str = ""
    city: str = ""
    lang: str = ""
    timezone: str = "99"
    mailformat: int = 1
    maildisplay: int = 2


@dataclass(frozen=True, slots=True)
class Course:
    """A row of `course`."""

    id: int
    shortname: str
    fullname: str
    category: int = 1
    lang: str = ""


@dataclass(frozen=True, slots=True)
class Activity:
    """A row of `reengagement` with its course module, course and module context.

    `cmid` is None where no course module exists (the "poison" of facts §2.4); `context_path` is None where
    the module has no context.
    """

    id: int
    name: str
    emailuser: int
    emailsubject: str
    emailcontent: str
    emailrecipient: int
    thirdpartyemails: str
    emailsubjectthirdparty: str
    emailcontentthirdparty: str
    emailsubjectmanager: str
    emailcontentmanager: str
    duration: int
    remindercount: int
    emaildelay: int
    suppresstarget: int
    course: Course | None
    cmid: int | None
    deletioninprogress: int = 0
    context_id: int | None = None
    context_path: str | None = None


@dataclass(frozen=True, slots=True)
class InProgress:
    """A row of `reengagement_inprogress`."""

    id: int
    reengagement: int
    userid: int
    completiontime: int
    emailtime: int
    emailsent: int
    completed: int

    @property
    def due(self) -> int:
        """When the mail is due."""
        return self.emailtime

    @property
    def activity_id(self) -> int:
        """The activity that the row belongs to."""
        return self.reengagement

    @property
    def template(self) -> str:
        """'': reminders are of no template."""
        return ""

    @property
    def course_id(self) -> None:
        """Only the activity knows its course."""

    @property
    def company_id(self) -> None:
        """Only the user has a company."""


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A waiting row of IOMAD's `email`, without what it says (facts §1.3)."""

    id: int
    templatename: str | None
    modifiedtime: int
    due: int
    companyid: int
    courseid: int | None
    userid: int
    senderid: int | None

    @property
    def activity_id(self) -> int:
        """0: the mails of the queue belong to no activity."""
        return 0

    @property
    def template(self) -> str:
        """IOMAD's name of the kind of mail; '' where the row has none."""
        return self.templatename or ""

    @property
    def course_id(self) -> int | None:
        """The course that the mail is about, if any."""
        return self.courseid or None

    @property
    def company_id(self) -> int | None:
        """The company that the mail belongs to; None where it is unknown (facts §7.6)."""
        return self.companyid or None


@dataclass(frozen=True, slots=True)
class ProfileField:
    """A custom profile field whose placeholder is replaced (facts §4.3), in the order of its id."""

    id: int
    shortname: str
    datatype: str
    param3: str | None = None


@dataclass(frozen=True, slots=True)
class ProfileValue:
    """A learner's value of a profile field; no row is no value."""

    data: str
    dataformat: int = 0


@dataclass(frozen=True, slots=True)
class Learner:
    """A user with what the placeholders of one course need."""

    user: User
    groups: tuple[str, ...] = ()
    """Names of the user's groups in the course, in the database's order by name."""
    profile: Mapping[int, ProfileValue] = field(default_factory=dict)
    """Values by field id."""
    preferences: Mapping[str, str] = field(default_factory=dict)
    """Preferences that decide about mail: see `messaging.PREFERENCE_NAMES`."""


@dataclass(frozen=True, slots=True)
class TextFilter:
    """An active text filter, in its place in the order, with its configuration in that very context."""

    name: str
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CourseActivityName:
    """What the filter *activitynames* links: an activity of the course that the cron user can see."""

    cmid: int
    modname: str
    name: str


@dataclass(frozen=True, slots=True)
class TextContext:
    """What formatting a text of one course depends on, beside the text."""

    filters: tuple[TextFilter, ...] = ()
    """Filters active in the course's context (facts §4.6), in order."""
    course_id: int = 0
    activities: tuple[CourseActivityName, ...] = ()
    """The course's activities, for *activitynames* only."""
    activities_unknown: tuple[str, ...] = ()
    """Activity plugins with visible activities in the course whose names the account may not read; empty where
    *activitynames* is off. `moodlegrants` prints what is missing."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Moodle's support or noreply user: a real row, or a pseudo user with a negative id (facts §5.5)."""

    user: User
    is_pseudo: bool = True


@dataclass(frozen=True, slots=True)
class SiteConfig:
    """The site as Moodle's cron sees it: `config` rows, then what config.php forces (facts §0)."""

    wwwroot: str
    shortname: str
    fullname: str
    course_id: int = 1
    """Id of the front-page course (category 0)."""
    config: Mapping[str, str] = field(default_factory=dict)
    """Every `config` row that we read, by name, overridden by MOODLE_FORCED_CONFIG."""
    message_config: Mapping[str, str] = field(default_factory=dict)
    """Rows of `config_plugins` with plugin = 'message'."""
    filter_config: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Rows of `config_plugins` of plugins filter_*, by plugin and name."""
    theme_revisions: Mapping[str, str] = field(default_factory=dict)
    """`themerev` by theme, from config_plugins (theme_<name>)."""
    php_timezone: str = "UTC"
    lang: str = "en"
    branch: int = 404
    """Moodle's branch as a number: 400, 401, … 404, 405, 500."""
    site_context: TextContext = field(default_factory=TextContext)
    """The front page's context: profile fields are formatted in it during cron (facts §4.3)."""
    profile_fields: tuple[ProfileField, ...] = ()
    support_user: Sender | None = None
    noreply_user: Sender | None = None
    string_noreply_name: str = "Do not reply to this email"
    string_via: str = "{name} (via {siteshortname})"
    has_totara: bool = False

    def get(self, name: str, default: str = "") -> str:
        """A `$CFG` value as text; '' when it is not set."""
        return self.config.get(name, default)

    def flag(self, name: str) -> bool:
        """A `$CFG` value as PHP's truth: '' and '0' are false."""
        return self.config.get(name, "") not in ("", "0")
