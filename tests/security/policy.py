"""What every answer must tell the browser, and what is missing in one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

PLAIN = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
FORBIDDEN = ("'unsafe-inline'", "'unsafe-eval'", "*", "http:", "https:")
"""What no directive of a page may allow."""
FRAMES = {"email-preview-html", "event-problem-body"}
"""What is shown in a frame of our own, by the name of its address."""


def directives(response: Any) -> dict[str, list[str]]:
    """The content security policy of an answer."""
    found = {}
    for part in response.headers["Content-Security-Policy"].split(";"):
        name, *values = part.split()
        found[name] = values
    return found


def faults_of_headers(response: Any, *, frame: bool = False) -> Iterator[str]:
    """What an answer lacks; `frame`: it is made to stand in a frame of ours."""
    headers = response.headers
    for name, value in PLAIN.items():
        if headers.get(name) != value:
            yield f"{name} is {headers.get(name)}"
    if headers.get("Referrer-Policy") not in {"same-origin", "no-referrer"}:
        yield f"Referrer-Policy is {headers.get('Referrer-Policy')}"
    if "camera=()" not in headers.get("Permissions-Policy", ""):
        yield "no Permissions-Policy"
    if headers.get("X-Frame-Options") != ("SAMEORIGIN" if frame else "DENY"):
        yield f"X-Frame-Options is {headers.get('X-Frame-Options')}"
    if "Content-Security-Policy" not in headers:
        yield "no Content-Security-Policy"
        return
    policy = directives(response)
    if policy.get("default-src") != ["'none'"] or policy.get("base-uri") != ["'none'"]:
        yield "the policy allows what nobody named"
    if policy.get("frame-ancestors") != (["'self'"] if frame else ["'none'"]):
        yield f"frame-ancestors is {policy.get('frame-ancestors')}"
    if policy.get("form-action") != (["'none'"] if frame else ["'self'"]):
        yield f"form-action is {policy.get('form-action')}"
    if frame and policy.get("sandbox") != []:
        yield "what stands in a frame is not in a sandbox"
    if frame and "script-src" in policy:
        yield "a frame may run scripts"
    if not frame and (wide := [each for values in policy.values() for each in values if each in FORBIDDEN]):
        yield f"the policy allows {wide}"
