"""Asking a person at a terminal: each question with one sentence and a default; wrong input is asked again.

Without a person (`interactive` off) the default is taken, and what has none is an error that names the option.
"""

from __future__ import annotations

import getpass
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from django.core.management.base import CommandError

from offloadsite import env

T = TypeVar("T")
WIDTH = 100
"""Columns of explanations."""


class Cancelled(Exception):
    """The person ended the dialogue with Ctrl-C or at the end of the input."""


@dataclass
class Asker:
    """One dialogue. `say` prints a line; `read` and `read_secret` ask for one, as `input` and `getpass` do."""

    say: Callable[[str], None]
    interactive: bool = True
    read: Callable[[str], str] = input
    read_secret: Callable[[str], str] = getpass.getpass

    def ask(
        self,
        question: str,
        why: str,
        parse: Callable[[str], T],
        *,
        default: str | None = None,
        option: str,
        given: str | None = None,
    ) -> T:
        """The answer as `parse` takes it, which raises env.Malformed for what cannot be.

        `given` is what the option says: it is not asked about. An empty answer is the default. Raises CommandError
        without a person, where the value is wrong or missing; Cancelled.
        """
        if given is not None:
            return self._judged(given, parse, option)
        if not self.interactive:
            if default is None:
                raise CommandError(f"{option} is missing. {why}", returncode=2)
            return self._judged(default, parse, option)
        self._explain(why)
        shown = f" [{default}]" if default else ""
        while True:
            answer = self._line(self.read, f"{question}{shown}: ").strip() or (default or "")
            if not answer and default is None:
                self.say("  Something has to be entered here.")
                continue
            try:
                return parse(answer)
            except env.Malformed as error:
                self.say(f"  That does not do: {error}.")

    def secret(
        self,
        question: str,
        why: str,
        *,
        option: str,
        file: str | None = None,
        kept: str = "",
        empty: bool = False,
    ) -> str:
        """A password: from the file that the option names, else typed unseen; an empty answer keeps what was there.

        Raises CommandError and Cancelled as `ask`.
        """
        if file is not None:
            return secret_from(file, option)
        if not self.interactive:
            if not kept and not empty:
                raise CommandError(f"{option} is missing. {why}", returncode=2)
            return kept
        self._explain(why)
        hint = " (not shown; Enter keeps the present one)" if kept else " (not shown)"
        while True:
            answer = self._line(self.read_secret, f"{question}{hint}: ")
            if answer or kept or empty:
                return answer or kept
            self.say("  Something has to be entered here.")

    def yes(self, question: str, why: str, *, default: bool, given: bool | None = None) -> bool:
        """Yes or no; without a person what the options say, else no: nothing is done that nobody asked for."""
        if given is not None or not self.interactive:
            return bool(given)
        if why:
            self._explain(why)
        while True:
            answer = self._line(self.read, f"{question} [{'Y/n' if default else 'y/N'}]: ").strip().lower()
            if answer in {"", "y", "yes", "n", "no"}:
                return default if not answer else answer.startswith("y")
            self.say("  Answer y or n.")

    def choose(
        self, question: str, why: str, choices: Sequence[tuple[str, str]], *, default: str, option: str,
        given: str | None = None,
    ) -> str:  # fmt: skip
        """One of a few words, each with what it means."""
        words = [word for word, _meaning in choices]
        lines = "\n".join(f"  {word:<8} {meaning}" for word, meaning in choices)
        return self.ask(
            question, f"{why}\n{lines}", env.choice(*words), default=default, option=option, given=given
        )

    def _explain(self, why: str) -> None:
        self.say("\n" + "\n".join(wrapped(line) for line in why.splitlines()))

    def _judged(self, value: str, parse: Callable[[str], T], option: str) -> T:
        try:
            return parse(value)
        except env.Malformed as error:
            raise CommandError(f"{option}: {error}.", returncode=2) from error

    def _line(self, read: Callable[[str], str], prompt: str) -> str:
        try:
            return read(prompt)
        except (EOFError, KeyboardInterrupt):
            raise Cancelled from None


def wrapped(text: str) -> str:
    """A line for people, broken at the width of a page; what follows its first words of a list stands below them."""
    return textwrap.fill(
        text, WIDTH, subsequent_indent=" " * (11 if text.startswith("  ") else 0), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def secret_from(file: str, option: str) -> str:
    """The first line of a file that holds a secret. Raises CommandError."""
    try:
        lines = Path(file).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise CommandError(f"{option}: {file} cannot be read ({why}).", returncode=2) from error
    if not lines or not lines[0].strip():
        raise CommandError(f"{option}: {file} is empty.", returncode=2)
    return lines[0].strip()


def text_or_nothing(value: str) -> str:
    """Any text; `-` is nothing, where the default is something."""
    return "" if value.strip() == "-" else value.strip()


def checked(name: str) -> Callable[[str], str]:
    """A setting's value as it is entered, once its own parser takes it."""

    def parse(value: str) -> str:
        value = text_or_nothing(value)
        parsed: Any = env.BY_NAME[name].parse(value)
        return str(parsed) if isinstance(parsed, str) else value

    return parse
