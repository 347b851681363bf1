"""A company with a tree of departments on the real site, and people in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emailoffload.policy.models import CopyRule
from tests.conftest import Moodle

COMPANY, TOP = 1, 1
"""The site's only company and its top department."""
MANAGER = 16
"""The company manager that the site has."""
LEARNER, OTHER = 17, 18
"""Learners, members of no company until a test says so."""
ACTIVITY, COURSE, CATEGORY_CONTEXT = 13, 6, 3
TEACHER = 4


def rule(kind: str = "fixed", value: str = "hr@firm.example", **changes: Any) -> CopyRule:
    """A rule for the whole site, unless said otherwise."""
    values = {"name": f"{kind} {value}"[:100], "kind": kind, "value": value}
    return CopyRule.objects.create(**values | changes)


@dataclass
class Firm:
    """Writes the company as an administrator of IOMAD would."""

    moodle: Moodle

    def department(self, name: str, parent: int = TOP, company: int = COMPANY) -> int:
        """A department below another; its id."""
        return self.moodle.insert("mdl_department", name=name, shortname=name, company=company, parent=parent)

    def company(self, name: str) -> tuple[int, int]:
        """A company and its top department."""
        pk = self.moodle.insert("mdl_company", name=name, shortname=name, country="GB")
        return pk, self.department(name, parent=0, company=pk)

    def place(self, user: int, department: int = TOP, kind: int = 0, company: int = COMPANY) -> None:
        """A user's place in a department; `kind` 1 is company manager, 2 department manager."""
        self.moodle.insert(
            "mdl_company_users", companyid=company, userid=user, departmentid=department, managertype=kind
        )

    def user(self, name: str, **changes: Any) -> int:
        """A new account with the address `name`@firm.example."""
        values = {
            "auth": "manual", "confirmed": 1, "mnethostid": 1, "username": name, "firstname": name.title(),
            "lastname": "Firm", "email": f"{name}@firm.example", "mailformat": 1,
        }  # fmt: skip
        return self.moodle.insert("mdl_user", **values | changes)

    def profile(self, user: int, field: int, data: str) -> None:
        """A user's value of a profile field."""
        self.moodle.execute(
            "DELETE FROM mdl_user_info_data WHERE userid = %s AND fieldid = %s", [user, field]
        )
        self.moodle.insert("mdl_user_info_data", userid=user, fieldid=field, data=data, dataformat=0)

    def role(self, user: int, context: int, role: int = TEACHER) -> None:
        """A role of a user in a context."""
        self.moodle.insert("mdl_role_assignments", roleid=role, contextid=context, userid=user)

    def course_context(self, course: int = COURSE) -> int:
        """The context of a course."""
        found = self.moodle.value(
            "SELECT id FROM mdl_context WHERE contextlevel = 50 AND instanceid = %s", [course]
        )
        return int(found)
