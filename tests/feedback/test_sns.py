"""Only what SNS has signed, for a topic of ours, and just now, is believed."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.http.request import HttpHeaders
from django.utils import timezone

from emailoffload.feedback import certificates, sns, topics
from tests.feedback import attacks, pki
from tests.feedback.attacks import ATTACKS, Attack, Sent
from tests.feedback.pki import HOST, TOPIC, Answer, Sns
from tests.feedback.site import Aws, authority, aws_on_loopback


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Any) -> Iterator[Aws]:
    """SNS's host on loopback, two topics of ours."""
    settings.SNS_TOPICS = [TOPIC, attacks.OTHER_TOPIC]
    with aws_on_loopback(monkeypatch, tmp_path) as found:
        yield found


def verify(sent: Sent, now: dt.datetime | None = None) -> sns.Post:
    """What the product makes of it."""
    meta = {
        "CONTENT_TYPE" if name.lower() == "content-type" else f"HTTP_{name.upper().replace('-', '_')}": value
        for name, value in sent.all_headers.items()
    }
    return sns.verify(sent.body, HttpHeaders(meta), now or timezone.now())


def refused(sent: Sent) -> str:
    """The code with which it is refused."""
    with pytest.raises(sns.Refused) as stopped:
        verify(sent)
    return str(stopped.value)


# --- What is believed ---


def test_a_notification_that_sns_signed_is_believed(amazon: Aws) -> None:
    post = verify(Sent(amazon.sns.notification('{"eventType": "Delivery"}', MessageId="abc")))
    assert (post.kind, post.topic.arn, post.message_id) == ("Notification", TOPIC, "abc")
    assert post.message == '{"eventType": "Delivery"}'
    assert amazon.looked_up == [f"{HOST}:443"]


@pytest.mark.parametrize("subject", ["Amazon SES Email Event Notification", "", "Ünïcode — 试"])
def test_a_subject_is_part_of_what_is_signed(amazon: Aws, subject: str) -> None:
    assert verify(Sent(amazon.sns.notification(Subject=subject))).kind == sns.NOTIFICATION


def test_a_message_of_several_lines_and_any_letters_is_believed(amazon: Aws) -> None:
    text = '{"a": "ä\u2028\\n"}\n\n"quoted" \U0001f4e7'
    assert verify(Sent(amazon.sns.notification(text))).message == text


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_posts_about_the_subscription_are_believed_with_their_token(amazon: Aws, kind: str) -> None:
    post = verify(Sent(amazon.sns.confirmation(kind, Token="abc123")))
    assert (post.kind, post.token) == (kind, "abc123")


def test_the_content_type_that_a_delivery_policy_may_ask_for_is_taken(amazon: Aws) -> None:
    sent = Sent(amazon.sns.notification(), {"Content-Type": "Application/JSON; charset=utf-8"})
    assert verify(sent).kind == sns.NOTIFICATION


def test_a_post_is_believed_for_as_long_as_sns_repeats_it(amazon: Aws) -> None:
    sent = Sent(amazon.sns.notification())
    assert verify(sent, timezone.now() + dt.timedelta(hours=1)).message == "{}"
    with pytest.raises(sns.Refused, match="too_old"):
        verify(sent, timezone.now() + dt.timedelta(hours=1, minutes=6))


def test_sha_1_is_taken_where_the_site_asks_for_it_and_only_there(amazon: Aws, settings: Any) -> None:
    sent = Sent(amazon.sns.notification(SignatureVersion="1"))
    assert refused(sent) == "signature_version"
    settings.SNS_SIGNATURE_VERSION_1 = True
    assert verify(sent).kind == sns.NOTIFICATION
    assert verify(Sent(amazon.sns.notification())).kind == sns.NOTIFICATION


@pytest.mark.parametrize(
    ("arn", "host", "name"),
    [
        ("arn:aws-cn:sns:cn-north-1:123456789012:t", "sns.cn-north-1.amazonaws.com.cn", None),
        ("arn:aws-us-gov:sns:us-gov-east-1:123456789012:t", "sns.us-gov-east-1.amazonaws.com", None),
        (
            "arn:aws:sns:ap-southeast-2:123456789012:t",
            "sns.ap-southeast-2.amazonaws.com",
            "sns.amazonaws.com",
        ),
        ("arn:aws:sns:me-south-1:1:t", None, None),
    ],
)
def test_every_partition_has_its_own_hosts(arn: str, host: str | None, name: str | None) -> None:
    topic = topics.read(arn)
    assert (topic and topic.host) == host
    if topic and host:
        assert sns.certificate_url(f"https://{host}/SimpleNotificationService-0a.pem", topic)
        assert not sns.certificate_url(f"https://{HOST}/SimpleNotificationService-0a.pem", topic)


@pytest.mark.parametrize("name", [HOST, "sns-signing.eu-west-1.amazonaws.com", "sns.amazonaws.com"])
@pytest.mark.parametrize("alternative", [True, False])
def test_every_name_that_aws_gives_to_its_signing_certificates_is_known(
    amazon: Aws, name: str, alternative: bool
) -> None:
    pair = amazon.authority.issue(name, alternative=alternative)
    url = pki.new_certificate_url()
    amazon.pages[url.removeprefix(f"https://{HOST}")] = Answer(pair.pem)
    assert verify(Sent(Sns(pair, url).notification())).kind == sns.NOTIFICATION


@pytest.mark.parametrize(
    ("arn", "also"),
    [
        ("arn:aws-cn:sns:cn-north-1:123456789012:t", set()),
        (
            "arn:aws-us-gov:sns:us-gov-east-1:123456789012:t",
            {"sns.amazonaws.com", "sns-us-gov-west-1.amazonaws.com"},
        ),
    ],
)
def test_the_names_of_other_partitions_certificates_are_theirs(arn: str, also: set[str]) -> None:
    topic = topics.read(arn)
    assert topic
    ends = f"{topic.region}.{topic.suffix}"
    assert certificates._expected_names(topic) == {f"sns.{ends}", f"sns-signing.{ends}", f"sns-{ends}"} | also


# --- What is not ---


def test_while_another_post_waits_for_a_certificate_the_next_is_answered_later(
    amazon: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "FETCH_SECONDS", 0.01)
    with certificates._lock:
        assert not_now(amazon) == "certificate_busy"
    assert amazon.web.asked == []


def test_nothing_is_fetched_but_by_https() -> None:
    with pytest.raises(certificates.Wrong, match="certificate_scheme"):
        certificates._fetch("http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a.pem")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_stopped_by_the_check_that_is_there_for_it(amazon: Aws, attack: Attack) -> None:
    assert refused(attack.make(amazon)) == attack.code
    assert amazon.looked_up == ([f"{HOST}:443"] if attack.fetches else [])


def test_what_a_subscribe_url_names_is_never_fetched(amazon: Aws) -> None:
    for url in ("http://169.254.169.254/latest/meta-data/", "http://127.0.0.1/", f"https://{HOST}/?Token=x"):
        assert verify(Sent(amazon.sns.confirmation(SubscribeURL=url))).kind == sns.CONFIRMATION
    assert len(amazon.web.asked) == 1
    assert amazon.web.asked[0].endswith(".pem")


def test_every_check_is_documented_and_stops_an_attack() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text()
    section = page.split("\n## Posts of SNS\n", 1)[1].split("\n## ", 1)[0]
    listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(listed) == sorted({attack.code for attack in [*ATTACKS, *attacks.LENGTHS]})


# --- How the certificate is fetched ---


def test_the_certificate_is_fetched_once_for_many_posts(amazon: Aws) -> None:
    for _ in range(5):
        verify(Sent(amazon.sns.notification()))
    assert len(amazon.web.asked) == 1


def test_a_certificate_that_was_refused_is_not_fetched_again_at_once(amazon: Aws) -> None:
    post = Sns(amazon.signer, pki.new_certificate_url()).notification()
    assert [refused(Sent(post)) for _ in range(5)] == ["certificate_not_there"] * 5
    assert len(amazon.web.asked) == 1


def test_nobody_can_make_us_fetch_without_end(amazon: Aws) -> None:
    verify(Sent(amazon.sns.notification()))
    outcomes = []
    for _ in range(2 * certificates.BUDGET):
        with pytest.raises((sns.Refused, sns.NotNow)) as stopped:
            verify(Sent(Sns(amazon.signer, pki.new_certificate_url()).notification()))
        outcomes.append(str(stopped.value))
    assert len(amazon.web.asked) == certificates.BUDGET
    assert set(outcomes[certificates.BUDGET :]) == {"certificate_budget"}
    # Those who have the right certificate are served all the while.
    assert verify(Sent(amazon.sns.notification())).kind == sns.NOTIFICATION


def test_fetching_goes_on_when_the_minute_is_over(amazon: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "BUDGET_SECONDS", 0.0)
    for _ in range(certificates.BUDGET + 1):
        assert refused(Sent(Sns(amazon.signer, pki.new_certificate_url()).notification()))
    assert len(amazon.web.asked) == certificates.BUDGET + 1


def test_what_is_remembered_is_bounded(amazon: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "MAX_WRONG", 3)
    for _ in range(certificates.MAX_WRONG + 2):
        refused(Sent(Sns(amazon.signer, pki.new_certificate_url()).notification()))
    assert len(certificates._wrong) == certificates.MAX_WRONG


def test_a_kept_certificate_that_expires_is_not_believed_any_longer(
    amazon: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify(Sent(amazon.sns.notification()))
    ((until, kept),) = certificates._right.values()
    past = timezone.now() - dt.timedelta(seconds=1)
    certificates._right[amazon.certificate_url] = (
        until,
        certificates._Kept(kept.key, kept.not_before, past),
    )
    assert refused(Sent(amazon.sns.notification())) == "certificate_expired"


def not_now(amazon: Aws) -> str:
    """The code with which a genuine post is put off."""
    with pytest.raises(sns.NotNow) as stopped:
        verify(Sent(amazon.sns.notification()))
    return str(stopped.value)


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Slow Down", "429 Too Many Requests"])
def test_a_host_that_fails_is_asked_again_later(amazon: Aws, status: str) -> None:
    path = amazon.certificate_url.removeprefix(f"https://{HOST}")
    page = amazon.pages[path]
    amazon.pages[path] = Answer(b"", status)
    assert not_now(amazon) == "certificate_not_fetched"
    amazon.pages[path] = page
    assert verify(Sent(amazon.sns.notification())).kind == sns.NOTIFICATION


def test_a_body_that_drips_is_not_waited_for(amazon: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "FETCH_SECONDS", 0.05)
    amazon.pages[amazon.certificate_url.removeprefix(f"https://{HOST}")] = Answer(
        amazon.signer.pem, drip=0.02
    )
    assert not_now(amazon) == "certificate_not_fetched"


def test_a_host_that_is_not_there_is_tried_again_later(amazon: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no route")

    monkeypatch.setattr("socket.getaddrinfo", nowhere)
    assert not_now(amazon) == "certificate_not_fetched"


def test_a_host_whose_tls_certificate_is_another_authoritys_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Any
) -> None:
    settings.SNS_TOPICS = [TOPIC]
    forged = pki.Authority("Somebody else").issue(HOST)
    with aws_on_loopback(monkeypatch, tmp_path, certificate=forged) as amazon:
        assert not_now(amazon) == "certificate_not_fetched"
        assert amazon.web.asked == []


def test_a_host_whose_tls_certificate_is_for_another_name_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Any
) -> None:
    settings.SNS_TOPICS = [TOPIC]
    other = authority().issue("s3.eu-west-1.amazonaws.com")
    with aws_on_loopback(monkeypatch, tmp_path, certificate=other) as amazon:
        assert not_now(amazon) == "certificate_not_fetched"
        assert amazon.web.asked == []


def test_a_host_that_does_not_speak_tls_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Any
) -> None:
    settings.SNS_TOPICS = [TOPIC]
    with aws_on_loopback(monkeypatch, tmp_path, tls=False) as amazon:
        assert not_now(amazon) == "certificate_not_fetched"


def test_a_certificate_that_was_right_serves_on_while_others_use_up_the_fetches(
    amazon: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify(Sent(amazon.sns.notification()))
    clock = time.monotonic
    monkeypatch.setattr(
        "emailoffload.feedback.certificates.time.monotonic",
        lambda: clock() + certificates.KEEP_SECONDS + certificates.BUDGET_SECONDS,
    )
    for _ in range(certificates.BUDGET):
        refused(Sent(Sns(amazon.signer, pki.new_certificate_url()).notification()))
    assert verify(Sent(amazon.sns.notification())).kind == sns.NOTIFICATION
    assert len(amazon.web.asked) == certificates.BUDGET + 1
