"""Every secret may lie in a file of its own, as secret managers hand them out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offloadsite import blank, env

SECRETS = [spec.name for spec in env.SPECS if spec.secret]


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the settings is in the environment, and what a test loads into it is gone after it."""
    for name in env.NAMES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(env, "_FROM_FILE", set())


def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> Path:
    """The file of a secret, named in the environment."""
    file = tmp_path / name.lower()
    file.write_text(text)
    monkeypatch.setenv(f"{name}_FILE", str(file))
    return file


def test_what_opens_something_is_a_secret() -> None:
    ours = {"DATABASE_URL", "SECRET_KEY", "CONTENT_KEYS"}
    others = {"MOODLE_DATABASE_URL", "EMAIL_URL", "OIDC_CLIENT_SECRET", "ALARM_WEBHOOK_SECRET"}
    assert ours | others <= set(SECRETS)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_read_from_its_file_without_blanks_around_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = env.BY_NAME[name]
    given(tmp_path, monkeypatch, name, f"\n{spec.example}  \n")
    values, problems = env.read()
    assert (values[name], problems) == (spec.parse(spec.example), [])


@pytest.mark.parametrize("name", SECRETS)
def test_a_file_that_cannot_be_used_is_named_with_its_cause_and_never_with_what_it_holds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = given(tmp_path, monkeypatch, name, " \n")
    empty = env.read()[1]
    file.write_bytes(b"hidden\xff")
    binary = env.read()[1]
    file.unlink()
    missing = env.read()[1]
    for (text,), cause in [
        (empty, "the file is empty"),
        (binary, "the file cannot be read (UnicodeDecodeError)"),
        (missing, "the file cannot be read (FileNotFoundError)"),
    ]:
        assert text.startswith(f"{name}_FILE: {cause}.")
        assert f"Example: {name}_FILE=/run/secrets/" in text
        assert "hidden" not in text


def test_what_a_file_holds_is_checked_like_any_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(tmp_path, monkeypatch, "DATABASE_URL", "postgres://hidden@db/x")
    (problem,) = env.read()[1]
    assert problem.startswith("DATABASE_URL: malformed")
    assert "hidden" not in problem


def test_a_secret_that_is_given_both_ways_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(tmp_path, monkeypatch, "SECRET_KEY", "one")
    monkeypatch.setenv("SECRET_KEY", "another")
    (problem,) = env.read()[1]
    assert problem.startswith("SECRET_KEY_FILE: SECRET_KEY is given too: keep one of the two.")


@pytest.mark.parametrize("outside", ["SECRET_KEY", "SECRET_KEY_FILE"])
def test_the_environment_wins_over_the_settings_file_whichever_of_the_two_names_it_uses(
    outside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from the secret's file")
    both = {"SECRET_KEY": "written down", "SECRET_KEY_FILE": str(secret)}
    inside = next(name for name in both if name != outside)
    settings = tmp_path / "site.env"
    settings.write_text(f'{inside}="{both[inside]}"\n')
    monkeypatch.setenv("OFFLOAD_ENV_FILE", str(settings))
    monkeypatch.setenv(outside, both[outside])
    env.load_env_file()
    values, problems = env.read()
    assert problems == []
    assert values["SECRET_KEY"] == ("written down" if outside == "SECRET_KEY" else "from the secret's file")


def test_a_file_of_its_own_may_be_named_in_the_settings_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, settings = tmp_path / "secret", tmp_path / "site.env"
    secret.write_text("from the secret's file")
    settings.write_text(f"SECRET_KEY_FILE={secret}\n")
    monkeypatch.setenv("OFFLOAD_ENV_FILE", str(settings))
    env.load_env_file()
    assert env.read()[0]["SECRET_KEY"] == "from the secret's file"
    (found,) = [each for each in env.given() if each.spec.name == "SECRET_KEY"]
    assert (found.origin, found.raw) == ("secret file", "")


def test_setup_puts_the_names_of_secrets_files_aside_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blank, "PUT_ASIDE", {})
    monkeypatch.setattr(blank, "_begun", False)
    monkeypatch.setenv("OFFLOAD_ENV_FILE", os.environ["OFFLOAD_ENV_FILE"])
    given(tmp_path, monkeypatch, "DATABASE_URL", "mysql://own@db/x")
    for name in ("SECRET_KEY", "CONTENT_KEYS", "MOODLE_DATABASE_URL", "MOODLE_WWWROOT", "DATABASE_URL"):
        monkeypatch.setenv(name, "before")
    blank.begin()
    assert "DATABASE_URL_FILE" in blank.PUT_ASIDE
    assert "DATABASE_URL_FILE" not in os.environ
    assert env.read()[1] == []
