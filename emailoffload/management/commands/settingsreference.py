"""`manage.py settingsreference`: writes docs/settings.md from the table of settings, or checks it."""

from __future__ import annotations

from argparse import ArgumentParser
from itertools import groupby
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from offloadsite import env

PAGE = env.BASE_DIR / "docs" / "settings.md"
_HEAD = """# Settings

<!-- Made by `manage.py settingsreference` from offloadsite/env.py: change it there. -->

Settings are environment variables. They may also stand in a file, one `NAME=value` a line: `.env` beside
`manage.py`, or the file that `OFFLOAD_ENV_FILE` names. The environment wins over the file. Every command
checks all of them when it starts; one that is missing or malformed is named with its meaning and an example,
never with its value. Where the wheel is installed there is no `manage.py`: the command is `email-offload`, and `.env`
and `var` are looked for in the current folder.

A secret may lie in a file of its own: `SECRET_KEY_FILE` names the file that holds `SECRET_KEY`, and so on for every
setting that is marked as a secret. Blanks and line ends around the value do not count. A setting that is given both
ways is refused.

Two are enough to point the product at a real site: `MOODLE_DATABASE_URL` and `MOODLE_WWWROOT`. Without
`MOODLE_DATABASE_URL` everything works on the sample Moodle and the local SES.

In database addresses, characters such as `@`, `/` or `%` in a password are percent-encoded (`@` is `%40`).
A socket is given as `?unix_socket=/run/mysqld/mysqld.sock`.
"""
_AWS = """
## The AWS SDK's own variables

Credentials and region are read by the AWS SDK itself, in its usual order: environment, shared configuration
files, container or instance role. [install.md](install.md) lists the few SES permissions that are needed.

| Variable | Meaning |
|---|---|
| `AWS_REGION` or `AWS_DEFAULT_REGION` | Region of the SES account. |
| `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` | Credentials, where no role gives them. |
| `AWS_PROFILE` | A profile of the shared configuration files. |
| `AWS_ENDPOINT_URL_SESV2` | Another endpoint: a VPC endpoint, or the local SES sandbox. |
| `AWS_ENDPOINT_URL_SQS` | The same for the queue of SES's events. |
"""


def page() -> str:
    """The text of docs/settings.md: every setting with default, example and meaning, by section.

    It shows what the code says and never what is set, so that it can be published.
    """
    parts = [_HEAD]
    for section, specs in groupby(sorted(env.SPECS, key=lambda spec: _order(spec.section)), _section):
        parts.append(f"\n## {section}\n")
        for spec in specs:
            default = f"`{spec.default}`" if spec.default else "none"
            secret = (
                f" It is a secret; `{spec.name}{env.FILE_SUFFIX}` may name a file that holds it."
                if spec.secret
                else ""
            )
            parts.append(
                f"\n### {spec.name}\n\n{spec.meaning}{secret}\n\n"
                f"Default: {default}. Example: `{spec.name}={spec.example}`\n"
            )
    return "".join([*parts, _AWS])


def _section(spec: env.Spec) -> str:
    return spec.section


def _order(section: str) -> int:
    """Sections in the order of their first setting."""
    return [spec.section for spec in env.SPECS].index(section)


class Command(BaseCommand):
    """Writes docs/settings.md; with --check, says whether it is up to date."""

    help = "Write docs/settings.md from the table of settings, or check that it is up to date."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Accept --check."""
        parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where it differs")

    def handle(self, *args: Any, check: bool, **options: Any) -> None:
        """Write or compare the page."""
        text = page()
        if check:
            if not PAGE.is_file() or PAGE.read_text() != text:
                raise CommandError("docs/settings.md is out of date. Run `manage.py settingsreference`.")
        else:
            PAGE.write_text(text)
            self.stdout.write("docs/settings.md written.")
