"""How gunicorn serves the dashboard: `gunicorn offloadsite.wsgi --config python:offloadsite.gunicorn --bind …`.

One place for the image, the systemd unit and whoever starts it by hand. Options of the command line win.
"""

import os
from pathlib import Path

# Pages wait for the database more than they compute: a few threads in two processes serve dozens of people on one
# core. More processes for more cores: WEB_CONCURRENCY.
workers = int(os.environ.get("WEB_CONCURRENCY") or 2)
threads = 4
# Exports of a hundred thousand rows are streamed and may take their time; a thread that hangs ends with its process.
timeout = 60
graceful_timeout = 30
# A process that grew is replaced now and then, never all at once.
max_requests = 5000
max_requests_jitter = 500
# Each process shows here that it lives; on a disk that is busy it would seem dead.
_memory = "/dev/shm"  # noqa: S108 - gunicorn makes a file there that has no name
worker_tmp_dir = _memory if Path(_memory).is_dir() else None
# Requests are logged by ourselves, with who asked.
accesslog = None
# Nothing listens that nobody asks.
control_socket_disable = True
# Its own few lines (started, a process was replaced) look as ours do: LOG_FORMAT, where the environment has it.
_formatter = "OneLineJson" if os.environ.get("LOG_FORMAT", "").strip() == "json" else "PlainFormatter"
logconfig_dict = {
    "formatters": {"generic": {"()": f"emailoffload.logs.{_formatter}"}},
    "root": {"level": "INFO", "handlers": []},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["error_console"], "propagate": False},
        # Naming loggers would switch its access log on, which has all that people typed.
        "gunicorn.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
    },
}
