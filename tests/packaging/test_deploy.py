"""What is said in several places about how the product is run agrees, and a linter finds nothing."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from offloadsite import env
from tests.processes import ROOT

DEPLOY = ROOT / "docs" / "deploy"
UNITS = {name: (DEPLOY / f"email-offload-{name}.service").read_text() for name in ("web", "worker")}


@pytest.fixture(scope="module")
def imagecheck() -> Any:
    """The functions of tools/imagecheck.py."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        return runpy.run_path(str(ROOT / "tools" / "imagecheck.py"), run_name="imagecheck")
    finally:
        sys.path.remove(str(ROOT / "tools"))


@pytest.fixture(scope="module")
def image(imagecheck: Any) -> dict[str, str]:
    """The instructions of the image itself; the last of a kind holds."""
    return dict(imagecheck["instructions"]((ROOT / "Dockerfile").read_text()))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The services of compose.yaml."""
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text())["services"])


def seconds(text: str) -> int:
    """Of `90s`, or of systemd's plain number."""
    return int(text.removesuffix("s"))


def test_a_linter_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_a_user_whose_number_says_that_it_is_not_root(image: dict[str, str]) -> None:
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", image["USER"])
    assert f"--uid {image['USER'].partition(':')[0]}" in image["RUN"]


def test_image_and_unit_start_the_dashboard_alike(image: dict[str, str]) -> None:
    (unit,) = re.findall(r"^ExecStart=\S*/(gunicorn .*) --bind", UNITS["web"], re.M)
    assert " ".join(json.loads(image["CMD"])).startswith(unit)
    assert (ROOT / "offloadsite" / "gunicorn.py").is_file()


def test_the_build_sees_the_product_and_neither_keys_nor_settings_nor_tests(imagecheck: Any) -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    ignored = imagecheck["ignored"]
    seen = {
        "manage.py", "requirements.lock", "offloadsite/settings.py", "emailoffload/moodle/claims.py",
        "templates/dashboard/base.html", "static/offload/app.js",
    }  # fmt: skip
    hidden = {
        ".env", "var/content.key", "tests/conftest.py", "secrets/database_url", "requirements-dev.lock", ".git/config",
        "emailoffload/__pycache__/models.cpython-311.pyc", "offloadsite/.env", "emailoffload/x.sqlite3",
        "docs/install.md",
    }  # fmt: skip
    assert [name for name in seen if ignored(name, rules)] == []
    assert [name for name in hidden if not ignored(name, rules)] == []


def test_what_is_needed_at_run_time_is_copied_into_the_image(imagecheck: Any) -> None:
    steps = imagecheck["instructions"]((ROOT / "Dockerfile").read_text())
    copied = {rest.split()[0] for word, rest in steps if word == "COPY"}
    assert {"manage.py", "offloadsite", "emailoffload", "templates", "static"} <= copied


@pytest.mark.parametrize("name", ["web", "worker", "migrate", "setup"])
def test_our_containers_can_write_nowhere_but_to_the_volume_and_have_no_privilege(
    name: str, compose: dict[str, Any]
) -> None:
    service = compose[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] == ["/tmp"]
    assert "privileged" not in service


def test_units_and_containers_give_as_much_time_to_end(compose: dict[str, Any]) -> None:
    for name, unit in UNITS.items():
        (given,) = re.findall(r"^TimeoutStopSec=(\S+)$", unit, re.M)
        assert seconds(given) == seconds(compose[name]["stop_grace_period"])
    graceful = runpy.run_path(str(ROOT / "offloadsite" / "gunicorn.py"))["graceful_timeout"]
    assert graceful < seconds(compose["web"]["stop_grace_period"])


def test_the_worker_may_start_as_many_threads_as_can_be_set() -> None:
    (limit,) = map(int, re.findall(r"^TasksMax=(\d+)$", UNITS["worker"], re.M))
    most = 256
    assert env.BY_NAME["DISPATCH_THREADS"].parse(str(most)) == most
    slots = int(env.BY_NAME["DISPATCH_SLOTS"].default)
    assert limit >= most * slots + 200


def test_a_signal_reaches_the_first_process_only() -> None:
    for unit in UNITS.values():
        assert "\nKillMode=mixed\n" in unit
        assert "\nRestart=always\n" in unit


def test_the_dashboard_is_published_on_the_loopback_address_only(compose: dict[str, Any]) -> None:
    published = [port for service in compose.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:${OFFLOAD_PORT:-8000}:8000"]
    assert "--bind 127.0.0.1:8000" in UNITS["web"]


def test_no_secret_stands_in_the_examples_and_each_file_of_one_belongs_to_a_setting() -> None:
    text = (ROOT / "compose.yaml").read_text() + (DEPLOY / "compose.secrets.yaml").read_text()
    assert not re.search(r"(?<!RANDOM_ROOT_)(PASSWORD|KEY|KEYS|URL): *[^ \n]", text)
    named = set(re.findall(r"^\s+([A-Z_]+_FILE): /run/secrets/", text, re.M))
    assert named - set(env.NAMES) == {"MARIADB_PASSWORD_FILE", "AWS_SHARED_CREDENTIALS_FILE"}
    assert {"DATABASE_URL_FILE", "MOODLE_DATABASE_URL_FILE", "SECRET_KEY_FILE", "CONTENT_KEYS_FILE"} <= named


def test_nginx_passes_on_nothing_that_a_visitor_claims_to_be() -> None:
    text = (DEPLOY / "nginx.conf").read_text()
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in text
    assert "proxy_set_header X-Forwarded-Proto https;" in text
    assert "TRUSTED_PROXIES=1" in text
    assert "Strict-Transport-Security" not in text
    # A directive within a location would put those of the server aside.
    for inner in re.findall(r"location [^{]*\{([^}]*)\}", text):
        assert "proxy_set_header" not in inner


def test_an_instruction_that_the_check_does_not_know_is_refused(imagecheck: Any, tmp_path: Path) -> None:
    build = imagecheck["Build"](tmp_path, tmp_path, tmp_path, {})
    with pytest.raises(Exception, match="ONBUILD is an instruction that this tool does not know"):
        build.do("ONBUILD", "RUN true")
    with pytest.raises(Exception, match="does not begin with FROM"):
        build.do("USER", "x")
