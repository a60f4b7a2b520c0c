"""PostgreSQL's catalog: a table as it describes it, and what makes it the very one that it was."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from dataloader.conversion.column_types import ColumnType, parse_type
from dataloader.database.schema import Column, TableName, TableSchema

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

MOST_CONNECTIONS = """
SELECT pg_catalog.min(one.most) FROM (
    SELECT CAST(pg_catalog.current_setting('max_connections') AS pg_catalog.int4)
         - CAST(pg_catalog.current_setting('superuser_reserved_connections') AS pg_catalog.int4) AS most
  UNION ALL SELECT r.rolconnlimit FROM pg_catalog.pg_roles r WHERE r.rolname = CURRENT_USER
  UNION ALL SELECT d.datconnlimit FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
) one WHERE one.most OPERATOR(pg_catalog.>) 0
"""
"""How many connections the role can have at once."""

_PARTS = """
WITH RECURSIVE parts (oid) AS (
    SELECT c.oid
  UNION
    SELECT i.inhrelid FROM parts JOIN pg_catalog.pg_inherits i ON i.inhparent = parts.oid
    WHERE c.relkind = 'p' OR EXISTS (
        SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgtype & 7 = 7
    )
)
"""
"""The table `c` and what its rows may be in: its partitions, and its heirs where a trigger may send rows there."""

_TABLE = sa.text(f"""
SELECT c.oid, n.nspname, c.relname, c.relkind, pg_catalog.row_security_active(c.oid) AS row_security,
       CASE WHEN c.relkind IN ('v', 'f')  -- of a table it would wait for whoever has that locked
           THEN pg_catalog.pg_relation_is_updatable(c.oid, true) & 8 = 8 ELSE c.relkind <> 'm' END AS insertable,
       (SELECT pg_catalog.bool_or(r.is_instead) FROM pg_catalog.pg_rewrite r
        WHERE r.ev_class = c.oid AND r.ev_type = '3' AND r.ev_enabled IN ('O', 'A')) AS has_instead_rule,
       ({_PARTS} SELECT pg_catalog.format('%s%s', p.relkind, p.relname)
        FROM parts JOIN pg_catalog.pg_class p ON p.oid = parts.oid
        WHERE p.relkind NOT IN ('r', 'p') OR p.relpersistence <> 'p' ORDER BY p.oid LIMIT 1) AS unwatched,
       (SELECT pg_catalog.format('%s.%s', m.nspname, p.relname) FROM pg_catalog.pg_inherits i
        JOIN pg_catalog.pg_class p ON p.oid = i.inhparent JOIN pg_catalog.pg_namespace m ON m.oid = p.relnamespace
        WHERE i.inhrelid = c.oid LIMIT 1) AS parent,
       (SELECT pg_catalog.string_agg(DISTINCT pg_catalog.format('%s.%s', m.nspname, r.relname), ', ')
        FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class r ON r.oid = k.conrelid
        JOIN pg_catalog.pg_namespace m ON m.oid = r.relnamespace
        WHERE k.confrelid = c.oid AND k.contype = 'f' AND r.oid <> c.oid AND NOT r.relispartition) AS referrers,
       (SELECT pg_catalog.string_agg(pg_catalog.format('%s.%s', m.nspname, p.relname), ', ' ORDER BY p.oid)
        FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class p ON p.oid = i.inhrelid
        JOIN pg_catalog.pg_namespace m ON m.oid = p.relnamespace
        WHERE i.inhparent = c.oid AND c.relkind = 'r') AS heirs
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT n.oid = pg_catalog.pg_my_temp_schema()) t (is_temporary)
WHERE c.relname = :name AND c.relkind IN ('r', 'p', 'v', 'f', 'm')
  AND CASE WHEN CAST(:schema AS pg_catalog.text) IS NULL
      THEN n.nspname = ANY (pg_catalog.current_schemas(false)) OR CAST(:temporary AS boolean) AND is_temporary
      ELSE n.nspname = :schema END
ORDER BY is_temporary DESC, pg_catalog.array_position(pg_catalog.current_schemas(false), n.nspname)
LIMIT 1
""")
"""Temporary tables are not found, but in the caller's own session: the search path is walked without pg_temp."""

_COLUMNS = sa.text("""
WITH RECURSIVE base (attnum, type, typmod, required) AS (
    SELECT a.attnum, a.atttypid, a.atttypmod, a.attnotnull
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = CAST(:oid AS pg_catalog.oid) AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
    SELECT b.attnum, t.typbasetype, CASE WHEN b.typmod < 0 THEN t.typtypmod ELSE b.typmod END,
           b.required OR t.typnotnull
    FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type WHERE t.typtype = 'd'
)
SELECT pg_catalog.set_config('quote_all_identifiers', 'off', true), a.attname,
       pg_catalog.format_type(b.type, b.typmod) AS type,
       b.required AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = a.attrelid AND NOT g.tgisinternal AND g.tgtype & 7 = 7
       ) AS required,
       k.typreceive <> 0 AS binary,
       a.atthasdef OR a.attidentity <> '' AS has_default, a.attgenerated <> '' AS generated,
       a.attidentity = 'a' AS always, a.attidentity <> '' OR a.atthasdef AND EXISTS (
           SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
           WHERE d.classid = CAST('pg_catalog.pg_class' AS pg_catalog.regclass)
             AND d.refclassid = CAST('pg_catalog.pg_class' AS pg_catalog.regclass)
             AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'a') AS counted,
       CASE WHEN t.typtype = 'e' THEN ARRAY(
           SELECT CAST(e.enumlabel AS pg_catalog.text) FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid
           ORDER BY e.enumsortorder
       ) END AS labels,
       CASE WHEN t.typname = 'money'
            THEN pg_catalog.scale(CAST(CAST(0 AS pg_catalog.money) AS numeric)) END AS money_digits
FROM base b
JOIN pg_catalog.pg_attribute a ON a.attrelid = CAST(:oid AS pg_catalog.oid) AND a.attnum = b.attnum
JOIN pg_catalog.pg_type k ON k.oid = a.atttypid
JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype <> 'd'
ORDER BY b.attnum
""")
"""Domains are followed down to the type that is stored; any NOT NULL on the way counts, unless a trigger before
INSERT may fill the column. With quote_all_identifiers on the type text would be called "text"."""

PLACE = sa.text("""
SELECT pg_catalog.concat_ws(' ', pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()), d.oid)
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
""")

FINGERPRINT = sa.text(f"""
SELECT pg_catalog.array_cat(
    pg_catalog.array_prepend(CAST(c.oid AS pg_catalog.text), CASE WHEN c.relhassubclass THEN ({_PARTS}
        SELECT ARRAY[
            pg_catalog.string_agg(pg_catalog.format('%s:%s', p.oid, p.relfilenode), ' ' ORDER BY p.oid),
            pg_catalog.max(
                CASE WHEN p.relkind IN ('r', 'p') THEN CAST(p.relpersistence AS pg_catalog.text) ELSE 'x' END)]
        FROM parts JOIN pg_catalog.pg_class p ON p.oid = parts.oid)
    ELSE ARRAY[pg_catalog.format('%s:%s', c.oid, c.relfilenode), CAST(c.relpersistence AS pg_catalog.text)] END),
    ARRAY[(SELECT pg_catalog.string_agg(a.attname || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod), ', '
                                        ORDER BY a.attnum)
           FROM pg_catalog.pg_attribute a
           WHERE a.attrelid = c.oid AND a.attname = ANY (CAST(:columns AS pg_catalog.text[])))])
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relname = :name
""")

LOSSES = sa.text("""
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

_NAMES = """ARRAY(SELECT CAST(a.attname AS pg_catalog.text) FROM pg_catalog.unnest({0}) WITH ORDINALITY k (number, n)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = {1} AND a.attnum = k.number WHERE k.n <= {2} ORDER BY k.n)"""
"""The names of numbered columns of a table, the first few; SQLAlchemy's reflection calls functions without a schema."""
IS_WORKING = sa.text("""
SELECT CASE WHEN pg_catalog.pg_postmaster_start_time() <> CAST(:began AS timestamptz) THEN true ELSE EXISTS (
    SELECT 1 FROM pg_catalog.pg_stat_activity
    WHERE pid = CAST(:pid AS integer)
    AND (coalesce(state, 'active') NOT LIKE 'idle%'
         OR state_change > (pg_catalog.clock_timestamp() - CAST('10 seconds' AS interval)))
) END
""")
"""Whether a session works, or has just done so: what it has sent may be on its way."""

UNIQUE_KEYS = sa.text(f"""
SELECT {_NAMES.format("i.indkey", "i.indrelid", "i.indnkeyatts")}
FROM pg_catalog.pg_index i
WHERE i.indrelid = CAST(CAST(:name AS pg_catalog.text) AS pg_catalog.regclass)
  AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY i.indisprimary DESC, i.indexrelid
""")
FOREIGN_KEYS = sa.text(f"""
SELECT {_NAMES.format("c.conkey", "c.conrelid", "pg_catalog.cardinality(c.conkey)")}, n.nspname, p.relname,
       {_NAMES.format("c.confkey", "c.confrelid", "pg_catalog.cardinality(c.confkey)")},
       pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(p.oid, 'SELECT')
FROM pg_catalog.pg_constraint c
JOIN pg_catalog.pg_class p ON p.oid = c.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace
WHERE c.conrelid = CAST(CAST(:name AS pg_catalog.text) AS pg_catalog.regclass) AND c.contype = 'f'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint u WHERE u.oid = c.conparentid AND u.conrelid = c.conrelid)
ORDER BY c.conname
""")
"""A key to a partitioned table has a copy for each of its partitions."""


DEFERRED = sa.text("""
SELECT pg_catalog.format('%I.%I', n.nspname, c.conname)
FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
WHERE c.conrelid = CAST(CAST(:name AS pg_catalog.text) AS pg_catalog.regclass) AND c.condeferrable
  AND (c.contype IN ('p', 'u', 'x') OR c.contype = 'f' AND c.confrelid <> c.conrelid)
""")

RIGHTS = sa.text("""
SELECT n.nspname AS schema, c.relname AS name, current_user AS role, o.rolname AS owner, c.relkind = 'r' AS is_table,
       c.relpersistence = 'u' AS is_unlogged,
       pg_catalog.has_schema_privilege(n.oid, 'CREATE') AS may_create,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE')
           AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AS may_read,
       pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_table_privilege(c.oid, 'INSERT')
           AND pg_catalog.has_table_privilege(c.oid, 'UPDATE') AS usable,
       o.rolsuper OR o.rolname = current_user OR COALESCE(o.oid = t.relowner, false) AS is_ours,
       c.relrowsecurity AS has_policies,
       EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid) AS has_rules,
       ARRAY(SELECT CAST(f.rolname AS pg_catalog.text) FROM pg_catalog.pg_trigger g
             JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid JOIN pg_catalog.pg_roles f ON f.oid = p.proowner
             WHERE g.tgrelid = c.oid AND NOT g.tgisinternal
               AND NOT (f.rolsuper OR f.rolname = current_user OR COALESCE(f.oid = t.relowner, false)))
            AS foreign_owners,
       ARRAY(SELECT CAST(a.attname AS pg_catalog.text) FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
FROM pg_catalog.pg_namespace n
LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = ANY (CAST(:names AS pg_catalog.text[]))
LEFT JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
LEFT JOIN pg_catalog.pg_class t ON t.relnamespace = n.oid AND t.relname = :target
WHERE n.nspname = COALESCE(:schema, n.nspname)
ORDER BY n.nspname, c.relname DESC
""").bindparams(
    sa.bindparam("names", type_=postgresql.ARRAY(sa.Text())),
    sa.bindparam("schema", type_=sa.Text()),
    sa.bindparam("target", type_=sa.Text()),
)
"""In the order of `TableRights`."""

ADVANCE = """
WITH most AS MATERIALIZED ({most})
SELECT pg_catalog.setval(CAST(CAST(:sequence AS pg_catalog.text) AS pg_catalog.regclass), most.number)
FROM most, {sequence} AS counter, pg_catalog.pg_sequence s
WHERE s.seqrelid = CAST(CAST(:sequence AS pg_catalog.text) AS pg_catalog.regclass) AND s.seqincrement > 0
  AND most.number >= counter.last_value
"""
"""What the sequence would give next is compared last: others may draw from it meanwhile. One that counts down stays."""

FIXED = sa.text("""
SELECT CAST(a.attname AS pg_catalog.text), r.why
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
CROSS JOIN LATERAL (
    SELECT pg_catalog.format('the table belongs to %s', pg_catalog.pg_get_userbyid(c.relowner))
    WHERE NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')
  UNION ALL
    SELECT pg_catalog.format('the table is of the type %s', pg_catalog.format_type(c.reloftype, NULL))
    WHERE c.reloftype <> 0
  UNION ALL
    SELECT pg_catalog.format('it comes from %s', CAST(CAST(i.inhparent AS pg_catalog.regclass) AS pg_catalog.text))
    FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_attribute b ON b.attrelid = i.inhparent AND b.attname = a.attname
    WHERE i.inhrelid = c.oid
  UNION ALL
    SELECT pg_catalog.format('its type is the domain %s', pg_catalog.format_type(y.oid, NULL)) WHERE y.typtype = 'd'
  UNION ALL
    SELECT pg_catalog.format('rows are in partitions by it in %s',
                             CAST(CAST(p.partrelid AS pg_catalog.regclass) AS pg_catalog.text))
    FROM pg_catalog.pg_partition_tree(c.oid) t JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = t.relid
    JOIN pg_catalog.pg_attribute b ON b.attrelid = p.partrelid AND b.attname = a.attname
    WHERE b.attnum = ANY (CAST(p.partattrs AS pg_catalog.int2[]))
  UNION ALL
    SELECT pg_catalog.format('%s depends on it', COALESCE(
        (SELECT pg_catalog.format('%s %s', CASE v.relkind WHEN 'v' THEN 'the view' WHEN 'm' THEN 'the materialized view'
                                           ELSE 'a rule of' END,
                                  CAST(CAST(v.oid AS pg_catalog.regclass) AS pg_catalog.text))
         FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_class v ON v.oid = w.ev_class
         WHERE d.classid = CAST('pg_catalog.pg_rewrite' AS pg_catalog.regclass) AND w.oid = d.objid),
        pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)))
    FROM pg_catalog.pg_depend d
    WHERE d.refclassid = CAST('pg_catalog.pg_class' AS pg_catalog.regclass)
      AND d.refobjid = c.oid AND d.refobjsubid = a.attnum
      AND (d.classid = ANY (CAST(ARRAY['pg_catalog.pg_rewrite', 'pg_catalog.pg_policy', 'pg_catalog.pg_trigger',
                                       'pg_catalog.pg_proc', 'pg_catalog.pg_publication_rel'] AS pg_catalog.regclass[]))
           OR d.classid = CAST('pg_catalog.pg_class' AS pg_catalog.regclass) AND d.objid = c.oid
           OR EXISTS (SELECT FROM pg_catalog.pg_attrdef f
                      WHERE d.classid = CAST('pg_catalog.pg_attrdef' AS pg_catalog.regclass) AND f.oid = d.objid
                        AND f.adrelid = c.oid AND f.adnum <> a.attnum))
) r (why)
WHERE c.oid = CAST(CAST(:name AS pg_catalog.text) AS pg_catalog.regclass)
""")
"""The columns whose types PostgreSQL does not change, and why, the first reason first. A domain would be left."""

_KINDS = {"v": "view", "m": "materialized view", "f": "foreign table", "p": "partitioned table"}


async def describe(connection: AsyncConnection, name: TableName, *, temporary: bool) -> TableSchema | None:
    """Read a table, None if there is none of that name; temporary ones only where they are asked for."""
    asked = {"name": name.name, "schema": name.schema, "temporary": temporary}
    found = (await connection.execute(_TABLE, asked)).one_or_none()
    if found is None:
        return None
    rows = await connection.execute(_COLUMNS, {"oid": found.oid})
    columns = tuple(
        Column(
            row.attname,
            _type(row),
            nullable=not row.required,
            has_default=row.has_default,
            generated=row.generated,
            binary=row.binary,
            counted=row.counted,
            always=row.always,
        )
        for row in rows
    )
    return TableSchema(
        TableName(found.nspname, found.relname),
        columns,
        kind=_KINDS.get(_text(found.relkind), "table"),
        insertable=found.insertable,
        copy_refused=_copy_refused(found),
        unwatched=_unwatched(found),
        parent=found.parent,
        referrers=found.referrers,
        heirs=found.heirs,
    )


def _copy_refused(found: Any) -> str | None:
    if _text(found.relkind) == "v":
        return "it is a view"
    if found.has_instead_rule is not None:
        return "it has an INSERT rule, which COPY does not apply"
    return "row-level security is active for this role" if found.row_security else None


def _unwatched(found: Any) -> str | None:
    if found.unwatched is not None:
        kind, name = found.unwatched[0], found.unwatched[1:]
        return f"{name} is {f'a {_KINDS[kind]}' if kind in _KINDS else 'UNLOGGED'}"
    return "an INSERT rule may store its rows elsewhere" if found.has_instead_rule else None


def _text(value: Any) -> str:
    """PostgreSQL's "char", which asyncpg gives as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _type(row: Any) -> ColumnType:
    found = parse_type(row.type, "postgresql", tuple(row.labels or ()))
    return found if row.money_digits is None else replace(found, scale=row.money_digits)
