"""Questions about Amazon SES: region, credentials, the sender's identity, the way of events back to us."""

from __future__ import annotations

import os

from django.core.management.base import CommandError

from emailoffload.actions.setup import amazon
from emailoffload.management.asking import secret_from, text_or_nothing
from emailoffload.management.setup.talk import Talk
from offloadsite import env

CONFIGURATION_SET = "email-offload"


def ask(talk: Talk) -> None:
    """All questions about SES; the account is looked at, and nothing in it changed unless that is asked for."""
    talk.head("Amazon SES")
    region = talk.asker.ask(
        "Region",
        "The AWS region whose SES sends, such as eu-west-1; identities and quotas belong to one region.", amazon.region,
        default=talk.before.get("AWS_REGION") or amazon.default_region() or None, option="--region",
        given=talk.options["region"],
    )  # fmt: skip
    talk.answers["AWS_REGION"] = region
    _credentials(talk)
    sender = talk.asker.ask(
        "Sender", "The address, or its domain, that Moodle's mails come from: SES must have verified it.",
        _identity, default=talk.sender, option="--sender", given=talk.options["sender"],
    )  # fmt: skip
    if talk.options["aws_check"] is not False:
        for line in amazon.look(region, sender):
            talk.wrong(line.text, line.cure)
            if line.level != "good":
                talk.doubts.append(line.text)
    _events(talk, region, sender)


def _identity(value: str) -> str:
    value = text_or_nothing(value)
    return amazon.identity(value) if value else ""


def _credentials(talk: Talk) -> None:
    """Where the services will find credentials: best a role of the host, else a pair in the file."""
    kept = talk.before.get("AWS_ACCESS_KEY_ID", "")
    given = talk.options["aws_access_key_id"]
    file = talk.options["aws_secret_access_key_file"]
    if given:
        if not file:
            raise CommandError(
                "--aws-access-key-id needs --aws-secret-access-key-file, a file with the secret.",
                returncode=2,
            )
        _use(talk, given, secret_from(file, "--aws-secret-access-key-file"))
        return
    if kept and talk.before.get("AWS_SECRET_ACCESS_KEY"):
        talk.say("  The access key of the environment file is kept.")
        _use(talk, kept, talk.before["AWS_SECRET_ACCESS_KEY"], write=False)
        return
    found = amazon.credentials()
    if found not in {"", "env"}:
        talk.say(f"  The AWS SDK finds credentials here ({found}); the services' user must find them too.")
        return
    if found == "env":
        talk.say(
            "  This shell has AWS credentials. They are not written down; the services do not have them. If they are "
            "an administrator's, that is as it should be."
        )
    key = talk.asker.ask(
        "Access key id", "Best is a role of the host, or of the container: then enter nothing. Else the id of a key "
        "with the rights that `manage.py sessetup` prints, and no others.",
        text_or_nothing, default="", option="--aws-access-key-id",
    )  # fmt: skip
    if key:
        secret = talk.asker.secret(
            "Secret access key", "The secret that belongs to it.", option="--aws-secret-access-key-file"
        )
        _use(talk, key, secret)
    elif not found:
        talk.doubts.append("There are no AWS credentials on this host yet.")


def _use(talk: Talk, key: str, secret: str, *, write: bool = True) -> None:
    """Put a key into the file, and use it for what this process asks of AWS."""
    if write:
        talk.answers |= {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    if "AWS_ACCESS_KEY_ID" not in os.environ:
        os.environ.update(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)


def _events(talk: Talk, region: str, sender: str) -> None:
    """The configuration set and the queue: kept where there are some, made, printed or left."""
    before = talk.before
    if before.get("SES_EVENTS_QUEUE_URL") or before.get("SNS_TOPICS"):
        talk.say("  Events of SES have their way already; `manage.py sessetup --check` compares it.")
        return
    doing = talk.asker.choose(
        "Set up the way of events", "SES tells what became of each mail through a queue: configuration set, topic, "
        "queue.",
        [("print", "print what AWS needs, and the rights of our credentials; nothing is asked of AWS"),
         ("apply", "make it now with the credentials of this shell, which must be an administrator's"),
         ("skip", "later; until then nobody learns what became of a mail after SES took it")],
        default="print", option="--events", given=talk.options["events"],
    )  # fmt: skip
    if doing == "skip":
        talk.doubts.append("The way of SES's events is not set up: manage.py sessetup does it.")
        return
    name = talk.options["configuration_set"] or before.get("SES_CONFIGURATION_SET") or CONFIGURATION_SET
    arguments = ["--region", region, "--configuration-set", name]
    if sender:
        arguments += ["--identity", sender.rpartition("@")[2]]
    if doing == "print":
        done = talk.command("sessetup", *arguments, **talk.answers)
        talk.say(done.out.strip() or done.err.strip())
        talk.doubts.append(
            f"The way of SES's events is printed, not made: manage.py sessetup --apply {' '.join(arguments)}"
        )
        return
    done = talk.command("sessetup", "--apply", "--json", *arguments, **talk.answers)
    result = done.result()
    for step in result.get("steps", []):
        talk.say(f"  {step['state']:<8} {step['what']} {step['name']}")
    if done.status or "settings" not in result:
        talk.wrong(
            str(result.get("refused") or done.err.strip()[-500:] or "AWS did not answer."),
            str(
                result.get("cure")
                or "Run manage.py sessetup --apply when that is cured; it goes on where it stopped."
            ),
        )
        talk.doubts.append("The way of SES's events is not complete.")
        return
    talk.answers |= {name: str(value) for name, value in result["settings"].items() if name in env.BY_NAME}
