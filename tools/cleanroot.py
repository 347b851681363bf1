"""A bare Debian in a folder, and programs that run in it: what tools/imagecheck.py and tools/e2e.py stand on.

Needs root, debootstrap and unshare (Debian: `apt-get install debootstrap util-linux`). Packages come from where this
machine's own apt and pip get theirs; nothing of that is written here. Each program runs in name spaces of its own, so
that what it mounts and starts is gone when it ends.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
RELEASE = "bookworm"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BEGAN = time.monotonic()
_MOUNTS = """
set -e
mount --make-rprivate /
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs -o mode=1777 tmpfs "$ROOT/dev/shm"
mount -t proc proc "$ROOT/proc"
"""
_READ_ONLY = """
mount --bind "$ROOT" "$ROOT"
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs -o mode=1777 tmpfs "$ROOT/dev/shm"
mount -t proc proc "$ROOT/proc"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$ROOT/tmp"
for folder in $WRITABLE; do mount --bind "$ROOT$folder" "$ROOT$folder"; done
mount -o remount,bind,ro "$ROOT"
"""


class Failed(Exception):
    """Something did not do what it should; the text says what."""


def say(text: str) -> None:
    """One line with the seconds since the start."""
    print(f"[{time.monotonic() - _BEGAN:6.1f} s] {text}", flush=True)


def need(*programs: str) -> None:
    """End with what to install where something is missing."""
    missing = [name for name in programs if not shutil.which(name)]
    if os.geteuid() != 0:
        raise Failed("This needs root: it makes and enters a root file system.")
    if missing:
        raise Failed(f"{', '.join(missing)} not found. On Debian: apt-get install debootstrap util-linux git")


def mirror() -> str:
    """Where Debian's packages come from: what is given, else what this machine's apt is set to."""
    given = os.environ.get("DEBIAN_MIRROR")
    if given:
        return given
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME)", "Identifier: Packages"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        site, _, release = line.partition(" ")
        if release == RELEASE:
            return site
    raise Failed(f"apt knows no mirror of Debian {RELEASE}. Run apt-get update, or set DEBIAN_MIRROR.")


def debian(cache: Path, packages: Sequence[str] = ()) -> Path:
    """The archive of a minimal Debian, made once and kept in `cache`: the next run begins in seconds."""
    archive = cache / f"{RELEASE}{'-' if packages else ''}{'-'.join(packages)}.tar"
    if not archive.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        root = cache / f"making-{os.getpid()}"
        say(f"debootstrap {RELEASE} {' '.join(packages)}".rstrip())
        try:
            run(["debootstrap", "--variant=minbase", f"--include={','.join(['ca-certificates', *packages])}",
                 RELEASE, str(root), mirror()])  # fmt: skip
            for package in (root / "var/cache/apt/archives").glob("*.deb"):
                package.unlink()
            run(["tar", "-C", str(root), "-cf", f"{archive}.part", "."])
            Path(f"{archive}.part").rename(archive)
        finally:
            shutil.rmtree(root, ignore_errors=True)
    return archive


def unpack(archive: Path, root: Path) -> None:
    """Lay the archive out as `root`, with this machine's way to its packages."""
    root.mkdir(parents=True)
    run(["tar", "-C", str(root), "-xf", str(archive)])
    for name in ("etc/apt/sources.list", "etc/apt/sources.list.d", "etc/apt/apt.conf.d", "etc/apt/auth.conf.d",
                 "usr/share/keyrings", "etc/resolv.conf", "etc/hosts", "etc/pip.conf",
                 "etc/ssl/certs/ca-certificates.crt"):  # fmt: skip
        source, target = Path("/", name), root / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copyfile(source, target)
    # The machine's own sources replace debootstrap's single line.
    if not Path("/etc/apt/sources.list").is_file():
        (root / "etc/apt/sources.list").unlink(missing_ok=True)
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)


def way_out() -> dict[str, str]:
    """This machine's variables that lead to its registries."""
    kept = ("PIP_", "SSL_CERT_", "REQUESTS_CA_BUNDLE")
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(kept) or name.lower().endswith("_proxy")
    }


def checkout(target: Path) -> None:
    """Copy the project as git has it, with what is changed and not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT, capture_output=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.decode().split("\0"):
        source = PROJECT / name
        if name and source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def run(command: Sequence[str], **options: object) -> str:
    """Run a program of this machine; its output, or Failed with it."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    if done.returncode:
        raise Failed(f"{shlex.join(command)} ended with status {done.returncode}:\n{done.stdout[-4000:]}")
    return str(done.stdout)


class Root:
    """A root file system and how programs run in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started: list[subprocess.Popen[str]] = []

    def inside(
        self, command: Sequence[str], *, user: str = "root", cwd: str = "/", env: Mapping[str, str] | None = None,
        read_only: bool = False, writable: Sequence[str] = (), check: bool = True,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run a command to its end, in name spaces of its own."""
        done = subprocess.run(
            self._command(command, user, cwd, env, read_only, writable),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise Failed(f"{shlex.join(command)} ended with status {done.returncode}:\n{done.stdout[-6000:]}")
        return done

    def start(
        self, command: Sequence[str], log: Path, *, user: str = "root", cwd: str = "/",
        env: Mapping[str, str] | None = None, read_only: bool = False, writable: Sequence[str] = (),
    ) -> subprocess.Popen[str]:  # fmt: skip
        """Start a command that stays; `stop` ends it. What it says goes to `log`."""
        with log.open("w") as file:
            process = subprocess.Popen(
                self._command(command, user, cwd, env, read_only, writable),
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip
        self.started.append(process)
        return process

    def _command(
        self, command: Sequence[str], user: str, cwd: str, env: Mapping[str, str] | None, read_only: bool,
        writable: Sequence[str],
    ) -> list[str]:  # fmt: skip
        variables = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", **(env or {})}
        mounts = f"set -e\nmount --make-rprivate /\n{_READ_ONLY}" if read_only else _MOUNTS
        # Within: a shell that becomes the program, so that a signal to it reaches the program and no shell.
        within = f"cd {shlex.quote(cwd)} && exec {shlex.join(command)}"
        change = ["chroot", *([] if user == "root" else [f"--userspec={user}"]), str(self.path)]
        given = [f"{name}={value}" for name, value in variables.items()]
        script = f"{mounts}\nexec {shlex.join([*change, 'env', '-i', *given, 'sh', '-c', within])}"
        outer = {"ROOT": str(self.path), "WRITABLE": " ".join(writable)}
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "env",
                *(f"{k}={v}" for k, v in outer.items()), "sh", "-c", script]  # fmt: skip

    def stop(self, process: subprocess.Popen[str], seconds: float) -> int:
        """SIGTERM to the program, as Docker and systemd send it; its exit status. Failed if it needs longer."""
        child = first_child(process.pid)
        os.kill(child, signal.SIGTERM)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{shlex.join(process.args[-1:])[-200:]} did not end within {seconds:g} s") from None  # type: ignore[index]

    def close(self) -> None:
        """End what is left."""
        for process in self.started:
            if process.poll() is None:
                # Process 1 of its name space, which takes the rest along. --kill-child alone would not do: the kernel
                # forgets it where a program changes its user, as MariaDB does.
                with suppress(Failed, ProcessLookupError):
                    os.kill(first_child(process.pid), signal.SIGKILL)
                process.kill()
                process.wait()


def first_child(pid: int) -> int:
    """The only child of a process: what `unshare --fork` started, process 1 of its name space."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if not children:
        raise Failed(f"process {pid} has started nothing")
    return int(children[0])


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(address: str, headers: Mapping[str, str] | None = None) -> int:
    """The status that a web server of this machine answers with; 0: it does not."""
    request = urllib.request.Request(address, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def wait(what: str, condition: Callable[[], object], seconds: float) -> None:
    """Until the condition holds; Failed after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds:g} s")
        time.sleep(0.5)
    say(what)


def carry_out(main: Callable[[], None]) -> int:
    """Run a tool's `main`: exit status 0, or 1 with the reason."""
    try:
        main()
    except Failed as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    say("ok")
    return 0
