"""Keys that a site may leave to us: generated once, kept in the data folder, readable by its owner only."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.fernet import Fernet
from django.core.management.utils import get_random_secret_key

from offloadsite import env

SECRET_LENGTH = 32
"""Characters that a signing key has at least."""


def _stored(path: Path, fresh: str) -> str:
    """The content of `path`; created with `fresh` (mode 0600) by the first process that asks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    if not path.exists():
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(fresh)
        try:
            os.link(temporary, path)  # fails if another process was first: its key stays
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    return path.read_text().strip()


def secret_key(given: str, data_dir: Path) -> tuple[str, str | None]:
    """Django's SECRET_KEY, and what is wrong with it if it cannot be used."""
    if given:
        return given, None if len(given) >= SECRET_LENGTH else env.problem(
            "SECRET_KEY", f"too short: use {SECRET_LENGTH} characters or more"
        )
    try:
        return _stored(data_dir / "secret.key", get_random_secret_key()), None
    except OSError as error:
        return "", env.problem("OFFLOAD_DATA_DIR", f"a key cannot be kept there ({error.strerror})")


def former_secret_keys(given: list[str]) -> tuple[list[str], str | None]:
    """Django's SECRET_KEY_FALLBACKS, and what is wrong with them if they cannot be used."""
    if all(len(key) >= SECRET_LENGTH for key in given):
        return given, None
    return [], env.problem("SECRET_KEY_FALLBACKS", f"too short: each was {SECRET_LENGTH} characters or more")


def content_keys(given: list[str], data_dir: Path) -> tuple[list[str], str | None]:
    """The keys of stored mails, newest first, and what is wrong with them if they cannot be used."""
    try:
        keys = given or _stored(data_dir / "content.key", Fernet.generate_key().decode()).split(",")
    except OSError as error:
        return [], env.problem("OFFLOAD_DATA_DIR", f"a key cannot be kept there ({error.strerror})")
    for key in keys:
        try:
            Fernet(key.encode())
        except ValueError:
            return [], env.problem("CONTENT_KEYS", "malformed: each key is 32 bytes in URL-safe base64")
    return keys, None
