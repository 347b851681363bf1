"""Where a request comes from, as far as it can be believed."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest

UNKNOWN = "0.0.0.0"  # noqa: S104 - an address that nobody has, not one to listen on
_ONE_HOUSEHOLD = 64
"""Bits of an IPv6 address that a subscriber cannot choose: the rest is theirs to change as they please."""


def client_address(request: HttpRequest) -> str:
    """The address that logins are counted by: IPv4, or the /64 network of an IPv6 address; `UNKNOWN` without any."""
    return _household(exact_address(request))


def exact_address(request: HttpRequest) -> str:
    """The address that a request comes from, whole; `UNKNOWN` without any.

    Each proxy adds the address that it was reached from at the end of `X-Forwarded-For`; whatever stands before those
    of our own proxies (`TRUSTED_PROXIES`) was written by the client. Where the header has fewer entries than there
    are proxies, the request came around them: then only the connection itself is believed.
    """
    found = str(request.META.get("REMOTE_ADDR") or "")
    proxies: int = settings.TRUSTED_PROXIES
    if proxies:
        hops = [hop.strip() for hop in str(request.META.get("HTTP_X_FORWARDED_FOR") or "").split(",")]
        if len(hops) >= proxies and _plain(hops[-proxies]):
            found = hops[-proxies]
    return _plain(found) or UNKNOWN


def _plain(text: str) -> str:
    """An address without port and brackets, in its one spelling; empty if it is none."""
    if text.startswith("["):
        text = text[1:].split("]", 1)[0]
    elif text.count(":") == 1:
        text = text.split(":", 1)[0]
    try:
        address = ipaddress.ip_address(text.split("%", 1)[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def _household(text: str) -> str:
    """An IPv6 address's network, any other address as it is."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, _ONE_HOUSEHOLD), strict=False).network_address)
    return text
