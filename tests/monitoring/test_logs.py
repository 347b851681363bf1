"""A log line has the ids that join it with others, and neither an address nor the text of an error."""

from __future__ import annotations

import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site
from django.db import IntegrityError, OperationalError
from django.test import RequestFactory

from emailoffload import logs
from emailoffload.delivery import health
from emailoffload.delivery.errors import Outcome
from emailoffload.feedback import alarms
from emailoffload.outbox import switches
from emailoffload.outbox.models import Run, State
from emailoffload.worker import runs
from offloadsite import env, gunicorn

DOCS = Path(__file__).resolve().parents[2] / "docs"
log = logging.getLogger("emailoffload.test")


def record_of(text: str, *args: Any, error: BaseException | None = None, **extra: Any) -> logging.LogRecord:
    """A record as the logging module makes it."""
    info = (type(error), error, error.__traceback__) if error else None
    return log.makeRecord(log.name, logging.WARNING, __file__, 1, text, args, info, extra=extra)


def as_json(record: logging.LogRecord) -> dict[str, Any]:
    """The one object that the line is."""
    line = logs.OneLineJson().format(record)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def breaker() -> health.Breaker:
    """The breaker, which is open or half open."""
    found = health.breaker()
    assert found is not None
    return found


def plain(record: logging.LogRecord) -> str:
    """The line for people."""
    return logs.PlainFormatter().format(record)


def quoting() -> BaseException:
    """An error of a database that quotes a row, behind one of ours."""
    try:
        try:
            raise IntegrityError(1062, "Duplicate entry 'ada@example.org' for key 'address'")
        except IntegrityError as error:
            raise ValueError("Ada Lovelace") from error
    except ValueError as error:
        return error


def test_a_line_is_one_json_object_with_time_level_process_text_and_ids() -> None:
    with logs.bound(run=4711, kind="dispatch"):
        found = as_json(record_of("It took %d rows.", 3, claim=15, row=99))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", found.pop("time"))
    assert found.pop("process") == logs.process()
    assert found == {
        "level": "WARNING", "logger": "emailoffload.test", "message": "It took 3 rows.", "run": 4711,
        "pass": "dispatch", "row": 99, "claim": 15,
    }  # fmt: skip


def test_a_line_for_people_ends_with_the_ids() -> None:
    with logs.bound(request="abc"):
        line = plain(record_of("It took %d rows.", 3, email=7, status=200))
    assert re.fullmatch(
        r"\S+ WARNING emailoffload\.test It took 3 rows\. \[request=abc email=7 process=\S+\]", line
    )


def test_ids_end_with_their_block_and_an_inner_one_adds_its_own() -> None:
    with logs.bound(request="abc"):
        with logs.bound(run=1, kind="intercept"):
            assert (
                as_json(record_of("x")).items() >= {"request": "abc", "run": 1, "pass": "intercept"}.items()
            )
        assert "run" not in as_json(record_of("x"))
    assert "request" not in as_json(record_of("x"))


def test_a_thread_that_works_on_the_same_thing_logs_with_the_same_ids() -> None:
    with logs.bound(run=5), ThreadPoolExecutor(1, initializer=logs.adopt, initargs=(logs.ids(),)) as pool:
        assert pool.submit(lambda: as_json(record_of("x"))).result()["run"] == 5


@pytest.mark.parametrize("render", [lambda record: json.dumps(as_json(record)), plain])
def test_an_error_is_told_by_type_number_and_place_and_never_by_its_text(render: Any) -> None:
    line = render(record_of("It failed.", error=quoting()))
    assert "django.db.utils.IntegrityError (1062)" in line and "builtins.ValueError" in line
    assert "test_logs.py" in line and "in quoting" in line
    for secret in ("ada", "Ada", "Lovelace", "Duplicate", "example.org"):
        assert secret not in line


@pytest.mark.parametrize("render", [lambda record: json.dumps(as_json(record)), plain])
@pytest.mark.parametrize(
    "text",
    [
        "No mail to ada@example.org now.", "<ada@example.org>", "to=ada%40example.org", "ada+moodle@example.org,",
        "mysql://offload:ada@example.org:3306/x", "Ädä@exämple.org",
    ],
)  # fmt: skip
def test_whatever_looks_like_an_address_is_replaced(render: Any, text: str) -> None:
    line = render(record_of("%s", text, path=text))
    assert "ada" not in line and "Ädä" not in line and "example.org" not in line
    assert logs.NO_ADDRESS in line


def test_a_text_without_an_address_stays_as_it_is() -> None:
    text = "The pass 3 ended in 0.4 s: ok (seen 12). See docs/failure.md, arn:aws:sns:eu-west-1:1:x."
    assert as_json(record_of("%s", text))["message"] == text


def test_nothing_that_a_library_hangs_on_a_line_is_written() -> None:
    found = as_json(record_of("x", request_object="GET /?q=ada", body="Dear Ada", address="ada@example.org"))
    assert set(found) == {"time", "level", "logger", "message", "process"}


def test_the_request_that_django_hangs_on_its_lines_is_not_taken_for_the_id_of_one() -> None:
    request = RequestFactory().get("/emails/", {"q": "Ada Lovelace"})
    with logs.bound(request="0123456789abcdef"):
        assert as_json(record_of("x", request=request, status_code=500))["request"] == "0123456789abcdef"
    assert "request" not in as_json(record_of("x", request=request))


def test_nothing_in_a_text_can_begin_a_line_that_looks_like_one_of_ours() -> None:
    line = plain(record_of("x %s", "y\r\n2026-01-01 CRITICAL forged\x1b[31m\u2028z", path="a\nb"))
    assert all(part.startswith("    ") for part in line.split("\n")[1:])
    assert len(line.splitlines()) == 2 and "\x1b" not in line and "\r" not in line


@pytest.mark.mariadb
@pytest.mark.django_db
class TestPasses:
    """The lines of passes."""

    def test_what_is_logged_during_a_pass_names_it(self, caplog: pytest.LogCaptureFixture) -> None:
        with runs.record("dispatch") as recording:
            found = as_json(record_of("x"))
        assert (found["run"], found["pass"]) == (recording.row.pk, "dispatch")

    @pytest.mark.parametrize(
        ("outcome", "counts", "level"),
        [
            ("ok", {}, "DEBUG"), ("ok", {"sent": 3, "left": {"x": 1}, "seconds": 1.5, "failed": 0}, "INFO"),
            ("refused", {}, "WARNING"), ("errors", {"errors": 1}, "WARNING"),
        ],
    )  # fmt: skip
    def test_its_end_is_one_line_that_says_what_it_did_or_why_not(
        self, outcome: str, counts: dict[str, Any], level: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "emailoffload.worker.runs")
        with runs.record("dispatch") as recording:
            recording.counts = counts
            if outcome != "ok":
                getattr(recording, outcome)("Sending is paused.")
        (line,) = [each for each in caplog.records if each.name == "emailoffload.worker.runs"]
        found = as_json(line)
        assert line.levelname == level and found["outcome"] == outcome
        assert found["run"] == Run.objects.get().pk and found["pass"] == "dispatch"
        assert ("Sending is paused." in found["message"]) == (outcome != "ok")
        if level == "INFO":
            assert "(sent 3)" in found["message"]

    def test_a_pass_that_fails_is_an_error_told_without_the_text_of_its_exception(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(ValueError), runs.record("intercept"):
            raise ValueError("ada@example.org")
        (line,) = [each for each in caplog.records if each.name == "emailoffload.worker.runs"]
        assert line.levelname == "ERROR" and "failed. builtins.ValueError" in line.getMessage()
        written = plain(line)
        assert "test_logs.py" in written and "The next pass tries again" in written
        assert "ada" not in written

    def test_a_pass_that_a_database_stops_is_told_by_its_number_without_the_whole_way_there(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(OperationalError), runs.record("intercept"):
            raise OperationalError(2006, "Server has gone away from ada@example.org")
        (line,) = [each for each in caplog.records if each.name == "emailoffload.worker.runs"]
        written = plain(line)
        assert "(OperationalError 2006)" in written and "\n" not in written and "ada" not in written


@pytest.mark.django_db
class TestTurns:
    """Lines about what changes how mail goes: once when it begins, once when it is over."""

    def test_a_breaker_that_opens_and_closes_is_told_with_code_and_cure(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        health.trip(Outcome("account", "SendingPaused", "AWS has paused the account: answer the case."))
        State.objects.filter(name=health.BREAKER).update(value=asdict(replace(breaker(), open_until=0.0)))
        health.trip(Outcome("account", "SendingPaused", "AWS has paused the account: answer the case."))
        health.close()
        health.close()
        told = [(each.levelname, each.getMessage()) for each in caplog.records]
        assert [level for level, _text in told] == ["WARNING", "INFO", "WARNING"]
        assert "SendingPaused" in told[0][1] and "answer the case" in told[0][1]
        assert "takes mails again" in told[2][1]

    def test_an_alarm_is_told_when_it_is_raised_and_when_it_is_over_and_not_in_between(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        for _ in range(3):
            alarms.raise_alarm("breaker_open", "", "critical", "SES takes no mails.", "Look there.")
        alarms.end_alarm("breaker_open")
        alarms.end_alarm("breaker_open")
        assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
            ("CRITICAL", "Alarm breaker_open: SES takes no mails. Look there."),
            ("WARNING", "The alarm breaker_open is over."),
        ]

    def test_a_pause_is_told_without_who_and_why(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        switches.set_pause(switches.Pause(claims=True, sends=True, by="ada", reason="Lovelace"))
        switches.set_pause(switches.Pause())
        first, second = caplog.messages
        assert "claiming and sending stop with their next batch" in first
        assert "nothing is paused any more" in second
        assert "ada" not in caplog.text and "Lovelace" not in caplog.text


def test_the_log_of_a_site_is_written_by_these_formatters() -> None:
    formatters = site.LOGGING["formatters"]
    assert set(formatters) == {"plain", "json"} == {*env.BY_NAME["LOG_FORMAT"].parse("json").split(), "plain"}
    for name, kind in (("plain", logs.PlainFormatter), ("json", logs.OneLineJson)):
        assert formatters[name]["()"] == f"{kind.__module__}.{kind.__qualname__}"
    assert site.LOGGING["handlers"]["console"]["formatter"] == site.LOG_FORMAT == "plain"


def test_the_web_server_writes_its_own_lines_as_we_do_and_keeps_no_log_of_what_was_asked_for() -> None:
    config = gunicorn.logconfig_dict
    assert config["formatters"]["generic"]["()"] == "emailoffload.logs.PlainFormatter"
    silent = config["loggers"]["gunicorn.access"]
    assert gunicorn.accesslog is None and not silent["handlers"] and not silent["propagate"]


def test_the_fields_in_the_documentation_are_those_of_the_code() -> None:
    page = (DOCS / "monitoring.md").read_text().partition("## Logs")[2].partition("### ")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.MULTILINE)) == dict(logs.FIELDS)
