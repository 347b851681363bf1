"""django-post_office with its SES backend, at its best settings, beside us on the same machine."""

from __future__ import annotations

import os
from typing import Any

import environ
from botocore.config import Config

SECRET_KEY = "bench"  # noqa: S105 - signs nothing
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        **environ.Env.db_url_config(os.environ["BENCH_PEER_URL"]),
        "CONN_MAX_AGE": 600,
    }
}
DATABASES["default"].setdefault("OPTIONS", {})["isolation_level"] = "read committed"
INSTALLED_APPS = ["django.contrib.contenttypes", "post_office"]
TEMPLATES = [
    {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True},
    {
        "BACKEND": "post_office.template.backends.post_office.PostOfficeTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": []},
    },
]
EMAIL_BACKEND = "post_office.EmailBackend"
THREADS = int(os.environ.get("BENCH_PEER_THREADS", "32"))
POST_OFFICE = {
    "BACKENDS": {"default": "django_ses.SESBackend"},
    "BATCH_SIZE": 10_000,
    "THREADS_PER_PROCESS": THREADS,
    "LOG_LEVEL": 0,
    "BATCH_DELIVERY_TIMEOUT": 600,
}
AWS_ACCESS_KEY_ID = AWS_SECRET_ACCESS_KEY = "bench"  # noqa: S105
USE_SES_V2 = True
AWS_SES_REGION_NAME = "eu-west-1"
AWS_SES_REGION_ENDPOINT_URL = os.environ.get("AWS_ENDPOINT_URL_SESV2", "")
AWS_SES_AUTO_THROTTLE = None
AWS_SES_CONFIG = Config(max_pool_connections=THREADS, retries={"total_max_attempts": 1})
LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "ERROR"}}
