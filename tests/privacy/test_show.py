"""`manage.py retention --show` names everything that goes by days."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core.management import call_command

from offloadsite.env import BY_NAME

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("days", "said"), [(30, "30 days after Moodle has deleted them"), (0, "deleted users are not followed")]
)
def test_the_command_shows_every_step_that_is_set_in_days(
    days: int, said: str, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.RETAIN_DELETED_USER_DAYS = days
    call_command("retention", "--show")
    shown = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert shown["RETAIN_DELETED_USER_DAYS"] == said
    assert set(shown) == {name for name in BY_NAME if re.fullmatch("RETAIN_.*_DAYS", name)}
