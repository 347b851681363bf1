"""Whatever is typed into the search box of Emails becomes the one condition that an index answers."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from emailoffload.dashboard import places, search, walk
from emailoffload.moodle.models import Course, Reengagement
from tests.dashboard.conftest import make_user
from tests.dashboard.factories import make_claim, make_email
from tests.dashboard.world import FOREIGN, OWN, bind

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])


@pytest.fixture
def sam() -> User:
    return make_user("Support staff", "sam")


def found(text: str, user: User) -> list[int]:
    wanted = walk.Wanted()
    search.understand(text, user).narrow(wanted)
    return sorted(walk.find(wanted, 100).ids)


def test_a_number_is_a_user_id(sam: User) -> None:
    mine, _other = make_email(user_id=15093), make_email(user_id=15094)
    assert found("15093", sam) == found(" 15093 ", sam) == found("user: 15093", sam) == [mine.pk]


def test_an_address_is_found_whatever_its_capitals(sam: User) -> None:
    mine = make_email(address="grace@example.org")
    make_email()
    assert found("Grace@Example.org", sam) == [mine.pk]


def test_the_beginning_of_an_address_is_enough(sam: User) -> None:
    mine = make_email(address="grace@example.org")
    make_email()
    assert found("grace@ex", sam) == [mine.pk]


def test_a_beginning_that_very_many_addresses_share_finds_them_all(
    sam: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "ADDRESSES_MOST", 2)
    emails = [make_email(address=f"team@{name}.example.org") for name in "abc"]
    make_email()
    assert search.understand("team@", sam).equal == {}
    assert found("team@", sam) == [email.pk for email in emails]


@pytest.mark.parametrize("shape", ["{}", "<{}@eu-west-1.amazonses.com>", "{}@email.amazonses.com"])
def test_a_message_id_is_found_as_ses_and_as_mail_programs_write_it(sam: User, shape: str) -> None:
    mine, _other = make_email(), make_email()
    assert found(shape.format(mine.message_id), sam) == [mine.pk]


@pytest.mark.parametrize("write", [lambda ref: ref.hex, str, lambda ref: ref.hex.upper()])
def test_our_id_is_found_with_and_without_hyphens(sam: User, write: object) -> None:
    mine, _other = make_email(), make_email()
    assert callable(write)
    assert found(write(mine.ref), sam) == [mine.pk]


def test_free_text_searches_subjects_and_names(sam: User) -> None:
    by_subject = make_email(subject="Annual ladder check", name="X")
    by_name = make_email(name="Annual Smith")
    make_email()
    assert found("annual", sam) == [by_subject.pk, by_name.pk]


def test_free_text_takes_wildcards_literally(sam: User) -> None:
    mine = make_email(subject="100% done_now")
    make_email(subject="100 done now")
    assert found("100% done_", sam) == [mine.pk]


@pytest.mark.parametrize("column", ["course_name", "activity_name", "company_name"])
def test_free_text_finds_mails_by_the_name_of_their_course_activity_and_company(
    sam: User, column: str
) -> None:
    places_of = {"course_id": 501, "activity_id": 502, "company_id": 503}
    older = make_email(claim=make_claim(**places_of))
    newer = make_email(claim=make_claim(**places_of, **{column: "Ladder safety"}))
    make_email()
    assert found("ladder", sam) == [older.pk, newer.pk]
    (offer,) = search.understand("ladder", sam).offers
    kind = column.removesuffix("_name")
    assert "Ladder safety" in offer[0]
    assert offer[1] == f"{kind}={places_of[f'{kind}_id']}"


@pytest.mark.parametrize("kind", ["course", "activity", "company"])
def test_a_place_is_named_as_such_by_name_or_number(sam: User, kind: str) -> None:
    mine = make_email(claim=make_claim(**{f"{kind}_id": 777, f"{kind}_name": "Night shift: induction"}))
    make_email(subject="Night shift: induction")
    assert found(f"{kind}: night SHIFT", sam) == found(f"{kind}:777", sam) == [mine.pk]


def test_a_user_named_by_a_word_is_sent_to_the_page_for_that(sam: User) -> None:
    make_email()
    assert found("user: ada", sam) == []
    assert "The page Users" in search.understand("user: ada", sam).note


def test_names_of_moodles_courses_and_activities_are_known_without_a_mail(sam: User) -> None:
    course = Course.objects.filter(category__gt=0)[0]
    activity = Reengagement.objects.all()[0]
    assert course.pk in places.understand("course", course.fullname[2:], sam).ids
    assert activity.pk in places.understand("activity", activity.name, sam).ids


def test_names_on_our_mails_do_while_moodle_does_not_answer(
    sam: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db.utils import OperationalError

    def away(*args: object) -> None:
        raise OperationalError(2003, "gone")

    make_email(claim=make_claim(course_id=9, course_name="Ladder safety"))
    monkeypatch.setattr("emailoffload.dashboard.places._rows", away)
    assert places.understand("course", "ladder", sam).ids == (9,)


def test_staff_of_a_company_are_told_of_no_name_of_others() -> None:
    bea = make_user("Support staff", "bea")
    bind(bea, OWN)
    make_email(claim=make_claim(company_id=OWN, course_id=11, course_name="Own safety"))
    make_email(claim=make_claim(company_id=FOREIGN, course_id=12, course_name="Foreign safety"))
    known = Course.objects.filter(category__gt=0)[0]
    assert places.understand("course", "safety", bea).ids == (11,)
    assert places.understand("course", known.fullname, bea).ids == ()


def test_a_part_of_very_many_names_says_so_and_takes_some(sam: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MOST", 2)
    for number in range(4):
        make_email(claim=make_claim(course_id=900 + number, course_name=f"Zeppelin {number}"))
    meant = places.understand("course", "zeppelin", sam)
    assert len(meant.ids) == 2
    assert meant.note.startswith("More than 2 courses have “zeppelin” in their names")
