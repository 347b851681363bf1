"""The command line: `manage.py` in a checkout, `email-offload` where the wheel is installed."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run a management command; a setting that is wrong is named in words, not in a traceback."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "offloadsite.settings")
    if sys.argv[1:2] == ["setup"] and "--look" not in sys.argv:
        from offloadsite import blank

        blank.begin()  # it makes the settings, so it starts without them
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    if sys.argv[1:] in (["--version"], ["version"]):
        import django

        from emailoffload import version

        print(f"Email Offload {version.current()} (Django {django.get_version()})")
        return
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


def command(*arguments: str) -> list[str]:
    """How to start one of our commands in a process of its own, whatever the current folder."""
    from offloadsite import env

    here = ["-m", "offloadsite"] if env.FROM_WHEEL else [str(env.BASE_DIR / "manage.py")]
    return [sys.executable, *here, *arguments]
