"""`manage.py contentkey`: a fresh key for CONTENT_KEYS."""

from __future__ import annotations

from typing import Any

from cryptography.fernet import Fernet
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """Print a key; nothing is stored."""

    help = "Prints a fresh key. Put it first in CONTENT_KEYS, older ones behind it; then run rotatecontent."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Print one key, alone on its line."""
        self.stdout.write(Fernet.generate_key().decode())
