"""The statements that fill a seeded database: one for each table, made from numbers by the server itself.

What several tables tell of is drawn once, into tables of our own (`bench_…`) that are dropped at the end. Each of
the product's tables is filled by a single INSERT while it is empty: InnoDB then sorts its indexes once.
"""

from __future__ import annotations

from collections.abc import Iterator

from emailoffload.sandbox.bench.seed_plan import (
    COMPANIES,
    FIRST_NAMES,
    LAST_NAMES,
    LEFT,
    SECRET,
    STATES,
    SUBJECTS,
    TEMPLATES,
    Plan,
    company,
    pick,
)

OWN = ("bench_draw", "bench_person", "bench_activity", "bench_claim", "bench_email")
ANSWERED = "('accepted','delayed','delivered','opened','clicked','bounced','complained','rejected')"
ARRIVED = "('delivered','opened','clicked','complained')"
SESSION = (
    "SET unique_checks = 0, foreign_key_checks = 0, check_constraint_checks = 0, time_zone = '+00:00',"
    " sql_mode = 'STRICT_ALL_TABLES,NO_UNSIGNED_SUBTRACTION', optimizer_switch = 'derived_merge=off'"
)
"""What the connection that fills needs: among it, that what is drawn in an inner SELECT is drawn once."""
Statement = tuple[str, str]
"""What is made, in words, and the SQL."""


def statements(plan: Plan) -> Iterator[Statement]:
    """All statements, in order."""
    yield from _drawn(plan)
    yield "passes", _runs(plan)
    yield "claims", _claims(plan)
    yield "emails", _emails(plan)
    yield "attempts", _attempts()
    yield "events", _events(plan)
    yield "hourly counts", _hours()
    yield from _figures(plan)
    yield from _others(plan)


def _drawn(plan: Plan) -> Iterator[Statement]:
    """The tables of draws. `bench_draw` has eight numbers from 0 to 1 for each email, and as many for each claim."""
    for name in OWN:
        yield "", f"DROP TABLE IF EXISTS {name}"
    plain = "ENGINE=Aria TRANSACTIONAL=0 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci"
    most = max(plan.emails, plan.claims)
    columns = "abcdefgh"
    yield (
        "draws",
        f"CREATE TABLE bench_draw (n INT PRIMARY KEY, {', '.join(f'{c} DOUBLE' for c in columns)}) {plain}"
        f" SELECT seq AS n, {', '.join(f'{plan.draw(c)} AS {c}' for c in columns)} FROM seq_1_to_{most}",
    )
    person = plan.draw("person")
    yield (
        "people",
        "CREATE TABLE bench_person (id INT PRIMARY KEY, company INT, first VARCHAR(20), last VARCHAR(20),"
        f" address VARCHAR(80)) {plain} SELECT p.id, IF(p.id % 33 = 7, NULL, p.company) AS company, p.first, p.last,"
        " LOWER(CONCAT(p.first, '.', p.last, p.id, '@company', p.company, '.example')) AS address FROM (SELECT"
        " seq AS id,"
        f" {company(person)} AS company, {pick(plan.draw('first'), FIRST_NAMES)} AS first,"
        f" {pick(plan.draw('last'), LAST_NAMES)} AS last FROM seq_1_to_{plan.people}) p",
    )
    yield (
        "activities",
        "CREATE TABLE bench_activity (id INT PRIMARY KEY, name VARCHAR(80), course INT, course_name VARCHAR(80))"
        f" {plain} SELECT seq AS id, CONCAT('Reminder: ', {_subject('seq')}) AS name, 2 + seq % {plan.courses} AS"
        f" course, CONCAT({_subject('seq')}, ' ', 2 + seq % {plan.courses}) AS course_name"
        f" FROM seq_1_to_{plan.activities}",
    )
    waiting = max(2, plan.waiting // 20)
    yield (
        "draws of claims",
        "CREATE TABLE bench_claim (id INT PRIMARY KEY, at DATETIME(6), due DATETIME(6), source VARCHAR(12),"
        f" template VARCHAR(30), user INT, activity INT, state VARCHAR(10), run INT) {plain} SELECT n AS id, at,"
        " IF(queue, at -"
        " INTERVAL 60 SECOND, at + INTERVAL 600 SECOND) AS due, IF(queue, 'iomad_queue', 'reengagement') AS source,"
        f" IF(queue, {pick('c', TEMPLATES)}, '') AS template,"
        f" IF(h < 0.0005, {plan.busy_user}, 1 + FLOOR(POW(d, 1.6) * {plan.people})) AS user,"
        f" 1 + FLOOR(POW(e, 2.5) * {plan.activities}) AS activity, CASE WHEN n % 101 = 0 THEN IF(f < 0.8, 'lost',"
        f" 'dropped') WHEN n > {plan.claims} - {waiting} THEN 'intended' WHEN n <= {plan.claims} - {plan.waiting}"
        " AND f"
        f" < 0.003 THEN 'released' ELSE 'claimed' END AS state, 1 + (n - 1) * {plan.runs} DIV {plan.claims} AS run"
        f" FROM (SELECT n, c, d, e, f, h, b < 0.25 AS queue, {plan.moment('week')} AS at FROM (SELECT n, b, c, d, e,"
        f" f, h, {plan.week(f'(n / {plan.claims})')} AS week FROM bench_draw WHERE n <= {plan.claims}) w) d",
    )
    yield (
        "draws of emails",
        "CREATE TABLE bench_email (id INT PRIMARY KEY, claim INT, kind VARCHAR(12), state VARCHAR(12), at"
        " DATETIME(6),"
        f" due DATETIME(6), answered DATETIME(6), ended DATETIME(6), attempts INT) {plain} SELECT id, claim,"
        " kind, state,"
        f" at, due, IF(state IN {ANSWERED} OR state = 'sent_smtp', LEAST(due + INTERVAL 1 + POW(c, 8) * 400 SECOND,"
        f" {plan.now}), NULL) AS answered, LEAST(due + INTERVAL 402 + POW(d, 6) * IF(state IN ('opened', 'clicked',"
        f" 'complained'), 200000, 3000) SECOND, {plan.now}) AS ended, CASE WHEN state IN ('prepared', 'queued',"
        " 'suppressed', 'cancelled', 'released') THEN 0 WHEN state IN ('sent_smtp', 'failed') OR f < 0.03 THEN 2"
        " ELSE 1"
        f" END AS attempts FROM (SELECT r.*, c.at, c.due, CASE WHEN c.state = 'intended' THEN 'prepared' WHEN"
        f" c.state = 'released' THEN 'released' WHEN r.id > {plan.emails - plan.waiting} THEN IF(r.g < 0.05,"
        " 'sending',"
        f" 'queued') ELSE {pick('r.a', STATES)} END AS state FROM (SELECT n AS id, a, c, d, f, g, n - n DIV 12 +"
        " (n - n"
        " DIV 12 - 1) DIV 100 AS claim, IF(n % 12, 'user', ELT(1 + n DIV 12 % 10, 'thirdparty', 'thirdparty',"
        " 'thirdparty', 'thirdparty', 'thirdparty', 'manager', 'manager', 'copy', 'copy', 'resend')) AS kind FROM"
        f" bench_draw WHERE n <= {plan.emails}) r STRAIGHT_JOIN bench_claim c ON c.id = r.claim) d",
    )


def _subject(number: str) -> str:
    return f"ELT(1 + {number} % {len(SUBJECTS)}, {', '.join(map(repr, SUBJECTS))})"


def _uuid(plan: Plan, kind: str, number: str) -> str:
    """A UUID of version 4, as our own are."""
    return f"INSERT(INSERT(MD5(CONCAT('{plan.seed}{kind}', {number})), 13, 1, '4'), 17, 1, '8')"


def _runs(plan: Plan) -> str:
    """Passes that claimed, each with its claims; then the passes of the last hours, which all stay for a while."""
    kinds = "'intercept', 'dispatch', 'recover', 'feedback', 'fallback', 'reconcile', 'suppressions'"
    return (
        "INSERT INTO emailoffload_run (id, kind, started_at, finished_at, holder, outcome, message, counts)"
        " SELECT run, 'intercept', at, at + INTERVAL 2 SECOND, 'mail-1:4711:9f2c01ab', IF(run % 200, 'ok',"
        " 'errors'), '',"
        " JSON_OBJECT('seen', 3 * mails, 'claimed', mails, 'lost', 0, 'left', JSON_OBJECT('not_enrolled',"
        " mails), 'errors',"
        " 0) FROM (SELECT run, MIN(at) AS at, COUNT(*) AS mails FROM bench_claim GROUP BY run) r UNION ALL"
        f" SELECT {plan.runs} + seq, ELT(1 + seq % 7, {kinds}), {plan.now} - INTERVAL (6000 - seq) * 10 SECOND,"
        f" {plan.now} - INTERVAL (6000 - seq) * 10 - 1 SECOND, 'mail-1:4711:9f2c01ab', CASE WHEN seq % 500 = 0 THEN"
        " 'failed' WHEN seq % 90 = 0 THEN 'refused' ELSE 'ok' END, '', '{}' FROM seq_1_to_6000"
    )


def _claims(plan: Plan) -> str:
    return (
        "INSERT INTO emailoffload_claim (id, ref, source, row_id, template, intent_key, state, `before`, `after`,"
        " under_lock, user_id, user_name, user_email, activity_id, activity_name, cmid, course_id, course_name,"
        " company_id, company_name, ordinal, is_last, completiontime, run_id, due_at, created_at, claimed_at,"
        " settled_at,"
        f" note, fallback) SELECT c.id, {_uuid(plan, 'c', 'c.id')}, c.source, 100000 + c.id, c.template,"
        " IF(c.state IN ('claimed', 'intended'), CONCAT(c.source, ':', 100000 + c.id, ':0:',"
        " UNIX_TIMESTAMP(c.due)), NULL),"
        ' c.state, CONCAT(\'{"emailsent": 0, "emailtime": \', FLOOR(UNIX_TIMESTAMP(c.due)), \', "completed": 0}\'),'
        " CONCAT('{\"emailsent\": 1, \"emailtime\": ', FLOOR(UNIX_TIMESTAMP(c.due)) + 604800, '}'),"
        " c.source = 'iomad_queue', c.user, CONCAT(p.first, ' ', p.last), p.address,"
        " IF(c.template = '', c.activity, 0), IF(c.template = '', a.name, ''), IF(c.template = '', 5000 + a.id,"
        " 0), a.course,"
        " a.course_name, p.company, IF(p.company IS NULL, '', CONCAT('Company ', p.company)), 1 + c.id % 3, c.id"
        " % 3 = 2,"
        f" 0, c.run, c.due, c.at, IF(c.state IN ('claimed', 'released'), LEAST(c.at + INTERVAL 1 SECOND, {plan.now}),"
        f" NULL), IF(c.state IN ('claimed', 'intended'), NULL, LEAST(c.at + INTERVAL 900 SECOND, {plan.now})), '',"
        " ELT(1 + (c.id % 10 = 9), 'moodle', 'smtp') FROM bench_claim c STRAIGHT_JOIN bench_person p ON p.id = c.user"
        " STRAIGHT_JOIN bench_activity a ON a.id = c.activity"
    )


def _emails(plan: Plan) -> str:
    """The emails. A resend is of the email before it, which is of the same claim."""
    home = "CONCAT('@company', IFNULL(p.company, 0), '.example')"
    return (
        "INSERT INTO emailoffload_email (id, ref, claim_id, resend_of_id, source, template, role, origin, user_id,"
        " recipient_id, activity_id, course_id, company_id, address, name, subject, `sensitive`, route, state,"
        " state_at,"
        " reason, detail, created_at, due_at, next_try_at, deadline_at, attempts, lease, leased_until, message_id,"
        " accepted_at, delivered_at, opened_at, clicked_at, bounced_at, complained_at, erased_at)"
        f" SELECT e.id, {_uuid(plan, 'e', 'e.id')}, e.claim, IF(e.kind = 'resend', e.id - 1, NULL), c.source,"
        " c.template,"
        " IF(e.kind = 'resend', 'user', e.kind), IF(e.kind = 'copy', 'Copies to training', ''), c.user, CASE"
        " WHEN e.kind IN"
        " ('user', 'resend') THEN c.user WHEN e.kind = 'manager' THEN 1 + IFNULL(p.company, 0) END,"
        " IF(c.template = '', c.activity, 0), a.course, p.company, CASE e.kind WHEN 'thirdparty' THEN CONCAT('hr',"
        f" {home}) WHEN 'manager' THEN CONCAT('manager', e.id % 7, {home}) WHEN 'copy' THEN CONCAT('training',"
        f" {home})"
        " ELSE p.address END, IF(e.kind IN ('user', 'resend'), CONCAT(p.first, ' ', p.last), ''), CONCAT('Please"
        " complete ',"
        f" a.course_name), c.template IN {SECRET}, CASE e.state WHEN 'sent_smtp' THEN 'smtp' WHEN 'released' THEN"
        " 'moodle'"
        " ELSE 'ses' END, e.state, CASE WHEN e.state IN ('prepared', 'queued') THEN e.at WHEN e.state IN ('accepted',"
        f" 'sent_smtp') THEN e.answered WHEN e.state = 'sending' THEN {plan.now} ELSE e.ended END,"
        " CASE e.state WHEN 'bounced' THEN IF(e.id % 5, 'bounced_permanent', 'bounced_transient') WHEN"
        " 'suppressed' THEN"
        " IF(e.id % 3, 'address_suppressed', 'not_enrolled') WHEN 'failed' THEN ELT(1 + e.id % 3,"
        " 'MessageRejected', 'deadline',"
        " 'content_missing') WHEN 'uncertain' THEN 'ReadTimeoutError' WHEN 'released' THEN ELT(1 + e.id % 2,"
        " 'deadline',"
        " 'account:AccountSuspendedException') WHEN 'sent_smtp' THEN 'deadline' WHEN 'rejected' THEN"
        " 'ses_rejected' WHEN"
        " 'delayed' THEN 'delivery_delayed' WHEN 'cancelled' THEN 'dealt_with' ELSE '' END, '', e.at, e.due, e.due,"
        " e.due + INTERVAL 900 SECOND, e.attempts, IF(e.state = 'sending', '0f4c', ''),"
        f" IF(e.state = 'sending', {plan.now} + INTERVAL 60 SECOND, NULL), IF(e.state IN {ANSWERED},"
        " CONCAT('0102018f',"
        " LPAD(HEX(e.id), 8, '0'), '-', LPAD(HEX(e.id * 48271 % 4294967296), 8, '0'), '-4b2d-4c1e-9f3a-',"
        " LPAD(HEX(e.id * 69621), 12, '0'), '-000000'), ''), e.answered,"
        f" IF(e.state IN {ARRIVED}, LEAST(e.answered + INTERVAL 2 SECOND, {plan.now}), NULL),"
        " IF(e.state IN ('opened', 'clicked'), e.ended, NULL), IF(e.state = 'clicked', e.ended, NULL),"
        " IF(e.state = 'bounced', e.ended, NULL), IF(e.state = 'complained', e.ended, NULL),"
        f" CASE WHEN c.template IN {SECRET} AND e.answered IS NOT NULL THEN LEAST(e.answered + INTERVAL 3600 SECOND,"
        f" {plan.now}) WHEN e.at < {plan.now} - INTERVAL 90 DAY THEN e.at + INTERVAL 90 DAY END"
        " FROM bench_email e STRAIGHT_JOIN bench_claim c ON c.id = e.claim STRAIGHT_JOIN bench_person p ON p.id"
        " = c.user"
        " STRAIGHT_JOIN bench_activity a ON a.id = c.activity"
    )


def _attempts() -> str:
    """Those of each email; all but the last found no way through."""
    return (
        "INSERT INTO emailoffload_attempt (email_id, number, route, started_at, finished_at, outcome, error_code,"
        " error_message, http_status, request_id, message_id, holder) SELECT e.id, s.seq, IF(s.seq < e.attempts,"
        " 'ses',"
        " e.route), e.due_at + INTERVAL s.seq * 30 SECOND, IF(e.state = 'sending', NULL, e.due_at + INTERVAL"
        " s.seq * 30 +"
        " 0.12 SECOND), CASE WHEN s.seq < e.attempts THEN 'not_transmitted' WHEN e.state = 'sending' THEN"
        " 'in_flight' WHEN"
        " e.state = 'failed' THEN 'permanent' WHEN e.state = 'uncertain' THEN 'unknown' ELSE 'accepted' END,"
        " IF(s.seq < e.attempts, 'ConnectTimeoutError', IF(e.state IN ('failed', 'uncertain'), e.reason, '')), '',"
        " IF(s.seq = e.attempts AND e.accepted_at IS NOT NULL, 200, NULL), CONCAT('4f2f2b0e-0d4b-4d57-',"
        " LPAD(HEX(e.id), 17, '0')),"
        " IF(s.seq = e.attempts, e.message_id, ''), 'mail-1:4711:9f2c01ab'"
        " FROM emailoffload_email e STRAIGHT_JOIN seq_1_to_2 s ON s.seq <= e.attempts"
    )


def _events(plan: Plan) -> str:
    """What SES reported: of each mail that it took a send, how it ended, and its opens and clicks."""
    last = "ELT(s.seq, IF(e.state IN ('bounced', 'rejected', 'delayed'), ELT(FIELD(e.state, 'bounced', 'rejected',"
    last += " 'delayed'), 'bounce', 'reject', 'delivery_delay'), 'delivery'), IF(e.state = 'complained', 'complaint',"
    last += " 'open'), 'click')"
    kind = f"IF(s.seq = 0, 'send', {last})"
    bounce = "s.seq = 1 AND e.state = 'bounced'"
    at = "CASE s.seq WHEN 0 THEN e.accepted_at WHEN 1 THEN IFNULL(e.delivered_at, e.state_at) ELSE e.state_at END"
    number = (
        f"CASE WHEN e.state NOT IN {ANSWERED} THEN 0 WHEN e.state = 'accepted' THEN 1 WHEN e.state = 'clicked'"
        " THEN 4 WHEN e.state IN ('opened', 'complained') THEN 3 ELSE 2 END"
    )
    return (
        "INSERT INTO emailoffload_event (`key`, type, at, received_at, message_id, ref, address, identity, kind,"
        " subkind,"
        " status, diagnostic, email_id, noted, match_again_at, match_tries, origin) SELECT"
        f" SHA2(CONCAT('{plan.seed}:',"
        f" e.id, ':', s.seq), 256), {kind}, {at}, LEAST({at} + INTERVAL 1 SECOND, {plan.now}), e.message_id,"
        " REPLACE(CAST(e.ref AS CHAR), '-', ''), LOWER(e.address), 'learn.example.org', IF("
        f"{bounce}, IF(e.id % 5, 'permanent', 'transient'), IF({kind} = 'complaint', 'abuse', '')),"
        f" IF({bounce}, IF(e.id % 5, 'NoEmail', 'MailboxFull'), ''), IF({bounce}, IF(e.id % 5, '5.1.1', '5.2.2'),"
        " ''),"
        f" IF({bounce}, 'smtp; 550 5.1.1 user unknown', ''), IF(e.id % 4000 = 0, NULL, e.id), e.id % 3000 = 0 AND"
        " s.seq = 1,"
        f" IF(e.id % 4000 = 0 AND e.id > {plan.emails - plan.emails // 40}, {plan.now} + INTERVAL 60 SECOND, NULL),"
        " IF(e.id % 4000 = 0, 12, 0), 'queue'"
        f" FROM emailoffload_email e STRAIGHT_JOIN seq_0_to_3 s ON s.seq < {number}"
    )


def _hours() -> str:
    """Every kind of hourly count, as a recount would find them."""
    hour = "TIMESTAMP(DATE({0}), MAKETIME(HOUR({0}), 0, 0))"
    counted = "SELECT '{kind}', {hour}, source, IFNULL(company_id, 0), {key}, COUNT(*) FROM {table}"
    counted += " GROUP BY 1, 2, 3, 4, 5"
    parts = [
        counted.format(kind="email", hour=hour.format("created_at"), key="state", table="emailoffload_email"),
        counted.format(kind="claim", hour=hour.format("created_at"), key="state", table="emailoffload_claim"),
    ]
    insert = "INSERT INTO emailoffload_hourcount (kind, hour, source, company_id, `key`, number) "
    return insert + " UNION ALL ".join(parts)


def _figures(plan: Plan) -> Iterator[Statement]:
    """Rows that stayed with Moodle, with their counts; the hours of reputation."""
    draw, moment = plan.draw, plan.moment("l.week")
    yield (
        "rows left to Moodle",
        "INSERT INTO emailoffload_leftrow (id, source, row_id, due_at, reason, detail, template, user_id,"
        " activity_id,"
        " course_id, company_id, first_seen, last_seen) SELECT l.id, IF(l.queue, 'iomad_queue', 'reengagement'),"
        " 5000000000 +"
        f" l.id, {moment}, l.reason, '', IF(l.queue, 'user_added_to_course', ''), l.user, IF(l.queue, 0,"
        " l.activity), a.course,"
        f" p.company, {moment}, LEAST({moment} + INTERVAL 1200 SECOND, {plan.now}) FROM (SELECT seq AS id,"
        f" {plan.week(f'(({3 * plan.left} + seq) / {4 * plan.left})')} AS week, {draw('left queue')} < 0.2 AS queue,"
        f" {pick(draw('left reason'), LEFT)} AS reason, 1 + FLOOR({draw('left user')} * {plan.people}) AS user, 1 +"
        f" FLOOR({draw('left activity')} * {plan.activities}) AS activity FROM"
        f" seq_1_to_{plan.left}) l STRAIGHT_JOIN bench_person p ON p.id = l.user STRAIGHT_JOIN bench_activity a ON"
        " a.id = l.activity",
    )
    yield (
        "hourly counts of these",
        "INSERT INTO emailoffload_hourcount (kind, hour, source, company_id, `key`, number) SELECT 'left',"
        " TIMESTAMP(DATE(first_seen), MAKETIME(HOUR(first_seen), 0, 0)), source, IFNULL(company_id, 0), reason,"
        " COUNT(*)"
        " FROM emailoffload_leftrow GROUP BY 1, 2, 3, 4, 5",
    )
    yield (
        "sums of hourly counts",
        "INSERT INTO emailoffload_countsum (kind, unit, begins, source, company_id, `key`, number) SELECT kind, 'hour',"
        " hour, source, 0, `key`, SUM(number) FROM emailoffload_hourcount GROUP BY kind, hour, source, `key` UNION ALL"
        " SELECT kind, 'day', TIMESTAMP(DATE(hour)), source, company_id, `key`, SUM(number) FROM emailoffload_hourcount"
        " GROUP BY kind, DATE(hour), source, company_id, `key`",
    )
    yield (
        "hours of reputation",
        "INSERT INTO emailoffload_reputationhour (hour, identity, company_id, sends, deliveries, permanent_bounces,"
        " transient_bounces, complaints, rejects) SELECT hour, 'learn.example.org', company_id,"
        f" SUM(IF(`key` IN {ANSWERED}, number, 0)), SUM(IF(`key` IN {ARRIVED}, number, 0)), SUM(IF(`key` ="
        " 'bounced', number, 0)), 0, SUM(IF(`key` = 'complained', number, 0)), SUM(IF(`key` = 'rejected', number, 0))"
        " FROM emailoffload_hourcount WHERE kind = 'email' GROUP BY hour, company_id",
    )


def _others(plan: Plan) -> Iterator[Statement]:
    """What there is less of: suppressions, shadows, findings, row errors, the audit log, alarms, unreadable"
    " events."""
    now = plan.now
    yield (
        "suppressions",
        "INSERT INTO emailoffload_suppression (address, active_key, reason, origin, event_id, email_id, detail,"
        " since, until,"
        " added_by, removed_at, removed_by, removal_reason, agreement, checked_at) SELECT address, IF(id % 6,"
        " address, NULL),"
        " IF(id % 9, 'bounce', 'complaint'), 'event', NULL, id, 'smtp; 550 5.1.1 user unknown', state_at, NULL,"
        " '', IF(id % 6,"
        " NULL, state_at), '', IF(id % 6, '', 'delivered'), IF(id % 50, 'agreed', 'to_add'), state_at FROM"
        " (SELECT MIN(id) AS id,"
        " LOWER(address) AS address, MIN(state_at) AS state_at FROM emailoffload_email WHERE state IN ('bounced',"
        " 'complained') AND role = 'user' GROUP BY LOWER(address) ORDER BY id LIMIT 60000) e",
    )
    shadows = min(60_000, max(20, plan.emails // 20))
    yield (
        "shadows",
        "INSERT INTO emailoffload_shadow (source, row_id, template, `before`, user_id, activity_id, course_id,"
        " company_id,"
        " mails, is_last, due_at, seen_at, verdict, compared_at, detail) SELECT 'reengagement', 9000000000 +"
        " seq, '', '{}', 1 +"
        f" seq * 7919 % {plan.people}, 1 + seq % {plan.activities}, 2 + seq % {plan.courses}, 1 + seq %"
        f" {COMPANIES}, 1, 0,"
        f" {now} - INTERVAL {shadows} - seq MINUTE, {now} - INTERVAL {shadows} - seq + 10 MINUTE, CASE WHEN"
        f" {shadows} - seq < 200"
        " THEN 'waiting' WHEN seq % 50 = 0 THEN 'gone' WHEN seq % 90 = 0 THEN 'untouched' ELSE 'sent' END,"
        f" IF({shadows} - seq < 200, NULL, {now} - INTERVAL {shadows} - seq - 5 MINUTE), IF({shadows} - seq <"
        " 200, '', 'counted')"
        f" FROM seq_1_to_{shadows}",
    )
    yield (
        "findings",
        "INSERT INTO emailoffload_reconcilefinding (claim_id, source, user_id, company_id, verdict, detail,"
        " seen, first_seen,"
        " closed_at, closed_because) SELECT id, source, user_id, company_id, ELT(1 + id DIV 400 % 6, 'touched',"
        " 'waiting',"
        " 'picked_up', 'gone', 'possible_double', 'overdue'), 'other_values', '{}', created_at, IF(id % 4000 ="
        " 0, NULL,"
        " created_at), IF(id % 4000 = 0, '', 'agrees') FROM emailoffload_claim WHERE id % 400 = 0",
    )
    yield (
        "row errors",
        "INSERT INTO emailoffload_rowerror (source, row_id, activity_id, user_id, reason, detail, first_seen,"
        " last_seen, times)"
        f" SELECT 'reengagement', 8000000000 + seq, 1 + seq % {plan.activities}, 1 + seq * 7919 % {plan.people},"
        f" 'no_course_module', '', {now} - INTERVAL seq + 30 HOUR, {now} - INTERVAL seq HOUR, 30 FROM seq_1_to_2000",
    )
    entries = max(200, plan.emails // 20)
    yield (
        "audit log",
        "INSERT INTO emailoffload_auditentry (at, actor, action, object_type, object_id, reason, details) SELECT"
        f" {plan.moment('week')}, CONCAT('person', seq % 60), ELT(1 + seq * 7 % 20, 'view_content',"
        " 'view_content', 'view_content', 'view_content', 'view_content', 'view_content', 'view_content',"
        " 'view_content',"
        " 'resend', 'resend', 'resend', 'retry', 'retry', 'dismiss', 'release', 'release', 'settle', 'export',"
        " 'pause',"
        f" 'change_copyrule'), 'email', 1 + seq * 104729 % {plan.emails}, IF(seq % 3, '', 'The learner asked for"
        f" it.'), '{{}}'"
        f" FROM (SELECT seq, {plan.week(f'(seq / {entries})')} AS week FROM seq_1_to_{entries}) w",
    )
    yield (
        "alarms",
        "INSERT INTO emailoffload_alarm (code, subject, active_key, level, text, cure, details, raised_at,"
        " seen_at, ended_at,"
        " told) SELECT ELT(1 + seq % 4, 'fallbacks', 'worker_silent', 'breaker_open', 'events_late'), '', IF(seq"
        " > 997,"
        " CONCAT('alarm', seq), NULL), ELT(1 + seq % 2, 'warning', 'critical'), 'Made by the benchmark.', '',"
        f" '{{}}', {now} -"
        f" INTERVAL (1001 - seq) * 9 HOUR, {now}, IF(seq > 997, NULL, {now} - INTERVAL (1001 - seq) * 9 - 1"
        f" HOUR), '{{}}'"
        " FROM seq_1_to_1000",
    )
    yield (
        "unreadable events",
        "INSERT INTO emailoffload_eventproblem (digest, origin, reason, detail, size, key_id, body, first_seen,"
        " last_seen,"
        f" times) SELECT SHA2(CONCAT('problem', seq), 256), 'queue', 'unknown_shape', '', 900, '', NULL, {now} -"
        " INTERVAL"
        f" 2001 - seq HOUR, {now} - INTERVAL 2001 - seq HOUR, 1 FROM seq_1_to_2000",
    )
