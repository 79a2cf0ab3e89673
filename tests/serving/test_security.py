"""Who may talk to a server, without a server."""

import ssl

import pytest

from serving.errors import InvalidInput, Unauthenticated
from serving.security import TlsFiles, check_token, is_loopback


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        # A caller of version 4 at a server that listens on both.
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("localhost", True),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
    ],
)
def test_callers_on_this_host(host, here):
    assert is_loopback(host) is here


def test_tokens():
    check_token(None, None)
    check_token(None, "Bearer anything")
    check_token("secret", "Bearer secret")
    check_token("gehe\u00edm", "Bearer gehe\u00edm")


@pytest.mark.parametrize("header", [None, "", "secret", "Basic secret", "bearer secret", "Bearersecret"])
def test_headers_without_a_token(header):
    with pytest.raises(Unauthenticated, match="has no token; send the header"):
        check_token("secret", header)


@pytest.mark.parametrize(
    "token", ["", "secre", "secrets", "SECRET", " secret", "secret ", "gehe\u00edm", "\udcff\udcfe"]
)
def test_wrong_tokens(token):
    """Also of bytes that are no text: the caller is unknown, and nothing is wrong with the server."""
    with pytest.raises(Unauthenticated, match="the token is wrong"):
        check_token("secret", f"Bearer {token}")


def test_certificates_that_are_not_there(tmp_path):
    there, absent = tmp_path / "there.pem", tmp_path / "absent.pem"
    there.write_text("no certificate")
    for files in (
        (absent, there, None),
        (there, absent, None),
        (there, there, absent),
        (tmp_path, there, None),
    ):
        with pytest.raises(InvalidInput, match=r"TLS: .* is no file"):
            TlsFiles(certificate=files[0], key=files[1], client_authority=files[2])
    with pytest.raises(ssl.SSLError):
        TlsFiles(certificate=there, key=there).context()
