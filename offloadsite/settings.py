"""Settings of Email Offload. What a site may set, with meaning and example, is the table in `env.py`."""

from __future__ import annotations

import os
from datetime import timedelta
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from offloadsite import env, keys

BASE_DIR = env.BASE_DIR
env.load_env_file()
_values, _problems = env.read()

DATA_DIR = Path(_values.get("OFFLOAD_DATA_DIR") or env.HOME_DIR / "var")

# --- The sample site: without a Moodle database, everything works on embedded defaults. ---
SAMPLE_SITE = _values.get("MOODLE_DATABASE_URL", 0) is None
SAMPLE_MOODLE_PATH = DATA_DIR / "sample-moodle.sqlite3"
SANDBOX_PORT = _values.get("SANDBOX_PORT", 8026)
if SAMPLE_SITE:
    _sandbox = f"http://127.0.0.1:{SANDBOX_PORT}"
    if os.environ.setdefault("AWS_ENDPOINT_URL_SESV2", _sandbox) == _sandbox:
        # The local SES publishes its events into a queue of its own.
        os.environ.setdefault("AWS_ENDPOINT_URL_SQS", _sandbox)
        _values["SES_CONFIGURATION_SET"] = _values.get("SES_CONFIGURATION_SET") or "email-offload"
        _values["SES_EVENTS_QUEUE_URL"] = (
            _values.get("SES_EVENTS_QUEUE_URL") or f"{_sandbox}/000000000000/email-offload-events"
        )
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "sandbox")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "sandbox")
    os.environ.setdefault("AWS_REGION", "eu-west-1")
    _values["MOODLE_WWWROOT"] = _values.get("MOODLE_WWWROOT") or "http://127.0.0.1:8000/sample-moodle"
elif "MOODLE_WWWROOT" in _values and _values["MOODLE_WWWROOT"] is None:
    _problems.append(env.problem("MOODLE_WWWROOT", "missing"))
if os.environ.get("AWS_REGION"):
    # AWS's other SDKs and its container services set this name; boto3 reads only the longer one.
    os.environ.setdefault("AWS_DEFAULT_REGION", os.environ["AWS_REGION"])

SECRET_KEY, _secret_problem = keys.secret_key(_values.get("SECRET_KEY", ""), DATA_DIR)
SECRET_KEY_FALLBACKS, _former_problem = keys.former_secret_keys(_values.get("SECRET_KEY_FALLBACKS", []))
CONTENT_KEYS, _content_problem = keys.content_keys(_values.get("CONTENT_KEYS", []), DATA_DIR)
_problems += [text for text in (_secret_problem, _former_problem, _content_problem) if text]

# --- Single sign-on is off unless a provider is named; then all that it needs must be there. ---
OIDC_SERVER_URL: str | None = _values.get("OIDC_SERVER_URL")
if OIDC_SERVER_URL:
    _problems += [
        env.problem(name, "missing, while OIDC_SERVER_URL is set")
        for name, value in _values.items()
        if name in {"OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET", "OIDC_GROUP_MAP"} and not value
    ]

# --- Triggers may go by another way than our database. ---
BROKER: str = _values.get("BROKER", "database")
REDIS_URL: str | None = _values.get("REDIS_URL")
BROKER_QUEUE_URL: str | None = _values.get("BROKER_QUEUE_URL")
_problems += [
    env.problem(name, f"missing, while BROKER is {broker}")
    for broker, name in (("redis", "REDIS_URL"), ("sqs", "BROKER_QUEUE_URL"))
    if broker == BROKER and name in _values and not _values[name]
]

if BROKER == "sqs" and BROKER_QUEUE_URL and _values.get("SES_EVENTS_QUEUE_URL") == BROKER_QUEUE_URL:
    # What is no trigger is deleted there: each event would be lost.
    _problems.append(
        env.problem("BROKER_QUEUE_URL", "the queue of SES's events: triggers need one of their own")
    )

if _problems:
    raise ImproperlyConfigured("These settings cannot be used:\n\n" + "\n".join(_problems))

MOODLE_DB_PREFIX: str = _values["MOODLE_DB_PREFIX"]
MOODLE_WWWROOT: str = _values["MOODLE_WWWROOT"]
MOODLE_LOCK_FACTORY: str = _values["MOODLE_LOCK_FACTORY"]
MOODLE_CRON_PERIOD_SECONDS: int = _values["MOODLE_CRON_PERIOD_SECONDS"]
MOODLE_CRON_GUARD: str = _values["MOODLE_CRON_GUARD"]
MOODLE_NOEMAILEVER: bool = _values["MOODLE_NOEMAILEVER"]
MOODLE_DATAROOT: str = _values["MOODLE_DATAROOT"]
MOODLE_FORCED_CONFIG: dict[str, Any] = _values["MOODLE_FORCED_CONFIG"]
MOODLE_PHP_TIMEZONE: str = _values["MOODLE_PHP_TIMEZONE"]
MOODLE_STRING_NOREPLY_NAME: str = _values["MOODLE_STRING_NOREPLY_NAME"]
MOODLE_STRING_VIA: str = _values["MOODLE_STRING_VIA"]
CLAIM_LEAD_SECONDS: int = _values["CLAIM_LEAD_SECONDS"]
CLAIM_MARGIN_SECONDS: int = _values["CLAIM_MARGIN_SECONDS"]
CLAIM_BATCH_SIZE: int = _values["CLAIM_BATCH_SIZE"]
QUEUE_POLL_SECONDS: int = _values["QUEUE_POLL_SECONDS"]
RENDER_PARITY: str = _values["RENDER_PARITY"]
DEFAULT_FALLBACK: str = _values["DEFAULT_FALLBACK"]
SEND_DEADLINE_SECONDS: int = _values["SEND_DEADLINE_SECONDS"]
SENSITIVE_GRACE_SECONDS: int = _values["SENSITIVE_GRACE_SECONDS"]
SENSITIVE_UNSENT_HOURS: int = _values["SENSITIVE_UNSENT_HOURS"]
RETAIN_CONTENT_DAYS: int = _values["RETAIN_CONTENT_DAYS"]
RETAIN_EVENTS_DAYS: int = _values["RETAIN_EVENTS_DAYS"]
RETAIN_ADDRESSES_DAYS: int = _values["RETAIN_ADDRESSES_DAYS"]
RETAIN_RECORDS_DAYS: int = _values["RETAIN_RECORDS_DAYS"]
RETAIN_AUDIT_DAYS: int = _values["RETAIN_AUDIT_DAYS"]
RETAIN_DELETED_USER_DAYS: int = _values["RETAIN_DELETED_USER_DAYS"]
SES_CONFIGURATION_SET: str = _values["SES_CONFIGURATION_SET"]
SES_EVENTS_QUEUE_URL: str | None = _values["SES_EVENTS_QUEUE_URL"]
SNS_TOPICS: list[str] = _values["SNS_TOPICS"]
SNS_SIGNATURE_VERSION_1: bool = _values["SNS_SIGNATURE_VERSION_1"]
SES_SUPPRESSION_SYNC: bool = _values["SES_SUPPRESSION_SYNC"]
TRANSIENT_BOUNCES: tuple[env.Step, ...] = _values["TRANSIENT_BOUNCES"]
REPUTATION_VOLUME: int = _values["REPUTATION_VOLUME"]
REPUTATION_MINIMUM: int = _values["REPUTATION_MINIMUM"]
REPUTATION_WARN_PERCENT: float = _values["REPUTATION_WARN_PERCENT"]
REPUTATION_STOP_PERCENT: float = _values["REPUTATION_STOP_PERCENT"]
ALARM_EMAILS: list[str] = _values["ALARM_EMAILS"]
ALARM_FROM: list[str] = _values["ALARM_FROM"]
ALARM_WEBHOOK_URL: str | None = _values["ALARM_WEBHOOK_URL"]
ALARM_WEBHOOK_SECRET: str = _values["ALARM_WEBHOOK_SECRET"]
ALARM_BREAKER_MINUTES: int = _values["ALARM_BREAKER_MINUTES"]
ALARM_FALLBACKS: int = _values["ALARM_FALLBACKS"]
DASHBOARD_URL: str | None = _values["DASHBOARD_URL"]
SES_MAX_SEND_RATE: float | None = _values["SES_MAX_SEND_RATE"]
SENSITIVE_QUOTA_RESERVE: float = _values["SENSITIVE_QUOTA_RESERVE"]
SES_CONNECT_TIMEOUT_SECONDS: float = _values["SES_CONNECT_TIMEOUT_SECONDS"]
SES_READ_TIMEOUT_SECONDS: float = _values["SES_READ_TIMEOUT_SECONDS"]
SMTP_TIMEOUT_SECONDS: float = _values["SMTP_TIMEOUT_SECONDS"]
UNCERTAIN_AFTER_SECONDS: int = _values["UNCERTAIN_AFTER_SECONDS"]
UNCERTAIN_POLICY: str = _values["UNCERTAIN_POLICY"]
DISPATCH_THREADS: int = _values["DISPATCH_THREADS"]
DISPATCH_SLOTS: int = _values["DISPATCH_SLOTS"]
RECONCILE_DAYS: int = _values["RECONCILE_DAYS"]
DISPATCH_BUDGET_SECONDS: int = _values["DISPATCH_BUDGET_SECONDS"]
LEASE_SECONDS: int = _values["LEASE_SECONDS"]

OIDC_CLIENT_ID: str = _values["OIDC_CLIENT_ID"]
OIDC_CLIENT_SECRET: str = _values["OIDC_CLIENT_SECRET"]
OIDC_NAME: str = _values["OIDC_NAME"]
OIDC_SCOPES: list[str] = _values["OIDC_SCOPES"]
OIDC_GROUPS_CLAIM: str = _values["OIDC_GROUPS_CLAIM"]
OIDC_GROUP_MAP: dict[str, list[str]] = _values["OIDC_GROUP_MAP"]
OIDC_ONLY: bool = _values["OIDC_ONLY"] and OIDC_SERVER_URL is not None
# Without the extra, `checks.py` says so; whoever set OIDC_ONLY is not given passwords back by that.
OIDC_MISSING = [name for name in ("allauth", "requests", "jwt") if find_spec(name) is None]
OIDC = OIDC_SERVER_URL is not None and not OIDC_MISSING
TRUSTED_PROXIES: int = _values["TRUSTED_PROXIES"]
LOGIN_ATTEMPTS: int = _values["LOGIN_ATTEMPTS"]
LOGIN_LOCK = timedelta(minutes=_values["LOGIN_LOCK_MINUTES"])
SESSION_IDLE = timedelta(minutes=_values["SESSION_IDLE_MINUTES"])

DEBUG: bool = _values["DEBUG"]
ALLOWED_HOSTS: list[str] = _values["ALLOWED_HOSTS"]
CSRF_TRUSTED_ORIGINS: list[str] = _values["CSRF_TRUSTED_ORIGINS"]

# --- Databases ---
_MYSQL_OPTIONS: dict[str, Any] = {
    # Moodle works under READ COMMITTED too; under REPEATABLE READ a claim could lock more rows than it names.
    "isolation_level": "read committed",
    "charset": "utf8mb4",
    "connect_timeout": 5,
    "init_command": "SET sql_mode='STRICT_ALL_TABLES', time_zone='+00:00'",
}
_MOODLE_OPTIONS: dict[str, Any] = {
    **_MYSQL_OPTIONS,
    # Moodle's "run now" waits ten seconds for the cron lock that we hold during a claim, and recovery takes a
    # claim or release over after LEASE_SECONDS: we wait for a locked row three times this long, no longer.
    # A statement that takes longer than we wait for is broken off by the server too: MariaDB executes what stands in
    # a comment with M!, MySQL (for SELECTs) what stands in the other one.
    "init_command": f"{_MYSQL_OPTIONS['init_command']}, innodb_lock_wait_timeout=2"
    "/*M!100100 , max_statement_time=25 *//*!50708 , max_execution_time=25000 */",
    # A server that does not answer must not keep a dispatcher from recording what it has sent, nor a pass from ending.
    "read_timeout": 30,
    "write_timeout": 30,
}
_SQLITE_OPTIONS: dict[str, Any] = {
    "timeout": 20,
    "transaction_mode": "IMMEDIATE",
    # What is deleted is overwritten: contents of mails are erased, not only forgotten.
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;"
    " PRAGMA secure_delete=ON;",
}


def _with_options(config: dict[str, Any], mysql: dict[str, Any]) -> dict[str, Any]:
    """The options that every connection of a kind needs, under those that the address itself gives."""
    defaults = mysql if config["ENGINE"].endswith("mysql") else _SQLITE_OPTIONS
    return {
        **config,
        "OPTIONS": {**defaults, **config.get("OPTIONS", {})},
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }


_sqlite = "django.db.backends.sqlite3"
DATABASES: dict[str, dict[str, Any]] = {
    "default": _with_options(
        _values["DATABASE_URL"] or {"ENGINE": _sqlite, "NAME": str(DATA_DIR / "offload.sqlite3")},
        _MYSQL_OPTIONS,
    ),
    "moodle": _with_options(
        _values["MOODLE_DATABASE_URL"] or {"ENGINE": _sqlite, "NAME": str(SAMPLE_MOODLE_PATH)},
        _MOODLE_OPTIONS,
    ),
}
MOODLE_DB_NAME: str = _values["MOODLE_DB_NAME"] or str(DATABASES["moodle"]["NAME"])
DATABASE_ROUTERS = ["emailoffload.moodle.router.MoodleRouter"]
SILENCED_SYSTEM_CHECKS = [
    "models.W037",  # django-q2 has an index with a condition; MariaDB makes it a plain one
    # Whether other names than ours speak https only is the site's to say: HSTS_SUBDOMAINS and HSTS_PRELOAD.
    "security.W005",
    "security.W021",
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Django ---
INSTALLED_APPS = [
    "emailoffload.apps.EmailOffloadConfig",
    "emailoffload.moodle.apps.MoodleConfig",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_filters",
    "django_tables2",
    "django_htmx",
    "django_q",
    "axes",
    "csp",
    *(["allauth", "allauth.account", "allauth.socialaccount"] if OIDC else []),
]
MIDDLEWARE = [
    "emailoffload.monitoring.requests.RequestLog",
    # Before all that may answer by itself: every answer has the headers, styles and refused hosts too.
    "emailoffload.dashboard.headers.BrowserHeaders",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "emailoffload.dashboard.directions.WithoutTurns",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "emailoffload.accounts.sessions.SessionLimits",
    "emailoffload.dashboard.access.LoginRequired",
    "django_htmx.middleware.HtmxMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    *(["allauth.account.middleware.AccountMiddleware"] if OIDC else []),
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "offloadsite.urls"
WSGI_APPLICATION = "offloadsite.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [env.ASSETS_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
_VALIDATORS: dict[str, dict[str, Any]] = {
    "UserAttributeSimilarityValidator": {},
    "MinimumLengthValidator": {"min_length": 12},
    "CommonPasswordValidator": {},
    "NumericPasswordValidator": {},
}
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}", "OPTIONS": options}
    for name, options in _VALIDATORS.items()
]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "emailoffload.accounts.backends.ByOwnName"]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "overview"
LOGOUT_REDIRECT_URL = "login"
# django-axes refuses logins; what is counted, kept and shown is our own (accounts/throttle.py).
AXES_HANDLER = "emailoffload.accounts.throttle.CountsBeforeChecking"
AXES_FAILURE_LIMIT = LOGIN_ATTEMPTS
AXES_COOLOFF_TIME = LOGIN_LOCK
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"], "ip_address"]
AXES_LOCKOUT_CALLABLE = "emailoffload.accounts.throttle.locked_page"
AXES_CLIENT_IP_CALLABLE = "emailoffload.accounts.address.client_address"
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_ENABLE_ADMIN = AXES_VERBOSE = False
AXES_DISABLE_ACCESS_LOG = True
# Of django-allauth the protocol is used, none of its pages (accounts/oidc/).
SOCIALACCOUNT_ADAPTER = "emailoffload.accounts.oidc.adapters.LoginAdapter"
SOCIALACCOUNT_STORE_TOKENS = False
ACCOUNT_EMAIL_VERIFICATION = "none"
LANGUAGE_CODE: str = _values["LANGUAGE"]
# How another one is added: docs/translating.md. Each is called by its own name, whatever the page's language is.
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [BASE_DIR / "emailoffload" / "locale"]
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600
EXPORT_MAX_ROWS: int = _values["EXPORT_MAX_ROWS"]
TIME_ZONE: str = _values["TIME_ZONE"]
USE_I18N = True
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = Path(_values["OFFLOAD_STATIC_DIR"] or DATA_DIR / "static")
STATICFILES_DIRS = [env.ASSETS_DIR / "static"]
WHITENOISE_USE_FINDERS = True  # style and script are served without `collectstatic` having run

# --- Security ---
SECURE_HTTPS: bool = _values["SECURE_HTTPS"]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = SECURE_SSL_REDIRECT = SECURE_HTTPS
SECURE_HSTS_SECONDS: int = _values["HSTS_SECONDS"] if SECURE_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS: bool = _values["HSTS_SUBDOMAINS"]
SECURE_HSTS_PRELOAD: bool = _values["HSTS_PRELOAD"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SECURE_HTTPS else None
# Machines on this host ask these without the proxy that speaks https.
SECURE_REDIRECT_EXEMPT = [r"^healthz(/worker)?$", r"^readyz$", r"^metrics$"]
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
if SECURE_HTTPS:
    # Browsers take cookies of these names from this very host only: a sister site under the same domain, such as a
    # Moodle that learners write pages in, cannot give anybody a session or a form's token of its choice.
    SESSION_COOKIE_NAME = "__Host-sessionid"
    CSRF_COOKIE_NAME = "__Host-csrftoken"
SESSION_COOKIE_AGE = 12 * 3600
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = LANGUAGE_COOKIE_HTTPONLY = True
# Not Strict: links in alarms and tickets lead here.
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = LANGUAGE_COOKIE_SAMESITE = "Lax"
# But for what is shown in a sandboxed frame of our own: what a mail says, the body of a message.
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "frame-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    },
}

# --- SMTP, the route of mails that neither SES nor Moodle can send. Without EMAIL_URL there is none, and
# whatever else sends a mail sends it nowhere: never to a console, never to a server that nobody named. ---
_smtp: dict[str, Any] | None = _values["EMAIL_URL"]
SMTP_ROUTE: bool = _smtp is not None
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if SMTP_ROUTE else 'dummy'}.EmailBackend"
EMAIL_HOST: str = _smtp["host"] if _smtp else "localhost"
EMAIL_PORT: int = _smtp["port"] if _smtp else 25
EMAIL_HOST_USER: str = _smtp["user"] if _smtp else ""
EMAIL_HOST_PASSWORD: str = _smtp["password"] if _smtp else ""
EMAIL_USE_TLS: bool = _smtp["tls"] if _smtp else False
EMAIL_USE_SSL: bool = _smtp["ssl"] if _smtp else False
EMAIL_TIMEOUT = SMTP_TIMEOUT_SECONDS

# --- The worker: django-q2 is the trigger, never the truth (design §2) ---
Q_CLUSTER: dict[str, Any] = {
    "name": _values["BROKER_NAME"],
    "label": "Worker",
    "orm": "default",
    "broker_class": {
        "database": None,
        "redis": "emailoffload.worker.broker.ByRedis",
        "sqs": "emailoffload.worker.broker.BySqs",
    }[BROKER],
    # The pass over the event queue stays on, like the dispatchers.
    "workers": _values["WORKER_PROCESSES"] or 2 + _values["DISPATCH_SLOTS"] + bool(SES_EVENTS_QUEUE_URL),
    "timeout": 600 + DISPATCH_BUDGET_SECONDS,
    "retry": 900 + DISPATCH_BUDGET_SECONDS,
    "max_attempts": 1,
    "ack_failures": True,
    "catch_up": False,
    "bulk": 1,
    "queue_limit": 20,
    "poll": 0.5,
    "save_limit": 500,
    "max_rss": 1024 * 1024,
}

# --- Monitoring ---
METRICS_TOKEN: str = _values["METRICS_TOKEN"]
METRICS_ALLOWED: list[IPv4Network | IPv6Network] = _values["METRICS_ALLOWED"]

# --- Logs: to standard error, as lines for people or for machines (docs/monitoring.md) ---
LOG_FORMAT: str = _values["LOG_FORMAT"]
REQUEST_ID_HEADER: str = _values["REQUEST_ID_HEADER"]
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"()": "emailoffload.logs.PlainFormatter"},
        "json": {"()": "emailoffload.logs.OneLineJson"},
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "emailoffload": {"level": _values["LOG_LEVEL"]},
        "offload.access": {"level": _values["LOG_LEVEL"]},
        "django-q": {"level": "WARNING"},
        # Its lines about pages that do not exist, or that are not for somebody, are the access lines again.
        "django.request": {"level": "ERROR"},
        # At their finest these write down whole requests, and with them what mails say.
        "boto3": {"level": "WARNING"},
        "botocore": {"level": "WARNING"},
        "urllib3": {"level": "WARNING"},
    },
}
