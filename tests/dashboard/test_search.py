"""Whatever is typed into the search box of Emails becomes the one condition that an index answers."""

from __future__ import annotations

import pytest

from emailoffload.dashboard import search
from emailoffload.outbox.models import Email
from tests.dashboard.factories import make_email

pytestmark = pytest.mark.django_db


def found(text: str) -> list[int]:
    return sorted(search.apply(Email.objects.all(), search.understand(text)).values_list("pk", flat=True))


def test_a_number_is_a_user_id() -> None:
    mine, _other = make_email(user_id=15093), make_email(user_id=15094)
    assert found("15093") == found(" 15093 ") == [mine.pk]


def test_an_address_is_found_whatever_its_capitals() -> None:
    mine = make_email(address="grace@example.org")
    make_email()
    assert found("Grace@Example.org") == [mine.pk]


def test_the_beginning_of_an_address_is_enough() -> None:
    mine = make_email(address="grace@example.org")
    make_email()
    assert found("grace@ex") == [mine.pk]


@pytest.mark.parametrize("shape", ["{}", "<{}@eu-west-1.amazonses.com>", "{}@email.amazonses.com"])
def test_a_message_id_is_found_as_ses_and_as_mail_programs_write_it(shape: str) -> None:
    mine, _other = make_email(), make_email()
    assert found(shape.format(mine.message_id)) == [mine.pk]


@pytest.mark.parametrize("write", [lambda ref: ref.hex, str, lambda ref: ref.hex.upper()])
def test_our_id_is_found_with_and_without_hyphens(write: object) -> None:
    mine, _other = make_email(), make_email()
    assert callable(write)
    assert found(write(mine.ref)) == [mine.pk]


def test_free_text_searches_subjects_and_names() -> None:
    by_subject = make_email(subject="Annual ladder check", name="X")
    by_name = make_email(name="Annual Smith")
    make_email()
    assert found("annual") == [by_subject.pk, by_name.pk]


def test_free_text_takes_wildcards_literally() -> None:
    mine = make_email(subject="100% done_now")
    make_email(subject="100 done now")
    assert found("100% done_") == [mine.pk]


def test_free_text_reads_only_a_window_of_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "WINDOW", 2)
    emails = [make_email(subject="same words") for _ in range(4)]
    assert found("same words") == [email.pk for email in emails[2:]]
    assert "newest 2" in search.understand("same words").note


def test_a_number_too_large_for_an_id_is_text() -> None:
    make_email()
    assert found("9" * 30) == []
