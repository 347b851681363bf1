"""From an empty Debian to accepted mails and passed tests: README's two commands, and the way of docs/install.md.

    make e2e, or: tools/e2e.py [--cache FOLDER] [--keep]

1. README: `make run` in a bare system, until the local SES has accepted mails of the sample Moodle.
2. README: `make test` in another bare system: what it installs, lint, and a test of each kind. (CI runs all of them
   after this, on the machine itself.)
3. docs/install.md: MariaDB, a restored IOMAD site, `manage.py setup` without a person, the GRANT statements that it
   prints, shadow mode, the services of docs/deploy started by their own command lines, reminders that fall due, one
   mail accepted by the local SES.

Needs root, debootstrap and a way to Debian's and Python's packages. docs/deploy/README.md says how long it takes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import shlex
import shutil
import tempfile
from pathlib import Path

import cleanroot
from cleanroot import Failed, Root, say

CODE = "/srv/email-offload"
DATA = "/var/lib/email-offload"
ENV_FILE = f"{DATA}/env"
MOODLE, OURS = "moodle", "offload"
MOODLE_ACCOUNT, OUR_ACCOUNT = "offload_moodle", "offload"
PASSWORDS = {"moodle": "moodle-e2e-password", "own": "own-e2e-password", "admin": "staple-battery-77-e2e"}
SENDER = "noreply@example.org"
FALL_DUE = """UPDATE mdl_reengagement_inprogress
    SET completiontime = UNIX_TIMESTAMP() + 150 + completiontime - emailtime, emailtime = UNIX_TIMESTAMP() + 150"""
"""In seconds: far enough away to be claimed ahead of time."""
ROWS = """SELECT COALESCE(SUM(CRC32(CONCAT_WS(',', id, emailsent, emailtime, completed))), 0)
    FROM mdl_reengagement_inprogress"""
"""A number that is another one after any claim."""
SOME_TESTS = (
    "tests/test_settings.py",
    "tests/claims/test_swaps.py",
    "tests/growth/test_broker.py",
    "tests/alarms/test_browser.py",
)
"""In this process alone, on MariaDB, with Redis, in Chromium."""
MOST_EXPOSED = 2.0
"""Of 10, as systemd counts."""
STOP_SECONDS = {"worker": 90.0, "web": 40.0}


class System:
    """The bare system, with the project in it."""

    def __init__(self, root: Root, logs: Path) -> None:
        self.root, self.logs = root, logs
        self.port, self.ses, self.sql = cleanroot.free_port(), cleanroot.free_port(), cleanroot.free_port()

    def sh(self, script: str, user: str = "root", *, check: bool = True) -> str:
        """A shell's commands in the project's folder; what they say. Failed if they end badly and `check`."""
        env = {**cleanroot.way_out(), "DEBIAN_FRONTEND": "noninteractive"}
        return str(
            self.root.inside(["bash", "-ec", script], user=user, cwd=CODE, env=env, check=check).stdout
        )

    def manage(self, *arguments: str, check: bool = True) -> str:
        """One of our commands, as the service's user."""
        return self.sh(shlex.join([".venv/bin/python", "manage.py", *arguments]), "offload", check=check)

    def answer(self, *arguments: str) -> str:
        """What one of our commands answers, without its log."""
        command = shlex.join([".venv/bin/python", "manage.py", *arguments])
        return self.sh(f"{command} 2>>{DATA}/answers.log", "offload")

    def mariadb(self, sql: str, database: str = "") -> str:
        """Statements of the database's administrator; the rows, tabs between the values."""
        (self.root.path / "tmp/statements.sql").write_text(sql)
        place = f"mariadb -h 127.0.0.1 -P {self.sql} -N {database}".rstrip()
        return self.sh(f"{place} < /tmp/statements.sql").strip()

    def number(self, sql: str, database: str) -> int:
        """The one number that a question has for an answer."""
        return int(self.mariadb(sql, database) or 0)

    def log(self, name: str) -> Path:
        """Where a program's lines go."""
        return self.logs / f"{name}.log"


def try_it(system: System) -> None:
    """README: `make run`."""
    say("README: make run")
    system.sh("apt-get update -qq && apt-get install -y -qq --no-install-recommends make >/dev/null")
    env = {**cleanroot.way_out(), "SANDBOX_PORT": str(system.ses), "DEBIAN_FRONTEND": "noninteractive"}
    running = system.root.start(
        ["make", "run", f"ARGS=--no-browser --port {system.port}"], system.log("make-run"), cwd=CODE, env=env
    )

    def accepted() -> bool:
        if running.poll() is not None:
            raise Failed(f"make run ended by itself:\n{system.log('make-run').read_text()[-3000:]}")
        text = system.log("make-run").read_text()
        return any(int(number) for number in re.findall(r"(\d+) mails accepted by SES", text))

    cleanroot.wait("the local SES has accepted mails of the sample Moodle", accepted, 420)
    if "SENT TWICE" in system.log("make-run").read_text():
        raise Failed("make run reports a mail that was sent twice")
    running.kill()  # Ctrl-C goes to a terminal's programs; the name space takes all of these along
    running.wait()


def check_it(system: System) -> None:
    """README: `make test`."""
    say("README: make test, a test of each kind")
    system.sh("apt-get update -qq && apt-get install -y -qq --no-install-recommends make >/dev/null")
    said = system.sh(f"make test ARGS={shlex.quote(' '.join(SOME_TESTS))} 2>&1")
    print("\n".join(line for line in said.splitlines() if line.startswith("ok ")), flush=True)
    if not re.fullmatch(r"=* ?\d+ passed in .*", said.strip().splitlines()[-1]):
        raise Failed(f"make test did not end in pytest's summary of passed tests:\n{said[-3000:]}")


def databases(system: System) -> None:
    """A MariaDB server with a Moodle site in it."""
    say("production: MariaDB with a restored IOMAD site")
    system.sh("apt-get install -y -qq --no-install-recommends mariadb-server >/dev/null")
    system.sh("install -d -o mysql -g mysql /run/mysqld")
    server = [
        "mariadbd",
        "--user=mysql",
        f"--port={system.sql}",
        "--bind-address=127.0.0.1",
        "--skip-name-resolve=0",
    ]
    system.root.start(server, system.log("mariadb"))
    # Root has no password there: the package lets it in by the socket only.
    opened = "ALTER USER root@localhost IDENTIFIED BY ''"
    cleanroot.wait(
        "MariaDB answers",
        lambda: "1" in system.sh(f'mariadb -N -e "{opened}; SELECT 1"', check=False).split(),
        60,
    )
    system.mariadb(f"CREATE DATABASE {MOODLE} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
    dump = cleanroot.PROJECT / "tests" / "data" / "site.sql.gz"
    system.mariadb(gzip.decompress(dump.read_bytes()).decode(), MOODLE)


def set_up(system: System) -> None:
    """docs/install.md, section 2, without a person: one run prints the statements, the next finds them carried out."""
    say("production: manage.py setup")
    system.sh(
        f"useradd --system --home {DATA} offload && install -d -o offload -g offload -m 750 {DATA} && rm -rf var"
        f" && ln -s {ENV_FILE} .env && install -d -o offload -m 700 /run/secrets"
    )
    for name, password in PASSWORDS.items():
        (system.root.path / "run/secrets" / name).write_text(password)
    system.sh("chown offload /run/secrets/*")
    options = [
        "setup", "--non-interactive", "--output", ENV_FILE, "--data-dir", DATA,
        "--moodle-database", f"mysql://{MOODLE_ACCOUNT}@127.0.0.1:{system.sql}/{MOODLE}",
        "--moodle-password-file", "/run/secrets/moodle",
        "--database", f"mysql://{OUR_ACCOUNT}@127.0.0.1:{system.sql}/{OURS}",
        "--database-password-file", "/run/secrets/own", "--wwwroot", "http://127.0.0.1:18080",
        "--region", "eu-west-1", "--sender", SENDER, "--no-aws-check", "--events", "skip", "--host", "localhost",
        "--no-doctor", "--force",
    ]  # fmt: skip
    said = system.manage(*options, check=False)
    statements = re.findall(r"^(?:-- )?((?:GRANT|CREATE) [^;]*);$", said, re.M)
    if len(statements) < 30:
        raise Failed(f"setup printed {len(statements)} statements:\n{said}")
    for number, statement in enumerate(statements):
        password = PASSWORDS["moodle" if MOODLE_ACCOUNT in statement else "own"]
        statements[number] = re.sub(r"IDENTIFIED BY '[^']*'", f"IDENTIFIED BY '{password}'", statement)
    system.mariadb(";\n".join(statements))
    say(f"{len(statements)} printed statements carried out")
    said = system.manage(
        *options, "--migrate", "--admin", "boss", "--admin-password-file", "/run/secrets/admin"
    )
    if "The whole site is in shadow mode" not in said:
        raise Failed(f"the site is not in shadow mode:\n{said}")
    if "shadow" not in system.manage("routing"):
        raise Failed("no routing rule says shadow")
    # The cloud of this test: the sandbox, under a name that the AWS SDK reads.
    with (system.root.path / ENV_FILE.lstrip("/")).open("a") as file:
        file.write(f"AWS_ENDPOINT_URL_SESV2=http://127.0.0.1:{system.ses}\n")
        file.write("AWS_ACCESS_KEY_ID=e2e\nAWS_SECRET_ACCESS_KEY=e2e\n")


def command_of(unit: str) -> list[str]:
    """The command line of a unit of docs/deploy."""
    text = (cleanroot.PROJECT / "docs" / "deploy" / f"email-offload-{unit}.service").read_text()
    found = re.search(r"^ExecStart=(.*)$", text, re.M)
    if not found:
        raise Failed(f"email-offload-{unit}.service starts nothing")
    return shlex.split(found[1])


def shadow_then_on(system: System) -> None:
    """Reminders fall due: in shadow mode nothing is written to Moodle; switched on, a mail is accepted."""
    ses = [f"{CODE}/.venv/bin/python", "manage.py", "sandboxses", "--port", str(system.ses)]
    env = {"OFFLOAD_ENV_FILE": ENV_FILE}
    user = {"user": "offload", "cwd": CODE, "env": env}
    system.root.start(ses, system.log("ses"), **user)  # type: ignore[arg-type]
    cleanroot.wait("the local SES answers", lambda: cleanroot.answers(f"http://127.0.0.1:{system.ses}/"), 60)
    system.mariadb(FALL_DUE, MOODLE)
    before = system.number(ROWS, MOODLE)
    told = json.loads(system.answer("intercept", "--json"))
    say(f"shadow mode: {json.dumps(told)[:300]}")
    if system.number(ROWS, MOODLE) != before:
        raise Failed("shadow mode has written to Moodle")
    if "shadow" not in json.dumps(told):
        raise Failed("nothing was recorded in shadow mode")

    system.manage("routing", "on", "--reason", "end-to-end test")
    web = command_of("web")
    web[web.index("--bind") + 1] = f"127.0.0.1:{system.port}"
    started = {
        "web": system.root.start(web, system.log("web"), **user),  # type: ignore[arg-type]
        "worker": system.root.start(command_of("worker"), system.log("worker"), **user),  # type: ignore[arg-type]
    }
    address = f"http://127.0.0.1:{system.port}/healthz"
    cleanroot.wait("the dashboard answers /healthz", lambda: cleanroot.answers(address) == 200, 90)
    accepted = "SELECT COUNT(*) FROM emailoffload_email WHERE accepted_at IS NOT NULL"
    cleanroot.wait("SES has accepted a mail of the real site", lambda: system.number(accepted, OURS), 360)
    if system.number(ROWS, MOODLE) == before:
        raise Failed("the claim of the accepted mail is not in Moodle's table")
    system.manage("healthcheck", "worker")
    for name, seconds in STOP_SECONDS.items():
        status = system.root.stop(started[name], seconds)
        if status:
            raise Failed(f"the {name} ended after SIGTERM with status {status}")
        say(f"the {name} ended after SIGTERM")


def examples(system: System) -> None:
    """The files of docs/deploy, judged by the programs that they are for, with everything where they expect it."""
    system.sh("apt-get install -y -qq --no-install-recommends systemd nginx-light openssl >/dev/null")
    system.sh("cp docs/deploy/email-offload-*.service /etc/systemd/system/")
    said = system.sh(
        "systemd-analyze verify /etc/systemd/system/email-offload-*.service 2>&1 | grep email-offload || true"
    )
    if said.strip():
        raise Failed(f"systemd-analyze verify:\n{said}")
    for unit in ("web", "worker"):
        said = system.sh(
            f"systemd-analyze security --offline=true /etc/systemd/system/email-offload-{unit}.service"
        )
        level = re.search(r"exposure level for .*: ([\d.]+)", said)
        if not level or float(level[1]) > MOST_EXPOSED:
            raise Failed(f"systemd-analyze security:\n{said}")
        say(f"email-offload-{unit}.service: exposure level {level[1]}")
    system.sh(
        "cp docs/deploy/nginx.conf /etc/nginx/conf.d/email-offload.conf && install -d /etc/ssl/email-offload"
        " && cd /etc/ssl/email-offload && openssl req -x509 -newkey rsa:2048 -nodes -days 2"
        " -subj /CN=offload.example.org -keyout privkey.pem -out fullchain.pem 2>/dev/null && nginx -q -t"
    )
    say("nginx takes nginx.conf")


def main() -> None:
    """Both ways, one after the other, in one system."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "email-offload")
    parser.add_argument("--keep", action="store_true", help="leave the system behind")
    options = parser.parse_args()
    cleanroot.need("debootstrap", "unshare", "git")
    base = cleanroot.debian(options.cache)
    folder = Path(tempfile.mkdtemp(prefix="eo-e2e-", dir="/var/tmp"))
    root, tests = Root(folder / "root"), Root(folder / "tests")
    try:
        for each in (root, tests):
            cleanroot.unpack(base, each.path)
            cleanroot.checkout(each.path / CODE.lstrip("/"))
        system = System(root, folder)
        try:
            try_it(system)
            check_it(System(tests, folder))
            databases(system)
            set_up(system)
            shadow_then_on(system)
            examples(system)
        except Failed as error:
            logs = "".join(
                f"\n--- {file.name}\n{file.read_text()[-3000:]}" for file in sorted(folder.glob("*.log"))
            )
            raise Failed(f"{error}{logs}") from error
    finally:
        root.close()
        if options.keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(cleanroot.carry_out(main))
