"""Whom a mail comes from, what its names look like in headers, and whether the site diverts it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from emailoffload.moodle import refusals
from emailoffload.moodle.addresses import is_domain_name, valid_address
from emailoffload.moodle.formatting.names import fullname
from emailoffload.moodle.refusals import Refusal
from emailoffload.moodle.types import Sender, SiteConfig, User

VIA_NEVER, VIA_ALWAYS = "0", "1"
EVERYONE, COURSE_MEMBERS = 1, 2
CONFIG_NAMES: tuple[str, ...] = (
    "allowedemaildomains", "emailfromvia", "noreplyaddress", "supportemail", "supportname",
)  # fmt: skip
SUPPORT_ID = -20
_PLAIN_PATTERN = re.compile(r"(?:[\w@.\-+*?|()^$%:]|\\[.\-+@wds*?|()])+", re.ASCII)
"""Regular expressions that mean the same in PCRE and here."""


@dataclass(frozen=True, slots=True)
class From:
    """Sender, Reply-To and envelope sender; names as they stand in the header, decoded."""

    from_address: str
    from_name: str
    reply_to_address: str
    reply_to_name: str
    envelope: str


def identify(site: SiteConfig) -> tuple[From, Refusal | None]:
    """The sender of the site's notifications, and why we cannot send as he would (facts §5.4–5.5).

    The sender is Moodle's support user, whose own address is used only where `allowedemaildomains` has its
    domain and the user shows it to everyone; otherwise the noreply address is used with the user's name.
    """
    envelope = noreply_address(site)
    sender = site.support_user or _support_from_config(site)
    if sender is None:
        return From(envelope, "", envelope, site.string_noreply_name, envelope), Refusal(
            refusals.SENDER_UNKNOWN
        )
    name = fullname(sender.user, site)
    via = site.get("emailfromvia", VIA_ALWAYS)
    allowed = _domain_allowed(sender.user.email, site)
    real = allowed and sender.user.maildisplay == EVERYONE
    says_via = via == VIA_ALWAYS if real else via != VIA_NEVER
    identity = From(
        from_address=sender.user.email if real else envelope,
        from_name=header_name(_via(name, site) if says_via else name),
        reply_to_address=sender.user.email if real else envelope,
        reply_to_name=header_name(name if real else site.string_noreply_name),
        envelope=envelope,
    )
    if allowed and sender.user.maildisplay == COURSE_MEMBERS:
        return identity, Refusal(refusals.SENDER_PER_RECIPIENT, "allowedemaildomains")
    if not valid_address(identity.from_address) or not valid_address(envelope):
        return identity, Refusal(refusals.SENDER_INVALID, "noreplyaddress")
    if says_via and re.search("[<>]", site.shortname):
        return identity, Refusal(refusals.SENDER_NAME_MARKUP, "shortname")
    return identity, None


def noreply_address(site: SiteConfig) -> str:
    """`noreplyaddress` where it is valid, else noreply@ the host of wwwroot (facts §5.4)."""
    configured = site.get("noreplyaddress")
    if valid_address(configured):
        return configured
    host = re.match(r"[a-z]+://([a-z0-9.-]+)", site.wwwroot, re.IGNORECASE)
    return f"noreply@{host[1] if host else ''}"


def header_name(name: str) -> str:
    """A display name as it stands in a header: one line, without space around it; space inside stays."""
    return re.sub(r"[\r\n]+", "", name).strip(" \t\0\x0b")


def diverted(site: SiteConfig, address: str) -> bool | None:
    """Whether the site sends this recipient's mail to `divertallemailsto` instead (facts §5.3, 5).

    `divertallemailsexcept` holds regular expressions; None where one of them is not of the plain kind that
    means the same to us as to PHP. Case counts up to Moodle 4.1.
    """
    if not site.flag("divertallemailsto"):
        return False
    for pattern in re.split(r"[\s,]+", site.get("divertallemailsexcept"), flags=re.ASCII):
        if not pattern:
            continue
        if not _PLAIN_PATTERN.fullmatch(pattern):
            return None
        try:
            found = re.search(pattern, address, re.ASCII | (re.IGNORECASE if site.branch >= 402 else 0))
        except re.error:
            return None
        if found:
            return False
    return True


def _support_from_config(site: SiteConfig) -> Sender | None:
    """The pseudo user that Moodle makes of `supportemail` (facts §5.5)."""
    if not site.flag("supportemail"):
        return None
    name = site.get("supportname") or site.string_noreply_name
    return Sender(User(id=SUPPORT_ID, firstname=name, email=site.get("supportemail"), maildisplay=EVERYONE))


def _via(name: str, site: SiteConfig) -> str:
    """The name as `{name} (via {siteshortname})` in the site's language."""
    values = {
        "name": name,
        "siteshortname": format_short_name(site.shortname),
        "url": re.sub(r"^https?://", "", site.wwwroot),
    }
    return re.sub(r"\{(name|siteshortname|url)\}", lambda found: values[found[1]], site.string_via)


def format_short_name(text: str) -> str:
    """A plain short name after format_string(): an `&` that starts no entity becomes `&amp;`."""
    return re.sub(r"&(?![a-zA-Z0-9#]{1,8};)", "&amp;", text)


def _domain_allowed(address: str, site: SiteConfig) -> bool:
    """Whether `allowedemaildomains` (a domain or `*.domain` a line) has the address's domain; case counts."""
    domain = address.partition("@")[2]
    if not is_domain_name(domain):
        return False
    for line in site.get("allowedemaildomains").split("\n"):
        pattern = line.strip()
        if pattern.startswith("*.") and is_domain_name(pattern[2:]):
            if domain.endswith(pattern[1:]):
                return True
        elif domain == pattern:
            return True
    return False
