"""The statements for our account in Moodle's database, printed where somebody has to execute them."""

from __future__ import annotations

import socket

from emailoffload.actions.setup.databases import Address
from emailoffload.management.setup.talk import Talk


def print_grants(talk: Talk, address: Address) -> None:
    """Print the statements for our account in Moodle's database, made by `moodlegrants`; they hold no password."""
    prefix = talk.options["prefix"] or talk.config.prefix or talk.default("MOODLE_DB_PREFIX")
    done = talk.command(
        "moodlegrants", "--account", f"'{address.user}'@'{client_of(address)}'",
        **{**talk.answers, "MOODLE_DATABASE_URL": address.url(), "MOODLE_DB_PREFIX": prefix,
           "MOODLE_WWWROOT": "https://moodle.invalid"},
    )  # fmt: skip
    if done.status:
        talk.wrong("The statements could not be made.", done.err.strip() or "Run manage.py moodlegrants.")
        return
    talk.say(
        "\nStatements for the administrator of Moodle's database. The account needs the password that you entered; "
        "the part after @ is where the server sees this host.\n\n" + done.out.strip() + "\n"
    )


def client_of(address: Address) -> str:
    """From where the server sees this host: our address on the way to it, else anywhere."""
    if address.socket or address.host in {"localhost", "127.0.0.1", "::1", ""}:
        return "localhost"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # Nothing is sent: this only chooses the way.
            probe.connect((address.host, int(address.port or 3306)))
            return str(probe.getsockname()[0])
    except OSError:
        return "%"
