"""Questions about our own side: keys, data folder, database, the dashboard's address."""

from __future__ import annotations

import secrets
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from django.core.management.base import CommandError

from emailoffload.actions.setup import databases
from emailoffload.actions.setup.databases import Address, Unusable
from emailoffload.management.asking import checked, text_or_nothing
from emailoffload.management.setup.grants import client_of
from emailoffload.management.setup.moodle import ask_address
from emailoffload.management.setup.talk import Talk
from offloadsite import env


def keys(talk: Talk) -> None:
    """The secrets: those that there are, also in the data folder, since mails were stored with them; else fresh."""
    folder = Path(talk.options["data_dir"] or talk.before.get("OFFLOAD_DATA_DIR") or env.HOME_DIR / "var")
    talk.answers["SECRET_KEY"] = (
        talk.before.get("SECRET_KEY") or _stored(folder / "secret.key") or secrets.token_urlsafe(50)
    )
    talk.answers["CONTENT_KEYS"] = (
        talk.before.get("CONTENT_KEYS") or _stored(folder / "content.key") or Fernet.generate_key().decode()
    )


def _stored(path: Path) -> str:
    try:
        found = path.read_text().strip()
    except OSError:
        return ""
    return "" if found.startswith("$") else found


def ask_database(talk: Talk) -> None:
    """Where our own tables are."""
    talk.head("Our own database")
    given = talk.options["database"] or talk.before.get("DATABASE_URL", "")
    if talk.options["database"] is None and talk.asker.interactive:
        kind = talk.asker.choose(
            "Kind", "Where emails, their states and the audit log are kept.",
            [("mariadb", "MariaDB or MySQL, for every real site"), ("sqlite", "a file, for one host and a small site")],
            default="sqlite" if given.startswith("sqlite") else "mariadb", option="--database",
        )  # fmt: skip
        talk.answers["DATABASE_URL"] = _sqlite(talk, given) if kind == "sqlite" else _server(talk, given)
        return
    if given.startswith("sqlite"):
        _judge_sqlite(given)
        talk.answers["DATABASE_URL"] = given
        return
    if not given:
        raise CommandError(
            "--database is missing. It says where our own tables go: mysql://offload@db.example.org/offload, or "
            "sqlite:////var/lib/email-offload/offload.sqlite3 on a small site.",
            returncode=2,
        )
    address, kept = _known(talk, given)
    password = talk.asker.secret(
        "Password", "The password of the account of our own database.", option="--database-password-file",
        file=talk.options["database_password_file"], kept=kept,
    )  # fmt: skip
    address = address.with_password(password)
    _refuse_moodles(talk, address)
    if not _works(talk, address):
        talk.unusable(f"Our own database at {address.where} could not be used.")
    talk.answers["DATABASE_URL"] = address.url()


def _known(talk: Talk, given: str) -> tuple[Address, str]:
    try:
        known = Address.of(given)
    except env.Malformed as error:
        if talk.options["database"] is not None or not talk.asker.interactive:
            raise CommandError(f"--database: {error}.", returncode=2) from error
        return Address(), ""
    old = talk.before.get("DATABASE_URL", "")
    if known.password or not old.startswith("mysql"):
        return known, known.password
    before = Address.of(old)
    return known, before.password if before.user == known.user else ""


def _server(talk: Talk, given: str) -> str:
    moodles = Address.of(talk.answers["MOODLE_DATABASE_URL"])
    start, kept = (
        _known(talk, given)
        if given.startswith("mysql")
        else (Address(moodles.host, moodles.port, "offload", "offload", socket=moodles.socket), "")
    )
    while True:
        address = ask_address(
            talk, start, "our own database", kept=kept, password_option="--database-password-file",  # noqa: S106
            option="--database",
        )  # fmt: skip
        start, kept = address, address.password
        try:
            _refuse_moodles(talk, address)
        except CommandError as error:
            talk.say(f"  {error}")
            continue
        while not _works(talk, address):
            answer = talk.asker.choose(
                "What now", "The answers can be corrected, or tried again when the server was changed.",
                [("again", "try again"), ("correct", "enter other values"), ("later", "go on without")],
                default="again", option="--database",
            )  # fmt: skip
            if answer == "correct":
                break
            if answer == "later":
                talk.unusable(f"Our own database at {address.where} could not be used.")
                return address.url()
        else:
            return address.url()


def _refuse_moodles(talk: Talk, address: Address) -> None:
    if address.same_place(Address.of(talk.answers["MOODLE_DATABASE_URL"])):
        raise CommandError(
            f"{address.name} at {address.where} is Moodle's database. Nothing of ours belongs into it: name a database "
            "of our own, such as offload on the same server.",
            returncode=2,
        )


def _works(talk: Talk, address: Address) -> bool:
    try:
        seen = databases.ours(address)
    except Unusable as error:
        talk.wrong(str(error), error.cure)
        if error.refused:
            lines = databases.statements_for_ours(address, client_of(address))
            talk.say("\nStatements for the administrator of that server:\n\n" + "\n".join(lines) + "\n")
        return False
    state = f"{seen.tables} tables are in it" if seen.tables else "it is empty"
    talk.say(f"  {seen.server} at {address.where}: tables can be made in {address.name}; {state}.")
    return True


def _sqlite(talk: Talk, given: str) -> str:
    def parse(value: str) -> str:
        try:
            databases.sqlite(value)
        except Unusable as error:
            raise env.Malformed(f"{error} {error.cure}".rstrip(".")) from error
        return value

    default = given if given.startswith("sqlite") else "sqlite:////var/lib/email-offload/offload.sqlite3"
    return talk.asker.ask(
        "Address of the file", "sqlite:// and the absolute path of the file, in a folder that is backed up.", parse,
        default=default, option="--database",
    )  # fmt: skip


def _judge_sqlite(given: str) -> None:
    try:
        databases.sqlite(given)
    except (Unusable, env.Malformed) as error:
        cure = getattr(error, "cure", "")
        raise CommandError(f"--database: {error} {cure}".strip(), returncode=2) from error


def ask_host(talk: Talk) -> None:
    """The data folder, and how people reach the dashboard."""
    talk.head("This host and the dashboard")
    options, answers = talk.options, talk.answers

    def folder(value: str) -> str:
        value = text_or_nothing(value)
        if value and not Path(value).is_absolute():
            raise env.Malformed("expected an absolute path, such as /var/lib/email-offload")
        return value

    answers["OFFLOAD_DATA_DIR"] = talk.asker.ask(
        "Data folder", "For what must survive a restart and is in no database; the service's user must own it.", folder,
        default=talk.default("OFFLOAD_DATA_DIR", "/var/lib/email-offload"), option="--data-dir",
        given=options["data_dir"],
    )  # fmt: skip
    if answers["OFFLOAD_DATA_DIR"] and not Path(answers["OFFLOAD_DATA_DIR"]).is_dir():
        talk.doubts.append(
            f"The folder {answers['OFFLOAD_DATA_DIR']} does not exist yet: install -d -o offload -g offload -m 750 "
            f"{answers['OFFLOAD_DATA_DIR']}"
        )
    hosts = talk.before.get("ALLOWED_HOSTS", "").split(",")[0]
    host = talk.asker.ask(
        "Host name of the dashboard", "The name in its address, without https://; localhost while only this host "
        "reaches it.",
        _host_name, default=hosts or _of_url(talk.before.get("DASHBOARD_URL", "")) or "localhost", option="--host",
        given=options["host"],
    )  # fmt: skip
    local = host in {"localhost", "127.0.0.1"}
    secure = talk.asker.ask(
        "Is it reached by https only", "The dashboard shows who was mailed what: on a real host your web server speaks "
        "https and passes requests on (on or off).",
        checked("SECURE_HTTPS"), default=talk.before.get("SECURE_HTTPS") or ("off" if local else "on"),
        option="--https", given=options["https"],
    )  # fmt: skip
    answers["SECURE_HTTPS"] = "on" if env.boolean(secure) else "off"
    # The health check of the container and of a proxy on this host asks by the local name.
    answers["ALLOWED_HOSTS"] = ",".join(dict.fromkeys([host, *_more_hosts(talk, host)]))
    if local:
        return
    scheme = "https" if answers["SECURE_HTTPS"] == "on" else "http"
    answers["DASHBOARD_URL"] = f"{scheme}://{host}"
    if scheme == "https":
        answers["CSRF_TRUSTED_ORIGINS"] = f"https://{host}"
        answers["TRUSTED_PROXIES"] = talk.asker.ask(
            "Proxies in front", "How many of your own web servers or load balancers a request passes, each of which "
            "adds to X-Forwarded-For; logins are counted by the address that this shows.",
            checked("TRUSTED_PROXIES"), default=talk.before.get("TRUSTED_PROXIES") or "1", option="--proxies",
            given=options["proxies"],
        )  # fmt: skip


def _more_hosts(talk: Talk, host: str) -> list[str]:
    before = [name for name in talk.before.get("ALLOWED_HOSTS", "").split(",") if name]
    return [*(before[1:] if before and before[0] == host else []), "localhost", "127.0.0.1"]


def _host_name(value: str) -> str:
    value = value.strip().lower().rstrip("/")
    value = _of_url(value) or value
    if not value or any(char.isspace() or char in "/,:'\"*" for char in value):
        raise env.Malformed("expected a host name such as offload.example.org, without port and path")
    return value


def _of_url(value: str) -> str:
    return urlsplit(value).hostname or "" if "://" in value else ""
