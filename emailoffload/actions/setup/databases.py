"""Database addresses: taken apart, put together, tried at once, with the cause and the cure in words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.db import Error, NotSupportedError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler

from offloadsite import env

_SUFFIX = "config_plugins"
"""A table that every Moodle has."""
_PROBE = "offload_setup_probe"
TO_RUN = ("SELECT", "INSERT", "UPDATE", "DELETE")
"""What web server, worker and commands need on our own database."""
TO_UPGRADE = ("CREATE", "ALTER", "DROP", "INDEX", "REFERENCES")
"""What `migrate` needs on it beside that."""


class Unusable(Exception):
    """The database cannot be used as it was named; the text is the cause, `cure` what to do.

    `refused` is True where the server answered and does not take the account: then statements make it.
    """

    def __init__(self, text: str, cure: str, *, refused: bool = False) -> None:
        super().__init__(text)
        self.cure = cure
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Address:
    """Where a MariaDB or MySQL database is, and as whom we go there. `host` is '' with a socket."""

    host: str = ""
    port: str = ""
    name: str = ""
    user: str = ""
    password: str = ""
    socket: str = ""

    def __repr__(self) -> str:
        return f"Address({self.where}/{self.name} as {self.user})"

    @classmethod
    def of(cls, url: str) -> Address:
        """The parts of an address such as `mysql://offload:secret@db.example.org:3306/moodle`. Raises Malformed."""
        config: dict[str, Any] = env.BY_NAME["MOODLE_DATABASE_URL"].parse(url)
        if not str(config["ENGINE"]).endswith("mysql"):
            raise env.Malformed("expected an address that starts with mysql://")
        socket = str(config.get("OPTIONS", {}).get("unix_socket", ""))
        host = str(config["HOST"])
        # An address whose host is a path names a socket.
        return cls(
            host="" if socket else host,
            port=str(config["PORT"] or ""),
            name=str(config["NAME"]),
            user=str(config["USER"]),
            password=str(config["PASSWORD"]),
            socket=socket,
        )

    @property
    def where(self) -> str:
        """The server, for people."""
        return self.socket or f"{self.host or 'localhost'}{':' + self.port if self.port else ''}"

    def with_password(self, password: str) -> Address:
        """The same with another password."""
        return replace(self, password=password)

    def url(self) -> str:
        """The address as a setting: whatever stands in its parts, it is read back as it is."""
        account = quote(self.user, safe="") + (f":{quote(self.password, safe='')}" if self.password else "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = "localhost" if self.socket else f"{host or 'localhost'}{':' + self.port if self.port else ''}"
        # The name and the options are unquoted as forms are: a plus would become a blank.
        address = f"mysql://{account}@{place}/{quote(self.name, safe='')}"
        return f"{address}?unix_socket={quote(self.socket, safe='')}" if self.socket else address

    def same_place(self, other: Address) -> bool:
        """Whether both name the same database of the same server, as far as names tell."""

        def place(address: Address) -> tuple[str, str, str]:
            host = address.socket or address.host or "localhost"
            return (
                "localhost" if host == "127.0.0.1" else host.lower(),
                address.port or "3306",
                address.name,
            )

        return place(self) == place(other)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found behind an address that works."""

    server: str
    prefixes: tuple[str, ...] = ()
    """Prefixes under which Moodle's tables can be seen."""
    tables: int = 0
    charset: str = ""


def moodles(address: Address) -> Seen:
    """Look at the database that is to be Moodle's. Raises Unusable."""
    connection = _connect(address)
    try:
        names = [name for (name,) in _rows(connection, "SELECT DISTINCT table_name FROM information_schema.columns"
                                           " WHERE table_schema = DATABASE()")]  # fmt: skip
        prefixes = sorted(name[: -len(_SUFFIX)] for name in names if name.endswith(_SUFFIX))
        return Seen(_server(connection), tuple(prefixes), len(names))
    except Error as error:
        raise _translated(error, address) from error
    finally:
        connection.close()


def ours(address: Address) -> Seen:
    """Look at the database that is to be our own, and make and drop a table in it. Raises Unusable."""
    connection = _connect(address)
    try:
        names = [name for (name,) in _rows(connection, "SELECT table_name FROM information_schema.tables"
                                           " WHERE table_schema = DATABASE()")]  # fmt: skip
        if any(name.endswith(_SUFFIX) for name in names):
            raise Unusable(
                f"{address.name} on {address.where} is Moodle's own database: nothing of ours belongs into it.",
                "Name a database of our own; it may be on the same server.",
            )
        charset = str(_rows(connection, "SELECT @@character_set_database")[0][0])
        if not charset.startswith("utf8mb4"):
            raise Unusable(
                f"The database {address.name} stores text as {charset}, which cannot hold all names that people have.",
                f"Have it changed: ALTER DATABASE `{address.name}` CHARACTER SET utf8mb4;",
            )
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE IF NOT EXISTS {_PROBE} (id INT)")
            cursor.execute(f"DROP TABLE {_PROBE}")
        return Seen(_server(connection), (), len(names), charset)
    except Error as error:
        raise _translated(error, address) from error
    finally:
        connection.close()


def sqlite(url: str) -> None:
    """Whether an SQLite database of our own can be made there. Raises Unusable and Malformed."""
    path = Path(str(env.BY_NAME["DATABASE_URL"].parse(url)["NAME"]))
    if not path.is_absolute():
        raise env.Malformed("expected an absolute path: sqlite:////var/lib/email-offload/offload.sqlite3")
    if not path.parent.is_dir():
        raise Unusable(f"The folder {path.parent} does not exist.", "Make it, or name another one.")


def statements_for_ours(address: Address, client: str) -> list[str]:
    """What the administrator of the server executes so that our database and its account exist.

    The password is a placeholder: it is not for the screen.
    """
    account = f"'{address.user}'@'{client}'"
    # In GRANT the name is a pattern.
    pattern = address.name.replace("_", r"\_").replace("%", r"\%")
    return [
        f"CREATE DATABASE IF NOT EXISTS `{address.name}` CHARACTER SET utf8mb4;",
        f"CREATE USER {account} IDENTIFIED BY 'the password that you enter here';",
        grant(f"`{pattern}`", account) + ";",
    ]


def grant(database: str, account: str, *, to_upgrade: bool = True) -> str:
    """The statement that gives an account what it needs on our own database, both as SQL names them.

    `to_upgrade`: with what `migrate` needs. No other privilege is needed by anything (docs/security.md).
    """
    privileges = TO_RUN + TO_UPGRADE if to_upgrade else TO_RUN
    return f"GRANT {', '.join(privileges)} ON {database}.* TO {account}"


def _connect(address: Address) -> BaseDatabaseWrapper:
    options: dict[str, Any] = {"charset": "utf8mb4", "connect_timeout": 5, "read_timeout": 20}
    if address.socket:
        options["unix_socket"] = address.socket
    config = {
        "ENGINE": "django.db.backends.mysql", "NAME": address.name, "USER": address.user,
        "PASSWORD": address.password, "HOST": address.host, "PORT": address.port, "OPTIONS": options,
    }  # fmt: skip
    connection: BaseDatabaseWrapper = ConnectionHandler({"default": config})["default"]
    try:
        connection.ensure_connection()
    except NotSupportedError as error:
        connection.close()
        raise Unusable(
            f"The database server on {address.where} is too old.",
            "MariaDB 10.5, MySQL 8.0.11 or newer is needed.",
        ) from error
    except Error as error:
        connection.close()
        raise _translated(error, address) from error
    return connection


def _rows(connection: BaseDatabaseWrapper, sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def _server(connection: BaseDatabaseWrapper) -> str:
    version = str(_rows(connection, "SELECT VERSION()")[0][0])
    return f"{'MariaDB' if 'mariadb' in version.lower() else 'MySQL'} {version.split('-', 1)[0]}"


_REFUSED = {1045, 1698, 1251, 2059, 1820, 1862, 1130}


def _translated(error: Error, address: Address) -> Unusable:
    """An error of the server in words (the numbers are MySQL's and MariaDB's); never with a password."""
    number = error.args[0] if error.args and isinstance(error.args[0], int) else None
    where, name, user = address.where, address.name, address.user
    if number == 2005:
        return Unusable(
            f"There is no host {address.host}.", "Correct the host's name, or use its IP address."
        )
    if number in {2002, 2003}:
        return Unusable(
            f"Nothing answers at {where} (error {number}).",
            "Check host and port, that the server runs, that it listens on more than its own host (bind-address), and "
            "that no firewall is between.",
        )
    if number in _REFUSED:
        return Unusable(
            f"The server at {where} does not let {user} in (error {number}).",
            "Correct name and password; or the account does not exist yet for the address of this host: the "
            "statements below make it.",
            refused=True,
        )
    if number in {1044, 1049}:
        return Unusable(
            f"There is no database {name} at {where}, or {user} may not see it (error {number}).",
            "Correct the database's name; or have it made, with the privileges, by the statements below.",
            refused=True,
        )
    if number in {1142, 1143, 1227, 1370}:
        return Unusable(
            f"{user} may not do what is needed in {name} (error {number}).",
            "Have the statements below executed by the administrator of the server.",
            refused=True,
        )
    detail = f"error {number}" if number else type(error).__name__
    return Unusable(
        f"The database at {where} cannot be used ({detail}).",
        "Look the number up in the manual of MariaDB or MySQL, and into the server's log.",
    )
