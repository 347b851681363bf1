"""What 0.1.0 left half done is finished by today's code, and its pages and figures are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, reverse
from django.utils.module_loading import import_string

from emailoffload.actions import doctor
from emailoffload.dashboard import urls
from emailoffload.feedback.models import EventProblem, Suppression
from emailoffload.outbox import content
from emailoffload.outbox.models import Content, Email, Run
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import dispatch, recover, schedules
from tests.conftest import Moodle
from tests.rollups.rows import in_the_counts, in_the_rows
from tests.upgrade.old_site import OldSite

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
REMINDERS, QUEUE = "reengagement", "iomad_queue"
SENT_THERE, DIED_SENDING = 5, 3
"""Reminders that 0.1.0 sent, and those whose sender was killed."""


def states(source: str, rows: range) -> dict[tuple[str, str], int]:
    """How many claims of these rows of Moodle, and their mails, are in which states."""
    found = Email.objects.filter(source=source, claim__row_id__in=rows)
    return Counter(found.values_list("claim__state", "state"))


def test_what_the_old_version_left_half_done_is_settled_and_sent_once(
    upgraded: OldSite, moodle: Moodle, ses: SandboxSES
) -> None:
    reminders, queued = range(639, 663), range(71, 83)
    assert states(REMINDERS, reminders) == {
        ("claimed", "accepted"): SENT_THERE, ("claimed", "sending"): DIED_SENDING,
        ("intended", "prepared"): 6, ("releasing", "queued"): 10,
    }  # fmt: skip
    assert states(QUEUE, queued) == {("intended", "prepared"): 6, ("claimed", "queued"): 6}
    recover.run()
    # Of six intents each three were written to Moodle; those were claims, the others never happened.
    assert states(REMINDERS, reminders) == {
        ("claimed", "accepted"): SENT_THERE, ("claimed", "uncertain"): DIED_SENDING,
        ("claimed", "queued"): 3, ("dropped", "prepared"): 3, ("released", "released"): 10,
    }  # fmt: skip
    assert states(QUEUE, queued) == {("claimed", "queued"): 9, ("dropped", "prepared"): 3}
    untouched = moodle.rows("SELECT id FROM mdl_reengagement_inprogress WHERE emailsent = 0 ORDER BY id")
    assert [row for (row,) in untouched] == [*range(639, 642), *range(653, 663)]
    assert dispatch.run(until_empty=True).sent == 12
    assert len(ses.messages) == 12
    for sealed in Content.objects.all():
        assert content.open_(sealed).subject, "whatever the old version sealed can be opened"
    assert states(REMINDERS, reminders)["claimed", "accepted"] == SENT_THERE + 3
    assert states(REMINDERS, reminders)["claimed", "uncertain"] == DIED_SENDING


OF_THE_SUITE = {
    "settings.fit", "cron.alive", "queue.cron", "queue.guard", "rules.named", "events.configured", "alarms.channels",
}  # fmt: skip
"""What the doctor says of the suite's own surroundings: no https, a cron that rests, nobody who is told."""
WAITED = {"outbox.held"}
"""A mail that waited for a person in 0.1.0 still does."""


def test_every_pass_runs_the_figures_are_those_of_the_rows_and_the_doctor_has_no_complaint(
    upgraded: OldSite, ses: SandboxSES
) -> None:
    schedules.ensure()
    for path, _ in sorted(set(schedules.wanted().values())):
        import_string(path)()
    failed = Run.objects.filter(outcome__in=["failed", "refused"])
    assert list(failed.values_list("kind", "message")) == []
    assert in_the_counts() == in_the_rows()
    complaints = {each.id: each.text for each in doctor.run() if each.verdict in {"problem", "warning"}}
    assert complaints.keys() - OF_THE_SUITE == WAITED, complaints


def addresses() -> Iterator[str]:
    """Every page that can be read; that of an email for one in each state, of other records for each."""
    one_of_each = dict(Email.objects.values_list("state", "pk"))
    records: dict[str, list[int]] = {
        "email": list(one_of_each.values()),
        "run": list(Run.objects.values_list("pk", flat=True)),
        "suppression": list(Suppression.objects.values_list("pk", flat=True)),
        "event-problem": list(EventProblem.objects.values_list("pk", flat=True)),
    }
    for each in urls.urlpatterns:
        if not isinstance(each, URLPattern) or each.name in NOT_READ:
            continue
        name = str(each.name)
        if "<int:user_id>" in str(each.pattern):
            yield from (reverse(name, args=[user]) for user in (15093, 15094, 17))
        elif "<slug:state>" in str(each.pattern):
            yield from (reverse(name, args=[state]) for state in ("failed", "uncertain", "released"))
        elif name.startswith("email-") and "<int:pk>" in str(each.pattern):
            yield from (
                reverse(name, args=[one_of_each[state]]) for state in ("delivered", "failed", "queued")
            )
        elif "<int:pk>" in str(each.pattern):
            yield from (reverse(name, args=[pk]) for pk in records[name.removesuffix("-body")])
        else:
            yield reverse(name)


NOT_READ = {
    "login", "logout", "set-language", "saved-view-save", "saved-view-change", "events-sns", "readyz", "healthz-worker",
}  # fmt: skip
"""What nobody gets who is logged in, buttons, what programs send, and what a silent worker makes fail; a saved view is
nothing that 0.1.0 had."""


def test_every_page_of_every_record_answers(upgraded: OldSite) -> None:
    client = Client()
    client.force_login(User.objects.get(username="root"))
    wrong = {}
    for address in addresses():
        answer = client.get(address)
        if answer.status_code != 200:
            wrong[address] = answer.status_code, answer.headers.get("Location", "")
    assert wrong == {}
    for model in admin.site._registry:
        names = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        assert client.get(reverse(f"{names}_changelist")).status_code == 200, names
        for pk in model._default_manager.values_list("pk", flat=True)[:2]:
            assert client.get(reverse(f"{names}_change", args=[pk])).status_code == 200, (names, pk)
