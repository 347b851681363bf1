"""Asks PyPI what is known against the packages that the lock files pin: weaknesses, and releases taken back (yanked).

    tools/audit.py [LOCK…]

Exit status 1 names what is known and not accepted in `tools/audit.toml`. Where PyPI cannot be asked (no network, a
mirror that has only files), it says so in one line and ends well: whoever is offline can work, and nobody is told that
all is well. Answers that are less than a day old are not asked for again.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parent.parent
REGISTRY = "https://pypi.org/pypi"
LOCKS = ("requirements-dev.lock", "requirements-redis.lock")
"""Between them they pin everything that the others do."""
PATIENCE = 4.0
"""Seconds for one answer; as much again and the whole audit is given up (`BUDGET`)."""
BUDGET = 20.0
DAY = 24 * 3600
Pin = tuple[str, str]


class Unreachable(Exception):
    """PyPI does not answer as PyPI does. The text says how."""


@dataclass(frozen=True)
class Known:
    """One thing that is known against a pinned package; `id` is what `audit.toml` accepts it by."""

    package: str
    version: str
    id: str
    text: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}: {self.id}: {self.text}"


def pins(text: str) -> set[Pin]:
    """Name and version of everything that a lock file pins."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {(canonicalize_name(name), version) for name, version in found}


def fetch(pin: Pin, registry: str) -> dict[str, object]:
    """What PyPI says of one release. Raises Unreachable."""
    name, version = pin
    request = Request(f"{registry}/{name}/{version}/json", headers={"Accept": "application/json"})
    try:
        with urlopen(request, timeout=PATIENCE) as answer:
            found = json.load(answer)
    except HTTPError as error:
        raise Unreachable(f"it answers {error.code} for {name} {version}") from None
    except (URLError, OSError, ValueError) as error:
        raise Unreachable(type(getattr(error, "reason", None) or error).__name__) from None
    if not isinstance(found, dict) or "vulnerabilities" not in found or "info" not in found:
        raise Unreachable("its answer is not PyPI's")
    info = found["info"]
    return {
        "vulnerabilities": [
            {key: each.get(key) for key in ("id", "aliases", "fixed_in", "summary", "withdrawn")}
            for each in found["vulnerabilities"]
        ],
        "yanked": bool(info.get("yanked")),
        "yanked_reason": info.get("yanked_reason") or "",
    }


def ask(wanted: Iterable[Pin], registry: str, cache: Path) -> dict[Pin, dict[str, object]]:
    """What is known of each; from `cache` where that is less than a day old. Raises Unreachable.

    One release is asked for alone first: a registry that does not have this service is asked no second time.
    """
    try:
        stored = json.loads(cache.read_text())
    except (OSError, ValueError):
        stored = {}
    now = time.time()
    fresh = {
        tuple(key.split("==")): kept["found"]
        for key, kept in stored.items()
        if now - kept["at"] < DAY and kept["at"] <= now
    }
    missing = sorted(set(wanted) - set(fresh))
    if missing:
        until = time.monotonic() + BUDGET
        fresh[missing[0]] = fetch(missing[0], registry)

        def within(pin: Pin) -> dict[str, object]:
            if time.monotonic() > until:
                raise Unreachable(f"it takes longer than {BUDGET:g} seconds")
            return fetch(pin, registry)

        with ThreadPoolExecutor(8) as pool:
            fresh |= zip(missing[1:], pool.map(within, missing[1:]), strict=True)
        kept = {f"{name}=={version}": {"at": now, "found": fresh[name, version]} for name, version in missing}
        kept |= {
            key: value for key, value in stored.items() if tuple(key.split("==")) in fresh and key not in kept
        }
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(json.dumps(kept))
    return {pin: fresh[pin] for pin in wanted}


def known(found: Mapping[Pin, Mapping[str, object]]) -> list[Known]:
    """What is known against them, by name; advisories that were withdrawn do not count."""
    result = []
    for (name, version), facts in sorted(found.items()):
        for each in facts["vulnerabilities"]:  # type: ignore[attr-defined]
            if each.get("withdrawn"):
                continue
            ids = [each["id"], *(each.get("aliases") or [])]
            cure = ", ".join(newest_last(each.get("fixed_in") or [])) or "no release"
            text = f"{(each.get('summary') or 'no summary').strip()} ({', '.join(ids)}; fixed in {cure})"
            result.append(Known(name, version, each["id"], text))
        if facts["yanked"]:
            result.append(Known(name, version, "yanked", str(facts["yanked_reason"]) or "no reason given"))
    return result


def newest_last(versions: Iterable[str]) -> list[str]:
    """Versions in their order; what is none stands first."""

    def key(text: str) -> tuple[bool, object, str]:
        try:
            return True, Version(text), text
        except InvalidVersion:
            return False, Version("0"), text

    return sorted(versions, key=key)  # type: ignore[arg-type]


def accepted(text: str, today: date) -> tuple[dict[tuple[str, str], str], list[str]]:
    """What `audit.toml` accepts, by package and id, with its reason; and what is wrong with it."""
    good, wrong = {}, []
    for entry in tomllib.loads(text).get("accepted", []):
        lacking = [key for key in ("package", "id", "reason", "until") if not entry.get(key)]
        where = f"{entry.get('package', '?')} {entry.get('id', '?')}"
        if lacking or not isinstance(entry["until"], date):
            wrong.append(f"tools/audit.toml: {where} lacks {', '.join(lacking) or 'a date in `until`'}")
        elif entry["until"] < today:
            wrong.append(f"tools/audit.toml: {where} was accepted until {entry['until']}: look at it again")
        else:
            good[canonicalize_name(entry["package"]), entry["id"]] = entry["reason"]
    return good, wrong


def main(argv: list[str], *, registry: str = REGISTRY, cache: Path | None = None, root: Path = ROOT) -> int:
    """Audit lock files; prints what is known, else one line that `tools/lint` shows."""
    cache = (
        cache
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "email-offload" / "audit.json"
    )
    wanted: set[Pin] = set()
    for lock in argv or LOCKS:
        wanted |= pins((root / lock).read_text())
    excused, problems = accepted((root / "tools" / "audit.toml").read_text(), datetime.now(UTC).date())
    try:
        found = known(ask(wanted, registry, cache))
    except Unreachable as error:
        print(
            f"note: PyPI could not be asked ({error}): nothing is known about the {len(wanted)} pinned packages today."
        )
        found = []
    else:
        print(f"note: PyPI was asked about {len(wanted)} pinned packages.")
    seen = {(each.package, each.id) for each in found}
    problems += [str(each) for each in found if (each.package, each.id) not in excused]
    for (package, name), reason in excused.items():
        if (package, name) in seen:
            print(f"note: accepted: {package} {name}: {reason}")
    if problems:
        print(
            *problems,
            "Upgrade with `make lock ARGS=--upgrade`, or accept it with reason and date in tools/audit.toml.",
            sep="\n",
        )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
