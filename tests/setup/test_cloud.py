"""The way of SES's events is made by setup where that is asked for, and its settings are in the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.feedback.conftest import aws_server  # noqa: F401 - a fixture
from tests.feedback.test_sessetup import Site, site  # noqa: F401 - a fixture
from tests.setup.conftest import Dialogue

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


def test_applied_it_names_the_queue_and_the_configuration_set(
    options: list[str],
    site: Site,  # noqa: F811
    tmp_path: Path,
) -> None:
    dialogue = Dialogue(tmp_path / "site.env")
    options[options.index("--events") + 1] = "apply"
    assert dialogue.go(*options, "--no-doctor", interactive=False) == 0, dialogue.text
    values = dialogue.values
    assert values["SES_CONFIGURATION_SET"] == "email-offload"
    assert values["SES_EVENTS_QUEUE_URL"].endswith("/123456789012/email-offload-events")
    assert "configuration set email-offload" in dialogue.text
    again = Dialogue(tmp_path / "site.env")
    again.go(*options, "--no-doctor", interactive=False)
    assert "Events of SES have their way already" in again.text


def test_printed_it_shows_the_rights_and_asks_aws_nothing(options: list[str], tmp_path: Path) -> None:
    dialogue = Dialogue(tmp_path / "site.env")
    options[options.index("--events") + 1] = "print"
    dialogue.go(*options, "--no-doctor", "--no-aws-check", interactive=False)
    assert "ses:SendEmail" in dialogue.text
    assert "manage.py sessetup --apply --region eu-west-1" in dialogue.text
    assert "SES_EVENTS_QUEUE_URL" not in dialogue.values


def test_a_key_is_written_with_its_secret_which_is_not_shown(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "aws").write_text("wJalr/XUtn+FEMI\n")
    dialogue = Dialogue(tmp_path / "site.env")
    key = ["--aws-access-key-id", "AKIAEXAMPLE"]
    assert dialogue.go(*options, *key, "--no-doctor", interactive=False) == 2
    key += ["--aws-secret-access-key-file", str(tmp_path / "aws")]
    dialogue.go(*options, *key, "--no-doctor", interactive=False)
    assert dialogue.values["AWS_SECRET_ACCESS_KEY"] == "wJalr/XUtn+FEMI"
    assert "wJalr" not in dialogue.text
