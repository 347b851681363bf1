"""What is found of the site with the answers so far, said in sentences: plugin, privileges, cron lock, period."""

from __future__ import annotations

from typing import Any

from emailoffload.actions.setup.databases import Address
from emailoffload.management.asking import checked
from emailoffload.management.setup.grants import print_grants
from emailoffload.management.setup.talk import Talk


def look_at_site(talk: Talk) -> None:
    """Say what is installed, whether the account fits, and whether the cron's lock can be shared."""
    done = talk.command("setup", "--look", **talk.answers)
    found = done.result()
    if not found:
        talk.wrong("The site could not be looked at.", done.err.strip()[-500:])
        talk.unusable("The site could not be looked at.")
        return
    for problem in found["problems"]:
        talk.wrong(problem["text"], problem["cure"])
        talk.unusable(problem["text"])
    _say_grants(talk, found.get("grants"))
    _say_variant(talk, found.get("variant"))
    _say_lock(talk, found)
    details = found.get("site") or {}
    talk.sender = details.get("sender", "")
    if details.get("lang", "en").split("_")[0] != "en":
        text = (
            f"The site's language is {details['lang']}: compare MOODLE_STRING_NOREPLY_NAME and MOODLE_STRING_VIA with "
            "its strings noreplyname and fromvia."
        )
        talk.say(f"  Note: {text}")
        talk.doubts.append(text)
    periods = found.get("periods") or {}
    seconds = str(periods.get("reengagement") or "") or None
    talk.answers["MOODLE_CRON_PERIOD_SECONDS"] = talk.asker.ask(
        "Seconds between two runs of the task", "How often Moodle's cron runs the plugin's task (Site administration, "
        "Server, Tasks); found out from its last runs where it left traces.",
        checked("MOODLE_CRON_PERIOD_SECONDS"),
        default=talk.before.get("MOODLE_CRON_PERIOD_SECONDS") or seconds or talk.default("MOODLE_CRON_PERIOD_SECONDS"),
        option="--cron-period", given=talk.options["cron_period"],
    )  # fmt: skip


def _say_grants(talk: Talk, found: dict[str, list[str]] | None) -> None:
    if not found:
        return
    if found["missing"]:
        talk.wrong(
            f"Our account lacks: {'; '.join(found['missing'][:3])}.", "Have the statements below executed."
        )
        print_grants(talk, Address.of(talk.answers["MOODLE_DATABASE_URL"]))
        talk.unusable("Our account in Moodle's database lacks privileges.")
    elif found["excess"]:
        text = f"Our account may do more than it needs: {'; '.join(found['excess'][:3])}."
        talk.wrong(text, "Use an account of its own that has only what `manage.py moodlegrants` prints.")
        talk.doubts.append(text)
    else:
        talk.say("  Our account may read the listed columns and update those of a claim, and nothing else.")


def _say_variant(talk: Talk, found: dict[str, Any] | None) -> None:
    if not found:
        return
    talk.iomad = bool(found["iomad"])
    talk.say(f"  {'IOMAD' if found['iomad'] else 'Moodle'}. {found['why']}")
    if found["queue_why"]:
        talk.say(f"  {found['queue_why']}")
    if not (found["supported"] or found["queue_supported"]):
        talk.doubts.append(f"{found['why']} Nothing will be claimed.")


def _say_lock(talk: Talk, found: dict[str, Any]) -> None:
    lock, handshake = found.get("lock"), found.get("handshake") or {}
    if not lock:
        return
    if not lock["shared"]:
        talk.say(f"  Mails that are already due stay with Moodle. {lock['reason']}")
    elif handshake.get("taken"):
        talk.say("  The lock of Moodle's cron was taken and given back: due mails can be claimed safely.")
    else:
        talk.say(
            "  The lock of Moodle's cron is a lock of the database server; the cron had it at this moment."
        )
