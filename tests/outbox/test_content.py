"""What a mail says, at rest."""

from __future__ import annotations

import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connections

from emailoffload.feedback.models import EventProblem
from emailoffload.outbox import content
from emailoffload.outbox.models import Content, State
from emailoffload.sources.protocol import Attachment
from tests.dashboard.reported import make_problem
from tests.outbox.factory import parts, queue_email


@pytest.mark.parametrize(
    "mail",
    [
        parts(),
        parts(html=None),
        parts(subject="", text="", html=""),
        parts(
            attachments=(Attachment("Logo.png", "image/png", bytes(range(256))), Attachment("b", "c/d", b""))
        ),
        parts(to_name='Ünïcode "Q" \\ 王', text="line\r\n\0\ud800 lone surrogate", html="<p>😀</p>"),
    ],
)
def test_what_was_sealed_is_opened_unchanged(mail: content.Parts) -> None:
    assert content.open_body(*content.seal(mail)) == mail


def test_nothing_of_a_mail_can_be_read_in_what_is_stored() -> None:
    key_id, body = content.seal(parts(text="temporary password: hunter2", to_address="anna@example.org"))
    assert not any(word in body for word in (b"hunter2", b"anna", b"password"))
    assert key_id not in "".join(content.settings.CONTENT_KEYS)


def test_the_newest_key_seals_and_older_ones_still_open(settings: Any) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.CONTENT_KEYS = [old]
    sealed = content.seal(parts())
    settings.CONTENT_KEYS = [new, old]
    assert content.open_body(*sealed) == parts()
    assert content.seal(parts())[0] == content.fingerprint(new)


def test_a_missing_key_is_named_with_the_cure(settings: Any) -> None:
    key_id, body = content.seal(parts())
    settings.CONTENT_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(content.UnknownKey, match=f"{key_id}.*CONTENT_KEYS"):
        content.open_body(key_id, body)


def test_a_changed_content_is_refused() -> None:
    key_id, body = content.seal(parts())
    changed = bytearray(body)
    changed[40] ^= 1
    with pytest.raises(content.Damaged):
        content.open_body(key_id, bytes(changed))


@pytest.mark.mariadb
@pytest.mark.django_db(transaction=True)
class TestKeysInUse:
    """Which keys the database's contents need."""

    def test_a_host_with_a_key_of_its_own_is_refused_with_the_cure(self, settings: Any) -> None:
        content.ensure_keys()
        settings.CONTENT_KEYS = [Fernet.generate_key().decode()]
        with pytest.raises(content.ForeignKeys, match="same value on every host"):
            content.ensure_keys()

    def test_many_passes_that_start_at_once_register_the_key_together(self) -> None:
        def passes(ready: threading.Barrier) -> None:
            try:
                for _ in range(25):
                    ready.wait(20)
                    content.ensure_keys()
            except BaseException:
                ready.abort()
                raise
            finally:
                connections.close_all()

        ready = threading.Barrier(6)
        with ThreadPoolExecutor(6) as pool:
            for done in [pool.submit(passes, ready) for _ in range(6)]:
                done.result()
        assert State.objects.get().value["ids"] == content.key_ids()

    def test_a_new_key_in_front_of_a_known_one_is_registered(self, settings: Any) -> None:
        content.ensure_keys()
        old = settings.CONTENT_KEYS[0]
        settings.CONTENT_KEYS = [Fernet.generate_key().decode(), old]
        content.ensure_keys()
        assert State.objects.get().value["ids"] == content.key_ids()
        settings.CONTENT_KEYS = [old]
        assert len(content.missing_keys()) == 1

    def test_rotation_gives_every_mail_the_newest_key_and_frees_the_old_one(self, settings: Any) -> None:
        content.ensure_keys()
        emails = [queue_email(text=f"mail {number}") for number in range(7)]
        old, new = settings.CONTENT_KEYS[0], Fernet.generate_key().decode()
        settings.CONTENT_KEYS = [new, old]
        out = io.StringIO()
        call_command("rotatecontent", "--json", stdout=out)
        assert json.loads(out.getvalue()) == {
            "changed": 7,
            "missing": [],
            "removable": [content.fingerprint(old)],
        }
        settings.CONTENT_KEYS = [new]
        content.ensure_keys()
        assert [content.open_(Content.objects.get(email=email)).text for email in emails] == [
            f"mail {number}" for number in range(7)
        ]
        assert State.objects.get().value["ids"] == [content.fingerprint(new)]

    def test_rotation_includes_the_messages_that_were_no_events(self, settings: Any) -> None:
        content.ensure_keys()
        problem, erased = make_problem(b"not JSON"), make_problem(b"nor this")
        EventProblem.objects.filter(pk=erased.pk).update(body=None)
        old, new = settings.CONTENT_KEYS[0], Fernet.generate_key().decode()
        settings.CONTENT_KEYS = [new, old]
        assert content.missing_keys() == []
        out = io.StringIO()
        call_command("rotatecontent", "--json", stdout=out)
        assert json.loads(out.getvalue())["removable"] == [content.fingerprint(old)]
        settings.CONTENT_KEYS = [new]
        problem.refresh_from_db()
        assert content.open_bytes(problem.key_id, bytes(problem.body)) == b"not JSON"

    def test_a_key_that_only_a_message_needs_is_missed(self) -> None:
        make_problem()
        EventProblem.objects.update(key_id="0123456789ab")
        with pytest.raises(CommandError, match="0123456789ab"):
            call_command("rotatecontent", stdout=io.StringIO())
        assert content.missing_keys() == ["0123456789ab"]

    def test_rotation_works_in_batches_until_nothing_is_left(self, settings: Any) -> None:
        for number in range(5):
            queue_email(text=f"mail {number}")
        settings.CONTENT_KEYS = [Fernet.generate_key().decode(), settings.CONTENT_KEYS[0]]
        first, last = content.reencrypt(batch=3)
        second, _ = content.reencrypt(batch=3, after=last)
        assert (first, second, content.reencrypt()) == (3, 2, (0, 0))

    def test_rotation_fails_where_mails_remain_that_no_key_opens(self, settings: Any) -> None:
        email = queue_email()
        Content.objects.filter(email=email).update(key_id="0123456789ab")
        with pytest.raises(CommandError, match="0123456789ab"):
            call_command("rotatecontent", stdout=io.StringIO())


def test_contentkey_prints_a_key_that_the_settings_take() -> None:
    out = io.StringIO()
    call_command("contentkey", stdout=out)
    Fernet(out.getvalue().strip().encode())


def test_sealing_and_opening_a_mail_of_five_kilobytes_costs_a_fraction_of_sending_it() -> None:
    mail = parts(
        text="Dear learner, please finish. " * 70, html="<p>Dear learner, please <b>finish</b>.</p>" * 70
    )
    sealed = content.seal(mail)
    best = min(
        _cpu(lambda: content.open_body(*sealed), 50) + _cpu(lambda: content.seal(mail), 50) for _ in range(5)
    )
    assert best < 0.001


def _cpu(work: Any, times: int) -> float:
    start = time.thread_time()
    for _ in range(times):
        work()
    return (time.thread_time() - start) / times
