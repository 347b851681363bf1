"""Site-wide rows of the sample Moodle: settings as on a fresh Moodle 4.4, roles, messages, tasks,
companies."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from emailoffload.sandbox import sample_data as data
from emailoffload.sandbox.sample_people import SUPERVISOR_FIELD

ROLE_TEACHER = 4
ROLE_STUDENT = 5
CAPABILITY = "mod/reengagement:startreengagement"
CRON_CLASS = r"\mod_reengagement\task\cron_task"
QUEUE_CLASS = r"\local_email\task\cron_task"
EMAIL_DELAY = 60
"""Seconds."""
PLUGIN_VERSION = "2023020804"

Insert = Callable[[str, str, Sequence[Sequence[object]]], None]

_EMOTICONS = [(":-)", "smiley"), (";-)", "wink"), (":-D", "biggrin"), (":-(", "sad")]
_CONFIG: dict[str, str] = {
    "version": "2024042205",
    "release": "4.4.5 (Build: 20241209)",
    "branch": "404",
    "lang": "en",
    "autolang": "1",
    "timezone": "Europe/London",
    "forcetimezone": "99",
    "theme": "boost",
    "themerev": "1733700000",
    "siteguest": "1",
    "siteadmins": "2",
    "defaultuserroleid": "7",
    "defaultfrontpageroleid": "8",
    "guestroleid": "6",
    "notloggedinroleid": "6",
    "fullnamedisplay": "language",
    "alternativefullnameformat": "language",
    "supportname": "Learning Support",
    "supportemail": "support@learn.example",
    "supportavailability": "1",
    "noreplyaddress": "noreply@learn.example",
    "emailfromvia": "1",
    "emailsubjectprefix": "",
    "allowedemaildomains": "",
    "divertallemailsto": "",
    "divertallemailsexcept": "",
    "sitemailcharset": "0",
    "allowusermailcharset": "0",
    "mailnewline": "LF",
    "messaging": "1",
    "messagingallowemailoverride": "0",
    "enrol_plugins_enabled": "manual,guest,self,cohort,license",
    "enablecompletion": "1",
    "enableavailability": "1",
    "filterall": "0",
    "stringfilters": "",
    "filtermatchoneperpage": "0",
    "filtermatchonepertext": "0",
    "contextlocking": "0",
    "cron_enabled": "1",
    "mnet_localhost_id": "1",
    "mnet_all_hosts_id": "2",
    # IOMAD's own setting: what it queues is due that much later. SQLite has no lock to share with Moodle's
    # cron, so this is what lets queued mails be claimed, ahead of their time (facts §7.7 b).
    "iomad_emaildelay": str(EMAIL_DELAY),
    "emoticons": json.dumps(
        [
            {
                "text": text,
                "imagename": f"s/{name}",
                "imagecomponent": "core",
                "altidentifier": name,
                "altcomponent": "core_pix",
            }
            for text, name in _EMOTICONS
        ]
    ),
}
_PROVIDER = "mod_reengagement_mod_reengagement"
_PLUGINS: tuple[tuple[str, str, str], ...] = (
    ("mod_reengagement", "version", PLUGIN_VERSION),
    ("local_email", "version", "2024111900"),
    ("local_iomad", "version", "2024112500"),
    ("theme_boost", "version", "2024042200"),
    ("filter_urltolink", "formats", "1,4,0"),
    ("filter_urltolink", "embedimages", "1"),
    ("filter_emoticon", "formats", "1,4,0"),
    ("message", f"email_provider_{_PROVIDER}_locked", "0"),
    ("message", f"popup_provider_{_PROVIDER}_locked", "0"),
    ("message", f"airnotifier_provider_{_PROVIDER}_locked", "0"),
    ("message", f"message_provider_{_PROVIDER}_enabled", "email"),
)
_ROLES = (
    "manager",
    "coursecreator",
    "editingteacher",
    "teacher",
    "student",
    "guest",
    "user",
    "frontpage",
    "clientadministrator",
    "companymanager",
)
_MODULES = {5: "choice", 9: "forum", 17: "page", 18: "quiz", 19: "reengagement", 20: "resource"}
_FILTERS = (
    "displayh5p",
    "activitynames",
    "multilang",
    "mathjaxloader",
    "emoticon",
    "urltolink",
    "mediaplugin",
)


def write_site(insert: Insert, now: int) -> None:
    """Write everything that belongs to the site as a whole; `now` is UNIX seconds."""
    insert("config", "name value", list(_CONFIG.items()))
    insert("config_plugins", "plugin name value", _PLUGINS)
    insert("modules", "id name", list(_MODULES.items()))
    insert("role", "shortname archetype sortorder", [(name, name, i) for i, name in enumerate(_ROLES, 1)])
    insert(
        "capabilities", "name captype contextlevel component", [(CAPABILITY, "write", 70, "mod_reengagement")]
    )
    insert("role_capabilities", "contextid roleid capability permission", [(1, ROLE_STUDENT, CAPABILITY, 1)])
    insert("message_processors", "name enabled", [("airnotifier", 0), ("email", 1), ("popup", 1)])
    insert("message_providers", "name component", [("mod_reengagement", "mod_reengagement")])
    insert(
        "filter_active",
        "filter contextid active sortorder",
        [(name, 1, 1, i) for i, name in enumerate(_FILTERS, 1)],
    )
    insert(
        "task_scheduled",
        "component classname lastruntime nextruntime minute faildelay",
        [
            ("mod_reengagement", CRON_CLASS, now - now % 300, now - now % 300 + 300, "*/5", 0),
            ("local_email", QUEUE_CLASS, now - now % 300, now - now % 300 + 300, "*/5", 0),
        ],
    )
    insert("course_categories", "id name path", [(1, "Training", "/1")])
    insert(
        "course",
        "id category fullname shortname format",
        [(1, 0, "Learning at Work", "LEARN", "site")],
    )
    insert(
        "user",
        "id username firstname lastname email",
        [
            (1, "guest", "Guest user", " ", "root@localhost"),
            (2, "admin", "Site", "Admin", "admin@learn.example"),
        ],
    )
    categories = ["Work", *(name for name, _short, _domain in data.COMPANIES)]
    insert("user_info_category", "id name sortorder", [(i, name, i) for i, name in enumerate(categories, 1)])
    insert(
        "user_info_field",
        "id shortname name datatype categoryid sortorder param1 param2 param3",
        [
            (1, "jobtitle", "Job title", "text", 1, 1, "30", "2048", "0"),
            (2, "startdate", "Start date", "datetime", 1, 2, "1990", "2040", None),
            (SUPERVISOR_FIELD, "supervisor", "Supervisors' addresses", "text", 1, 3, "30", "2048", "0"),
        ],
    )
    for number, (name, short, _domain) in enumerate(data.COMPANIES, 1):
        insert(
            "company",
            "id name shortname city country profileid emailprofileid category",
            [(number, name, short, "", "GB", number + 1, SUPERVISOR_FIELD if number < 3 else None, 1)],
        )
