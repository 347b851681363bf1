"""Every command that is documented exists as it is written, and every command of ours is documented."""

from __future__ import annotations

import argparse
import re
from functools import cache
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from emailoffload.management.commands import bench
from tests.docs.pages import DOCS, PAGES, command_lines, name

OURS = sorted(word for word, app in get_commands().items() if app == "emailoffload")


@cache
def parser(command: str) -> argparse.ArgumentParser:
    """The arguments of a command of `manage.py`."""
    app = get_commands()[command]
    loaded = load_command_class(app, command) if isinstance(app, str) else app
    return loaded.create_parser("manage.py", command)


def options(of: argparse.ArgumentParser) -> set[str]:
    """All options of a command, those of its sub-commands too."""
    found = set(of._option_string_actions)
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                found |= options(sub)
    return found


def chosen(command: str, of: argparse.ArgumentParser) -> list[str]:
    """The words of which the first argument of a command must be one; empty where it may be anything."""
    if command == "bench":
        return [*bench.NAMES, *bench.SEEDED]
    for action in of._actions:
        if not action.option_strings and action.choices:
            return [str(choice) for choice in action.choices]
    return []


def wrong(line: str) -> str:
    """What is wrong with the rest of a documented command, or ''."""
    words = line.split()
    command = words[0] if words else ""
    # `manage.py` alone, `manage.py …`, and sentences about the file.
    if not re.fullmatch(r"[a-z_]+", command) or command == "on":
        return ""
    if command not in get_commands():
        return f"there is no {command}"
    known = options(parser(command))
    for word in words[1:]:
        flag = re.match(r"\[?(--[a-z][a-z-]*)", word)
        if flag and flag[1] not in known:
            return f"{command} has no {flag[1]}"
    first = words[1] if len(words) > 1 else ""
    choices = chosen(command, parser(command))
    if choices and re.fullmatch(r"[a-z]+", first) and first not in choices:
        return f"{command} takes {', '.join(choices)}, not {first}"
    return ""


def inherited(command: str) -> set[str]:
    """The options that a command of ours has from Django, or from the command of another package that it extends."""
    classes = type(load_command_class("emailoffload", command)).__mro__
    theirs = next(kind for kind in classes if not kind.__module__.startswith("emailoffload."))
    return options(theirs().create_parser("manage.py", command)) | {"--json", "--skip-checks"}


@pytest.mark.parametrize("page", PAGES, ids=name)
@pytest.mark.parametrize("program", ["manage.py", "email-offload"])
def test_every_command_that_is_documented_exists_with_its_options(program: str, page: Path) -> None:
    lines = [line for line in command_lines(page.read_text(), program) if line]
    assert [found for line in lines if (found := wrong(line))] == []


def test_a_command_or_an_option_that_does_not_exist_is_noticed() -> None:
    block = "```sh\n.venv/bin/python manage.py setup \\\n    --nonsense\n```\n"
    text = f"{block}Run `manage.py\nnever`, `manage.py doctor`."
    assert [wrong(line) for line in command_lines(text, "manage.py")] == [
        "setup has no --nonsense", "there is no never", "",
    ]  # fmt: skip
    assert wrong("bench nothing") and not wrong("bench soak --minutes 5") and not wrong("recover")


def test_every_command_of_the_product_has_one_line_in_the_list() -> None:
    listed = re.findall(r"^\| `manage\.py (\w+)", (DOCS / "commands.md").read_text(), re.MULTILINE)
    assert sorted(listed) == OURS


def test_every_option_of_every_command_is_documented() -> None:
    """Not asked for are those that Django and django-q give to theirs, and the many of setup, which its help tells."""
    text = "".join(page.read_text() for page in PAGES)
    missing = [
        f"{command} {option}"
        for command in OURS
        if command != "setup"
        for option in sorted(options(parser(command)) - inherited(command))
        if option.startswith("--") and not re.search(rf"{re.escape(option)}(?![a-z-])", text)
    ]
    assert missing == []
