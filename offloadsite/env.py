"""The settings that a site may give, each with its meaning, and how they are read and checked.

One table, `SPECS`, is the source for `settings.py`, for the error texts and for `docs/settings.md`
(`manage.py settingsreference`). Values come from the process environment or from the file that
`OFFLOAD_ENV_FILE` names (default: `.env` beside `manage.py`); the environment wins. A secret may also lie in a
file of its own, which `<its name>_FILE` names.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ

BASE_DIR = Path(__file__).resolve().parent.parent
FROM_WHEEL = not (BASE_DIR / "manage.py").is_file()
"""Installed as a package, where templates and static files lie beside this module, and not run from a checkout."""
ASSETS_DIR = Path(__file__).resolve().parent if FROM_WHEEL else BASE_DIR
"""Where `templates` and `static` are."""
HOME_DIR = Path.cwd() if FROM_WHEEL else BASE_DIR
"""Where `.env` and `var` are looked for: what a site owns does not belong among installed packages."""


@dataclass(frozen=True)
class Spec:
    """One setting: its name, how it is parsed, its default (None = must be given), what it means, an example."""

    name: str
    parse: Callable[[str], Any]
    default: str | None
    meaning: str
    example: str
    section: str
    secret: bool = False


class Malformed(ValueError):
    """A value that cannot be used; the text says what is expected."""


def text(value: str) -> str:
    """Any text, surrounding blanks removed."""
    return value.strip()


def boolean(value: str) -> bool:
    """on/off, true/false, yes/no, 1/0."""
    lowered = value.strip().lower()
    if lowered in {"1", "true", "yes", "on"}:
        return True
    if lowered in {"", "0", "false", "no", "off"}:
        return False
    raise Malformed("expected on or off")


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number within bounds."""

    def parse(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            raise Malformed(f"expected a whole number from {low} to {high}") from None
        if not low <= number <= high:
            raise Malformed(f"expected a whole number from {low} to {high}")
        return number

    return parse


def number(low: float, high: float) -> Callable[[str], float]:
    """A decimal number within bounds."""

    def parse(value: str) -> float:
        try:
            result = float(value)
        except ValueError:
            raise Malformed(f"expected a number from {low:g} to {high:g}") from None
        if not low <= result <= high:
            raise Malformed(f"expected a number from {low:g} to {high:g}")
        return result

    return parse


def choice(*allowed: str) -> Callable[[str], str]:
    """One of a few words."""

    def parse(value: str) -> str:
        if value.strip() not in allowed:
            raise Malformed("expected one of: " + ", ".join(allowed))
        return value.strip()

    return parse


def words(value: str) -> list[str]:
    """A comma-separated list; blanks around the items do not count."""
    return [item.strip() for item in value.split(",") if item.strip()]


def web_root(value: str) -> str:
    """An http(s) address without a trailing slash."""
    parts = urlsplit(value.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Malformed("expected a web address that starts with http:// or https://")
    return value.strip().rstrip("/")


def secure_address(value: str) -> str:
    """An https address, or an http one on this host; nothing in it is changed."""
    value = value.strip()
    parts = urlsplit(value)
    here = parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and here)):
        raise Malformed("expected an address that starts with https://")
    return value


def addresses(value: str) -> list[str]:
    """A comma-separated list of bare e-mail addresses."""
    found = words(value)
    for each in found:
        local, _, domain = each.rpartition("@")
        if not local or not domain or any(char.isspace() or char in '<>"' for char in each):
            raise Malformed("expected bare e-mail addresses, such as alarms@example.org")
    return found


def redis_address(value: str) -> str:
    """The address of a Redis server, as its clients write it; nothing in it is changed."""
    value = value.strip()
    parts = urlsplit(value)
    if parts.scheme not in {"redis", "rediss", "unix"} or not (
        parts.path if parts.scheme == "unix" else parts.hostname
    ):
        raise Malformed("expected an address that starts with redis://, rediss:// (TLS) or unix://")
    return value


def queue_name(value: str) -> str:
    """A name that fits into keys and logs."""
    value = value.strip()
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", value, re.ASCII):
        raise Malformed("expected letters, digits, hyphens and underscores, at most 60")
    return value


def table_prefix(value: str) -> str:
    """Letters, digits and underscores: the prefix becomes part of SQL identifiers."""
    value = value.strip()
    if value and not (value.replace("_", "").isalnum() and value.isascii()):
        raise Malformed("expected letters, digits and underscores only")
    return value


Step = tuple[int, timedelta, timedelta]
"""So many bounces, within this time, keep an address from mails for that long."""
_STEP = re.compile(r"(\d{1,3})\s+in\s+(\d{1,4})\s*([hd])\s*:\s*(\d{1,4})\s*([hd])", re.ASCII)
_YEAR = timedelta(days=365)
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1)}


def ladder(value: str) -> tuple[Step, ...]:
    """Steps such as `3 in 7d: 3d, 5 in 30d: 30d`, each asking for more bounces than the one before; empty: none."""
    steps: list[Step] = []
    for item in words(value):
        found = _STEP.fullmatch(item)
        if not found:
            raise Malformed(
                f"expected steps like '3 in 7d: 3d' (units h and d), separated by commas; got '{item}'"
            )
        count, window, unit, duration, other = found.groups()
        step = int(count), int(window) * _UNITS[unit], int(duration) * _UNITS[other]
        if not (step[0] and timedelta() < step[1] <= _YEAR and timedelta() < step[2] <= _YEAR):
            raise Malformed(f"expected at least 1 bounce, and times from 1h to 365d, in '{item}'")
        if steps and not (step[0] > steps[-1][0] and step[2] >= steps[-1][2]):
            raise Malformed(
                f"expected more bounces than in the step before, and no shorter time, in '{item}'"
            )
        steps.append(step)
    return tuple(steps)


def networks(value: str) -> list[IPv4Network | IPv6Network]:
    """A comma-separated list of addresses and networks (CIDR); `none` for no network at all."""
    if value.strip().lower() == "none":
        return []
    try:
        return [ip_network(item) for item in words(value)]
    except ValueError:
        raise Malformed("expected networks such as 10.1.2.0/24, or addresses, separated by commas") from None


def token(value: str) -> str:
    """A secret that cannot be guessed and fits into a header; empty: none."""
    value = value.strip()
    if value and not re.fullmatch(r"[!-~]{20,500}", value, re.ASCII):
        raise Malformed("expected at least 20 letters, digits and signs, without blanks")
    return value


def header_name(value: str) -> str:
    """The name of an HTTP header; empty: none."""
    value = value.strip()
    if value and not re.fullmatch(r"[A-Za-z0-9-]{1,60}", value, re.ASCII):
        raise Malformed("expected the name of a header: letters, digits and hyphens")
    return value


def json_object(value: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        result = json.loads(value or "{}")
    except json.JSONDecodeError as error:
        raise Malformed(f"expected a JSON object ({error})") from None
    if not isinstance(result, dict):
        raise Malformed("expected a JSON object")
    return result


def group_map(value: str) -> dict[str, list[str]]:
    """A JSON object that leads from a group's name to another's, or to a list of others'."""
    found: dict[str, list[str]] = {}
    for theirs, ours in json_object(value).items():
        names = [ours] if isinstance(ours, str) else ours
        if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
            raise Malformed(f"expected the name of a group of ours, or a list of names, for '{theirs}'")
        found[theirs] = [name.strip() for name in names]
    return found


def _database(*schemes: str) -> Callable[[str], dict[str, Any]]:
    def parse(value: str) -> dict[str, Any]:
        scheme = value.split(":", 1)[0]
        if scheme not in schemes:
            raise Malformed("expected an address that starts with " + " or ".join(f"{s}://" for s in schemes))
        try:
            config: dict[str, Any] = dict(environ.Env.db_url_config(value))
        except Exception as error:
            raise Malformed(f"the address cannot be read ({type(error).__name__})") from None
        if not config.get("NAME"):
            raise Malformed("the database's name is missing after the last slash")
        return config

    return parse


def zone(value: str) -> str:
    """A name of the tz database."""
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(value.strip())
    except Exception:
        raise Malformed("expected the name of a time zone") from None
    return value.strip()


def mail_server(value: str) -> dict[str, Any]:
    """The SMTP server that an address names, as Django's settings EMAIL_HOST and so on.

    Only SMTP: an address of Django's console or file backend would swallow mails.
    """
    ports = {"smtp": 25, "smtp+tls": 587, "smtps": 587, "smtp+ssl": 465}
    scheme = value.strip().split(":", 1)[0]
    if scheme not in ports:
        raise Malformed("expected an address that starts with smtp+tls://, smtp+ssl:// or smtp://")
    try:
        config: dict[str, Any] = dict(environ.Env.email_url_config(value.strip()))
    except Exception as error:
        raise Malformed(f"the address cannot be read ({type(error).__name__})") from None
    if not config.get("EMAIL_HOST"):
        raise Malformed("the server's name is missing after the two slashes")
    return {
        "host": config["EMAIL_HOST"],
        "port": config.get("EMAIL_PORT") or ports[scheme],
        "user": config.get("EMAIL_HOST_USER") or "",
        "password": config.get("EMAIL_HOST_PASSWORD") or "",
        "tls": bool(config.get("EMAIL_USE_TLS")),
        "ssl": bool(config.get("EMAIL_USE_SSL")),
    }


def optional(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """An empty value means "not given" (None)."""

    def parse_optional(value: str) -> Any:
        return parse(value) if value.strip() else None

    return parse_optional


SITE, ACCOUNTS, DATA, MOODLE, CLAIMS, SES, EVENTS, ALARMS, FALLBACK, SECURITY, PRIVACY, WORKER, WATCH = (
    "The dashboard",
    "Logging in",
    "Databases",
    "The Moodle site",
    "Claiming and rendering",
    "Amazon SES",
    "SES events and reputation",
    "Alarms",
    "When the cloud fails",
    "Keys and credentials",
    "Privacy",
    "The worker",
    "Monitoring and logs",
)

# fmt: off
SPECS: tuple[Spec, ...] = (
    Spec("DATABASE_URL", _database("sqlite", "mysql"), "", "Our own database. Without it: SQLite in the data folder. Use MariaDB or MySQL on a real site.", "mysql://offload:secret@db.example.org:3306/offload", DATA, secret=True),
    Spec("MOODLE_DATABASE_URL", _database("sqlite", "mysql"), "", "Moodle's database, read with the account of `manage.py moodlegrants`. Without it: the sample Moodle.", "mysql://offload:secret@db.example.org:3306/moodle", DATA, secret=True),
    Spec("OFFLOAD_DATA_DIR", text, "", "Folder for what must survive a restart and is not in a database: SQLite files, generated keys. Without it: `var` beside manage.py.", "/var/lib/email-offload", DATA),
    Spec("OFFLOAD_STATIC_DIR", text, "", "Folder that `manage.py collectstatic` fills with styles and scripts. They are served without it too; with it the web server starts a little faster. Without it: `static` in the data folder.", "/srv/email-offload/collected", DATA),
    Spec("MOODLE_DB_PREFIX", table_prefix, "mdl_", "`$CFG->prefix` of Moodle's config.php.", "mdl_", MOODLE),
    Spec("MOODLE_DB_NAME", text, "", "`$CFG->dbname` where it differs from the name in MOODLE_DATABASE_URL; it is part of the name of Moodle's cron lock.", "moodle", MOODLE),
    Spec("MOODLE_WWWROOT", optional(web_root), "", "`$CFG->wwwroot` of Moodle's config.php. Needed with MOODLE_DATABASE_URL.", "https://learn.example.org", MOODLE),
    Spec("MOODLE_LOCK_FACTORY", text, "auto", "`$CFG->lock_factory` of Moodle's config.php; `auto` when it is not set there. Only locks of the database server can be shared with Moodle; with any other, rows that are already due stay with Moodle.", "auto", MOODLE),
    Spec("MOODLE_CRON_PERIOD_SECONDS", whole(30, 86400), "300", "How often Moodle runs the task that sends reminders.", "300", MOODLE),
    Spec("MOODLE_CRON_GUARD", choice("tick", "hold", "off"), "tick", "How IOMAD's mail queue, whose mails are due as soon as they exist, is defended against Moodle's cron. `off`: new mails are looked for every QUEUE_POLL_SECONDS, and a claim takes the cron's lock for a moment. `tick`: the lock is also taken just before each run of IOMAD's task, for one look at all that waits. `hold`: the lock stays ours while mails can be sent, and is let go once an hour for IOMAD's own run. docs/claiming.md compares them.", "tick", MOODLE),
    Spec("MOODLE_NOEMAILEVER", boolean, "off", "`$CFG->noemailever` of config.php: Moodle sends no mail at all. Nothing is claimed then.", "off", MOODLE),
    Spec("MOODLE_FORCED_CONFIG", json_object, "{}", "Other `$CFG` values that config.php sets and that therefore win over Moodle's database, as a JSON object.", '{"supportuserid": 2, "forcetimezone": "Europe/London"}', MOODLE),
    Spec("MOODLE_DATAROOT", text, "", "Moodle's data folder (`$CFG->dataroot`) as this host sees it, readable for us, where mails of IOMAD carry attachments. Without it such mails stay with IOMAD.", "/mnt/moodledata", MOODLE),
    Spec("MOODLE_PHP_TIMEZONE", zone, "UTC", "Time zone of PHP on the Moodle host; used where Moodle's own setting says 'server time zone'.", "Europe/London", MOODLE),
    Spec("MOODLE_STRING_NOREPLY_NAME", text, "Do not reply to this email", "Moodle's string `noreplyname` in the site's language.", "Do not reply to this email", MOODLE),
    Spec("MOODLE_STRING_VIA", text, "{name} (via {siteshortname})", "Moodle's string `fromvia` in the site's language; the two words in braces are filled in.", "{name} (via {siteshortname})", MOODLE),
    Spec("CLAIM_LEAD_SECONDS", whole(1, 86400), "900", "How long before they are due reminders are claimed. Should exceed the interceptor's period plus Moodle's cron period (540 s).", "900", CLAIMS),
    Spec("CLAIM_MARGIN_SECONDS", whole(0, 3600), "30", "Reminders due sooner than this count as due: clocks of two hosts differ, and a claim takes time.", "30", CLAIMS),
    Spec("QUEUE_POLL_SECONDS", whole(1, 300), "5", "How often new mails are looked for in IOMAD's queue.", "5", CLAIMS),
    Spec("CLAIM_BATCH_SIZE", whole(1, 5000), "500", "Rows per claiming statement.", "500", CLAIMS),
    Spec("RENDER_PARITY", choice("default", "strict"), "default", "`strict` reproduces Moodle to the letter; `default` applies the four documented improvements.", "default", CLAIMS),
    Spec("DEFAULT_FALLBACK", choice("moodle", "smtp", "hold"), "moodle", "What happens to a claimed mail that the cloud does not take, where no routing rule says so: `moodle` hands it back, `smtp` sends it by SMTP, `hold` keeps it for a person. What a policy cannot do falls to the next one of these.", "moodle", CLAIMS),
    Spec("SEND_DEADLINE_SECONDS", whole(60, 172800), "900", "How long after its due time, or after its claim where that is later, a mail that could not be transmitted is tried again; then it is *failed*.", "900", CLAIMS),
    Spec("SES_CONFIGURATION_SET", text, "", "Configuration set that every mail is sent with.", "email-offload", SES),
    Spec("SES_MAX_SEND_RATE", optional(number(0.1, 100000)), "", "Upper bound for mails per second, below what the account allows. Without it: the account's own maximum send rate.", "50", SES),
    Spec("SENSITIVE_QUOTA_RESERVE", number(0, 100), "5", "Percent of the account's 24-hour quota that only mails with credentials may use up; other mails stay with Moodle once no more than this is left. On a site without IOMAD nothing needs it: set 0.", "5", SES),
    Spec("SES_CONNECT_TIMEOUT_SECONDS", number(0.1, 60), "3", "How long to wait for a connection to SES.", "3", SES),
    Spec("SES_READ_TIMEOUT_SECONDS", number(0.1, 120), "15", "How long to wait for SES's answer; after it the send is *uncertain*.", "15", SES),
    Spec("SES_EVENTS_QUEUE_URL", optional(web_root), "", "SQS queue that the configuration set's events arrive in. `manage.py sessetup` makes it. Without it, and without SNS_TOPICS, nobody learns what became of a mail after SES took it.", "https://sqs.eu-west-1.amazonaws.com/123456789012/email-offload-events", EVENTS),
    Spec("SNS_TOPICS", words, "", "SNS topics, comma-separated ARNs, that may post events to `/events/sns/`: the way for sites without SQS. Without it that page does not exist.", "arn:aws:sns:eu-west-1:123456789012:email-offload-events", EVENTS),
    Spec("SNS_SIGNATURE_VERSION_1", boolean, "off", "Also take posts that SNS signed with SHA-1. Better: set the topic's SignatureVersion to 2.", "off", EVENTS),
    Spec("REPUTATION_VOLUME", whole(100, 10000000), "10000", "Bounce and complaint rates are taken over the newest mails, this many or those of 14 days, as SES does over a 'representative volume'.", "10000", EVENTS),
    Spec("REPUTATION_MINIMUM", whole(1, 1000000), "200", "With fewer mails than this no rate is judged: it would be chance.", "200", EVENTS),
    Spec("REPUTATION_WARN_PERCENT", number(1, 100), "50", "A rate is warned of at this share of the rate at which SES reviews an account (5 % permanent bounces, 0.1 % complaints).", "50", EVENTS),
    Spec("REPUTATION_STOP_PERCENT", number(0, 100), "80", "Claiming stops, but for mails with credentials, at this share of the rate at which SES pauses an account (10 % permanent bounces, 0.5 % complaints). 0: it never stops because of a rate.", "80", EVENTS),
    Spec("ALARM_EMAILS", addresses, "", "Who is told of alarms by e-mail, comma-separated. Needs EMAIL_URL: alarms do not go by SES, which may be what they are about.", "offload-alarms@example.org", ALARMS),
    Spec("ALARM_FROM", addresses, "", "Sender of these e-mails. Without it: the first of ALARM_EMAILS.", "offload@example.org", ALARMS),
    Spec("ALARM_WEBHOOK_URL", optional(secure_address), "", "Where alarms are posted as JSON; https, or http on this host.", "https://chat.example.org/hooks/offload", ALARMS, secret=True),
    Spec("ALARM_WEBHOOK_SECRET", text, "", "Key that posts are signed with, so that the receiver knows whose they are: see docs/reputation.md.", "a long random text", ALARMS, secret=True),
    Spec("DASHBOARD_URL", optional(web_root), "", "Address of the dashboard, for links in alarms. Without it they have none.", "https://offload.example.org", ALARMS),
    Spec("ALARM_BREAKER_MINUTES", whole(1, 1440), "10", "How long SES may take no mails before it is an alarm.", "10", ALARMS),
    Spec("ALARM_FALLBACKS", whole(0, 1000000), "50", "Mails within an hour that the cloud did not take (handed back, sent by SMTP, failed) from which on it is an alarm. 0: never.", "50", ALARMS),
    Spec("SES_SUPPRESSION_SYNC", boolean, "on", "Keep our list of suppressed addresses and the list of the SES account the same, in both directions. Needs the rights ses:ListSuppressedDestinations, ses:GetSuppressedDestination, ses:PutSuppressedDestination and ses:DeleteSuppressedDestination.", "on", EVENTS),
    Spec("TRANSIENT_BOUNCES", ladder, "3 in 7d: 3d, 5 in 30d: 30d", "How many transient bounces (mailbox full, server away), within which time, keep an address from mails for how long. Steps separated by commas, units h and d. Empty: transient bounces keep nobody from mails.", "3 in 7d: 3d, 5 in 30d: 30d", EVENTS),
    Spec("EMAIL_URL", optional(mail_server), "", "SMTP server for mails that neither Amazon SES nor Moodle can send: `smtp+tls://` (STARTTLS, port 587), `smtp+ssl://` (TLS from the start, 465) or `smtp://` (no encryption, 25; only for a server on this host). Certificates are verified. Without it there is no SMTP route.", "smtp+tls://offload:secret@mail.example.org:587", FALLBACK, secret=True),
    Spec("SMTP_TIMEOUT_SECONDS", number(0.1, 300), "20", "How long to wait for each answer of the SMTP server.", "20", FALLBACK),
    Spec("UNCERTAIN_AFTER_SECONDS", whole(60, 2592000), "86400", "How long an *uncertain* mail waits for evidence before UNCERTAIN_POLICY decides.", "86400", FALLBACK),
    Spec("UNCERTAIN_POLICY", choice("hold", "resend", "smtp"), "hold", "What happens to an *uncertain* mail of which no evidence came in time. `hold`: nothing, a person is asked to decide. `resend`: it is sent once more through Amazon SES. `smtp`: it is sent once more by SMTP. With the last two some people get a mail twice: choose them only where that is better than that some get none. Where SES's events show that it did not take the mail, it is sent once more whatever is set here.", "hold", FALLBACK),
    Spec("DISPATCH_THREADS", whole(1, 256), "32", "Mails in flight per dispatcher.", "32", WORKER),
    Spec("DISPATCH_SLOTS", whole(1, 32), "2", "Dispatchers that may run at once, over all processes and hosts.", "2", WORKER),
    Spec("DISPATCH_BUDGET_SECONDS", whole(1, 3600), "55", "How long one dispatch pass stays on for mails that fall due.", "55", WORKER),
    Spec("LEASE_SECONDS", whole(5, 3600), "60", "A pass or a mail whose holder has been silent for this long is taken over.", "60", WORKER),
    Spec("WORKER_PROCESSES", optional(whole(3, 256)), "", "Processes that run passes, per worker; each needs about 90 MB and one connection to each database. Without it: DISPATCH_SLOTS and two more, and one for the event queue. With several worker hosts all of theirs together should be as many as that.", "8", WORKER),
    Spec("BROKER", choice("database", "redis", "sqs"), "database", "What carries triggers (\"begin a pass\") to the workers: our database, a Redis server (REDIS_URL) or an SQS queue (BROKER_QUEUE_URL). All hosts say the same. While Redis or SQS is away triggers go through our database. docs/sizing.md says when another one than `database` helps: seldom.", "redis", WORKER),
    Spec("REDIS_URL", optional(redis_address), "", "The Redis server, with BROKER=redis. Needs the extra `redis`.", "rediss://:secret@redis.example.org:6379/0", WORKER, secret=True),
    Spec("BROKER_QUEUE_URL", optional(web_root), "", "The SQS queue for triggers, with BROKER=sqs: a standard queue of its own, not that of SES's events.", "https://sqs.eu-west-1.amazonaws.com/123456789012/email-offload-triggers", WORKER),
    Spec("BROKER_NAME", queue_name, "emailoffload", "Name under which triggers are kept. Several installations that share one Redis server need one each.", "emailoffload", WORKER),
    Spec("RECONCILE_DAYS", whole(1, 60), "7", "How many days back the reconciler compares claims with Moodle's rows, every hour. Moodle keeps its own record of notifications for seven days at least.", "7", WORKER),
    Spec("METRICS_ALLOWED", networks, "127.0.0.0/8, ::1/128", "Addresses and networks, comma-separated, that may read `/metrics` and `/readyz` without a token. `none`: only the token counts. Behind a proxy of your own set TRUSTED_PROXIES too: without it no address of a request that came through a proxy is believed.", "127.0.0.0/8, ::1/128, 10.20.0.0/24", WATCH),
    Spec("METRICS_TOKEN", token, "", "With this token (`Authorization: Bearer …`) `/metrics` and `/readyz` may be read from everywhere. At least 20 characters. docs/monitoring.md shows how Prometheus is given it.", "o5YbX0t1mVwJ8kQz3nRc", WATCH, secret=True),
    Spec("LOG_FORMAT", choice("plain", "json"), "plain", "`plain`: lines for people. `json`: one JSON object a line, for a collector of logs. docs/monitoring.md lists the fields.", "json", WATCH),
    Spec("REQUEST_ID_HEADER", header_name, "", "Header in which your proxy gives each request an id, so that its log and ours can be joined. Set it only where the proxy sets or replaces that header itself. Without it we make an id for each request. Every answer has it in `X-Request-ID`.", "X-Request-ID", WATCH),
    Spec("SECRET_KEY", text, "", "Django's signing key. Without it one is generated and kept in the data folder.", "a long random text", SECURITY, secret=True),
    Spec("SECRET_KEY_FALLBACKS", words, "", "Former values of SECRET_KEY, comma-separated, that are still believed: after a change nobody is logged out. Remove them a day later. docs/rotation.md has the steps.", "the long random text that SECRET_KEY was", SECURITY, secret=True),
    Spec("CONTENT_KEYS", words, "", "Keys that encrypt stored mails, comma-separated, the newest first; older ones stay until nothing needs them. Without it one is generated and kept in the data folder. `manage.py contentkey` makes one.", "wW3s…=", SECURITY, secret=True),
    Spec("SENSITIVE_GRACE_SECONDS", whole(0, 604800), "900", "How long after its acceptance the content of a mail with credentials is kept, so that it can be sent again. Delivery ends it sooner.", "900", SECURITY),
    Spec("SENSITIVE_UNSENT_HOURS", whole(1, 8760), "72", "How long the content of a mail with credentials is kept that failed, is uncertain, or was suppressed or cancelled, and that nobody dealt with.", "72", SECURITY),
    Spec("RETAIN_CONTENT_DAYS", whole(0, 36500), "90", "How many days what mails say is kept after they were made; those that may still leave, and those of which nobody knows whether they left, keep it. 0: for good. docs/privacy.md explains the ladder.", "90", PRIVACY),
    Spec("RETAIN_EVENTS_DAYS", whole(0, 36500), "90", "How many days the events of Amazon SES, unreadable messages and errors with rows of Moodle are kept. What they said of a mail stays in its state and times. 0: for good.", "90", PRIVACY),
    Spec("RETAIN_ADDRESSES_DAYS", whole(0, 36500), "400", "How many days names, addresses and subjects are kept; then they are emptied, and the mails stay on record with ids, states and times. 0: for good.", "400", PRIVACY),
    Spec("RETAIN_RECORDS_DAYS", whole(0, 36500), "730", "How many days mails and claims stay on record at all; hourly counts outlive them. At least 402. 0: for good.", "730", PRIVACY),
    Spec("RETAIN_AUDIT_DAYS", whole(0, 36500), "1095", "How many days the audit log is kept. 0: for good.", "1095", PRIVACY),
    Spec("RETAIN_DELETED_USER_DAYS", whole(0, 36500), "30", "How many days after we first saw that Moodle has deleted a user their names, addresses, subjects and mails are erased here. 0: they go with all others'.", "30", PRIVACY),
    Spec("DEBUG", boolean, "off", "Django's debug mode. Never on a real site.", "off", SECURITY),
    Spec("ALLOWED_HOSTS", words, "localhost,127.0.0.1,[::1]", "Host names under which the dashboard is reached.", "offload.example.org", SITE),
    Spec("CSRF_TRUSTED_ORIGINS", words, "", "Origins, with scheme, that forms may be posted from when the dashboard is behind a proxy.", "https://offload.example.org", SITE),
    Spec("SECURE_HTTPS", boolean, "off", "The dashboard is reached by https only: secure cookies, redirect from http, and HSTS as HSTS_SECONDS says.", "on", SITE),
    Spec("HSTS_SECONDS", whole(0, 63072000), "31536000", "With SECURE_HTTPS: how long browsers refuse to reach the dashboard's own host name by http (Strict-Transport-Security). They cannot be told otherwise before that time: while https is being set up, 3600 is wiser. 0: not at all.", "3600", SITE),
    Spec("HSTS_SUBDOMAINS", boolean, "off", "The same for every name below that of the dashboard. Only where all of them speak https.", "off", SITE),
    Spec("HSTS_PRELOAD", boolean, "off", "Agree that browsers list the name as one of https only, for good (hstspreload.org). Needs HSTS_SUBDOMAINS and a year of HSTS_SECONDS; it is meant for a domain, not for a host in it.", "off", SITE),
    Spec("LOGIN_ATTEMPTS", whole(3, 100), "5", "Wrong passwords for one account from one address, after which that address is refused for that account. All accounts together get ten times as many from one address.", "5", ACCOUNTS),
    Spec("LOGIN_LOCK_MINUTES", whole(1, 1440), "15", "How long it is refused then. Wrong passwords are forgotten after the same time.", "15", ACCOUNTS),
    Spec("TRUSTED_PROXIES", whole(0, 10), "0", "How many proxies of your own stand in front of the dashboard and add the address that they were reached from to `X-Forwarded-For`. With 0 that header is not read. Set it behind a proxy: else everybody has the proxy's address, and one who guesses passwords locks out all.", "1", ACCOUNTS),
    Spec("SESSION_IDLE_MINUTES", whole(5, 720), "120", "A session ends after so long without use; in any case 12 hours after the login.", "120", ACCOUNTS),
    Spec("OIDC_SERVER_URL", optional(secure_address), "", "Single sign-on: address of your OpenID Connect provider (its issuer; `/.well-known/openid-configuration` below it describes it). Needs the extra `oidc`, and the other settings of this group. Without it people log in with a password only.", "https://login.example.org/realms/staff", ACCOUNTS),
    Spec("OIDC_CLIENT_ID", text, "", "Name of the dashboard at the provider. The redirect address to enter there is `https://<the dashboard>/login/oidc/callback/`.", "email-offload", ACCOUNTS),
    Spec("OIDC_CLIENT_SECRET", text, "", "Its secret there.", "a long random text", ACCOUNTS, secret=True),
    Spec("OIDC_NAME", text, "single sign-on", "What the provider is called on the login page.", "Example staff login", ACCOUNTS),
    Spec("OIDC_SCOPES", words, "openid, profile", "What is asked of the provider, comma-separated; some tell groups only with a scope of their own.", "openid, profile, groups", ACCOUNTS),
    Spec("OIDC_GROUPS_CLAIM", text, "groups", "The claim that lists a person's groups at the provider.", "groups", ACCOUNTS),
    Spec("OIDC_GROUP_MAP", group_map, "{}", "Which of the provider's groups puts a person into which group of ours, as a JSON object; a list puts them into several. Whoever has none of them is not let in.", '{"learning-support": "Support staff", "learning-admins": ["Offload administrators"]}', ACCOUNTS),
    Spec("OIDC_ONLY", boolean, "off", "The login page asks for no password, and passwords are taken of superusers only (at `/login/?password=1`, for the day when the provider is down).", "off", ACCOUNTS),
    Spec("EXPORT_MAX_ROWS", whole(1, 10000000), "100000", "How many emails one export as CSV has at most, the newest of them. A last line says where there were more.", "100000", SITE),
    Spec("TIME_ZONE", zone, "UTC", "Time zone of texts and reports, of days (\"today\", a filter from one day to another, a chart by days), and of times on pages for browsers without JavaScript; with it they show times in the viewer's own zone.", "Europe/London", SITE),
    Spec("LANGUAGE", choice("en", "de"), "en", "Language of what is not made for one viewer (alarms, what the worker writes down), and of pages for people whose browser asks for none that there is and who have chosen none at the foot of a page. `en` English, `de` German.", "de", SITE),
    Spec("LOG_LEVEL", choice("DEBUG", "INFO", "WARNING", "ERROR"), "INFO", "How much is logged.", "INFO", SITE),
    Spec("SANDBOX_PORT", whole(1, 65535), "8026", "Port of the local SES sandbox that `make run` starts.", "8026", SITE),
)
# fmt: on
BY_NAME = {spec.name: spec for spec in SPECS}
FILE_SUFFIX = "_FILE"
"""`SECRET_KEY_FILE` names a file that holds SECRET_KEY: how Docker, Kubernetes and systemd hand out secrets."""
NAMES: dict[str, Spec] = BY_NAME | {f"{spec.name}{FILE_SUFFIX}": spec for spec in SPECS if spec.secret}
"""Every variable that is read, with the setting that it gives."""
_FROM_FILE: set[str] = set()
"""Names that the file gave, and not the environment."""


class SettingsError(Exception):
    """One or more settings are missing or malformed; the text names each with meaning and example."""


def problem(name: str, what: str) -> str:
    """The text for one wrong setting: what is wrong, what it means, an example. Never its value."""
    spec = NAMES[name]
    if name == spec.name:
        return f"{name}: {what}.\n    Meaning: {spec.meaning}\n    Example: {name}={spec.example}"
    return (
        f"{name}: {what}.\n    Meaning: a file that holds {spec.name}. {spec.meaning}\n"
        f"    Example: {name}={file_example(spec)}"
    )


def file_example(spec: Spec) -> str:
    """Where the file of a secret might lie."""
    return f"/run/secrets/{spec.name.lower()}"


def load_env_file() -> None:
    """Read the file that OFFLOAD_ENV_FILE names, or `.env`; variables that are already set win."""
    path = Path(os.environ.get("OFFLOAD_ENV_FILE", HOME_DIR / ".env"))
    if path.is_file():
        before = {name for name in NAMES if os.environ.get(name, "").strip()}
        environ.Env.read_env(str(path), overwrite=False)
        _FROM_FILE.update(name for name in NAMES if name in os.environ and name not in before)
        for spec in SPECS:
            # The environment wins whichever of a secret's two names it uses.
            pair = {spec.name, f"{spec.name}{FILE_SUFFIX}"} if spec.secret else set()
            if pair & before:
                for name in pair & _FROM_FILE:
                    del os.environ[name]
                    _FROM_FILE.discard(name)


@dataclass(frozen=True)
class Given:
    """Where a setting's value comes from: `environment`, `file`, `secret file` or `default`.

    `raw` is never shown for secrets, and empty for those in a file of their own.
    """

    spec: Spec
    origin: str
    raw: str


def given() -> list[Given]:
    """Every setting as this process found it, in the order of the table."""
    found = []
    for spec in SPECS:
        raw = os.environ.get(spec.name, "").strip()
        origin = "file" if spec.name in _FROM_FILE else "environment"
        if not raw and spec.secret and os.environ.get(f"{spec.name}{FILE_SUFFIX}", "").strip():
            found.append(Given(spec, "secret file", ""))
            continue
        found.append(Given(spec, origin if raw else "default", raw or spec.default or ""))
    return found


def read() -> tuple[dict[str, Any], list[str]]:
    """Parse every setting.

    Returns the values by name and the list of problems found; a value with a problem is missing.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for spec in SPECS:
        # As it is: django-environ takes a value that begins with `$`, as a key may, for the name of another variable.
        raw = os.environ.get(spec.name, spec.default or "")
        if spec.secret:
            try:
                raw = _from_its_file(spec.name, raw)
            except Malformed as error:
                problems.append(problem(f"{spec.name}{FILE_SUFFIX}", str(error)))
                continue
        given = bool(raw.strip())
        if not given and spec.name in {"DATABASE_URL", "MOODLE_DATABASE_URL"}:
            values[spec.name] = None
            continue
        try:
            values[spec.name] = spec.parse(raw)
        except Malformed as error:
            problems.append(problem(spec.name, f"malformed: {error}"))
    return values, problems


def _from_its_file(name: str, raw: str) -> str:
    """The value of a secret: `raw`, or what the file holds that `<name>_FILE` names, without blanks around it.

    Raises Malformed where the file cannot be used, or where both are given: one of them would be forgotten some day.
    """
    path = os.environ.get(f"{name}{FILE_SUFFIX}", "").strip()
    if not path:
        return raw
    if raw.strip():
        raise Malformed(f"{name} is given too: keep one of the two")
    try:
        found = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise Malformed(f"the file cannot be read ({type(error).__name__})") from None
    if not found:
        raise Malformed("the file is empty")
    return found
