"""What every answer tells the browser beside Django's own headers and the content security policy.

Django's settings give the others (`offloadsite/settings.py`, "Security"); docs/security.md lists all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.http import HttpRequest, HttpResponse

UNUSED: Final = (
    "accelerometer", "autoplay", "camera", "display-capture", "encrypted-media", "fullscreen", "gamepad", "geolocation",
    "gyroscope", "hid", "idle-detection", "magnetometer", "microphone", "midi", "payment", "picture-in-picture",
    "publickey-credentials-get", "screen-wake-lock", "serial", "usb", "xr-spatial-tracking",
)  # fmt: skip
"""Features of browsers that no page of ours uses: neither a page nor a frame in it, such as a mail's, gets any.

Only those that browsers have known for years: one that a browser does not know is an error in its console.
"""
HEADERS: Final = {
    "Permissions-Policy": ", ".join(f"{name}=()" for name in UNUSED),
    # No other site can take a page, picture or export of ours into its own process, where it could be read.
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Permitted-Cross-Domain-Policies": "none",
}


class BrowserHeaders:
    """Adds `HEADERS` to every answer: pages, errors, styles and scripts."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """The answer, with what is not in it yet."""
        response = self.get_response(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response
