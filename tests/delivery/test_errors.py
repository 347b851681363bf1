"""Which outcome each answer and each failure means: can the mail have left?"""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from botocore import exceptions as aws

from emailoffload.delivery.errors import classify

SENDER, RECIPIENT = "noreply@learn.example.org", "anna@example.org"


def refused(code: str, message: str = "", status: int = 400) -> aws.ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "r-1"},
    }
    return aws.ClientError(response, "SendEmail")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (refused("TooManyRequestsException", "Maximum sending rate exceeded.", 429), "throttled"),
        (refused("LimitExceededException", "rate"), "throttled"),
        (refused("ThrottlingException"), "throttled"),
        (refused("", "", 429), "throttled"),
        (refused("TooManyRequestsException", "Daily message quota exceeded.", 429), "quota"),
        (refused("LimitExceededException", "Daily message quota exceeded"), "quota"),
        (refused("AccountSuspendedException"), "account"),
        (refused("SendingPausedException"), "account"),
        (refused("MailFromDomainNotVerifiedException"), "identity"),
        (refused("NotFoundException", "Configuration set <x> does not exist.", 404), "account"),
        (refused("BadRequestException", "Configuration set x does not exist"), "account"),
        (refused("AccessDeniedException", "", 403), "account"),
        (refused("SignatureDoesNotMatch", "", 403), "account"),
        (refused("InvalidClientTokenId", "", 403), "account"),
        (refused("UnrecognizedClientException", "", 403), "account"),
        (refused("ExpiredTokenException", "", 403), "account"),
        (refused("403", "", 403), "account"),
        (refused("407", "", 407), "account"),
        (refused("302", "", 302), "account"),
        (refused("MessageRejected", "Transaction failed"), "permanent"),
        (refused("BadRequestException", "Invalid domain name"), "permanent"),
        (refused("413", "", 413), "permanent"),
        (refused("InternalFailure", "", 500), "unknown"),
        (refused("ServiceUnavailable", "", 503), "unknown"),
        (refused("504", "", 504), "unknown"),
        (aws.EndpointConnectionError(endpoint_url="https://ses"), "not_transmitted"),
        (aws.ConnectTimeoutError(endpoint_url="https://ses"), "not_transmitted"),
        (aws.ProxyConnectionError(proxy_url="http://proxy"), "not_transmitted"),
        (
            aws.SSLError(endpoint_url="https://ses", error=ssl.SSLCertVerificationError("bad")),
            "not_transmitted",
        ),
        (aws.SSLError(endpoint_url="https://ses", error=ssl.SSLError("decryption failed")), "unknown"),
        (aws.ReadTimeoutError(endpoint_url="https://ses"), "unknown"),
        (aws.ConnectionClosedError(endpoint_url="https://ses"), "unknown"),
        (aws.HTTPClientError(error="what"), "unknown"),
        (aws.NoCredentialsError(), "account"),
        (aws.PartialCredentialsError(provider="env", cred_var="x"), "account"),
        (aws.NoRegionError(), "account"),
        (aws.ProfileNotFound(profile="x"), "account"),
        (aws.ParamValidationError(report="x"), "permanent"),
        (RuntimeError("what"), "unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value)[:60],
)
def test_each_failure_has_its_outcome_a_code_and_words(error: Exception, kind: str) -> None:
    outcome = classify(error, sender=SENDER, recipient=RECIPIENT)
    assert outcome.kind == kind
    assert outcome.code
    assert isinstance(error, aws.ClientError) or outcome.message


def test_an_unverified_sender_stops_its_own_mails_and_an_unverified_recipient_only_this_one() -> None:
    text = "Email address is not verified. The following identities failed the check in region EU-WEST-1: "
    sender = classify(refused("MessageRejected", text + SENDER), sender=SENDER, recipient=RECIPIENT)
    recipient = classify(refused("MessageRejected", text + RECIPIENT), sender=SENDER, recipient=RECIPIENT)
    both = classify(
        refused("MessageRejected", f"{text}{SENDER}, {RECIPIENT}"), sender=SENDER, recipient=RECIPIENT
    )
    assert (sender.kind, recipient.kind, both.kind) == ("identity", "permanent", "identity")


def test_no_address_that_ses_quotes_is_kept() -> None:
    outcome = classify(refused("MessageRejected", "Bad <anna@example.org>, really: anna@example.org."))
    assert "anna" not in outcome.message and "Bad" in outcome.message


def test_the_answers_own_ids_are_kept() -> None:
    outcome = classify(refused("MessageRejected", "no", 400))
    assert (outcome.request_id, outcome.http_status) == ("r-1", 400)
