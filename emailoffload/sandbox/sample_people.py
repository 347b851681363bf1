"""The people of the sample Moodle, and the companies and departments that they belong to."""

from __future__ import annotations

import random
import unicodedata

from emailoffload.sandbox import sample_data as data
from emailoffload.sandbox.sample_schema import Writer

USER_COLUMNS = "id username firstname lastname email institution department city mailformat timezone"
SUPERVISOR_FIELD = 3
"""The profile field with the addresses of a learner's supervisors; companies 1 and 2 use it."""
FIRST_ID = 101
COMPANY_MANAGERS = (101, 102, 103, 110, 111)
"""One at the top of each company; two more over a department of the first two."""
DEPARTMENT_MANAGERS = (104, 105, 107, 108, 109)


def department_id(company: int, name: str) -> int:
    """The id of a department of a company (1 …); the company's own has the company's id."""
    return 10 * company + 1 + data.DEPARTMENTS.index(name)


def write_departments(writer: Writer) -> None:
    """The tree of departments of each company, with the company itself at its top."""
    rows: list[tuple[object, ...]] = []
    for company, (company_name, short, _domain) in enumerate(data.COMPANIES, 1):
        rows.append((company, company_name, short, company, 0))
        for name in data.DEPARTMENTS:
            above = data.DEPARTMENT_ABOVE.get(name)
            parent = department_id(company, above) if above else company
            rows.append((department_id(company, name), name, name.lower()[:32], company, parent))
    writer.insert("department", "id name shortname company parent", rows)


class Names:
    """Believable names with an address each; a user name is given out once."""

    def __init__(self, chooser: random.Random, taken: set[str] | None = None) -> None:
        self.chooser = chooser
        self.taken = set() if taken is None else taken

    def next(self, number: int) -> tuple[str, str, str]:
        """First name, last name and user name of the `number`th person; some are not written in Latin."""
        if number % 37 == 36:
            first, last, local = data.NATIVE_NAMES[number // 37 % len(data.NATIVE_NAMES)]
        else:
            first, last = self.chooser.choice(data.FIRST_NAMES), self.chooser.choice(data.LAST_NAMES)
            local = f"{_ascii(first)}.{_ascii(last)}"
        if local in self.taken:
            local += str(number)
        while local in self.taken:
            local += "x"
        self.taken.add(local)
        return first, last, local


def write_people(writer: Writer, chooser: random.Random, now: int, count: int) -> list[int]:
    """`count` learners with ids from 101, spread over the companies; returns their ids."""
    names = Names(chooser)
    users: list[tuple[object, ...]] = []
    places: list[tuple[int, ...]] = []
    profile: list[tuple[object, ...]] = []
    for number in range(count):
        user_id = FIRST_ID + number
        company = 1 + number % len(data.COMPANIES)
        company_name, _short, domain = data.COMPANIES[company - 1]
        first, last, local = names.next(number)
        department = chooser.choice(data.DEPARTMENTS)
        users.append(
            (
                user_id, local, first, last, f"{local}@{domain}", company_name, department,
                chooser.choice(data.CITIES), 0 if number % 15 == 7 else 1,
                "Asia/Tokyo" if number % 50 == 9 else "99",
            )
        )  # fmt: skip
        places.append(_place(user_id, company, department))
        title = chooser.choice(["Team lead", "Driver", "Carer", "Chef & baker", "Clerk"])
        profile.append((user_id, 1, "HR manager" if user_id in COMPANY_MANAGERS else title))
        if number % 4:
            profile.append((user_id, 2, str(now - chooser.randrange(30, 900) * data.DAY)))
        if number // 3 % 5 == 2:
            profile.append((user_id, SUPERVISOR_FIELD, f"supervisor@{domain},shift.lead@{domain}"))
    writer.insert("user", USER_COLUMNS, users)
    writer.insert("company_users", "companyid userid departmentid managertype", places)
    writer.insert("user_info_data", "userid fieldid data", profile)
    return [FIRST_ID + number for number in range(count)]


def _place(user_id: int, company: int, department: str) -> tuple[int, int, int, int]:
    """Company, user, department and manager type (1 company, 2 department) of a learner."""
    if user_id in COMPANY_MANAGERS[:3]:
        return company, user_id, company, 1
    if user_id in COMPANY_MANAGERS:
        return company, user_id, department_id(company, "Operations"), 1
    return company, user_id, department_id(company, department), 2 if user_id in DEPARTMENT_MANAGERS else 0


_LETTERS = str.maketrans("ŁłøØıđ", "lloOid")


def _ascii(name: str) -> str:
    """A name as the local part of an address."""
    plain = name.translate(_LETTERS)
    folded = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode().lower()
    return "".join(character for character in folded if character.isalnum())
