"""`manage.py person`: everything that is held about one user of Moodle, as JSON or erased."""

from __future__ import annotations

import getpass
import json
import os
from typing import Any

from django.core.management.base import CommandError, CommandParser

from emailoffload.actions import person, person_export
from emailoffload.management.reporting import ReportingCommand


class Command(ReportingCommand):
    """Export or erase what is held about one person."""

    needs_our_database = True
    help = (
        "Export everything that is held about one user of Moodle as JSON, or erase it. Without --yes an erasure only "
        "says what would go."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument("do", choices=["export", "erase"])
        parser.add_argument("user", type=int, help="the user's id in Moodle")
        parser.add_argument(
            "--address",
            action="append",
            default=[],
            help="an address of theirs that is not known here; may be given several times",
        )
        parser.add_argument("--reason", default="", help="who asked for it and when; kept in the audit log")
        parser.add_argument("--yes", action="store_true", help="really erase")
        parser.add_argument("--output", default="", help="file for the export; without it: standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it; exit status 1 where something could not be erased yet."""
        really = options["do"] == "export" or options["yes"]
        if options["user"] < 1:
            raise CommandError("A user's id is a number from 1 on.", returncode=2)
        if really and not options["reason"].strip():
            raise CommandError("Say who asked for it and when with --reason.", returncode=2)
        about = {"also": options["address"]}
        why = about | {"actor": f"command line ({getpass.getuser()})", "reason": options["reason"]}
        if options["do"] == "export":
            self._export(options["user"], options["output"], why)
        elif options["yes"]:
            self._erase(options["user"], options["json"], why)
        else:
            self._show(options["user"], options["json"], about)

    def _export(self, user_id: int, output: str, why: dict[str, Any]) -> None:
        text = json.dumps(person_export.export(user_id, **why), ensure_ascii=False, indent=2, default=str)
        if not output:
            self.stdout.write(text)
            return
        try:
            # Readable by its owner only: it holds what the dashboard shows to few.
            with open(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text + "\n")
        except OSError as error:
            raise CommandError(f"{output} cannot be written: {error.strerror}.") from None
        self.stdout.write(
            f"Written to {output}, readable by you only. Delete it when it has been handed over."
        )

    def _show(self, user_id: int, as_json: bool, about: dict[str, Any]) -> None:
        found = person.summary(user_id, **about)
        lines = [f"About user {user_id} is held:"]
        lines += [f"  {name.replace('_', ' ')}: {number}" for name, number in found.numbers.items() if number]
        if found.nothing:
            lines = [f"Nothing is held about user {user_id}."]
        if found.own:
            lines.append(f"Found by: {', '.join(found.own)}")
        if found.shared:
            lines.append(f"Left alone, other users have it too: {', '.join(found.shared)}")
        if not found.asked_moodle:
            lines.append("Moodle's database did not answer: its address of today is not among these.")
        if found.to_stop:
            lines.append(f"{found.to_stop} mails that wait, failed or are uncertain would be stopped.")
        if found.moving:
            lines.append(f"{found.moving} mails are being sent now and would stay until the next time.")
        if found.barred:
            lines.append(f"{found.barred} suppressed addresses would stay on the list, alone.")
        if found.erased_at:
            lines.append(f"Erased before, at {found.erased_at:%Y-%m-%d %H:%M} UTC.")
        if not found.nothing:
            lines.append("Nothing was changed. To erase: the same with --yes and --reason.")
        result = {
            "user_id": user_id, "erased": False, "held": dict(found.numbers), "addresses": list(found.own),
            "shared_addresses": list(found.shared), "would_stop": found.to_stop, "moving": found.moving,
            "suppressed": found.barred, "erased_at": found.erased_at,
        }  # fmt: skip
        self.report(result, "\n".join(lines), as_json=as_json)

    def _erase(self, user_id: int, as_json: bool, why: dict[str, Any]) -> None:
        done = person.erase(user_id, **why)
        lines = [f"Erased of user {user_id}:"]
        lines += [f"  {name.replace('_', ' ')}: {number}" for name, number in done.erased.items() if number]
        if not any(done.erased.values()):
            lines = [f"There was nothing to erase of user {user_id}."]
        if done.stopped:
            lines.append(f"{done.stopped} mails were stopped before.")
        if done.kept:
            lines.append(f"{len(done.kept)} suppressed addresses stay: {person.KEPT['suppressed']}")
        if done.waiting:
            lines.append(f"{len(done.waiting)} mails could not be touched yet: {person.KEPT['waiting']}")
        result = {
            "user_id": user_id, "erased": True, "counts": dict(done.erased), "stopped": done.stopped,
            "waiting": list(done.waiting), "suppressions_kept": list(done.kept),
            "not_stopped": {str(pk): text for pk, text in done.why_not.items()},
        }  # fmt: skip
        self.report(result, "\n".join(lines), as_json=as_json, ok=done.complete)
