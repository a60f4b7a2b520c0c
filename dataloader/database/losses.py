"""What a table has that is lost when it is dropped and created again, read from the catalog."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import sqlalchemy as sa

from dataloader.database.schema import TableName

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_POSTGRES = sa.text("""
WITH t AS (
    SELECT c.* FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relname = :name
), a AS (
    SELECT a.* FROM pg_catalog.pg_attribute a JOIN t ON t.oid = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped
)
SELECT what, CAST(name AS pg_catalog.text) AS name FROM (
    SELECT CASE WHEN contype = 'p' THEN 'primary key' WHEN contype = 'u' THEN 'unique'
           WHEN contype = 'f' THEN 'foreign key' WHEN contype = 'c' THEN 'check' ELSE 'exclusion' END AS what,
           conname AS name
    FROM pg_catalog.pg_constraint JOIN t ON t.oid = conrelid WHERE contype IN ('p', 'u', 'f', 'c', 'x')
  UNION ALL
    SELECT 'not null of', attname FROM a WHERE attnotnull
  UNION ALL
    SELECT CASE WHEN attgenerated = '' THEN 'default of' ELSE 'generated column' END, attname FROM a WHERE atthasdef
  UNION ALL
    SELECT 'identity of', attname FROM a WHERE attidentity <> ''
  UNION ALL
    SELECT 'index', i.relname FROM pg_catalog.pg_index x
    JOIN t ON t.oid = x.indrelid JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = i.oid AND k.conrelid = t.oid)
  UNION ALL
    SELECT 'trigger', tgname FROM pg_catalog.pg_trigger JOIN t ON t.oid = tgrelid WHERE NOT tgisinternal
  UNION ALL
    SELECT 'rule', rulename FROM pg_catalog.pg_rewrite JOIN t ON t.oid = ev_class
  UNION ALL
    SELECT 'row-level security', '' FROM t WHERE relrowsecurity
  UNION ALL
    SELECT 'policy', polname FROM pg_catalog.pg_policy JOIN t ON t.oid = polrelid
  UNION ALL
    SELECT 'grants to', CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(g.grantee) END
    FROM t, LATERAL (
        SELECT grantee FROM pg_catalog.aclexplode(t.relacl) UNION
        SELECT e.grantee FROM a, pg_catalog.aclexplode(a.attacl) e
    ) g WHERE g.grantee <> t.relowner
  UNION ALL
    SELECT 'comments on', COALESCE(a.attname, 'the table')
    FROM pg_catalog.pg_description d JOIN t ON t.oid = d.objoid LEFT JOIN a ON a.attnum = d.objsubid
    WHERE d.classoid = CAST('pg_catalog.pg_class' AS pg_catalog.regclass)
  UNION ALL
    SELECT 'owner', pg_catalog.pg_get_userbyid(relowner) FROM t
    WHERE pg_catalog.pg_get_userbyid(relowner) <> current_user
  UNION ALL
    SELECT 'publication', p.pubname FROM pg_catalog.pg_publication_rel r
    JOIN t ON t.oid = r.prrelid JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
  UNION ALL
    SELECT 'partitions', c.relname FROM pg_catalog.pg_inherits i
    JOIN t ON t.oid = i.inhparent JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
  UNION ALL
    SELECT 'statistics', stxname FROM pg_catalog.pg_statistic_ext JOIN t ON t.oid = stxrelid
  UNION ALL
    SELECT 'settings', pg_catalog.unnest(reloptions) FROM t
  UNION ALL
    SELECT 'UNLOGGED', '' FROM t WHERE relpersistence = 'u'
) lost (what, name)
""")

_SQLITE = """
SELECT 'primary key' AS what, name FROM pragma_table_info(:name, :schema) WHERE pk > 0
UNION ALL SELECT 'not null of', name FROM pragma_table_info(:name, :schema) WHERE "notnull"
UNION ALL SELECT 'default of', name FROM pragma_table_info(:name, :schema) WHERE dflt_value IS NOT NULL
UNION ALL SELECT 'generated column', name FROM pragma_table_xinfo(:name, :schema) WHERE hidden IN (2, 3)
UNION ALL SELECT 'foreign key', "from" FROM pragma_foreign_key_list(:name, :schema)
UNION ALL SELECT 'unique', c.name FROM pragma_index_list(:name, :schema) i, pragma_index_info(i.name, :schema) c
          WHERE i.origin = 'u'
UNION ALL SELECT 'index', name FROM pragma_index_list(:name, :schema) WHERE origin = 'c'
UNION ALL SELECT 'trigger', name FROM {schema}.sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(:name)
"""


async def losses(connection: AsyncConnection, name: TableName) -> dict[str, list[str]]:
    """What the table would lose: names, by what they are."""
    if connection.dialect.name == "sqlite":
        quote = connection.dialect.identifier_preparer.quote_identifier
        query = sa.text(_SQLITE.format(schema=quote(name.schema or "").replace(":", r"\:")))
    elif connection.dialect.name == "postgresql":
        query = _POSTGRES
    else:
        return {}
    rows = await connection.execute(query, {"schema": name.schema, "name": name.name})
    found = sorted((row.what, row.name) for row in rows)
    return {what: [name for _, name in group] for what, group in itertools.groupby(found, key=lambda row: row[0])}
