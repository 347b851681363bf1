"""Which version this is. pyproject.toml is the one place that says it."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import metadata

from django.conf import settings

UNKNOWN = "unknown"


@cache
def current() -> str:
    """The version of the code that runs, such as 0.2.0.

    A checkout and the image have pyproject.toml beside the code, and need not be an installed package: what an
    environment knows of an earlier installation would be wrong. A wheel has its own record.
    """
    project = settings.BASE_DIR / "pyproject.toml"
    if project.is_file():
        return str(tomllib.loads(project.read_text())["project"]["version"])
    try:
        return metadata.version("email-offload")
    except metadata.PackageNotFoundError:
        return UNKNOWN
