"""`make mutation`: do the tests notice small mistakes in the code that claims and moves? docs/mutation.md.

One session of pytest on one MariaDB for all mutants of a module. A mutant is put in the place of the living functions'
code, the tests that reach its function run until one fails, and that one runs again without the mutant, so that a kill
is never the trace of another mutant. No file is changed. Exit status 1: a mutant survived that docs/mutation.md does
not explain, or a test failed without any mutant.
"""

from __future__ import annotations

import argparse
import builtins
import gc
import inspect
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import mutants  # noqa: E402

TESTS: dict[str, list[str]] = {
    "emailoffload/moodle/claims.py": ["claims/test_swaps.py", "claims/test_swaps_sqlite.py", "claims/test_queue.py"],
    "emailoffload/outbox/states.py": ["docs/test_complete.py", "outbox/test_transitions.py"],
    "emailoffload/worker/late_claims.py": ["claims/test_late_claims.py", "claims/test_too_late.py"],
    "emailoffload/worker/handback.py": [
        "claims/test_handback_lock.py", "claims/test_release.py", "claims/test_traces.py", "claims/test_queue.py",
    ],
    "emailoffload/outbox/intents.py": [
        "claims/test_stored.py", "claims/test_settle.py", "claims/test_intents.py", "claims/test_traces.py",
        "claims/test_too_late.py", "claims/test_queue.py", "outbox", "left/test_left.py",
    ],
    "emailoffload/outbox/transitions.py": ["outbox", "worker/test_dispatch.py", "feedback/test_evidence.py"],
    "emailoffload/worker/recover_intents.py": [
        "claims/test_recovery.py", "claims/test_intents.py", "claims/test_traces.py", "claims/test_release.py",
        "claims/test_queue.py",
    ],
}  # fmt: skip
"""The fitting tests of each module: quick ones, in this process."""
WAYS = ("survived", "unreached")
NOT_HERE = "not (race or kill or whole or browser)"
SLOW = 4.0
"""Seconds of the processor: a test that takes longer is left out, as every mutant that survives runs through it."""
SEEN = "__mutation_seen__"
EXPLAINED = ROOT / "docs" / "mutation.md"


class Living:
    """The functions of an imported module, whose code can be exchanged."""

    def __init__(self, file: str) -> None:
        self.name = file.removesuffix(".py").replace("/", ".")
        self.file = file
        self.source = (ROOT / file).read_text()
        module = sys.modules[self.name]
        self.module: ModuleType = module
        found = [f for f in gc.get_objects() if isinstance(f, FunctionType) and f.__module__ == self.name]
        self.functions = {
            function.__code__.co_qualname: function
            for function in found
            if function.__code__.co_filename == module.__file__ and "<locals>" not in function.__qualname__
        }
        self.original = {name: function.__code__ for name, function in self.functions.items()}

    def become(self, tree: Any) -> None:
        """Let the functions be those of this source."""
        for name, code in _codes(compile(tree, str(self.module.__file__), "exec")):
            if name in self.functions and self.functions[name].__code__.co_freevars == code.co_freevars:
                self.functions[name].__code__ = code

    def heal(self) -> None:
        """Let the functions be as they were imported."""
        for name, code in self.original.items():
            self.functions[name].__code__ = code

    def observed(self) -> Any:
        """The source in which each function notes that it was called."""
        import ast

        tree = ast.parse(self.source)
        for name, function in mutants._functions(tree, ""):
            start = 1 if ast.get_docstring(function) else 0
            function.body[start:start] = ast.parse(f"{SEEN}({name!r})").body
        return ast.fix_missing_locations(tree)


def _codes(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if "<" not in constant.co_name:
                yield constant.co_qualname, constant
            if not constant.co_flags & inspect.CO_OPTIMIZED:  # the body of a class
                yield from _codes(constant)


class Table:
    """The tables of `outbox.states`, each entry a mutant: a move more or less, a state more or less in a set."""

    def __init__(self, living: Living) -> None:
        self.states = living.module

    def mutants(self) -> Iterator[tuple[str, str, Callable[[], Callable[[], None]]]]:
        """(table, what is wrong, a function that does it and returns the one that undoes it)."""
        states = self.states
        for name, kind in (("TRANSITIONS", states.EmailState), ("CLAIM_TRANSITIONS", states.ClaimState)):
            table = getattr(states, name)
            for old in kind:
                for new in kind:
                    sign = "without" if new in table[old] else "with"
                    yield name, f"{sign} {old.value} → {new.value}", self._move(table, old, new)
        for name in ("AFTER_ACCEPTANCE", "OPEN", "LEFT"):
            members = getattr(states, name)
            for state in states.EmailState:
                sign = "without" if state in members else "with"
                yield name, f"{sign} {state.value}", self._set(members, members ^ {state})

    @staticmethod
    def _move(table: Any, old: Any, new: Any) -> Callable[[], Callable[[], None]]:
        def do() -> Callable[[], None]:
            kept = table[old]
            table[old] = kept ^ {new}
            return lambda: table.__setitem__(old, kept)

        return do

    @staticmethod
    def _set(members: Any, wrong: Any) -> Callable[[], Callable[[], None]]:
        def do() -> Callable[[], None]:
            places = [
                (module, name)
                for module in list(sys.modules.values())
                for name, value in list(getattr(module, "__dict__", {}).items())
                if value is members
            ]
            for module, name in places:
                setattr(module, name, wrong)
            return lambda: [setattr(module, name, members) for module, name in places] and None

        return do


class Run:
    """A plugin of pytest that takes the place of its loop over the tests."""

    def __init__(self, file: str, wanted: Callable[[str, str], bool]) -> None:
        self.file, self.wanted = file, wanted
        self.survivors: list[tuple[str, str]] = []
        self.broken: list[str] = []
        self.left_out: list[str] = []
        self.counts: Counter[str] = Counter()
        self.reached: dict[str, list[pytest.Item]] = {}
        self.took: dict[pytest.Item, float] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """All tests once without a mutant, then each mutant."""
        __import__(self.file.removesuffix(".py").replace("/", "."))
        living = Living(self.file)
        self._observe(session, living)
        for function, what, do in self._all(living):
            if self.wanted(function, what):
                self._judge(session, function, what, do)
                if self.counts.total() % 50 == 0:
                    print(f"          {self.counts.total()} mutants of {self.file}", flush=True)
        if session.items:
            session._setupstate.teardown_exact(None)
        return True

    def _all(self, living: Living) -> Iterator[tuple[str, str, Callable[[], Callable[[], None]]]]:
        def put(tree: Any) -> Callable[[], Callable[[], None]]:
            def do() -> Callable[[], None]:
                living.become(tree)
                return living.heal

            return do

        for mutant in mutants.of(living.source):
            yield mutant.function, mutant.what, put(mutant.tree)
        if self.file.endswith("outbox/states.py"):
            yield from Table(living).mutants()

    def _observe(self, session: pytest.Session, living: Living) -> None:
        seen: set[str] = set()
        setattr(builtins, SEEN, seen.add)
        living.become(living.observed())
        for item in session.items:
            seen.clear()
            began = time.process_time()
            if not self._passes(session, item) and not self._passes(session, item):
                self.left_out.append(item.nodeid)
                continue
            if (took := time.process_time() - began) > SLOW:
                self.left_out.append(item.nodeid)
                continue
            self.took[item] = took
            for name in seen:
                self.reached.setdefault(name, []).append(item)
        living.heal()
        for items in self.reached.values():
            items.sort(key=self.took.__getitem__)

    def _passes(self, session: pytest.Session, item: pytest.Item) -> bool:
        from _pytest.runner import runtestprotocol

        parent = item.parent
        assert parent
        # What the test before it does not share with this one is torn down; what this one alone has, right after it.
        session._setupstate.teardown_exact(parent)  # type: ignore[arg-type]
        reports = runtestprotocol(item, log=False, nextitem=parent)  # type: ignore[arg-type]
        return not any(report.failed for report in reports)

    def _judge(
        self,
        session: pytest.Session,
        function: str,
        what: str,
        do: Callable[[], Callable[[], None]],
    ) -> None:
        key = (function, what)
        tests = self.reached.get(function) or (list(self.took) if function.isupper() else [])
        if function.isupper():
            tests = sorted(tests, key=self.took.__getitem__)
        if not tests:
            self._tell("unreached", key)
            return
        for item in tests:
            heal = do()
            try:
                passed = self._passes(session, item)
            finally:
                heal()
            if not passed:
                if not self._passes(session, item) and not self._passes(session, item):
                    self.broken.append(f"{item.nodeid} fails without a mutant after {function}: {what}")
                self.counts["killed"] += 1
                # What has killed one mutant of a function often kills the next.
                mine = self.reached.get(function)
                if mine and mine[0] is not item:
                    mine.remove(item)
                    mine.insert(0, item)
                return
        self._tell("survived", key)

    def _tell(self, how: str, key: tuple[str, str]) -> None:
        self.counts[how] += 1
        self.survivors.append(key)
        print(f"{how:9} {Path(self.file).name} {key[0]}: {key[1]}", flush=True)


def explained(text: str) -> set[tuple[str, str, str]]:
    """(file, function, mutation) of the rows of docs/mutation.md."""
    return set(re.findall(r"^\| `([^`]+)` `([^`]+)` \| `([^|]+)` \|", text, re.M))


def main() -> int:
    """Run the mutants of the modules that are named, of all by default, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument(
        "module", nargs="*", choices=[[], *TESTS], default=[], help="paths; all of them by default"
    )
    parser.add_argument("--only", default="", help="mutants whose function or words contain this")
    parser.add_argument("--again", type=Path, help="only those that this former output says survived")
    parser.add_argument("--tests", nargs="+", default=[], help="other tests than the fitting ones")
    options = parser.parse_args()
    if len(options.module) != 1:
        # A process each: Django's databases are made once in a process.
        rest = ["--only", options.only]
        rest += ["--again", str(options.again)] if options.again else []
        rest += ["--tests", *options.tests] if options.tests else []
        ended = [subprocess.call([sys.executable, __file__, file, *rest]) for file in options.module or TESTS]
        return max(ended)
    file = options.module[0]
    former = set(options.again.read_text().splitlines()) if options.again else set()

    def wanted(function: str, what: str) -> bool:
        told = f"{Path(file).name} {function}: {what}"
        return options.only in told and (not former or bool({f"{how:9} {told}" for how in WAYS} & former))

    return judge(file, wanted, options.tests)


def judge(file: str, wanted: Callable[[str, str], bool], others: list[str]) -> int:
    """Run a module's mutants and tell how it went; 1 if something is not as it should be."""
    known = explained(EXPLAINED.read_text()) if EXPLAINED.exists() else set()
    run = Run(file, wanted)
    tests = [str(ROOT / "tests" / name) for name in others or TESTS[file]]
    began = time.monotonic()
    ended = pytest.main(
        [*tests, "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-m", NOT_HERE, "-o", "timeout=60",
         "--no-header", "--no-summary", f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml")],
        plugins=[run],
    )  # fmt: skip
    new = [key for key in run.survivors if (Path(file).name, *map(_cell, key)) not in known]
    print(
        f"{file}: {run.counts['killed']} killed, {run.counts['survived']} survived, {run.counts['unreached']} not"
        f" reached by a test; {len(new)} of them not explained; {time.monotonic() - began:.0f} s"
    )
    for function, what in new:
        print(f"| `{Path(file).name}` `{_cell(function)}` | `{_cell(what)}` | |")
    for test in run.left_out:
        print(f"left out, as it is slow or fails without any mutant here: {test}")
    for line in run.broken:
        print(f"BROKEN {line}")
    # Pytest itself has seen no test, so it is content, unless something broke.
    return int(bool(new or run.broken or ended != pytest.ExitCode.OK))


def _cell(text: str) -> str:
    """A text as it stands in a table."""
    return text.replace("|", "¦").replace("`", "'")


if __name__ == "__main__":
    sys.exit(main())
