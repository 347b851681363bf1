"""What Amazon SES says about the account and the sender, in words, before anything is set up. Nothing is changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import boto3
import botocore.session
from botocore.exceptions import BotoCoreError

from emailoffload.actions.sessetup.steps import Absent, Amazon, Refused
from offloadsite import env

REGION: Final = re.compile(r"[a-z]{2}(?:-[a-z]+){1,3}-\d\Z")
_ADDRESS: Final = re.compile(r"[^\s@<>\"']+@[^\s@<>\"']+\.[^\s@<>\"']+\Z")
_DOMAIN: Final = re.compile(r"(?=.{4,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]*\Z")
Level = Literal["good", "wait", "bad"]


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was found; `cure` where there is something to do."""

    level: Level
    text: str
    cure: str = ""


def region(value: str) -> str:
    """The name of a region of AWS. Raises env.Malformed."""
    value = value.strip().lower()
    if not REGION.match(value):
        raise env.Malformed("expected the name of an AWS region, such as eu-west-1")
    return value


def identity(value: str) -> str:
    """An e-mail address or a domain. Raises env.Malformed."""
    value = value.strip()
    if _ADDRESS.match(value):
        return value
    if _DOMAIN.match(value.lower()):
        return value.lower()
    raise env.Malformed("expected an address or a domain, such as noreply@example.org or example.org")


def default_region() -> str:
    """The region that the AWS SDK is set up for; '' for none."""
    try:
        return boto3.session.Session(botocore_session=botocore.session.get_session()).region_name or ""
    except BotoCoreError:
        return ""


def credentials() -> str:
    """Where the AWS SDK finds credentials, in its own word, such as `env` or `iam-role`; '' nowhere."""
    try:
        found = botocore.session.get_session().get_credentials()
    except BotoCoreError:
        return ""
    return str(found.method) if found else ""


def look(where: str, sender: str) -> Iterator[Line]:
    """The account in that region, and the identity of the sender (an address or a domain; '' leaves it out)."""
    amazon = Amazon(where)
    try:
        yield from _account(amazon)
    except (Refused, Absent) as error:
        yield Line("bad", str(error), getattr(error, "cure", ""))
        return
    if sender:
        try:
            yield _identity(amazon, where, sender)
        except Refused as error:
            yield Line("wait", str(error), error.cure)


def _account(amazon: Amazon) -> Iterator[Line]:
    answer = amazon.ask("sesv2", "GetAccount")
    if not answer.get("SendingEnabled", True):
        yield Line(
            "bad",
            "Sending is switched off for this SES account.",
            "See the account dashboard of the SES console.",
        )
    status = str(answer.get("EnforcementStatus", "HEALTHY"))
    if status != "HEALTHY":
        yield Line(
            "wait", f"SES has the account under review ({status}).", "Answer what AWS has asked first."
        )
    if answer.get("ProductionAccessEnabled", True):
        yield Line("good", "The account has production access.")
    else:
        yield Line(
            "wait",
            "The account is in the SES sandbox: it sends to verified addresses only.",
            "Request production access in the SES console before you switch anything on. Shadow mode needs none.",
        )
    quota = answer.get("SendQuota", {})
    most = float(quota.get("Max24HourSend", 0))
    used = float(quota.get("SentLast24Hours", 0))
    limit = "no limit in 24 hours" if most < 0 else f"{most:,.0f} in 24 hours, {used:,.0f} of them used"
    yield Line("good", f"SES takes {float(quota.get('MaxSendRate', 0)):g} mails per second; {limit}.")


def _identity(amazon: Amazon, where: str, sender: str) -> Line:
    domain = sender.rpartition("@")[2]
    labels = domain.split(".")
    names = [sender] if "@" in sender else []
    names += [".".join(labels[start:]) for start in range(max(1, len(labels) - 1))]
    pending = ""
    for name in names:
        try:
            answer = amazon.ask("sesv2", "GetEmailIdentity", EmailIdentity=name)
        except Absent:
            continue
        if answer.get("VerifiedForSendingStatus"):
            return Line("good", f"SES has verified {name}, so mails from {sender} may leave.")
        pending = pending or name
    if pending:
        return Line(
            "wait",
            f"SES knows {pending}, and has not verified it yet.",
            "Add the DNS records that the SES console shows for it, or follow the link in SES's mail.",
        )
    return Line(
        "wait",
        f"SES knows no identity for {domain} in {where}: it would refuse every mail.",
        f"Make it: aws sesv2 create-email-identity --region {where} --email-identity {domain}, then add the DNS "
        "records that it answers with.",
    )
