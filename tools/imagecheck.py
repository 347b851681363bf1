#!/usr/bin/env python3
"""Builds what `Dockerfile` describes without Docker, step by step in a bare Debian, and starts web and worker from it.

    make imagecheck, or: tools/imagecheck.py [--cache FOLDER] [--build-arg NAME=VALUE] [--keep]

`FROM python:3.11-slim-bookworm` is a minimal Debian 12 with Python, for those who know no registry of images. FROM,
ARG, ENV, RUN, COPY, WORKDIR, USER, LABEL, VOLUME, EXPOSE, HEALTHCHECK and CMD are done as Docker does them; anything
else in the file is an error. Then the database is migrated, dashboard and worker run as the image's user on a read-only
root, the health checks are asked, and both get SIGTERM. Needs root; docs/deploy/README.md says how long it takes.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cleanroot
from cleanroot import Failed, Root, say

# What the official image of Python has beyond a minimal Debian.
PACKAGES = ("python3", "python3-venv", "python3-pip", "python3-dev")
LINKS = {"python": "python3", "pip": "pip3"}
IMAGE = "python:3.11-slim-bookworm"
WORKER_HEALTH = ["python", "manage.py", "healthcheck", "worker"]
STOP_WEB, STOP_WORKER = 40.0, 90.0
"""What compose.yaml grants."""


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile with their arguments, in order; comments and line ends removed."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = []
    for line in joined.splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            found.append((word.upper(), rest.strip()))
    return found


def ignored(name: str, rules: list[str]) -> bool:
    """Whether .dockerignore keeps a file of the project from the build; the last rule that fits decides."""
    result = False
    parts = name.split("/")
    prefixes = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    for rule in rules:
        pattern = rule.lstrip("!")
        tails = ["/".join(parts[start:]) for start in range(len(parts))] if pattern.startswith("**/") else []
        names = [*prefixes, *tails, *parts] if tails else prefixes
        if any(fnmatch.fnmatchcase(each, pattern.removeprefix("**/")) for each in names):
            result = not rule.startswith("!")
    return result


@dataclass
class Stage:
    """One FROM and what follows it."""

    root: Root
    env: dict[str, str] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "root"
    volumes: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)


class Build:
    """Carries the instructions out."""

    def __init__(self, folder: Path, context: Path, base: Path, arguments: dict[str, str]) -> None:
        self.folder, self.context, self.base, self.arguments = folder, context, base, arguments
        self.stages: dict[str, Stage] = {}
        self.stage: Stage | None = None

    def do(self, word: str, rest: str) -> None:
        """One instruction."""
        handler = getattr(self, f"do_{word.lower()}", None)
        if handler is None:
            raise Failed(f"{word} is an instruction that this tool does not know: teach it, or leave it out")
        say(f"{word} {rest[:110]}")
        handler(rest)

    @property
    def now(self) -> Stage:
        """The stage that is built."""
        if self.stage is None:
            raise Failed("the Dockerfile does not begin with FROM")
        return self.stage

    def do_from(self, rest: str) -> None:
        """A fresh root file system."""
        image, _, name = re.sub(r"\s+as\s+", " AS ", rest, flags=re.I).partition(" AS ")
        if image != IMAGE:
            raise Failed(f"FROM {image}: only {IMAGE} can be imitated")
        root = self.folder / f"stage{len(self.stages)}"
        cleanroot.unpack(self.base, root)
        for link, target in LINKS.items():
            (root / "usr/local/bin" / link).symlink_to(f"/usr/bin/{target}")
        self.stage = self.stages[name or str(len(self.stages))] = Stage(Root(root))

    def do_arg(self, rest: str) -> None:
        """A build argument with its default."""
        name, _, default = rest.partition("=")
        self.now.args[name] = self.arguments.get(name, default)

    def do_env(self, rest: str) -> None:
        """Variables of this stage and of what runs from it."""
        for item in shlex.split(rest):
            name, _, value = item.partition("=")
            self.now.env[name] = re.sub(r"\$\{?(\w+)\}?", lambda found: self._variable(found[1]), value)

    def _variable(self, name: str) -> str:
        return {"PATH": cleanroot.PATH, **self.now.args, **self.now.env}.get(name, "")

    def do_run(self, rest: str) -> None:
        """A shell's command, as the user of that moment."""
        env = {**cleanroot.way_out(), "DEBIAN_FRONTEND": "noninteractive", **self.now.args, **self.now.env}
        self.now.root.inside(["/bin/sh", "-c", rest], user=self.now.user, cwd=self.now.workdir, env=env)

    def do_workdir(self, rest: str) -> None:
        """The folder, made where it is missing."""
        self.now.workdir = rest
        (self.now.root.path / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def do_copy(self, rest: str) -> None:
        """Files of the build context, or of an earlier stage."""
        words = shlex.split(rest)
        source_root = self.context
        if words[0].startswith("--from="):
            source_root = self.stages[words.pop(0).removeprefix("--from=")].root.path
        *sources, target = words
        into = self.now.root.path / (Path(self.now.workdir) / target).as_posix().lstrip("/")
        for pattern in sources:
            found = sorted(source_root.glob(pattern.lstrip("/")))
            if not found:
                raise Failed(f"COPY {pattern}: .dockerignore lets nothing of that name through")
            for path in found:
                if path.is_dir():
                    into.mkdir(parents=True, exist_ok=True)
                    cleanroot.run(["cp", "-a", f"{path}/.", str(into)])
                else:
                    place = into / path.name if target.endswith("/") else into
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, place)
        if source_root is self.context:
            cleanroot.run(["chown", "-R", "0:0", str(into)])

    def do_user(self, rest: str) -> None:
        """Who runs what follows."""
        self.now.user = rest

    def do_volume(self, rest: str) -> None:
        """What stays writable on a read-only root."""
        self.now.volumes.append(rest)

    def do_cmd(self, rest: str) -> None:
        """What the image runs."""
        self.now.cmd = json.loads(rest)

    def do_healthcheck(self, rest: str) -> None:
        """How it is asked whether it is well."""
        self.now.health = json.loads(rest.partition("CMD ")[2])

    def do_label(self, rest: str) -> None:
        """Words about the image: they must be pairs."""
        for item in shlex.split(rest):
            if "=" not in item:
                raise Failed(f"LABEL {item}: not a pair")

    def do_expose(self, rest: str) -> None:
        """A port, for the reader."""
        if not rest.isdigit():
            raise Failed(f"EXPOSE {rest}: not a port")


def context(folder: Path) -> Path:
    """What `docker build` would send: the project without what .dockerignore names."""
    whole, sent = folder / "project", folder / "context"
    cleanroot.checkout(whole)
    rules = [line.strip() for line in (whole / ".dockerignore").read_text().splitlines() if line.strip()]
    rules = [rule for rule in rules if not rule.startswith("#")]
    for path in whole.rglob("*"):
        name = path.relative_to(whole).as_posix()
        if path.is_file() and not ignored(name, rules):
            (sent / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, sent / name)
    return sent


def exercise(image: Stage, folder: Path) -> None:
    """Migrate, start both, ask, stop; as `docker run --read-only` would."""
    options: dict[str, Any] = {
        "user": image.user,
        "cwd": image.workdir,
        "read_only": True,
        "writable": image.volumes,
    }
    env = {**image.env, "HOME": "/nonexistent"}
    root = image.root

    def well(command: list[str]) -> bool:
        return root.inside(command, env=env, check=False, **options).returncode == 0

    who = root.inside(
        ["sh", "-c", "id -u; touch /srv/x /opt/venv/x 2>&1; touch /tmp/x && touch /dev/shm/x"],
        env=env,
        check=False,
        **options,
    )
    lines = who.stdout.splitlines()
    if lines[0] == "0" or sum("Read-only" in line for line in lines) != 2 or who.returncode:
        raise Failed(f"the root file system is not read-only for a plain user:\n{who.stdout}")
    say(f"as user {lines[0]}; / is read-only, /tmp and /dev/shm are not")
    left = root.inside(
        ["sh", "-c", "ls -A /var/lib/email-offload; ls -A collected | head -3"], env=env, **options
    )
    if ".key" in left.stdout or not left.stdout.strip():
        raise Failed(f"a key is in the image, or the static files are not: {left.stdout}")

    say("manage.py migrate")
    root.inside(["python", "manage.py", "migrate", "-v0"], env=env, **options)
    # The image's own port may be taken on this machine, whose network is used.
    port = cleanroot.free_port()
    told = image.cmd.index("--bind") + 1
    command = [*image.cmd[:told], f"127.0.0.1:{port}", *image.cmd[told + 1 :]]
    health = [*image.health, "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    web = root.start(command, folder / "web.log", env=env, **options)
    worker = root.start(["python", "manage.py", "qcluster"], folder / "worker.log", env=env, **options)
    try:
        cleanroot.wait("the dashboard answers", lambda: cleanroot.answers(f"{address}/healthz") == 200, 90)
        for path in ("/login/", "/static/offload/style.css"):
            if cleanroot.answers(address + path) != 200:
                raise Failed(f"{path} is not served")
        cleanroot.wait("the dashboard's health check is well", lambda: well(health), 30)
        cleanroot.wait("the worker's health check is well", lambda: well(WORKER_HEALTH), 150)
        status = root.stop(worker, STOP_WORKER)
        say(f"the worker ended after SIGTERM with status {status}")
        if status:
            raise Failed("that is not 0")
        status = root.stop(web, STOP_WEB)
        say(f"the dashboard ended after SIGTERM with status {status}")
        if status:
            raise Failed("that is not 0")
        if well(health):
            raise Failed("the health check is well while nothing runs")
    except Failed as error:
        logs = "".join(
            f"\n--- {name}\n{(folder / name).read_text()[-3000:]}" for name in ("web.log", "worker.log")
        )
        raise Failed(f"{error}{logs}") from error
    finally:
        root.close()


def main() -> None:
    """Build, then start."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "email-offload")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--keep", action="store_true", help="leave the folder with the image behind")
    options = parser.parse_args()
    cleanroot.need("debootstrap", "unshare", "git")
    arguments = dict(item.split("=", 1) for item in options.build_arg)
    base = cleanroot.debian(options.cache, PACKAGES)
    folder = Path(tempfile.mkdtemp(prefix="eo-image-", dir="/var/tmp"))
    try:
        build = Build(folder, context(folder), base, arguments)
        for word, rest in instructions((cleanroot.PROJECT / "Dockerfile").read_text()):
            build.do(word, rest)
        size = subprocess.run(["du", "-sm", build.now.root.path], capture_output=True, text=True, check=True)
        say(
            f"built: {size.stdout.split()[0]} MB, of which the product and its packages are in /opt/venv and /srv"
        )
        exercise(build.now, folder)
    finally:
        if options.keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(cleanroot.carry_out(main))
