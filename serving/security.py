"""Who may talk to a server: certificates, tokens, and which callers are on this host."""

from __future__ import annotations

import hmac
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from serving.errors import InvalidInput, Unauthenticated

BEARER = "Bearer "


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """PEM files of a server.

    Attributes:
        certificate: of the server, with its chain.
        key: of the certificate.
        client_authority: certificates that clients must be signed by; `None` takes clients without one.
    """

    certificate: Path
    key: Path
    client_authority: Path | None = None

    def __post_init__(self) -> None:
        for file in (self.certificate, self.key, self.client_authority):
            if file is not None and not file.is_file():
                raise InvalidInput(f"TLS: {file} is no file")

    def context(self) -> ssl.SSLContext:
        """For servers of Python's own."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.key)
        if self.client_authority is not None:
            context.load_verify_locations(self.client_authority)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def check_token(expected: str | None, header: str | None) -> None:
    """Check an `authorization` header.

    Raises:
        Unauthenticated: it does not hold the token.
    """
    if expected is None:
        return
    if not header or not header.startswith(BEARER):
        raise Unauthenticated("the request has no token; send the header 'authorization: Bearer TOKEN'")
    # Bytes that are no UTF-8 come as surrogates.
    given = header.removeprefix(BEARER).encode(errors="surrogateescape")
    if not hmac.compare_digest(given, expected.encode()):
        raise Unauthenticated("the token is wrong")


def is_loopback(host: str) -> bool:
    """Whether an address is this host, also where IP of version 4 is written as one of version 6."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
