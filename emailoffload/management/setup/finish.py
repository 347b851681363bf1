"""After the questions: the file is written, then what was asked for is done with it, as the services will."""

from __future__ import annotations

import getpass
import stat

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from emailoffload.actions.diagnosis.finding import NOT_TAKEN
from emailoffload.actions.setup import envfile
from emailoffload.management.asking import text_or_nothing
from emailoffload.management.setup.talk import Talk
from offloadsite import env

MARKS = {"ok": "ok      ", "warning": "WARNING ", "problem": "PROBLEM ", "unknown": "unknown "}
ALWAYS = frozenset({"MOODLE_DB_PREFIX", "MOODLE_CRON_PERIOD_SECONDS", "SECURE_HTTPS"})
"""Written even where they are the default: an administrator looks for them."""
NEXT = """
What next
  1. Start worker and web server (docs/install.md). Moodle's own cron stays as it is.
  2. While the rule for the whole site says shadow, mails are rendered and recorded, nothing is claimed, Moodle sends.
     After some hours read the comparison:
       {manage} shadows
     or on the dashboard: Routing, What shadows showed. Rows "sent by Moodle" are as foreseen; each other verdict says
     what it means.
     {manage} coverage says which mails will be ours, which not, and why.
     {manage} fidelity compares with mails that Moodle sent (docs/rendering.md).
  3. Switch on, as far as you like. Each command holds from the next pass on, and each can be taken back with `off`
     for the same scope:
       one activity   {manage} routing on --activity 13 --reason "first activity"
       one company    {manage} routing on --company 4 --reason "first company"
       10 %           {manage} routing on --percentage 10 --reason "ten percent"
       all            {manage} routing on --percentage 100 --reason "all"
     To see what holds: {manage} routing"""


def review(talk: Talk) -> list[envfile.Change]:
    """Say what the file will say; secrets are named and not shown."""
    talk.head("The environment file")
    stored = envfile.read(talk.file)[1]
    found = envfile.changes(stored, worth_writing(talk, stored))
    if not found:
        talk.say(f"  {talk.file} says all of it already.")
    for change in found:
        talk.say(f"  {change}")
    return found


def worth_writing(talk: Talk, stored: dict[str, str]) -> dict[str, str]:
    """The answers without those that are a setting's own default and were not in the file."""
    kept = {}
    for name, value in talk.answers.items():
        spec = env.BY_NAME.get(name)
        if name in stored or name in ALWAYS or not spec or value.strip() != (spec.default or ""):
            kept[name] = value
    return kept


def write(talk: Talk) -> None:
    """Write the file. Raises CommandError; whatever it says, the file is then as it was."""
    problems = _judged(talk)
    if problems:
        raise CommandError("The answers do not fit together:\n\n" + "\n".join(problems), returncode=2)
    try:
        text, stored = envfile.read(talk.file)
        envfile.write(talk.file, envfile.merged(text, worth_writing(talk, stored)))
    except (envfile.Unwritable, env.Malformed) as error:
        raise CommandError(f"{error} {getattr(error, 'cure', '')}".strip()) from error
    owner = talk.file.stat()
    talk.say(f"  Written: {talk.file}, mode {stat.S_IMODE(owner.st_mode):04o}.")
    if owner.st_uid == 0:
        talk.say(
            f"  It belongs to root; the service's user must be able to read it: chown offload {talk.file}"
        )


def _judged(talk: Talk) -> list[str]:
    """What is wrong with the answers by the settings' own parsers."""
    problems = []
    for name, value in talk.answers.items():
        spec = env.BY_NAME.get(name)
        try:
            if spec and value:
                spec.parse(value)
        except env.Malformed as error:
            problems.append(env.problem(name, f"malformed: {error}"))
    return problems


def migrate(talk: Talk) -> bool:
    """Make our tables, where that is asked for; returns whether they are there."""
    wanted = talk.asker.yes(
        "Make our tables now", "`migrate` makes or upgrades the tables in our own database.", default=True,
        given=talk.options["migrate"],
    )  # fmt: skip
    if not wanted:
        return talk.command("routing", "--json").status == 0
    done = talk.command("migrate", "--noinput", "--verbosity", "0")
    if done.status:
        talk.wrong("The tables could not be made.", _last(done.err))
        return False
    talk.say("  Our tables are there.")
    return True


def first_administrator(talk: Talk) -> None:
    """Make an account with all rights, where that is asked for."""
    name = talk.asker.ask(
        "Name of the first administrator", "An account that may do everything on the dashboard; - for none now.",
        text_or_nothing, default=talk.options["admin"] or "-", option="--admin", given=talk.options["admin"],
    )  # fmt: skip
    if not name:
        return
    password = _password(talk, name)
    done = talk.command(
        "createsuperuser", "--noinput", "--username", name, "--email", talk.options["admin_email"] or "",
        DJANGO_SUPERUSER_PASSWORD=password,
    )  # fmt: skip
    if done.status:
        talk.wrong(f"The account {name} was not made.", _last(done.err))
        talk.doubts.append(f"The account {name} was not made: manage.py createsuperuser")
    else:
        talk.say(f"  The account {name} may log in.")


def _password(talk: Talk, name: str) -> str:
    """A password that our rules take; typed twice."""
    file = talk.options["admin_password_file"]
    while True:
        password = talk.asker.secret(
            "Password",
            f"The password of {name}: 12 characters or more.",
            option="--admin-password-file",
            file=file,
        )
        try:
            validate_password(password, User(username=name))
        except ValidationError as error:
            if file is not None or not talk.asker.interactive:
                raise CommandError(
                    f"--admin-password-file: {' '.join(error.messages)}", returncode=2
                ) from error
            talk.say("  " + " ".join(error.messages))
            continue
        if file is not None or password == talk.asker.secret(
            "Again", "Once more.", option="--admin-password-file"
        ):
            return password
        talk.say("  The two are not the same.")


def shadow_first(talk: Talk) -> None:
    """See that nothing is claimed before somebody says so: a rule for the whole site, unless there are rules."""
    rules = talk.command("routing", "--json").result().get("rules")
    if rules is None:
        talk.wrong("Routing rules cannot be read.", "Run manage.py migrate, then manage.py routing shadow.")
        talk.doubts.append(
            'Nothing keeps the worker from claiming yet: manage.py routing shadow --reason "first days"'
        )
        return
    if rules:
        talk.say("  There are routing rules already; they stay as they are.")
        return
    who = getpass.getuser()
    done = talk.command("routing", "shadow", "--reason", f"setup by {who}: watch first", "--json")
    if done.status:
        talk.wrong("The rule for shadow mode was not made.", _last(done.err))
        talk.doubts.append('Before the worker starts: manage.py routing shadow --reason "first days"')
        return
    talk.say("  The whole site is in shadow mode: nothing is claimed until a rule says so.")


def doctor(talk: Talk) -> bool:
    """Have the doctor look, with the file's settings; returns whether only the worker is missing."""
    talk.head("The doctor")
    done = talk.command("doctor", "--json")
    findings = done.result().get("findings")
    if findings is None:
        talk.wrong("The doctor could not look.", _last(done.err))
        return False
    for finding in findings:
        if finding["text"] == str(NOT_TAKEN):
            continue
        talk.say(f"  {MARKS[finding['verdict']]} {finding['title']}: {finding['text']}")
        if finding["cure"]:
            talk.say(f"           Cure: {finding['cure']}")
    if any(finding["id"].startswith("worker") and finding["verdict"] != "ok" for finding in findings):
        talk.say("  What it says of the worker is expected: it has not been started yet.")
    return not any(
        finding["verdict"] == "problem" and not finding["id"].startswith("worker") for finding in findings
    )


def closing(talk: Talk) -> None:
    """What is left to do, and how to go on from shadow mode."""
    if talk.doubts:
        talk.head("Still to do")
        for doubt in dict.fromkeys(talk.doubts):
            talk.say(f"  * {doubt}")
    own = talk.file == env.HOME_DIR / ".env"
    manage = "manage.py" if own else f"OFFLOAD_ENV_FILE={talk.file} manage.py"
    talk.say(NEXT.format(manage=manage))


def _last(text: str) -> str:
    """The last line of what a command complained of, without its mark."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].removeprefix("CommandError: ").strip() if lines else "Run it by itself to see why."
