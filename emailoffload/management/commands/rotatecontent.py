"""`manage.py rotatecontent`: stored mails get the newest key."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Model

from emailoffload.outbox import content


class Command(BaseCommand):
    """Re-encrypt every stored mail that an older key opens."""

    help = "Encrypts stored mails anew with the first of CONTENT_KEYS, so that older keys can be removed."

    def add_arguments(self, parser: CommandParser) -> None:
        """--json."""
        parser.add_argument("--json", action="store_true", help="Print the result as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Work in small transactions; exit 1 where contents remain that no key of this host opens."""
        try:
            content.ensure_keys()
        except content.ForeignKeys as error:
            raise CommandError(str(error)) from None
        changed = sum(self._changed(model) for model in content.sealed_models())
        needed = content.forget_unused_keys()
        ours = content.key_ids()
        missing = [key for key in needed if key not in ours]
        removable = [key for key in ours if key not in needed]
        if options["json"]:
            self.stdout.write(json.dumps({"changed": changed, "missing": missing, "removable": removable}))
        else:
            self.stdout.write(
                f"{changed} stored mails and unreadable events were encrypted anew with the key {ours[0]}."
            )
            if removable:
                self.stdout.write(f"Nothing stored needs these keys any more: {', '.join(removable)}.")
        if missing:
            raise CommandError(
                f"Some stored mails or unreadable events need keys that this host does not have: {', '.join(missing)}. "
                "Add them to CONTENT_KEYS and run this again."
            )

    @staticmethod
    def _changed(model: type[Model]) -> int:
        """Re-encrypt the rows of one model; returns how many."""
        changed = last = 0
        while True:
            done, last = content.reencrypt(model, after=last)
            changed += done
            if not last:
                return changed
