"""Questions about Moodle: its config.php, its database and our account there, what only config.php knows."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from emailoffload.actions.setup import configphp, databases
from emailoffload.actions.setup.databases import Address, Unusable
from emailoffload.management.asking import checked, text_or_nothing
from emailoffload.management.setup.found import look_at_site
from emailoffload.management.setup.grants import print_grants
from emailoffload.management.setup.talk import Talk
from offloadsite import env

_HOST = re.compile(r"[A-Za-z0-9_.:-]+\Z")
_NAME = re.compile(r"[^\s`/\\]{1,64}\Z")
ACCOUNT = "offload_moodle"


def ask(talk: Talk) -> None:
    """All questions about Moodle; the answers are tried at once."""
    talk.head("Moodle")
    _config_php(talk)
    address = _database(talk)
    _prefix(talk, address)
    _only_config_php_knows(talk)
    look_at_site(talk)
    _data_folder(talk)


def _config_php(talk: Talk) -> None:
    given = talk.options["from_config_php"]
    while True:
        name = talk.asker.ask(
            "Path of config.php, or of a copy",
            "Moodle's config.php knows what its database does not. It is read, never executed; Moodle's own database "
            "password is not taken over. Enter nothing to type the values yourself.",
            text_or_nothing, default="", option="--from-config-php", given=given,
        )  # fmt: skip
        if not name:
            return
        try:
            talk.config = configphp.read(Path(name).expanduser())
        except configphp.Unreadable as error:
            if given is not None or not talk.asker.interactive:
                raise CommandError(f"{error} {error.cure}", returncode=2) from error
            talk.wrong(str(error), error.cure)
            continue
        for note in talk.config.notes:
            talk.say(f"  Note: {note}")
            talk.doubts.append(f"config.php: {note}")
        if talk.config.unclear:
            talk.say(
                f"  Not readable without PHP, so asked for: {', '.join('$CFG->' + n for n in talk.config.unclear)}."
            )
        return


def host(value: str) -> str:
    """A host's name or address, or the path of a socket."""
    value = value.strip()
    if not (value.startswith("/") or _HOST.match(value)):
        raise env.Malformed("expected the name or address of a host, such as db.example.org")
    return value


def port(value: str) -> str:
    """A port's number."""
    return str(env.whole(1, 65535)(value))


def name(value: str) -> str:
    """The name of a database or an account."""
    if not _NAME.match(value.strip()):
        raise env.Malformed("expected a name without blanks")
    return value.strip()


def ask_address(
    talk: Talk, start: Address, what: str, *, kept: str, password_option: str, option: str
) -> Address:
    """Where a database is and as whom we go there, part by part."""
    place = talk.asker.ask(
        "Database host", f"The server of {what}, as this host reaches it; a path names a socket.", host,
        default=start.socket or start.host or None, option=option,
    )  # fmt: skip
    number = ""
    if not place.startswith("/"):
        number = talk.asker.ask(
            "Port",
            "3306 unless the server was set up otherwise.",
            port,
            default=start.port or "3306",
            option=option,
        )
    database = talk.asker.ask(
        "Database name", f"The name of {what}.", name, default=start.name or None, option=option
    )
    user = talk.asker.ask(
        "Account", "The name of the account of ours on that server; it need not exist yet.", name,
        default=start.user or None, option=option,
    )  # fmt: skip
    password = talk.asker.secret(
        "Password", "Its password. If the account does not exist yet, choose a long one, and use it when it is made.",
        option=password_option, file=talk.options[password_option.strip("-").replace("-", "_")], kept=kept,
    )  # fmt: skip
    is_socket = place.startswith("/")
    return Address(
        host="" if is_socket else place, port="" if number == "3306" else number, name=database, user=user,
        password=password, socket=place if is_socket else "",
    )  # fmt: skip


def _database(talk: Talk) -> Address:
    """The address of Moodle's database with an account of ours; it works, or the person goes on without."""
    file = talk.options["moodle_password_file"]
    start, kept = _start(talk)
    if talk.options["moodle_database"] is not None or not talk.asker.interactive:
        if not start.name or not start.user:
            raise CommandError(
                "--moodle-database is missing. It says where Moodle's database is and which account of ours reads it: "
                "mysql://offload_moodle@db.example.org/moodle",
                returncode=2,
            )
        password = talk.asker.secret(
            "Password", "The password of our account in Moodle's database.", option="--moodle-password-file", file=file,
            kept=kept,
        )  # fmt: skip
        address = start.with_password(password)
        _refuse_moodles_own(talk, address)
        if not _works(talk, address):
            talk.unusable(f"Moodle's database at {address.where} could not be used.")
        return address
    while True:
        address = ask_address(
            talk, start, "Moodle's database", kept=kept, password_option="--moodle-password-file",  # noqa: S106
            option="--moodle-database",
        )  # fmt: skip
        start, kept = address, address.password
        try:
            _refuse_moodles_own(talk, address)
        except CommandError as error:
            talk.say(f"  {error}")
            start, kept = replace(address, user=ACCOUNT, password=""), ""
            continue
        while not _works(talk, address):
            answer = talk.asker.choose(
                "What now", "The answers can be corrected, or tried again when the server was changed.",
                [("again", "try again"), ("correct", "enter other values"),
                 ("later", "go on without; what depends on it cannot be checked")],
                default="again", option="--moodle-database",
            )  # fmt: skip
            if answer == "correct":
                break
            if answer == "later":
                talk.unusable(f"Moodle's database at {address.where} could not be used.")
                return address
        else:
            return address


def _start(talk: Talk) -> tuple[Address, str]:
    """What is known of the address before anybody is asked, and the password."""
    config = talk.config
    given = talk.options["moodle_database"] or talk.before.get("MOODLE_DATABASE_URL", "")
    if given:
        try:
            known = Address.of(given)
        except env.Malformed as error:
            if talk.options["moodle_database"]:
                raise CommandError(f"--moodle-database: {error}.", returncode=2) from error
        else:
            kept = known.password
            old = talk.before.get("MOODLE_DATABASE_URL")
            if not kept and old:
                before = Address.of(old)
                kept = before.password if before.user == known.user else ""
            return known, kept
    start = Address(
        host=config.host, port=config.port, socket=config.socket, name=config.database, user=ACCOUNT
    )
    return start, ""


def _refuse_moodles_own(talk: Talk, address: Address) -> None:
    if address.user in {talk.config.moodle_account, "root"} - {""}:
        raise CommandError(
            f"{address.user} may do everything in Moodle's database, and ours shall not. Name an account of its own, "
            f"such as {ACCOUNT}; `setup` prints the statements that make it.",
            returncode=2,
        )


def _works(talk: Talk, address: Address) -> bool:
    """Whether Moodle's tables can be seen there; else cause, cure and statements were printed."""
    try:
        seen = databases.moodles(address)
    except Unusable as error:
        talk.wrong(str(error), error.cure)
        if error.refused:
            print_grants(talk, address)
        return False
    if not seen.prefixes:
        talk.wrong(
            f"{seen.server} at {address.where} lets {address.user} in, and no table of Moodle's can be seen in "
            f"{address.name}.",
            "Check that this is Moodle's database; if it is, the account lacks the privileges below.",
        )
        print_grants(talk, address)
        return False
    talk.say(f"  {seen.server} at {address.where}: {seen.tables} tables of {address.name} can be seen.")
    return True


def _prefix(talk: Talk, address: Address) -> None:
    try:
        found = databases.moodles(address).prefixes
    except Unusable:
        found = ()
    parse = checked("MOODLE_DB_PREFIX")

    def existing(value: str) -> str:
        value = parse(value)
        if found and value not in found:
            raise env.Malformed(f"no table of Moodle's begins with {value!r}; there are: {', '.join(found)}")
        return value

    known = talk.config.prefix
    before = talk.before.get("MOODLE_DB_PREFIX")
    default = known if known is not None else before
    if default is None or (found and default not in found):
        default = found[0] if found else "mdl_"
    talk.answers["MOODLE_DATABASE_URL"] = address.url()
    talk.answers["MOODLE_DB_PREFIX"] = talk.asker.ask(
        "Table prefix", "$CFG->prefix of config.php, the beginning of the names of all of Moodle's tables.", existing,
        default=default, option="--prefix", given=talk.options["prefix"],
    )  # fmt: skip
    database = talk.config.database
    if database and database != address.name:
        # The name of Moodle's cron lock begins with the name that Moodle uses.
        talk.answers["MOODLE_DB_NAME"] = database


def _only_config_php_knows(talk: Talk) -> None:
    config, options, answers = talk.config, talk.options, talk.answers
    answers["MOODLE_WWWROOT"] = talk.asker.ask(
        "Address of the site", "$CFG->wwwroot of config.php, exactly as it stands there: links in mails begin with it.",
        checked("MOODLE_WWWROOT"), default=talk.default("MOODLE_WWWROOT", config.wwwroot) or None, option="--wwwroot",
        given=options["wwwroot"],
    )  # fmt: skip
    answers["MOODLE_PHP_TIMEZONE"] = talk.asker.ask(
        "Time zone of PHP", "The setting date.timezone of PHP on Moodle's host; dates in mails use it where the site's "
        "own setting says 'server time zone'.",
        checked("MOODLE_PHP_TIMEZONE"), default=talk.default("MOODLE_PHP_TIMEZONE", config.timezone),
        option="--php-timezone", given=options["php_timezone"],
    )  # fmt: skip
    lock = config.lock_factory
    answers["MOODLE_LOCK_FACTORY"] = talk.asker.ask(
        "Lock factory", "$CFG->lock_factory of config.php; auto where it is not set there. It says which lock keeps "
        "Moodle's cron and us apart.",
        checked("MOODLE_LOCK_FACTORY"),
        default=_unless_unclear(talk, "lock_factory", lock or talk.default("MOODLE_LOCK_FACTORY")),
        option="--lock-factory", given=options["lock_factory"],
    )  # fmt: skip
    off = "on" if config.noemailever else talk.default("MOODLE_NOEMAILEVER")
    answers["MOODLE_NOEMAILEVER"] = talk.asker.ask(
        "Is mail switched off for ever", "$CFG->noemailever of config.php: with it Moodle sends no mail at all, and "
        "neither do we (on or off).",
        checked("MOODLE_NOEMAILEVER"), default=_unless_unclear(talk, "noemailever", off), option="--noemailever",
        given=options["noemailever"],
    )  # fmt: skip
    answers["MOODLE_FORCED_CONFIG"] = _forced(talk)


def _unless_unclear(talk: Talk, setting: str, default: str) -> str | None:
    """The default, unless config.php sets it in a way that only PHP can follow: then there is none."""
    return None if setting in talk.config.unclear else default


def _forced(talk: Talk) -> str:
    """MOODLE_FORCED_CONFIG: what config.php sets, what it said before, and what only PHP knows, asked one by one."""
    if talk.options["forced_config"] is not None:
        return talk.asker.ask(
            "",
            "",
            checked("MOODLE_FORCED_CONFIG"),
            option="--forced-config",
            given=talk.options["forced_config"],
        )
    try:
        forced: dict[str, Any] = env.json_object(talk.before.get("MOODLE_FORCED_CONFIG", "{}"))
    except env.Malformed:
        forced = {}
    forced |= talk.config.forced
    for setting in talk.config.unclear:
        if setting in configphp.OWN_SETTINGS:
            continue
        value = talk.asker.ask(
            f"$CFG->{setting}", f"config.php sets $CFG->{setting} in a way that only PHP can follow: enter the value "
            "that it has in effect, - for none.",
            text_or_nothing, default=str(forced.get(setting, "")) or None, option=f"--forced-config with {setting}",
        )  # fmt: skip
        if value:
            forced[setting] = value
    if forced:
        talk.say(f"  Taken over from config.php: {', '.join(sorted(forced))}.")
    return json.dumps(forced, ensure_ascii=False, sort_keys=True)


def _data_folder(talk: Talk) -> None:
    """Moodle's data folder, which only mails of IOMAD with attachments need."""
    given = talk.options["dataroot"]
    if not talk.iomad and given is None:
        return

    def folder(value: str) -> str:
        value = text_or_nothing(value)
        if value and not (Path(value) / "filedir").is_dir():
            raise env.Malformed(f"this host sees no folder {value}/filedir; leave it out, or correct it")
        return value

    known = talk.before.get("MOODLE_DATAROOT") or talk.config.dataroot
    visible = known if known and (Path(known) / "filedir").is_dir() else ""
    talk.answers["MOODLE_DATAROOT"] = talk.asker.ask(
        "Moodle's data folder", "$CFG->dataroot as this host sees it; without it mails of IOMAD with attachments stay "
        "with IOMAD.",
        folder, default=visible, option="--dataroot", given=given,
    )  # fmt: skip
