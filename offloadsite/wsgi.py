"""The web server's entry point."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "offloadsite.settings")
application = get_wsgi_application()

from emailoffload.worker import patience  # noqa: E402 - only now are the settings there

patience.give_up_on_a_stalled_server()
