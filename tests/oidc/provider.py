"""A small real OpenID provider: discovery, authorization, token, user information and keys, over HTTP.

It logs everybody in at once, as `claims` says, and answers wrongly where `faults` says so.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT_ID, CLIENT_SECRET = "email-offload", "client-secret-do-not-print"


class Provider:
    """The provider and what it is to do."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.other_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.codes: dict[str, dict[str, str]] = {}
        self.secrets: list[str] = [CLIENT_SECRET]
        """All that must stay between provider and client."""
        self.fresh()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.answer(self, {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                provider.answer(self, {name: values[0] for name, values in parse_qs(body).items()})

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def fresh(self) -> None:
        """Somebody whom all is well with."""
        self.claims: dict[str, Any] = {"sub": "u-1", "preferred_username": "sam", "groups": ["support"]}
        self.token: dict[str, Any] = {}
        """What differs in the ID token."""
        self.userinfo: dict[str, Any] = {}
        self.change: Callable[[dict[str, Any]], object] = lambda answer: None
        """What happens to the answer of the token endpoint."""
        self.signer = "RS256"
        self.error = ""
        self.down = ""

    def close(self) -> None:
        """Stop it."""
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, form: dict[str, str]) -> None:
        """One request."""
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        name = parts.path.rpartition("/")[2]
        if self.down == name:
            request.send_error(500)
            return
        answers: dict[str, Callable[[], tuple[int, Any]]] = {
            "openid-configuration": self.discovery,
            "authorization": lambda: self.authorization(query),
            "token": lambda: self.tokens(form),
            "userinfo": lambda: self.user_information(request.headers.get("Authorization", "")),
            "jwks": self.keys,
        }
        status, body = answers[name]()
        request.send_response(status)
        if status == 302:
            request.send_header("Location", body)
            body = ""
        request.send_header("Content-Type", "application/json")
        request.end_headers()
        request.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

    def discovery(self) -> tuple[int, Any]:
        """What it says about itself."""
        return 200, {
            "issuer": self.address,
            **{
                f"{name}_endpoint": f"{self.address}/{name}"
                for name in ("authorization", "token", "userinfo")
            },
            "jwks_uri": f"{self.address}/jwks",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }

    def authorization(self, query: dict[str, str]) -> tuple[int, Any]:
        """Back with a code, or with an error."""
        assert query["client_id"] == CLIENT_ID
        assert query["response_type"] == "code"
        assert "openid" in query["scope"].split()
        if self.error:
            return 302, f"{query['redirect_uri']}?{urlencode({'error': self.error, 'state': query['state']})}"
        code = secrets.token_urlsafe()
        self.codes[code] = query
        self.secrets.append(code)
        return 302, f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def tokens(self, form: dict[str, str]) -> tuple[int, Any]:
        """Tokens for a code, once, for who began the login."""
        query = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(
            b"="
        )
        right = (
            query and form["client_secret"] == CLIENT_SECRET and form["redirect_uri"] == query["redirect_uri"]
        )
        if not query or not right or query["code_challenge"] != challenge.decode():
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        said = {
            "iss": self.address, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": query["nonce"],
            **self.claims, **self.token,
        }  # fmt: skip
        said = {name: value for name, value in said.items() if value is not None}
        keys: dict[str, Any] = {
            "RS256": self.key,
            "other key": self.other_key,
            "HS256": CLIENT_SECRET * 2,
            "none": None,
        }
        algorithm = "RS256" if self.signer == "other key" else self.signer
        token = jwt.encode(said, keys[self.signer], algorithm=algorithm, headers={"kid": "k1"})
        access = secrets.token_urlsafe()
        self.secrets += [token, access]
        answer = {"access_token": access, "token_type": "Bearer", "id_token": token}
        self.change(answer)
        return 200, answer

    def user_information(self, bearer: str) -> tuple[int, Any]:
        """Who it is, once more."""
        assert bearer.startswith("Bearer ")
        return 200, {**self.claims, **self.userinfo}

    def keys(self) -> tuple[int, Any]:
        """The key that its tokens are signed with."""
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return 200, {"keys": [{**key, "kid": "k1", "use": "sig", "alg": "RS256"}]}
