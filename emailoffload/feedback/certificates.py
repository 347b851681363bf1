"""The certificates that SNS signs with: fetched from SNS's own host, checked, kept for a while.

What is trusted is the host: the address is one of AWS's by its text (`sns.certificate_url`), TLS proves that AWS
answers there, and redirects are not followed. SNS publishes the bare certificate without its chain, so there is no
chain to verify beyond that; what can be checked of the certificate itself is.

Whoever knows a topic can make us look for certificates, so looking is rationed: a wrong address is remembered, and a
process fetches at most `BUDGET` times in `BUDGET_SECONDS`, one at a time, each for at most `FETCH_SECONDS`. What was
right serves on while it cannot be fetched anew, so that nobody who uses up these fetches keeps SNS's posts out.
"""

from __future__ import annotations

import datetime as dt
import http.client
import ssl
import threading
import time
import urllib.request
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TypeVar

import botocore.session
from botocore.httpsession import get_cert_path
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from emailoffload.feedback.topics import Topic

MAX_BYTES = 16 * 1024
"""SNS's certificates have about 2 KB."""
FETCH_SECONDS = 8.0
_STEP_SECONDS = 4.0
"""For each step of a fetch: connect, handshake, one read."""
KEEP_SECONDS = 24 * 3600
KEEP_WRONG_SECONDS = 60
MAX_KEPT, MAX_WRONG = 16, 64
BUDGET, BUDGET_SECONDS = 10, 60.0
LEAST_KEY_BITS, MOST_KEY_BITS = 2048, 8192


class Wrong(Exception):
    """This certificate is none to trust; the text is a code for the log."""


class NotNow(Exception):
    """The certificate could not be had; later it may. The text is a code for the log."""


@dataclass(frozen=True, slots=True)
class _Kept:
    key: RSAPublicKey
    not_before: dt.datetime
    not_after: dt.datetime


_T = TypeVar("_T")
_lock = threading.Lock()
_right: OrderedDict[str, tuple[float, _Kept]] = OrderedDict()
_wrong: OrderedDict[str, tuple[float, str]] = OrderedDict()
_fetched: deque[float] = deque()


def forget() -> None:
    """Forget certificates and spent fetches."""
    with _lock:
        _right.clear()
        _wrong.clear()
        _fetched.clear()


def public_key(url: str, topic: Topic) -> RSAPublicKey:
    """The key that the certificate at `url` holds; `url` has passed `sns.certificate_url` for this topic.

    Raises Wrong and NotNow.
    """
    kept = _remembered(url)
    if kept is None:
        if not _lock.acquire(timeout=FETCH_SECONDS):
            raise NotNow("certificate_busy")
        try:
            kept = _remembered(url) or _look(url, topic)
        except NotNow:
            if url not in _right:
                raise
            kept = _right[url][1]
        finally:
            _lock.release()
    # A kept certificate may have expired meanwhile.
    _check_dates(kept, dt.datetime.now(dt.UTC))
    return kept.key


def _remembered(url: str) -> _Kept | None:
    now = time.monotonic()
    right = _right.get(url)
    if right and right[0] > now:
        return right[1]
    wrong = _wrong.get(url)
    if wrong and wrong[0] > now:
        raise Wrong(wrong[1])
    return None


def _look(url: str, topic: Topic) -> _Kept:
    now = time.monotonic()
    while _fetched and _fetched[0] <= now - BUDGET_SECONDS:
        _fetched.popleft()
    if len(_fetched) >= BUDGET:
        raise NotNow("certificate_budget")
    _fetched.append(now)
    try:
        kept = _read(_fetch(url), topic)
    except Wrong as wrong:
        _keep(_wrong, url, (now + KEEP_WRONG_SECONDS, str(wrong)), MAX_WRONG)
        raise
    _keep(_right, url, (now + KEEP_SECONDS, kept), MAX_KEPT)
    return kept


def _keep(store: OrderedDict[str, _T], url: str, value: _T, most: int) -> None:
    store.pop(url, None)
    store[url] = value
    while len(store) > most:
        store.popitem(last=False)


def _fetch(url: str) -> bytes:
    """The body at an https address: no redirect, bounded in size and time, TLS verified as the AWS SDK does it."""
    # Only what is added here is there: no handler for redirects, other schemes, cookies or passwords.
    opener = urllib.request.OpenerDirector()
    opener.add_handler(urllib.request.ProxyHandler())
    opener.add_handler(urllib.request.HTTPSHandler(context=_tls()))
    deadline = time.monotonic() + FETCH_SECONDS
    try:
        answer = opener.open(urllib.request.Request(url), timeout=_STEP_SECONDS)  # noqa: S310 - https only, see above
        if answer is None:
            raise Wrong("certificate_scheme")
        with answer:
            return _body(answer, deadline)
    except (OSError, http.client.HTTPException) as error:
        raise NotNow("certificate_not_fetched") from error


def _body(answer: http.client.HTTPResponse, deadline: float) -> bytes:
    if answer.status >= 500 or answer.status == 429:
        raise NotNow("certificate_not_fetched")
    if answer.status != 200:
        raise Wrong("certificate_redirected" if 300 <= answer.status < 400 else "certificate_not_there")
    body = b""
    while piece := answer.read1(MAX_BYTES):
        body += piece
        if len(body) > MAX_BYTES:
            raise Wrong("certificate_too_large")
        if time.monotonic() > deadline:
            raise NotNow("certificate_not_fetched")
    return body


def _tls() -> ssl.SSLContext:
    """The certificates that the AWS SDK trusts (AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE, else those that it brings)."""
    bundle = botocore.session.get_session().get_config_variable("ca_bundle") or get_cert_path(True)
    return ssl.create_default_context(cafile=bundle)


def _read(pem: bytes, topic: Topic) -> _Kept:
    """The leaf certificate of a PEM file, where it is one that SNS would sign with."""
    try:
        certificate = x509.load_pem_x509_certificates(pem)[0]
        names = _names(certificate)
        key = certificate.public_key()
        authority = _is_authority(certificate)
    except Exception as error:
        # Broad on purpose: whatever a parser raises about foreign bytes, it is no certificate to trust.
        raise Wrong("certificate_unreadable") from error
    if not isinstance(key, RSAPublicKey) or not LEAST_KEY_BITS <= key.key_size <= MOST_KEY_BITS:
        raise Wrong("certificate_key")
    if authority or not names & _expected_names(topic):
        raise Wrong("certificate_name")
    kept = _Kept(key, certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    _check_dates(kept, dt.datetime.now(dt.UTC))
    return kept


def _check_dates(kept: _Kept, now: dt.datetime) -> None:
    if not kept.not_before <= now <= kept.not_after:
        raise Wrong("certificate_expired")


def _expected_names(topic: Topic) -> set[str]:
    """Names that AWS gives to SNS's signing certificates: one for most regions, regional ones for the others."""
    region, suffix = topic.region, topic.suffix
    names = {f"sns.{region}.{suffix}", f"sns-signing.{region}.{suffix}", f"sns-{region}.{suffix}"}
    if topic.partition == "aws":
        names.add("sns.amazonaws.com")
    if topic.partition == "aws-us-gov":
        names |= {"sns.amazonaws.com", "sns-us-gov-west-1.amazonaws.com"}
    return names


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return set(alternative.value.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return {str(name.value) for name in common}


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
