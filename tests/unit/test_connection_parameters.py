"""What libpq's parameters in a URL, a service or a variable mean to asyncpg."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import dataloader as dl
from dataloader.database.backends import libpq
from dataloader.database.backends.drivers import read_url, with_driver

pytestmark = pytest.mark.any_version


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in [*libpq._VARIABLES, "PGSERVICE", "PGSERVICEFILE"]:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def completed(text: str) -> sa.URL:
    return libpq.completed(with_driver(read_url(text)))


def arguments_of(text: str) -> dict[str, Any]:
    return libpq.asyncpg_arguments(completed(text), {})[1]


ENCRYPTED = {
    "the old word for it": ("requiressl=1", "require"),
    "the old word for none": ("requiressl=0", None),
    "as JDBC says it": ("ssl=true", "require"),
    "the new word counts": ("requiressl=1&sslmode=verify-full", "verify-full"),
}


@pytest.mark.parametrize(("query", "mode"), ENCRYPTED.values(), ids=ENCRYPTED)
def test_encryption_is_asked_for_in_several_words(query: str, mode: str | None) -> None:
    assert completed(f"postgresql://kim@db/shop?{query}").query.get("sslmode") == mode


PLACES = {
    "one port for all": ("host=a,b port=5433", None, {"host": "a,b", "port": "5433,5433"}),
    "no port": ("host=a,b", None, {"host": "a,b", "port": "5432,5432"}),
    "a port for each": ("host=a,b port=5433,5434", None, {"host": "a,b", "port": "5433,5434"}),
    "a port without a host": ("port=5433 dbname=shop", 5433, {}),
    "one host": ("host=a port=5433", 5433, {}),
}


@pytest.mark.parametrize(("text", "port", "query"), PLACES.values(), ids=PLACES)
def test_hosts_have_the_ports_that_libpq_would_take(text: str, port: int | None, query: dict[str, str]) -> None:
    url = completed(text)
    assert (url.port, dict(url.query)) == (port, query)


@pytest.mark.parametrize("text", ["host=a,b port=5432,five", "host=a port=five", "host=a port=123456"])
def test_a_port_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(dl.PlanError, match="a port of the database URL is not a number"):
        completed(text)


def test_a_service_file_that_cannot_be_read_is_named_without_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "services"
    file.write_text("password pl4nted\n[shop]\nhost=db\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    with pytest.raises(dl.PlanError, match=r"cannot be read\. Write one parameter=value to a line") as raised:
        completed("service=shop")
    assert str(file) in str(raised.value)
    assert "pl4nted" not in str(raised.value)


def test_tls_begins_at_once_where_that_is_asked_for() -> None:
    assert arguments_of("postgresql://db/shop?sslmode=require&sslnegotiation=direct")["direct_tls"] is True
    assert "direct_tls" not in arguments_of("postgresql://db/shop?sslmode=require")


NAMED = {
    "another name for want of one": ("fallback_application_name=etl", "etl"),
    "both": ("application_name=nightly&fallback_application_name=etl", "nightly"),
}


@pytest.mark.parametrize(("query", "name"), NAMED.values(), ids=NAMED)
def test_a_program_has_the_name_that_it_is_given(query: str, name: str) -> None:
    assert arguments_of(f"postgresql://db/shop?{query}")["server_settings"] == {"application_name": name}


def test_the_roots_of_the_system_go_with_the_versions_of_tls_that_are_asked_for() -> None:
    versions = "ssl_min_protocol_version=TLSv1.2&ssl_max_protocol_version=TLSv1.2"
    context = arguments_of(f"postgresql://db/shop?sslrootcert=system&{versions}")["ssl"]
    assert (context.minimum_version, context.maximum_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
