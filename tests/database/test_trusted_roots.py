"""The roots of the system, with all else that a URL may say of certificates, against a server with TLS."""

from __future__ import annotations

import pytest

import dataloader as dl
from tests.database.test_servers import (  # noqa: F401 - fixtures
    PASSWORD,
    Guarded,
    ask,
    guarded,
    load,
    make_certificate,
    no_traces,
    openssl,
)

pytestmark = pytest.mark.any_version

SESSION = "SELECT version, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
CONFIGURATION = "[ca]\ndefault_ca=ours\n[ours]\ndatabase=index\ncrlnumber=number\ndefault_md=sha256\n"


@pytest.fixture(autouse=True)
def system(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811 - the fixture
    """The system trusts who has signed the server's certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(guarded.folder / "ca.crt"))


def revoke(server: Guarded, *names: str) -> None:
    """Make `ca.crl`, which says that the certificates of these names hold no longer."""
    (server.folder / "index").write_text("")
    (server.folder / "number").write_text("01\n")
    (server.folder / "ca.cnf").write_text(CONFIGURATION)
    signed = ("ca", "-config", "ca.cnf", "-cert", "ca.crt", "-keyfile", "ca.key")
    for name in names:
        openssl(*signed, "-revoke", f"{name}.crt", folder=server.folder)
    openssl(*signed, "-gencrl", "-crldays", "2", "-out", "ca.crl", folder=server.folder)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_the_version_of_tls_is_what_the_url_says(guarded: Guarded, version: str) -> None:  # noqa: F811
    query = f"sslrootcert=system&ssl_min_protocol_version={version}&ssl_max_protocol_version={version}"
    assert await ask(guarded.url(query), SESSION) == (version, None)


async def test_a_certificate_of_ones_own_is_shown(guarded: Guarded) -> None:  # noqa: F811
    query = "sslrootcert=system&sslcert={folder}/kim.crt&sslkey={folder}/kim.key"
    assert (await ask(guarded.url(query, user="certified"), SESSION))[1] == "/CN=kim"


async def test_a_key_with_a_password_is_opened(guarded: Guarded) -> None:  # noqa: F811
    locked = ("-aes128", "-passout", f"pass:{PASSWORD}", "-out", "own.key")
    openssl("pkey", "-in", "kim.key", *locked, folder=guarded.folder)
    query = f"sslrootcert=system&sslcert={{folder}}/kim.crt&sslkey={{folder}}/own.key&sslpassword={PASSWORD}"
    assert (await ask(guarded.url(query, user="certified"), SESSION))[1] == "/CN=kim"


async def test_a_certificate_that_was_revoked_is_trusted_no_longer(guarded: Guarded) -> None:  # noqa: F811
    query = "sslrootcert=system&sslcrl={folder}/ca.crl"
    revoke(guarded)
    assert (await ask(guarded.url(query), SESSION))[1] is None
    revoke(guarded, "localhost")
    found = await load(guarded.url(query))
    assert isinstance(found, dl.ConnectionFailed)
    assert "certificate revoked" in str(found)
