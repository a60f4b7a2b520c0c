"""PostgreSQL's duties of a table, read from its catalog as statements that give them to another one.

A statement of the table's own, like a policy's or a trigger's, is read while its table has its name, and carried out
when the new one has it: it then means the new one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dataloader.database.schema import Replaceable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

REFILLED = (
    "wait from the first statement to the commit, and then see the new rows; a REPEATABLE READ transaction that began "
    "before, and reads the table for the first time afterwards, finds it empty"
)
DROPPING = 50
"""The step in which the old table goes; what has its names comes later."""
_SHOWN = 3
_CLASS, _TYPE, _REWRITE = (
    f"CAST('pg_catalog.{name}' AS pg_catalog.regclass)" for name in ("pg_class", "pg_type", "pg_rewrite")
)
_OWN = " OR ".join(
    f"d.classid = CAST('pg_catalog.{catalog}' AS pg_catalog.regclass) AND EXISTS (SELECT FROM pg_catalog.{catalog} o "
    f"WHERE o.oid = d.objid AND {condition})"
    for catalog, condition in {
        "pg_class": "o.relkind IN ('i', 'I', 'S', 't')",
        "pg_attrdef": "o.adrelid = t.oid",
        "pg_constraint": "o.conrelid = t.oid",
        "pg_trigger": "o.tgrelid = t.oid",
        "pg_policy": "o.polrelid = t.oid",
        "pg_type": "o.oid = ANY (ARRAY[t.reltype, t.array])",
        "pg_statistic_ext": "o.stxrelid = t.oid",
        "pg_rewrite": "o.ev_class = t.oid",
        "pg_publication_rel": "o.prrelid = t.oid",
    }.items()
)
"""What is a part of the table: everything else that depends on it would be lost with it."""
_TABLES = """t AS (
    SELECT c.*, n.nspname, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, y.typarray AS array
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_type y ON y.oid = c.reltype
    WHERE c.oid = CAST(CAST(:name AS pg_catalog.text) AS pg_catalog.regclass)
)"""
_BESIDE = """b AS (
    SELECT c.*, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = CAST(CAST(:beside AS pg_catalog.text) AS pg_catalog.regclass)
)"""
_IDENTITY = f"""counters AS (
    SELECT a.attname, a.attrelid, s.oid, s.relname, s.relacl, s.relowner, q.seqincrement, q.seqtypid,
           pg_catalog.format('%I.%I', n.nspname, s.relname) AS name
    FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
    JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE d.classid = {_CLASS} AND d.refclassid = {_CLASS} AND d.deptype = 'i'
)"""
_PUBLISHED = """SELECT p.pubname FROM pg_catalog.pg_publication_tables p, t
    WHERE p.schemaname = t.nspname AND p.tablename = t.relname"""

_COLUMNS_OF = """(SELECT CAST(pg_catalog.json_agg(ARRAY(
        SELECT CAST(a.attname AS pg_catalog.text) FROM pg_catalog.unnest(x.indkey) WITH ORDINALITY k (number, n)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number
        WHERE k.n <= x.indnkeyatts ORDER BY k.n) ORDER BY x.indisprimary DESC, x.indexrelid) AS pg_catalog.text)
    FROM pg_catalog.pg_index x WHERE x.indrelid = t.oid AND x.indpred IS NULL AND x.indexprs IS NULL AND {})"""
FACTS = sa.text(f"""
WITH {_TABLES}, {_IDENTITY}, dependents AS (
    SELECT DISTINCT CASE WHEN r.oid IS NULL THEN pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)
                    ELSE pg_catalog.pg_describe_object({_CLASS}, r.ev_class, 0) END AS name
    FROM t JOIN pg_catalog.pg_depend d ON d.refclassid = {_CLASS} AND d.refobjid = t.oid
        OR d.refclassid = {_CLASS} AND d.refobjid = ANY (ARRAY(SELECT s.oid FROM counters s WHERE s.attrelid = t.oid))
        OR d.refclassid = {_TYPE} AND d.refobjid = ANY (ARRAY[t.reltype, t.array])
    LEFT JOIN pg_catalog.pg_rewrite r ON d.classid = {_REWRITE} AND r.oid = d.objid
    WHERE NOT ({_OWN})
), stays (rank, reason) AS (
    SELECT 1, 'it is partitioned' FROM t WHERE t.relkind = 'p'
  UNION ALL
    SELECT 2, 'it is a part of ' || CAST(CAST(i.inhparent AS pg_catalog.regclass) AS pg_catalog.text)
    FROM pg_catalog.pg_inherits i JOIN t ON t.oid = i.inhrelid
  UNION ALL
    SELECT 3, name || ' depends on it' FROM dependents
  UNION ALL
    SELECT 4, 'its foreign key ' || k.conname FROM pg_catalog.pg_constraint k JOIN t ON t.oid = k.conrelid
    WHERE k.contype = 'f'
  UNION ALL
    SELECT 5, 'the publication ' || p.pubname || ' sends its rows' FROM ({_PUBLISHED}) p
  UNION ALL
    SELECT 6, 'its trigger ' || g.tgname || ' is for rows that are inserted' FROM pg_catalog.pg_trigger g, t
    WHERE g.tgrelid = t.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND (g.tgtype & 36) <> 0
  UNION ALL
    SELECT 7, 'this role does not own it' FROM t WHERE NOT pg_catalog.pg_has_role(t.relowner, 'USAGE')
  UNION ALL
    SELECT 8, 'it is a part of an extension' FROM pg_catalog.pg_depend d JOIN t ON d.objid = t.oid
    WHERE d.classid = {_CLASS} AND d.deptype = 'e'
  UNION ALL
    SELECT 9, 'it is of a composite type' FROM t WHERE t.reloftype <> 0
  UNION ALL
    SELECT 9, 'it, or an index of it, is in another tablespace' FROM t WHERE t.reltablespace <> 0
        OR EXISTS (SELECT FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
                   WHERE x.indrelid = t.oid AND i.reltablespace <> 0)
  UNION ALL
    SELECT 9, 'it has a security label' FROM t
    WHERE EXISTS (SELECT FROM pg_catalog.pg_seclabel l WHERE l.objoid = t.oid AND l.classoid = {_CLASS})
  UNION ALL
    SELECT 9, 'its access method is ' || m.amname FROM t JOIN pg_catalog.pg_am m ON m.oid = t.relam
    WHERE m.amname <> 'heap'
)
SELECT ARRAY(SELECT CAST(reason AS pg_catalog.text) FROM stays ORDER BY rank, reason) AS stays,
       CASE WHEN t.relpersistence = 't' THEN 'it is temporary'
            WHEN EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = t.oid) THEN 'it has rules'
            WHEN NOT pg_catalog.has_schema_privilege(t.relnamespace, 'CREATE')
            THEN 'this role may not create tables in the schema ' || t.nspname END AS beside_refused,
       EXISTS (SELECT FROM pg_catalog.pg_index x WHERE x.indrelid = t.oid AND (x.indisunique OR x.indisexclusion))
           OR EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = t.oid AND k.contype = 'c')
           AS is_constrained,
       (SELECT p.pubname FROM ({_PUBLISHED}) p WHERE NOT EXISTS (
            SELECT FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication q ON q.oid = r.prpubid
            WHERE r.prrelid = t.oid AND q.pubname = p.pubname) LIMIT 1) AS published,
       pg_catalog.has_table_privilege(t.oid, 'TRUNCATE') AS may_truncate,
       {_COLUMNS_OF.format("true")} AS indexes, {_COLUMNS_OF.format("x.indisunique")} AS uniques,
       EXISTS (SELECT FROM pg_catalog.pg_index x WHERE x.indrelid = t.oid AND x.indisprimary) AS has_primary
FROM t
""")

_GRANTEE = """CASE WHEN e.grantee = 0 THEN 'PUBLIC'
    ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(e.grantee)) END"""

_NUMBERING = """pg_catalog.format('PERFORM pg_catalog.setval(%L, CASE WHEN o.last_value '
    'OPERATOR(pg_catalog.%s) n.last_value THEN n.last_value ELSE o.last_value END, o.is_called OR n.is_called) '
    'FROM %s o, %s n', m.name,
    CASE WHEN c.seqincrement < 0 THEN '>' ELSE '<' END, c.name, m.name)"""
_PAIRS = """t CROSS JOIN b JOIN counters c ON c.attrelid = t.oid
    JOIN counters m ON m.attrelid = b.oid AND m.attname = c.attname"""
"""The sequences of identity columns, of both tables."""

DRESS = sa.text(f"""
WITH {_TABLES}, {_BESIDE}, {_IDENTITY}
SELECT pg_catalog.format('ALTER TABLE %s SET (%s)', b.name, pg_catalog.string_agg(
    pg_catalog.format('%s=%L', o.option_name, o.option_value), ', ')) AS statement
FROM t CROSS JOIN b CROSS JOIN LATERAL pg_catalog.pg_options_to_table(t.reloptions) o GROUP BY b.name
UNION ALL
SELECT pg_catalog.format('ALTER TABLE %s SET (%s)', b.name, pg_catalog.string_agg(
    pg_catalog.format('toast.%s=%L', o.option_name, o.option_value), ', '))
FROM t CROSS JOIN b JOIN pg_catalog.pg_class s ON s.oid = t.reltoastrelid
CROSS JOIN LATERAL pg_catalog.pg_options_to_table(s.reloptions) o GROUP BY b.name
UNION ALL
SELECT pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', b.name, a.attname, a.attstattarget)
FROM b CROSS JOIN t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE a.attstattarget >= 0
UNION ALL
SELECT pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET (%s)', b.name, a.attname, pg_catalog.array_to_string(
    a.attoptions, ', '))
FROM b CROSS JOIN t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE a.attoptions IS NOT NULL
UNION ALL
SELECT pg_catalog.format('ALTER SEQUENCE %s AS %s', m.name, pg_catalog.format_type(c.seqtypid, NULL))
FROM {_PAIRS} WHERE m.seqtypid <> c.seqtypid
UNION ALL
SELECT {_NUMBERING} FROM {_PAIRS}
""")
"""LIKE makes every sequence one of bigint."""

PRIVACY = sa.text(f"""
WITH {_TABLES}, {_BESIDE}
SELECT DISTINCT pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s', b.name, {_GRANTEE})
FROM t CROSS JOIN b CROSS JOIN LATERAL pg_catalog.aclexplode(b.relacl) e WHERE e.grantee <> b.relowner
""")
"""By default others may have rights to a new table, which has not the policies of the one that it is beside."""

ALTERED = sa.text(f"""
WITH {_TABLES}, {_BESIDE}, parts (oid, part) AS (
    SELECT a.attrelid, pg_catalog.concat_ws(' ', 'column', a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attnotnull THEN 'NOT NULL' END, CASE WHEN a.attidentity <> '' THEN 'identity' END,
        CASE WHEN a.attgenerated <> '' THEN 'generated' END, a.attcollation, pg_catalog.pg_get_expr(d.adbin, d.adrelid))
    FROM pg_catalog.pg_attribute a
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = ANY (ARRAY(SELECT oid FROM t UNION SELECT oid FROM b))
  UNION ALL
    SELECT k.conrelid, pg_catalog.concat_ws(' ', k.conname,
        pg_catalog.regexp_replace(pg_catalog.pg_get_constraintdef(k.oid), ' NOT VALID$', ''))
    FROM pg_catalog.pg_constraint k
    WHERE k.contype = 'c' AND k.conrelid = ANY (ARRAY(SELECT oid FROM t UNION SELECT oid FROM b))
)
SELECT p.part FROM parts p, t WHERE p.oid = t.oid EXCEPT SELECT p.part FROM parts p, b WHERE p.oid = b.oid
UNION ALL
(SELECT p.part FROM parts p, b WHERE p.oid = b.oid EXCEPT SELECT p.part FROM parts p, t WHERE p.oid = t.oid)
""")
"""A check that was not made valid for the old rows is one for the new ones: LIKE makes it so."""

_STATISTICS = """pg_catalog.pg_statistic_ext s JOIN t ON t.oid = s.stxrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace"""

_NUMBERED = """numbered AS (
    SELECT x.*, i.relname, i.reloptions, b.name, b.relnamespace, k.oid AS constraint_id,
           pg_catalog.format('%s_%s', b.relname, pg_catalog.row_number() OVER (
               ORDER BY x.indisprimary DESC, x.indexrelid)) AS given,
           pg_catalog.pg_get_indexdef(x.indexrelid) AS definition,
           pg_catalog.format('CREATE %sINDEX %I ON %s', CASE WHEN x.indisunique THEN 'UNIQUE ' ELSE '' END, i.relname,
               t.name) AS head
    FROM t CROSS JOIN b JOIN pg_catalog.pg_index x ON x.indrelid = t.oid AND x.indisvalid
    JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
    LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = x.indexrelid AND k.conrelid = t.oid
        AND k.contype IN ('p', 'u', 'x')
)"""
INDEXES = sa.text(f"""
WITH {_TABLES}, {_BESIDE}, {_NUMBERED}
SELECT CASE WHEN constraint_id IS NULL
       THEN pg_catalog.format('CREATE %sINDEX %I ON %s%s', CASE WHEN indisunique THEN 'UNIQUE ' ELSE '' END, given,
            name, pg_catalog.substr(definition, (pg_catalog.length(head) + 1)))
       ELSE pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', name, given,
            pg_catalog.pg_get_constraintdef(constraint_id)) END AS statement, given, CAST(relname AS pg_catalog.text)
FROM numbered ORDER BY given
""")
"""As statements for the table beside, with names that are given for the time being, and those that they have."""

STATISTICS = sa.text(f"""
WITH {_TABLES}, {_BESIDE}, numbered AS (
    SELECT s.*, b.name, n.nspname, pg_catalog.pg_get_statisticsobjdef(s.oid) AS definition,
           pg_catalog.format('CREATE STATISTICS %I.%I', n.nspname, s.stxname) AS head,
           pg_catalog.length(CAST(CAST(t.oid AS pg_catalog.regclass) AS pg_catalog.text)) AS tail,
           pg_catalog.format('%s_s%s', b.relname, pg_catalog.row_number() OVER (ORDER BY s.oid)) AS given
    FROM b CROSS JOIN {_STATISTICS}
)
SELECT pg_catalog.format('CREATE STATISTICS %I.%I%s%s', nspname, given, pg_catalog.substr(definition,
       (pg_catalog.length(head) + 1), (pg_catalog.length(definition) - pg_catalog.length(head) - tail)), name)
FROM numbered ORDER BY given
""")

SETTINGS = sa.text(f"""
WITH {_TABLES}, {_BESIDE}, {_NUMBERED}
SELECT pg_catalog.format('ALTER INDEX %I.%I SET (%s)', n.nspname, x.given, pg_catalog.string_agg(
    pg_catalog.format('%s=%L', o.option_name, o.option_value), ', '))
FROM numbered x JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace
CROSS JOIN LATERAL pg_catalog.pg_options_to_table(x.reloptions) o
WHERE x.constraint_id IS NOT NULL GROUP BY n.nspname, x.given
UNION ALL
SELECT pg_catalog.format('ALTER INDEX %I.%I ALTER COLUMN %s SET STATISTICS %s', n.nspname, x.given, a.attnum,
    a.attstattarget)
FROM numbered x JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indexrelid AND a.attstattarget >= 0
UNION ALL
SELECT pg_catalog.format('ALTER STATISTICS %I.%I SET STATISTICS %s', s.nspname, s.given, s.target)
FROM (SELECT n.nspname, CAST(pg_catalog.json_extract_path_text(pg_catalog.to_json(s), 'stxstattarget')
          AS pg_catalog.int4) AS target,
          pg_catalog.format('%s_s%s', b.relname, pg_catalog.row_number() OVER (ORDER BY s.oid)) AS given
      FROM b CROSS JOIN {_STATISTICS}) s WHERE s.target >= 0
""")
"""What those statements do not say: the storage parameters of a constraint, and the targets of statistics."""

DUTIES = sa.text(f"""
WITH {_TABLES}, {_BESIDE}, {_IDENTITY}, holders (what, name, relacl, relowner) AS (
    SELECT 'TABLE', t.name, t.relacl, t.relowner FROM t WHERE t.relacl IS NOT NULL
  UNION ALL
    SELECT 'SEQUENCE', c.name, c.relacl, c.relowner FROM t JOIN counters c ON c.attrelid = t.oid
    WHERE c.relacl IS NOT NULL
), duties (step, part, statement) AS (
    SELECT 20, '', pg_catalog.format('ALTER TABLE %s OWNER TO %I', t.name, pg_catalog.pg_get_userbyid(t.relowner))
    FROM t CROSS JOIN b WHERE b.relowner <> t.relowner
  UNION ALL
    SELECT 30, '', pg_catalog.format('ALTER SEQUENCE %I.%I OWNED BY %s.%I', n.nspname, s.relname, t.name, a.attname)
    FROM t JOIN pg_catalog.pg_depend d ON d.refobjid = t.oid AND d.refclassid = {_CLASS} AND d.classid = {_CLASS}
        AND d.deptype = 'a'
    JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
  UNION ALL
    SELECT 40, '', {_NUMBERING} FROM {_PAIRS}
  UNION ALL
    SELECT 50, '', pg_catalog.format('DROP TABLE %I.%I', t.nspname, CAST(:old AS pg_catalog.text)) FROM t
  UNION ALL
    SELECT 60, '', pg_catalog.format('ALTER SEQUENCE %s RENAME TO %I', m.name, c.relname)
    FROM {_PAIRS}
  UNION ALL
    SELECT 61, s.given, pg_catalog.format('ALTER STATISTICS %I.%I RENAME TO %I', s.nspname, s.given, s.stxname)
    FROM (SELECT n.nspname, s.stxname, pg_catalog.format('%s_s%s', b.relname, pg_catalog.row_number() OVER (
          ORDER BY s.oid)) AS given FROM b CROSS JOIN {_STATISTICS}) s
  UNION ALL
    SELECT 62, '', pg_catalog.format('ALTER STATISTICS %I.%I OWNER TO %I', n.nspname, s.stxname,
        pg_catalog.pg_get_userbyid(s.stxowner)) FROM b CROSS JOIN {_STATISTICS} WHERE s.stxowner <> b.relowner
  UNION ALL
    SELECT 70, '', pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY %s', t.name, CASE
        WHEN t.relreplident = 'f' THEN 'FULL' WHEN t.relreplident = 'n' THEN 'NOTHING'
        ELSE (SELECT pg_catalog.format('USING INDEX %I', i.relname) FROM pg_catalog.pg_index x
              JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = t.oid AND x.indisreplident) END)
    FROM t WHERE t.relreplident IN ('f', 'n', 'i')
  UNION ALL
    SELECT 71, '', pg_catalog.format('ALTER TABLE %s CLUSTER ON %I', t.name, i.relname)
    FROM t JOIN pg_catalog.pg_index x ON x.indrelid = t.oid AND x.indisclustered
    JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
  UNION ALL
    SELECT 75, '', pg_catalog.format('COMMENT ON %s IS %L', CASE WHEN d.objoid = t.oid THEN 'TABLE ' || t.name
        WHEN c.relkind = 'S' THEN pg_catalog.format('SEQUENCE %I.%I', t.nspname, c.relname)
        ELSE pg_catalog.format('INDEX %I.%I', t.nspname, c.relname) END, d.description)
    FROM t CROSS JOIN pg_catalog.pg_description d JOIN pg_catalog.pg_class c ON c.oid = d.objoid
    WHERE d.classoid = {_CLASS} AND d.objsubid = 0 AND (d.objoid = t.oid
        OR EXISTS (SELECT FROM pg_catalog.pg_index x WHERE x.indrelid = t.oid AND x.indexrelid = d.objoid)
        OR EXISTS (SELECT FROM counters s WHERE s.attrelid = t.oid AND s.oid = d.objoid))
  UNION ALL
    SELECT 76, '', pg_catalog.format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, t.name, d.description)
    FROM t JOIN pg_catalog.pg_constraint k ON k.conrelid = t.oid AND k.contype IN ('p', 'u', 'x')
    JOIN pg_catalog.pg_description d ON d.objoid = k.oid
        AND d.classoid = CAST('pg_catalog.pg_constraint' AS pg_catalog.regclass)
  UNION ALL
    SELECT 77, '', pg_catalog.format('COMMENT ON STATISTICS %I.%I IS %L', n.nspname, s.stxname, d.description)
    FROM {_STATISTICS} JOIN pg_catalog.pg_description d ON d.objoid = s.oid
        AND d.classoid = CAST('pg_catalog.pg_statistic_ext' AS pg_catalog.regclass)
  UNION ALL
    SELECT 80, 'a', pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t.name) FROM t WHERE t.relrowsecurity
  UNION ALL
    SELECT 80, 'b', pg_catalog.format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', t.name) FROM t
    WHERE t.relforcerowsecurity
  UNION ALL
    SELECT 81, p.polname, pg_catalog.format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', p.polname, t.name,
        CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
        CASE WHEN p.polcmd = 'r' THEN 'SELECT' WHEN p.polcmd = 'a' THEN 'INSERT' WHEN p.polcmd = 'w' THEN 'UPDATE'
             WHEN p.polcmd = 'd' THEN 'DELETE' ELSE 'ALL' END,
        (SELECT pg_catalog.string_agg({_GRANTEE}, ', ') FROM pg_catalog.unnest(p.polroles) e (grantee)),
        ' USING (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')',
        ' WITH CHECK (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')')
    FROM t JOIN pg_catalog.pg_policy p ON p.polrelid = t.oid
  UNION ALL
    SELECT 82, p.polname, pg_catalog.format('COMMENT ON POLICY %I ON %s IS %L', p.polname, t.name, d.description)
    FROM t JOIN pg_catalog.pg_policy p ON p.polrelid = t.oid JOIN pg_catalog.pg_description d ON d.objoid = p.oid
        AND d.classoid = CAST('pg_catalog.pg_policy' AS pg_catalog.regclass)
  UNION ALL
    SELECT 90, g.tgname, pg_catalog.pg_get_triggerdef(g.oid)
    FROM t JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal
  UNION ALL
    SELECT 91, g.tgname, pg_catalog.format('ALTER TABLE %s %s TRIGGER %I', t.name,
        CASE WHEN g.tgenabled = 'D' THEN 'DISABLE' WHEN g.tgenabled = 'R' THEN 'ENABLE REPLICA'
             ELSE 'ENABLE ALWAYS' END, g.tgname)
    FROM t JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal AND g.tgenabled <> 'O'
  UNION ALL
    SELECT 92, g.tgname, pg_catalog.format('COMMENT ON TRIGGER %I ON %s IS %L', g.tgname, t.name, d.description)
    FROM t JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.oid JOIN pg_catalog.pg_description d ON d.objoid = g.oid
        AND d.classoid = CAST('pg_catalog.pg_trigger' AS pg_catalog.regclass)
  UNION ALL
    SELECT 95, '', pg_catalog.format('REVOKE ALL ON %s %s FROM %I', h.what, h.name,
        pg_catalog.pg_get_userbyid(h.relowner)) FROM holders h
  UNION ALL
    SELECT 96, CASE WHEN e.is_grantable THEN 'b' ELSE 'a' END, pg_catalog.format('GRANT %s ON %s %s TO %s%s',
        pg_catalog.string_agg(e.privilege_type, ', '), h.what, h.name, {_GRANTEE},
        CASE WHEN e.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM holders h CROSS JOIN LATERAL pg_catalog.aclexplode(h.relacl) e
    GROUP BY h.what, h.name, e.grantee, e.is_grantable
  UNION ALL
    SELECT 97, CASE WHEN e.is_grantable THEN 'b' ELSE 'a' END, pg_catalog.format('GRANT %s (%I) ON TABLE %s TO %s%s',
        e.privilege_type, a.attname, t.name, {_GRANTEE},
        CASE WHEN e.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND NOT a.attisdropped
    CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) e
)
SELECT step, statement FROM duties ORDER BY step, part, statement
""")


async def replaceable(connection: AsyncConnection, name: str) -> Replaceable:
    """What the catalog says of a table, in our words."""
    row = (await connection.execute(FACTS, {"name": name})).one()
    more = f" and {len(row.stays) - _SHOWN} more" if len(row.stays) > _SHOWN else ""
    indexes, uniques = (tuple(map(tuple, json.loads(one or "[]"))) for one in (row.indexes, row.uniques))
    return Replaceable(
        keeps=True,
        stays=f"{', '.join(row.stays[:_SHOWN])}{more}" if row.stays else None,
        beside_refused=row.beside_refused,
        is_constrained=row.is_constrained,
        published=None if row.published is None else f"the publication {row.published} would send the table beside",
        deletes=not row.may_truncate,
        primary_key=indexes[0] if row.has_primary else (),
        indexes=indexes,
        uniques=uniques,
    )


async def statements(connection: AsyncConnection, query: sa.TextClause, **names: str) -> list[Any]:
    """The rows of one of the queries."""
    return list((await connection.execute(query, names)).all())


def script(parts: Sequence[str]) -> str:
    """Statements that are carried out in one round trip: while they are, everybody waits for the table."""
    tag = "$dataloader$"
    while any(tag in part for part in parts):
        tag = f"{tag[:-1]}_$"
    return f"DO {tag} BEGIN {'; '.join(parts)}; END {tag}"
