"""Checks, without a network, that the lock files fit pyproject.toml. Exit status 1 names what does not.

Each requirement must be pinned to a version that it allows, each pin must carry a hash, the files must agree
on what they share, and none may name a place where packages come from: that is the machine's own setting.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def pins(text: str) -> dict[str, str]:
    """Version by canonical name, as a lock file pins them."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def problems_of(requirements: Iterable[str], lock: str, name: str) -> list[str]:
    """What is wrong with one lock file, given the requirements that it must satisfy."""
    pinned = pins(lock)
    found = []
    for text in requirements:
        requirement = Requirement(text)
        version = pinned.get(canonicalize_name(requirement.name))
        if version is None:
            found.append(f"{name}: {requirement.name} of pyproject.toml is not pinned")
        elif not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{name}: {requirement.name}=={version} does not satisfy {requirement.specifier}")
    entries = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]
    found += [f"{name}: {entry.split()[0]} has no hash" for entry in entries if "--hash=sha256:" not in entry]
    if re.search(r"https?://|file://|--(extra-)?index-url|--find-links", lock):
        found.append(f"{name}: names a place where packages come from")
    return found


def main() -> int:
    """Check the files; print the problems and the cure."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = {
        "requirements.lock": project["dependencies"],
        "requirements-oidc.lock": [*project["dependencies"], *extras["oidc"]],
        "requirements-redis.lock": [*project["dependencies"], *extras["oidc"], *extras["redis"]],
        "requirements-dev.lock": [
            *project["dependencies"],
            *(text for extra in ("oidc", "redis", "dev", "bench") for text in extras[extra]),
        ],
    }
    texts = {name: (ROOT / name).read_text() for name in needed}
    found = [each for name in needed for each in problems_of(needed[name], texts[name], name)]
    for smaller, larger in pairwise(needed):
        has = pins(texts[larger])
        found += [
            f"{larger}: {name} is not at {version} as in {smaller}"
            for name, version in pins(texts[smaller]).items()
            if has.get(name) != version
        ]
    if found:
        print("\n".join(found), "Run `make lock`.", sep="\n", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
