"""Who and what the sample Moodle contains. Everybody is invented; every address ends in the reserved
`.example`."""

from __future__ import annotations

from dataclasses import dataclass

HOUR, DAY = 3600, 86400

COMPANIES: tuple[tuple[str, str, str], ...] = (
    ("Alder & Finch Logistics", "alderfinch", "alderfinch.example"),
    ("Meridian Care Homes", "meridian", "meridian-care.example"),
    ("Baltica Fine Foods", "baltica", "baltica-foods.example"),
)
"""(name, short name, mail domain)."""

DEPARTMENTS = ("Operations", "Night shift", "Kitchen", "Warehouse", "Front office", "Nursing & care")
DEPARTMENT_ABOVE = {"Night shift": "Warehouse", "Warehouse": "Operations", "Kitchen": "Operations"}
"""The department above; the others stand right under the company's own."""
CITIES = ("Leeds", "Gdańsk", "Málaga", "Izmir", "Pune", "Osaka", "Kraków", "Lyon")

FIRST_NAMES: tuple[str, ...] = (
    "Amelia", "Noah", "Zoë", "Siobhán", "Callum", "Chloé", "Étienne", "Manon", "Jürgen", "Anneliese", "Søren",
    "Ingrid", "Åsa", "Björn", "Łukasz", "Agnieszka", "Zofia", "Jiří", "Tereza", "Željko", "Ana", "João",
    "Beatriz", "Iñaki", "Lucía", "Giulia", "Matteo", "Eleni", "Ayşe", "Mehmet", "Fatima", "Omar", "Leila",
    "Chidi", "Ngozi", "Thandiwe", "Kofi", "Priya", "Arjun", "Lakshmi", "Minh", "Linh", "Mei", "Jun", "Haruka",
    "Kenji", "Seo-yeon", "Diego", "Valentina", "Mary Jane",
)  # fmt: skip
LAST_NAMES: tuple[str, ...] = (
    "Whitaker", "O'Brien", "Hughes-Jones", "Ní Bhroin", "MacLeod", "Lefèvre", "Dubois", "Müller", "Weiß",
    "Sørensen", "Lindqvist", "Ångström", "Wójcik", "Kowalczyk", "Dvořák", "Novotná", "Kovačević", "Silva",
    "de Souza", "Etxeberria", "García López", "Rossi", "D'Angelo", "Papadopoulou", "Yılmaz", "Öztürk",
    "Haddad", "Rahman", "Okafor", "Adeyemi", "Dlamini", "Mensah", "Sharma", "Iyer", "Nair", "Nguyễn", "Trần",
    "Chen", "Wang", "Tanaka", "Suzuki", "Kim", "Park", "Fernández", "Quispe", "Novak", "Petrov", "van Dijk",
    "Smith & Sons", "Lee",
)  # fmt: skip
NATIVE_NAMES: tuple[tuple[str, str, str], ...] = (
    ("Юлия", "Соколова", "yulia.sokolova"),
    ("Дмитро", "Шевченко", "dmytro.shevchenko"),
    ("Γιώργος", "Νικολάου", "giorgos.nikolaou"),
    ("美咲", "佐藤", "misaki.sato"),
    ("伟", "王", "wei.wang"),
    ("지훈", "김", "jihun.kim"),
    ("محمد", "العلي", "mohamed.alali"),
    ("रवि", "शर्मा", "ravi.sharma"),
)
"""(first name, last name, local part of the address)."""


@dataclass(frozen=True)
class SampleActivity:
    """An activity of mod_reengagement, with the columns of facts §1.1 that differ from their defaults."""

    name: str
    emailuser: int
    subject: str
    content: str
    emaildelay: int = 7 * DAY
    duration: int = 60 * DAY
    remindercount: int = 1
    suppressed_by_quiz: bool = False
    thirdparty: str = ""
    thirdparty_subject: str = ""
    thirdparty_content: str = ""


@dataclass(frozen=True)
class SampleCourse:
    """A course with a quiz (for `suppresstarget`) and its reengagement activities."""

    shortname: str
    fullname: str
    groups: tuple[str, ...]
    activities: tuple[SampleActivity, ...]


WWWROOT = "@@WWWROOT@@"
"""Stands for the site's address in the texts below; replaced when the site is created."""


def _letter(*paragraphs: str, button: str = "Go to the course") -> str:
    link = f"{WWWROOT}/course/view.php?id=%courseid%"
    body = "".join(f"<p>{text}</p>" for text in paragraphs)
    return (
        f'<p><img src="{WWWROOT}/pluginfile.php/1/core_admin/logocompact/300x300/1/logo.png"'
        ' alt="Learning with us" width="160" height="40" /></p>'
        f"<p>Dear %userfirstname% %userlastname%,</p>{body}"
        f'<p><a href="{link}"><strong>{button}</strong></a></p>'
        "<p>Kind regards,<br />The learning team</p>"
    )


COURSES: tuple[SampleCourse, ...] = (
    SampleCourse(
        "FIRE", "Fire Safety at Work", ("Early shift", "Late shift"),
        (
            SampleActivity(
                "Reminder: fire safety", 2, "%userfirstname%, please finish %coursefullname%",
                _letter(
                    "our records show that you have started <em>%coursefullname%</em> but not finished it"
                    " yet.",
                    "It takes about 25 minutes:</p><ul><li>two short films</li><li>a walk along your escape"
                    " route</li><li>ten questions</li></ul><p>You can stop at any time; your answers are"
                    " kept.",
                    button="Continue where you left off",
                ),
                7 * DAY, remindercount=3, suppressed_by_quiz=True,
            ),
            SampleActivity(
                "Well done: fire safety", 1, "Your time for %coursefullname% is over",
                _letter("the time set for this course is over. Your certificate is on your profile page."),
                duration=30 * DAY,
            ),
        ),
    ),
    SampleCourse(
        "GDPR", "Data Protection: the Essentials", ("Head office", "Branches"),
        (
            SampleActivity(
                "Due this month", 2, "Don't forget: data protection & you",
                _letter(
                    "data protection training is due for everybody who works with personal data.",
                    'Your details:</p><table><tr><th scope="row">Course</th><td>%coursefullname%</td></tr>'
                    '<tr><th scope="row">Department</th><td>%userdepartment%</td></tr>'
                    '<tr><th scope="row">Role</th><td>%profilefield_jobtitle%</td></tr></table><p>'
                    "Questions? Write to dpo@learn.example.",
                ),
                3 * DAY,
            ),
            SampleActivity(
                "Escalation", 2, "Second reminder: %courseshortname%",
                _letter("this is a second reminder. We have let your HR team know as well."),
                10 * DAY, remindercount=2,
                thirdparty="hr@learn.example, compliance@learn.example, not-an-address",
                thirdparty_subject="%userfirstname% %userlastname% has not finished %courseshortname%",
                thirdparty_content=(
                    "<p>%userfirstname% %userlastname% (%userdepartment%, groups: %usergroups%) has not"
                    " finished"
                    " %coursefullname%. Two reminders have been sent.</p>"
                ),
            ),
        ),
    ),
    SampleCourse(
        "LIFT", "Manual Handling", ("Warehouse A", "Warehouse B", "Drivers"),
        (
            SampleActivity(
                "Practical session", 2, "Today: practical session for %courseshortname%",
                _letter("your practical session is today. Please bring safety shoes and your staff card."),
                15 * 60, duration=2 * DAY, remindercount=2,
            ),
            SampleActivity(
                "Quiet tracking", 0, "Not sent", "<p>Activities of this kind send nothing.</p>", 30 * DAY,
            ),
        ),
    ),
    SampleCourse(
        "START", "Welcome on Board", ("Spring intake", "Autumn intake"),
        (
            SampleActivity(
                "First steps", 2, "Welcome, %userfirstname%! Your next step",
                _letter(
                    "welcome to %userinstitution%! You work in %userdepartment% in %usercity%, in the group"
                    " %usergroups%. Your start date: %profilefield_startdate%.",
                    "This week: meet your buddy, set your password manager up, read the house rules.",
                ),
                5 * DAY, remindercount=5, suppressed_by_quiz=True,
            ),
            SampleActivity(
                "Buddy note", 2, "A note from your buddy",
                "Hello %userfirstname%,\n\nshall we have lunch together this week?\nThe canteen's menu: "
                "https://canteen.learn.example/menu?week=now&lang=en\n\n  See you there :-)\nYour buddy",
                2 * DAY,
            ),
        ),
    ),
    SampleCourse(
        "FOOD", "Food Hygiene, Level 2", ("Kitchen staff", "Service staff"),
        (
            SampleActivity(
                "Yearly refresher", 2, "Your yearly refresher: %coursefullname%",
                _letter("hygiene training must be refreshed every year. Yours is coming up."),
                15 * DAY, duration=300 * DAY, remindercount=20,
            ),
            SampleActivity(
                "End of course", 1, "Course ended: %courseshortname%",
                _letter("the course has ended for you."), duration=14 * DAY,
                thirdparty="kitchen.lead@learn.example",
                thirdparty_subject="%userlastname% has reached the end of %courseshortname%",
                thirdparty_content="<p>The course has ended for %userfirstname% %userlastname%.</p>",
            ),
        ),
    ),
    SampleCourse(
        "AID", "First Aid Refresher", ("Team Red", "Team Blue"),
        (
            SampleActivity(
                "Book your place", 2, "Places are left for %coursefullname%",
                _letter(
                    '<span lang="en" class="multilang">Six places are left on Friday.</span>'
                    '<span lang="de" class="multilang">Am Freitag sind sechs Plätze frei.</span>',
                    "Directions: https://maps.learn.example/room-12 :-)",
                ),
                DAY, duration=30 * DAY, remindercount=2,
            ),
            SampleActivity(
                "Still open", 2, "Still open: %coursefullname%",
                _letter("your first aid refresher is still open. The quiz takes ten minutes."),
                4 * DAY, remindercount=4, suppressed_by_quiz=True,
            ),
        ),
    ),
)  # fmt: skip
