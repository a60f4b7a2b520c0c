"""A ledger that somebody else has prepared: nothing of theirs is carried out, read or believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import dataloader as dl
from dataloader.cli import main
from dataloader.database.engine import open_engine
from dataloader.ledger.entries import TABLES
from dataloader.ledger.history import forget
from tests.conftest import execute, fetch
from tests.database.test_ledger import RUNNER, batches, command, interrupted, interrupted_files, load, url_of

ROLES = ("mallory", "analyst", "owner")
GROUND = (
    "GRANT USAGE ON SCHEMA public TO PUBLIC",
    "CREATE TABLE calls (role name)",
    "GRANT INSERT, SELECT ON calls TO PUBLIC",
    "CREATE SCHEMA sales",
    "GRANT ALL ON SCHEMA sales TO PUBLIC",
    "CREATE TABLE sales.orders (id bigint)",
    "ALTER TABLE sales.orders OWNER TO owner",
    "GRANT ALL ON sales.orders TO PUBLIC",
)
"""A schema in which everybody may create: the default of PostgreSQL 14 for public."""
CALL = "INSERT INTO public.calls VALUES (current_user)"
TRIGGER = (
    f"CREATE FUNCTION sales.trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {CALL}; RETURN NEW; END $$",
    *(
        f"CREATE TRIGGER t BEFORE INSERT ON sales.{table} FOR EACH ROW EXECUTE FUNCTION sales.trap()"
        for table in TABLES
    ),
)
POLICY = (
    f"CREATE FUNCTION sales.trap() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN {CALL}; RETURN true; END $$",
    *(f"CREATE POLICY p ON sales.{table} USING (sales.trap()) WITH CHECK (sales.trap())" for table in TABLES),
    *(f"ALTER TABLE sales.{table} ENABLE ROW LEVEL SECURITY" for table in TABLES),
)
RULE = tuple(f"CREATE RULE r AS ON INSERT TO sales.{table} DO ALSO {CALL}" for table in TABLES)
VIEW = (
    f"CREATE FUNCTION sales.trap() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN {CALL}; RETURN true; END $$",
    *(f"ALTER TABLE sales.{table} RENAME TO old_{table}" for table in TABLES),
    *(f"CREATE VIEW sales.{table} AS SELECT * FROM sales.old_{table} WHERE sales.trap()" for table in TABLES),
    *(f"GRANT ALL ON sales.{table} TO PUBLIC" for table in TABLES),
)


@pytest.fixture
async def roles(postgres: AsyncEngine) -> AsyncIterator[dict[str, AsyncEngine]]:
    """The engines of a stranger, of who loads, and of who owns the table; and the superuser's."""
    await execute(postgres, *(f"DROP ROLE IF EXISTS {role}" for role in ROLES))
    await execute(postgres, *(f"CREATE ROLE {role} LOGIN" for role in ROLES), *GROUND)
    engines = {role: open_engine(postgres.url.set(username=role)) for role in ROLES}
    yield engines | {"superuser": postgres}
    for engine in engines.values():
        await engine.dispose()
    await execute(postgres, *(f"DROP OWNED BY {role} CASCADE" for role in ROLES), *(f"DROP ROLE {r}" for r in ROLES))


async def make_ledger(engine: AsyncEngine, *statements: str) -> None:
    """A ledger of this role's in the schema, for everybody, and what it does to it."""
    await load(engine, "sales.others", commit="chunk", on_invalid="reject")
    await execute(engine, *(f"GRANT ALL ON sales.{table} TO PUBLIC" for table in TABLES), *statements)


LEDGERS = {"table": (), "trigger": TRIGGER, "policy": POLICY, "rule": RULE, "view": VIEW}


@pytest.mark.parametrize(
    ("loader", "kind"), [*(("analyst", kind) for kind in LEDGERS), ("superuser", "trigger"), ("superuser", "view")]
)
async def test_a_ledger_of_a_stranger_is_not_used(roles: Any, loader: str, kind: str) -> None:
    await make_ledger(roles["mallory"], *LEDGERS[kind])
    with pytest.raises(dl.PlanError, match=r"sales\.dataloader_rejects (belongs to mallory|is not a table)"):
        await load(roles[loader], "sales.orders", commit="chunk")
    report = await load(roles[loader], "sales.orders")
    assert (report.loaded, report.load_id) == (60, None)
    assert await fetch(roles["superuser"], "SELECT * FROM calls") == []


FILES_TRAP = (
    "CREATE TABLE sales.dataloader_files (target text, path text, size bigint, digest text, table_id text, "
    "load_id text, loaded_at timestamptz DEFAULT now(), PRIMARY KEY (target, path))",
    "INSERT INTO sales.dataloader_files VALUES ('sales.orders', '/x', 1, 'x', '1', 'May')",
    f"CREATE FUNCTION sales.trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {CALL}; RETURN OLD; END $$",
    "CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON sales.dataloader_files FOR EACH ROW "
    "EXECUTE FUNCTION sales.trap()",
    "GRANT ALL ON sales.dataloader_files TO PUBLIC",
)


async def test_the_files_of_a_stranger_are_not_believed_and_nothing_of_theirs_runs(roles: Any, tmp_path: Path) -> None:
    await load(roles["owner"], "sales.orders", load_id="May")
    await execute(roles["mallory"], *FILES_TRAP)
    (tmp_path / "a.csv").write_text("id\n1\n")
    for role in ("analyst", "owner", "superuser"):
        with pytest.raises(dl.PlanError, match=r"sales\.dataloader_files belongs to mallory"):
            await dl.load_files(tmp_path / "a.csv", "sales.orders", engine=roles[role], only_new=True)
        with pytest.raises(dl.PlanError, match=r"sales\.dataloader_files belongs to mallory"):
            await load(roles[role], "sales.orders", load_id="May", resume=False)
    with pytest.raises(dl.CheckpointError, match=r"sales\.dataloader_files belongs to mallory"):
        await forget(roles["owner"], "May")
    assert await fetch(roles["superuser"], "SELECT * FROM calls") == []


@pytest.mark.parametrize(
    ("statements", "has"),
    [(TRIGGER, "a trigger of mallory"), (POLICY, "row-level security"), (RULE, "rules")],
    ids=["trigger", "policy", "rule"],
)
async def test_a_trap_stays_one_when_the_ledger_changes_hands(
    roles: Any, statements: tuple[str, ...], has: str
) -> None:
    await make_ledger(roles["mallory"], *statements)
    await execute(roles["superuser"], *(f"ALTER TABLE sales.{table} OWNER TO owner" for table in TABLES))
    with pytest.raises(dl.PlanError, match=f"has {has}"):
        await load(roles["analyst"], "sales.orders", commit="chunk")
    assert await fetch(roles["superuser"], "SELECT * FROM calls") == []


@pytest.mark.parametrize("owner", ["owner", "superuser", "analyst"])
async def test_a_ledger_of_the_tables_owner_a_superuser_or_the_role_is_used(roles: Any, owner: str) -> None:
    await make_ledger(roles[owner])
    assert (await load(roles["analyst"], "sales.orders", commit="chunk")).load_id is not None


async def test_a_ledger_that_a_stranger_made_since_the_plan_is_not_used(roles: Any) -> None:
    async def slow() -> Any:
        yield pa.record_batch({"id": [1]})  # it is read before the plan is made
        await make_ledger(roles["mallory"], *TRIGGER)
        for batch in batches():
            yield batch

    with pytest.raises(dl.CheckpointError, match="belongs to mallory"):
        await load(roles["analyst"], "sales.orders", source=slow(), commit="chunk")
    assert await fetch(roles["superuser"], "SELECT role::text FROM calls UNION SELECT id::text FROM sales.orders") == []


STOLEN = (
    "CREATE SCHEMA evil",
    "GRANT USAGE ON SCHEMA evil TO PUBLIC",
    "CREATE TABLE evil.loot (id bigint, amount double precision, seen text)",
    *(f"CREATE TABLE evil.{table} (LIKE public.{table} INCLUDING ALL)" for table in TABLES[:2]),
    "INSERT INTO evil.dataloader_loads SELECT * FROM public.dataloader_loads",
    "UPDATE evil.dataloader_loads SET target = 'evil.loot', started_at = now() + interval '1 hour'",
    "GRANT ALL ON ALL TABLES IN SCHEMA evil TO PUBLIC",
)
"""What a stranger does: the same name in a ledger of her own, newer, with a table that everybody may fill."""


async def test_a_foreign_owners_ledger_does_not_answer_for_the_roles_own(roles: Any, tmp_path: Path) -> None:
    mine, to = roles["superuser"], ("--to", url_of(roles["superuser"]))
    await interrupted_files(mine, tmp_path, "--load-id", "May")
    await execute(mine, *STOLEN, *(f"ALTER TABLE evil.{table} OWNER TO mallory" for table in (*TABLES[:2], "loot")))
    shown = await command("history", *to)
    assert "evil.loot" not in shown.stdout
    assert "evil.dataloader_loads belongs to mallory" in shown.stdout
    assert (await dl.load_history(mine))["target"].tolist() == ["public.orders"]
    assert (await dl.load_history(mine, schema="evil"))["target"].tolist() == ["evil.loot"]
    done = await command("resume", "May", "--yes", *to)
    assert done.returncode == 0, done.stderr
    assert await fetch(mine, "SELECT count(*) FROM public.orders") == [(60,)]
    done = await command("forget", "May", *to)
    assert done.returncode == 0, done.stderr
    assert await fetch(mine, "SELECT count(*) FROM public.dataloader_loads") == [(0,)]
    assert await fetch(mine, "SELECT count(*) FROM evil.loot") == [(0,)]


async def test_a_policy_of_a_stranger_does_not_run_for_who_reads_the_history(roles: Any) -> None:
    await make_ledger(roles["mallory"], *POLICY)
    for schema in (None, "sales"):
        history = await dl.load_history(roles["analyst"], schema=schema)
        assert history.empty
    done = await command("forget", "x", "--schema", "sales", "--to", url_of(roles["analyst"]))
    assert "sales.dataloader_loads has row-level security" in done.stderr
    assert await fetch(roles["superuser"], "SELECT * FROM calls") == []


async def test_nothing_is_forgotten_in_a_ledger_that_is_not_trusted(roles: Any) -> None:
    await make_ledger(roles["mallory"])
    await execute(roles["superuser"], "ALTER TABLE sales.others OWNER TO owner")
    ((load_id,),) = await fetch(roles["mallory"], "SELECT load_id FROM sales.dataloader_loads")
    trap = [one.replace("AFTER INSERT", "BEFORE DELETE") for one in TRIGGER]
    for why, statements in (("belongs to mallory", trap), ("has a trigger of mallory", [])):
        done = await command("forget", load_id, "--schema", "sales", "--to", url_of(roles["analyst"]))
        assert (done.returncode, why in done.stderr) == (1, True), done.stderr
        await execute(roles["mallory"], *statements)
    assert await fetch(roles["superuser"], "SELECT * FROM calls") == []
    assert len(await fetch(roles["mallory"], "SELECT 1 FROM sales.dataloader_loads")) == 1


@pytest.mark.parametrize("verb", ["forget", "resume"])
async def test_a_name_that_two_ledgers_have_is_refused_with_their_schemas(postgres: AsyncEngine, verb: str) -> None:
    await execute(postgres, "CREATE SCHEMA sales")
    for table in ("orders", "sales.orders"):
        await interrupted(postgres, table, load_id="May")
    done = await command(verb, "May", "--to", url_of(postgres))
    assert done.returncode == 1
    assert "several schemas have a load 'May': public, sales" in done.stderr
    assert "--schema" in done.stderr
    done = await command("forget", "May", "--schema", "sales", "--to", url_of(postgres))
    assert done.returncode == 0, done.stderr
    assert (await dl.load_history(postgres))["target"].tolist() == ["public.orders"]


async def test_files_that_a_ledger_names_are_shown_and_read_only_on_a_yes(
    database: AsyncEngine, tmp_path: Path
) -> None:
    await interrupted_files(database, tmp_path, "--load-id", "May")
    for answer, loaded in (("", 35), ("n\n", 35), ("y\n", 60)):
        asked = ["resume", "May", "--to", url_of(database)]
        done = await asyncio.to_thread(RUNNER.invoke, main, asked, input=answer)
        assert str(tmp_path / "part 0.csv") in done.stderr
        assert "orders" in done.stderr
        assert done.exit_code == (0 if loaded == 60 else 1), done.stderr
        assert await fetch(database, "SELECT count(*) FROM orders") == [(loaded,)]


ESCAPE = "\x1b]0;pwn\x07"


@pytest.mark.parametrize("column", ["source", "target", "options", "load_id", "state"])
async def test_an_escape_in_a_ledger_does_not_reach_the_terminal(sqlite: AsyncEngine, column: str) -> None:
    await interrupted(sqlite, load_id="May")
    replaced = "replace(options, 'load_batches', :word)" if column == "options" else ":word"
    async with sqlite.begin() as connection:
        edit = sa.text(f"UPDATE dataloader_loads SET {column} = {replaced}")
        await connection.execute(edit, {"word": f"load_batches{ESCAPE}" if column == "options" else ESCAPE})
    load_id = ESCAPE if column == "load_id" else "May"
    for verb in (["history"], ["resume", load_id, "--yes"], ["forget", load_id]):
        done = await command(*verb, "--to", url_of(sqlite))
        assert "\x1b" not in done.stdout + done.stderr
        assert "\x07" not in done.stdout + done.stderr


BROKEN = (
    ("options", "not json"),
    ("options", '{"x": 1}'),
    ("options", "[1]"),
    ("options", '{"loader": "load_files", "paths": ["a.csv"], "if_exists": "replace"}'),
    ("target", "elsewhere.orders"),
    ("fingerprint", "{}"),
    ("owner", "nobody knows"),
)


async def test_a_bad_row_of_a_ledger_is_named_and_leaves_the_others_alone(database: AsyncEngine) -> None:
    await interrupted(database, "bills", load_id="good")
    await interrupted(database, "orders", load_id="bad")
    to = ("--to", url_of(database))
    for column, value in BROKEN:
        ((kept,),) = await fetch(database, f"SELECT {column} FROM dataloader_loads WHERE load_id = 'bad'")
        await set_bad(database, column, value)
        assert (await dl.load_history(database))["load_id"].tolist() == ["bad", "good"]
        done = await command("resume", "bad", "--yes", *to)
        assert done.returncode == 1
        assert "'bad'" in done.stderr
        assert column in done.stderr or column in {"owner", "fingerprint"}
        await set_bad(database, column, kept)
    await set_bad(database, "options", "not json")
    assert (await load(database, "bills", load_id="good", resume=True)).loaded == 30
    done = await command("forget", "bad", *to)
    assert done.returncode == 0, done.stderr


async def set_bad(database: AsyncEngine, column: str, value: str | None) -> None:
    async with database.begin() as connection:
        edit = sa.text(f"UPDATE dataloader_loads SET {column} = :value WHERE load_id = 'bad'")
        await connection.execute(edit, {"value": value})


@pytest.mark.parametrize("column", ["started_at", "last_commit_at", "rows", "chunk_rows", "fingerprint"])
async def test_a_row_that_no_load_has_written_is_unreadable_and_not_continued(sqlite: AsyncEngine, column: str) -> None:
    await interrupted(sqlite, load_id="good")
    await interrupted(sqlite, load_id="bad")
    await execute(sqlite, f"UPDATE dataloader_loads SET {column} = 'once' WHERE load_id = 'bad'")
    history = (await dl.load_history(sqlite)).set_index("load_id")
    assert history["state"].to_dict() == {"good": "unfinished", "bad": "unreadable"}
    with pytest.raises(dl.CheckpointError, match=f"'bad' cannot be read: its {column} is"):
        await load(sqlite, load_id="bad", resume=True)
    assert (await load(sqlite, load_id="good", resume=True)).loaded == 30
    assert (await command("forget", "bad", "--to", url_of(sqlite))).returncode == 0


async def test_a_table_that_is_only_called_like_a_ledger_does_not_hide_the_others(postgres: AsyncEngine) -> None:
    await execute(postgres, "CREATE SCHEMA sales", "CREATE TABLE sales.dataloader_loads (id bigint)")
    await interrupted(postgres, load_id="May")
    assert (await dl.load_history(postgres))["load_id"].tolist() == ["May"]
    assert "sales.dataloader_loads has other columns" in (await command("history", "--to", url_of(postgres))).stdout


async def test_a_ledger_of_an_earlier_version_is_refused_by_its_columns(database: AsyncEngine) -> None:
    await interrupted(database, load_id="May")
    await execute(database, "ALTER TABLE dataloader_loads RENAME COLUMN last_commit_at TO seen_at")
    before = await fetch(database, "SELECT count(*) FROM orders")
    for options in ({"load_id": "May", "resume": True}, {"load_id": "June"}):
        with pytest.raises(dl.PlanError, match="other columns than this version"):
            await load(database, **options)
    assert await fetch(database, "SELECT count(*) FROM orders") == before
