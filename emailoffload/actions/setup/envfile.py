"""The environment file: read as the product reads it, changed in place, written whole or not at all."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import environ

from offloadsite import env

_SAFE: Final = re.compile(r"[A-Za-z0-9_./:@%+,=?&~-]+\Z")
_LINE: Final = re.compile(r"\A(?:export )?([A-Za-z_0-9]+)=")
SECRETS: Final = frozenset(spec.name for spec in env.SPECS if spec.secret) | {
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
}  # fmt: skip
"""Variables whose values are never shown."""
HEADER: Final = """\
# Settings of Email Offload, written by `manage.py setup`. docs/settings.md has all there are.
# Back this file up and let nobody else read it: without CONTENT_KEYS a stored mail cannot be read.
"""


class Unwritable(Exception):
    """The file cannot be read or written; the text is the cause, `cure` what to do."""

    def __init__(self, text: str, cure: str) -> None:
        super().__init__(text)
        self.cure = cure


@dataclass(frozen=True, slots=True)
class Change:
    """A variable that the file will say otherwise; a value of None is not there."""

    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.name in SECRETS:
            return f"{self.name}: {'new' if self.before is None else 'another one'} (not shown)"
        if self.before is None:
            return f"{self.name}: {self.after}"
        return f"{self.name}: {self.before or '(empty)'} → {self.after or '(empty)'}"


def read(path: Path) -> tuple[str, dict[str, str]]:
    """The file's text and its variables, as the product would take them; nothing where there is none.

    Raises Unwritable where it is there and cannot be read.
    """
    if not path.exists():
        return "", {}
    if not path.is_file():
        raise Unwritable(f"{path} is no file.", "Name a file with --output.")
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Unwritable(
            f"{path} cannot be read ({type(error).__name__}).",
            "Run this as the user that the file belongs to, or name another one with --output.",
        ) from error
    found: dict[str, str] = {}
    reader: Any = type("Reader", (environ.Env,), {"ENVIRON": found})
    reader.read_env(str(path), overwrite=True)
    return text, found


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    """What `after` says otherwise than `before`; variables that it does not name stay."""
    return [
        Change(name, before.get(name), value) for name, value in after.items() if before.get(name) != value
    ]


def merged(text: str, values: Mapping[str, str]) -> str:
    """The file's text with these values: lines in place, new ones at the end, each below what it means."""
    left = dict(values)
    lines: list[str] = []
    for line in text.splitlines() or HEADER.splitlines():
        found = _LINE.match(line)
        if found and found[1] in values:
            # Where a variable is set twice, the last line counts: only one is kept.
            if found[1] in left:
                lines.append(f"{found[1]}={quoted(left.pop(found[1]))}")
            continue
        lines.append(line)
    section = ""
    for name in _in_order(left):
        spec = env.BY_NAME.get(name)
        if (spec.section if spec else "Amazon SES") != section:
            section = spec.section if spec else "Amazon SES"
            lines += ["", f"# --- {section} ---"]
        lines.append(f"{name}={quoted(left[name])}")
    return "\n".join(lines) + "\n"


def _in_order(names: Iterable[str]) -> list[str]:
    places = {spec.name: place for place, spec in enumerate(env.SPECS)}
    sections = list(dict.fromkeys(spec.section for spec in env.SPECS))

    def rank(name: str) -> tuple[int, int, str]:
        spec = env.BY_NAME.get(name)
        return sections.index(spec.section if spec else env.SES), places.get(name, len(places)), name

    return sorted(names, key=rank)


def quoted(value: str) -> str:
    """A value as the file takes it, so that systemd and Docker Compose read the same.

    Raises env.Malformed for what no line can hold.
    """
    if "\n" in value or "\r" in value or "\0" in value:
        raise env.Malformed("expected one line")
    if value.startswith("$"):
        raise env.Malformed("expected a value that does not begin with $, which would name another variable")
    if not value or _SAFE.match(value):
        return value
    if "'" not in value and not value.startswith('"'):
        return f"'{value}'"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write(path: Path, text: str) -> None:
    """Put the text in place of the file, readable by its owner only: whole, or not at all. Raises Unwritable."""
    target = Path(os.path.realpath(path))
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(file.fileno(), 0o600)
            if target.exists() and os.geteuid() == 0:
                owner = target.stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise Unwritable(
            f"{path} cannot be written ({error.strerror}).",
            f"Make the folder {target.parent} and let this user write to it, or name another file with --output.",
        ) from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
