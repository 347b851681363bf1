"""What became of one try to send, in eight words; the tables that sort every answer and every failure.

The question behind each entry is design §6's: can the mail have left? Only a failure that certainly came
before the request was transmitted, or SES's own refusal, lets a mail be sent again. Codes are those of the
SES API v2 (SendEmail, "Errors"), of the AWS common errors and of botocore. docs/errors.md says of each of them
what happens next; a test compares.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import Literal

from botocore import exceptions as aws
from django.utils.translation import gettext_noop as _

Kind = Literal[
    "accepted", "not_transmitted", "throttled", "quota", "permanent", "identity", "account", "unknown"
]
WHOLE_ACCOUNT = frozenset({"account", "quota"})
"""Kinds that say that no mail at all would be taken now."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one attempt.

    accepted: SES took the mail and gave `message_id`. not_transmitted: nothing left, try again. throttled:
    refused for its rate, try again. quota: the 24-hour quota is used up. permanent: this mail will never be
    taken. identity: none of this sender's would be taken now. account: no mail would be taken now. unknown: it
    may have left or not.
    """

    kind: Kind
    code: str = ""
    message: str = ""
    message_id: str = ""
    request_id: str = ""
    http_status: int | None = None


THROTTLED = frozenset(
    {"TooManyRequestsException", "LimitExceededException", "Throttling", "ThrottlingException",
     "ThrottledException", "RequestThrottled", "RequestThrottledException", "RequestLimitExceeded",
     "SlowDown"}
)  # fmt: skip
DAILY_QUOTA = "DailyQuota"
"""Our code for a used-up 24-hour quota, whether SES said so or we knew; SES itself has none of its own for it."""
QUOTA = {
    DAILY_QUOTA: _(
        "The 24-hour quota of the SES account is used up. It frees itself as mails become a day "
        "old; have it raised in the SES console."
    ),
}
IDENTITY = {
    "MailFromDomainNotVerifiedException": _(
        "The MAIL FROM domain of the sender's identity is not verified. Check its DNS records."
    ),
}
PERMANENT = {
    "MessageRejected": _("SES refused the mail."),
    "BadRequestException": _("SES refused the form of the mail."),
    "ValidationError": _("SES refused the form of the mail."),
    "RequestEntityTooLargeException": _("The mail is too large for SES."),
    "413": _("The mail is too large for SES, or for a proxy before it."),
    "ParamValidationError": _("The request for this mail is malformed."),
}
_MAY_NOT = _("The AWS credentials may not send. Allow ses:SendEmail for the sender's identity.")
_UNKNOWN_KEY = _("AWS does not know the access key. Check AWS_ACCESS_KEY_ID.")
_NOT_SES = _("The endpoint does not answer like SES. Check AWS_ENDPOINT_URL_SESV2.")
_SIGNATURE = _("AWS refused the signature. Check AWS_SECRET_ACCESS_KEY and this host's clock.")
ACCOUNT = {
    "AccountSuspendedException": _("The SES account is suspended. Ask AWS support to lift the suspension."),
    "SendingPausedException": _(
        "Sending is paused for the account or the configuration set. Resume it in SES."
    ),
    "NotFoundException": _(
        "SES does not know something the request names, most likely the configuration set. Check "
        "SES_CONFIGURATION_SET and the region."
    ),
    "AccessDenied": _MAY_NOT,
    "AccessDeniedException": _MAY_NOT,
    "InvalidClientTokenId": _UNKNOWN_KEY,
    "UnrecognizedClientException": _UNKNOWN_KEY,
    "SignatureDoesNotMatch": _SIGNATURE,
    "InvalidSignatureException": _SIGNATURE,
    "IncompleteSignature": _SIGNATURE,
    "MissingAuthenticationToken": _("The request carried no credentials. Check the AWS credentials."),
    "RequestExpired": _("AWS found the request too old. Check this host's clock."),
    "ExpiredToken": _("The AWS session has expired. Renew the credentials."),
    "ExpiredTokenException": _("The AWS session has expired. Renew the credentials."),
    "OptInRequired": _("SES is not activated for this AWS account and region."),
    "NotAuthorized": _MAY_NOT,
    "UnknownOperationException": _NOT_SES,
    "InvalidAction": _NOT_SES,
    "MalformedHttpRequestException": _(
        "AWS could not read the request: something on the way changes it. Check the proxy."
    ),
    "NoSendQuota": _NOT_SES,
    "SendingDisabled": _("SES has sending switched off for this account. See 'Account dashboard' in SES."),
}
LOCAL = {
    "NoCredentialsError": _(
        "There are no AWS credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the "
        "host a role."
    ),
    "PartialCredentialsError": _(
        "The AWS credentials are incomplete. Set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    ),
    "NoRegionError": _("There is no AWS region. Set AWS_DEFAULT_REGION to the region of SES."),
    "InvalidRegionError": _("The AWS region is malformed. Check AWS_DEFAULT_REGION."),
    "ProfileNotFound": _("The AWS profile does not exist. Check AWS_PROFILE."),
    "CredentialRetrievalError": _(
        "The AWS credentials could not be fetched. Check the host's role or profile."
    ),
    "TokenRetrievalError": _("The AWS session has expired. Sign in again."),
    "UnauthorizedSSOTokenError": _("The AWS session has expired. Sign in again."),
    "SSOTokenLoadError": _("The AWS session could not be read. Sign in again."),
    "ConfigParseError": _("The AWS configuration file cannot be read."),
    "MetadataRetrievalError": _("The AWS credentials could not be fetched. Check the host's role."),
    "BundleUnreadable": _(
        "The certificates to trust cannot be read. Check the file that AWS_CA_BUNDLE or "
        "REQUESTS_CA_BUNDLE names."
    ),
}  # fmt: skip
NOT_TRANSMITTED = {
    "EndpointConnectionError": _(
        "No connection to SES: refused, or its name is not known. Check the network and "
        "AWS_ENDPOINT_URL_SESV2."
    ),
    "ConnectTimeoutError": _("No connection to SES in time. Check the network, firewall and region."),
    "ProxyConnectionError": _("No connection to the proxy. Check HTTPS_PROXY."),
    "HandshakeFailed": _(
        "The encrypted connection to SES could not be made. Check the network and AWS_CA_BUNDLE."
    ),
}
UNKNOWN = {
    "InternalFailure": _("SES failed while it had the mail."),
    "ServiceUnavailable": _("SES was overloaded while it had the mail."),
    "RequestTimeoutException": _("SES waited too long for the rest of the request."),
    "RequestAbortedException": _("The request broke off before SES answered."),
    "NoMessageId": _(
        "The endpoint answered without a message id: it may not be SES. Check AWS_ENDPOINT_URL_SESV2."
    ),
    "ReadTimeoutError": _("SES did not answer in time."),
    "ConnectionClosedError": _("The connection broke before SES answered."),
    "ResponseParserError": _("SES's answer could not be read."),
    "ResponseStreamingError": _("SES's answer broke off."),
    "IncompleteReadError": _("SES's answer broke off."),
    "SSLError": _("The encrypted connection failed."),
    "HTTPClientError": _("The connection failed in an unexpected way."),
}
_DAILY = re.compile(r"daily (message )?quota|24.?hour", re.I)
_UNVERIFIED = re.compile(r"not verified", re.I)
_CONFIGURATION_SET = re.compile(r"configuration.?set", re.I)
_ADDRESS = re.compile(r"[^\s<>,;:\"'()\[\]]+@[^\s<>,;:\"'()\[\]]+")


def _clean(message: str) -> str:
    """SES's words without the addresses that they may quote."""
    return _ADDRESS.sub("(address)", message)[:500]


def classify(error: Exception, *, sender: str = "", recipient: str = "") -> Outcome:
    """Sort what `send_email` raised. `sender` and `recipient` are bare addresses.

    Whatever is not known for certain is `unknown`, so that nothing is sent twice.
    """
    if isinstance(error, aws.ClientError):
        return _refused(error, sender, recipient)
    name = type(error).__name__
    if isinstance(error, aws.SSLError):
        # A certificate that does not verify ends the handshake: nothing was sent. Any other TLS failure
        # may come later.
        refused = "CERTIFICATE_VERIFY_FAILED" in str(error) or isinstance(
            error.kwargs.get("error"), ssl.SSLCertVerificationError
        )
        if refused:
            return Outcome(
                "not_transmitted", name, _("SES's certificate was not accepted. Check AWS_CA_BUNDLE.")
            )
        return Outcome("unknown", name, UNKNOWN["SSLError"])
    for base in type(error).__mro__:
        if base.__name__ in NOT_TRANSMITTED:
            return Outcome("not_transmitted", name, NOT_TRANSMITTED[base.__name__])
        if base.__name__ in LOCAL:
            return Outcome("account", name, LOCAL[base.__name__])
        if base.__name__ in PERMANENT:
            return Outcome("permanent", name, PERMANENT[base.__name__])
        if base.__name__ in UNKNOWN:
            return Outcome("unknown", name, UNKNOWN[base.__name__])
    return Outcome("unknown", name, _("The send failed in an unexpected way."))


def _refused(error: aws.ClientError, sender: str, recipient: str) -> Outcome:
    """SES, or something in between, answered with an error status."""
    detail = error.response.get("Error", {})
    meta = error.response.get("ResponseMetadata", {})
    code, text = str(detail.get("Code", "")), str(detail.get("Message", ""))
    status = int(meta.get("HTTPStatusCode", 0))
    kind, words = _judge(code, text, status, sender, recipient)
    return Outcome(
        kind,
        DAILY_QUOTA if kind == "quota" else code[:100] or f"HTTP {status}",
        words or _clean(text),
        request_id=str(meta.get("RequestId", ""))[:128],
        http_status=status or None,
    )


def _judge(code: str, text: str, status: int, sender: str, recipient: str) -> tuple[Kind, str]:
    if code in THROTTLED or status == 429:
        return ("quota", QUOTA[DAILY_QUOTA]) if _DAILY.search(text) else ("throttled", "")
    if code in IDENTITY:
        return "identity", IDENTITY[code]
    if code in ACCOUNT:
        return "account", ACCOUNT[code]
    if code in UNKNOWN or status >= 500 or status in {0, 408}:
        return "unknown", UNKNOWN.get(code, "")
    if code == "MessageRejected" and _UNVERIFIED.search(text):
        return _unverified(text, sender, recipient)
    if code == "BadRequestException" and _CONFIGURATION_SET.search(text):
        return "account", ACCOUNT["NotFoundException"]
    nameless = (not code or code.isdigit()) and code not in PERMANENT
    if nameless or status in {401, 403, 404, 407} or status < 400:
        # Not an answer about this mail, as SES names its errors: a proxy, a wrong endpoint, a policy.
        return (
            "account",
            f"The endpoint answered {status}. Check AWS_ENDPOINT_URL_SESV2 and the proxy.",
        )
    return "permanent", ""


def _unverified(text: str, sender: str, recipient: str) -> tuple[Kind, str]:
    """SES names the identities that failed: the sender's concerns all its mails, a recipient's only this one."""
    named = {address.lower().rstrip(".") for address in _ADDRESS.findall(text)}
    if recipient.lower() in named and sender.lower() not in named:
        return "permanent", "SES sends only to verified addresses: the account is still in the SES sandbox."
    domain = sender.rpartition("@")[2] or "unknown"
    return "identity", f"SES has not verified the sender's address or its domain ({domain}) in this region."
