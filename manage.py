#!/usr/bin/env python3
"""The command line of Email Offload."""

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

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
