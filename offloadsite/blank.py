"""Starts `manage.py setup` while the settings are missing, half done or wrong: they are put aside.

Only names of `env.NAMES` are touched. Nothing is read from the environment file, no key is generated and no folder is
made: what the settings need gets placeholders that lead nowhere.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.fernet import Fernet

from offloadsite import env

PUT_ASIDE: dict[str, str] = {}
"""Settings that this process was given in its environment."""
_begun = False


def begin() -> None:
    """Put the settings aside. Called by manage.py before Django reads them."""
    global _begun
    _begun = True
    for name in env.NAMES:
        if name in os.environ:
            PUT_ASIDE[name] = os.environ.pop(name)
    if "OFFLOAD_ENV_FILE" in os.environ:
        PUT_ASIDE["OFFLOAD_ENV_FILE"] = os.environ["OFFLOAD_ENV_FILE"]
    os.environ.update(
        OFFLOAD_ENV_FILE=os.devnull,
        SECRET_KEY=secrets.token_urlsafe(48),
        CONTENT_KEYS=Fernet.generate_key().decode(),
        # Not the sample site: it would set the address and the credentials of a local SES.
        MOODLE_DATABASE_URL="sqlite:////nowhere/moodle",
        MOODLE_WWWROOT="https://moodle.invalid",
        DATABASE_URL="sqlite:////nowhere/offload",
    )


def env_file() -> Path:
    """The environment file that the product reads here."""
    given = PUT_ASIDE.get("OFFLOAD_ENV_FILE") if _begun else os.environ.get("OFFLOAD_ENV_FILE")
    return Path(given or env.HOME_DIR / ".env")


def environment(file: Path) -> dict[str, str]:
    """The environment of a process that takes its settings from `file` and from nowhere else."""
    rest = {name: value for name, value in os.environ.items() if name not in env.NAMES}
    return {**rest, "OFFLOAD_ENV_FILE": str(file)}
