"""Every metric of `/metrics`: name, kind, labels and meaning. docs/monitoring.md lists the same, held by a test.

Names and labels are stable. No label holds an address, a name or an id of a person, and each has few values: kinds of
passes, states, codes. Numbers that say "counted up to" stop there: counting is cheap then, whatever the tables hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

PREFIX: Final = "email_offload_"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. A counter only grows; its name ends in `_total`."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    kind: Literal["gauge", "counter"] = "gauge"

    @property
    def full_name(self) -> str:
        """As `/metrics` has it."""
        return PREFIX + self.name


_ALL: Final = (
    Family("build_info", "1, with the version that runs", ("version",)),
    Family("database_up", "Whether the database answers: offload (ours) or moodle", ("database",)),
    Family("section_up", "Whether this part of the metrics could be read", ("section",)),
    Family("migrations_missing", "Migrations of this version that our database lacks"),
    # The worker
    Family("worker_heartbeat_age_seconds", "Time since the worker's last sign of life; absent if there never was one"),
    Family("pass_last_start_timestamp_seconds", "When the newest pass of a kind began", ("pass",)),
    Family("pass_last_duration_seconds", "How long the newest pass of a kind that has ended took", ("pass",)),
    Family("pass_last_outcome", "1 for how the newest ended pass of a kind ended, else 0", ("pass", "outcome")),
    Family("doctor_findings", "What the doctor found when it looked last, by verdict", ("verdict",)),
    Family("doctor_age_seconds", "Time since the doctor looked"),
    # Mails and claims
    Family("outbox_emails", "Mails that wait; queued is counted up to 50000, others up to 10000", ("state",)),
    Family("outbox_oldest_due_age_seconds", "How late the oldest due mail is; 0 where none is due"),
    Family("open_claims", "Claims half made or half handed back (releasing); counted up to 10000", ("state",)),
    Family("emails_created_total", "Mails ever made, by source", ("source",), "counter"),
    Family("claims_created_total", "Claims ever made, by source", ("source",), "counter"),
    Family("emails_day", "Mails made in the last 24 hours, by what they are now", ("source", "state")),
    Family("claims_day", "Claims made in the last 24 hours, by what they are now", ("source", "state")),
    Family("left_to_moodle_day", "Rows first left to Moodle in the last 24 hours, by reason", ("source", "reason")),
    Family("counts_age_seconds", "How old the hourly counts are that totals and days are read from"),
    Family("row_errors_day", "Rows of Moodle that could not be handled in the last 24 hours; counted up to 10000"),
    Family("findings_open", "Open findings of the reconciliation that need a person; counted up to 10000"),
    Family("paused", "1 while people have paused it: claims, sends", ("what",)),
    Family("iomad_watch_age_seconds", "Time since IOMAD's queue was looked at; absent without IOMAD"),
    # Amazon SES
    Family("ses_breaker", "1 for what the breaker is (closed, open, half_open), 0 for the others", ("state",)),
    Family("ses_breaker_open_seconds", "For how long the breaker has not been closed; 0 while it is"),
    Family("ses_account_age_seconds", "Time since the account was read last"),
    Family("ses_account_problem", "1 while the account cannot be read"),
    Family("ses_sending_enabled", "1 while the account may send"),
    Family("ses_quota_24h", "Mails that the account may send in 24 hours; absent without a limit"),
    Family("ses_sent_24h", "Mails that the account has sent in 24 hours"),
    Family("ses_quota_reserve", "Mails at the end of the quota that are kept for mails with credentials"),
    Family("ses_max_send_rate", "Mails per second that the account may send"),
    Family("ses_allowed_send_rate", "Mails per second that we send at most now: by throttling and SES_MAX_SEND_RATE"),
    Family("ses_sends_granted_total", "Mails that the shared rate has let through to SES", (), "counter"),
    # Events and reputation
    Family("events_queue_waiting", "Events in the queue that nobody has received; SQS says: about"),
    Family("events_queue_in_flight", "Events that somebody has received and not deleted"),
    Family("events_queue_poll_age_seconds", "Time since the queue answered last"),
    Family("events_queue_backlog_age_seconds", "For how long the queue has not been empty; 0 where nothing waits"),
    Family("events_queue_error", "1 while the queue cannot be read"),
    Family("events_last_age_seconds", "Time since the newest event came"),
    Family("reputation_mails", "Mails that the rates are taken of; window: volume or day", ("window",)),
    Family("reputation_bounce_ratio", "Permanent bounces per mail, 0 to 1", ("window",)),
    Family("reputation_complaint_ratio", "Complaints per mail, 0 to 1", ("window",)),
    Family("reputation_stops", "What is not claimed for because of its rates, by scope", ("scope",)),
    Family("suppressed_addresses", "Addresses that get no mail now; counted up to 50000"),
    # Alarms
    Family("alarms_open", "Open alarms, by code", ("code",)),
    Family("alarms_open_by_level", "Open alarms, by level: warning, critical", ("level",)),
)  # fmt: skip
FAMILIES: Final = {family.name: family for family in _ALL}
