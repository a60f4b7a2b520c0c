"""PostgreSQL's merge: rows of a temporary table are inserted, and those whose key is there update it or stay out.

A row that is there is only written where something differs, to the last digit: the images of the values are compared,
because = calls 1.0 and 1.00 equal, and knows no json.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dataloader.database.backends.merging import key_terms, overriding, same_key
from dataloader.database.schema import Merge, MergeTarget, UniqueKey

if TYPE_CHECKING:
    from dataloader.database.schema import TableName, TableSchema

KEYS = sa.text("""
SELECT ARRAY(SELECT CAST(a.attname AS pg_catalog.text) FROM pg_catalog.unnest(i.indkey) WITH ORDINALITY k (number, n)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
             WHERE k.n <= i.indnkeyatts ORDER BY k.n),
       i.indisprimary, x.relname,
       CASE WHEN i.indexprs IS NOT NULL THEN 'it is an index of expressions'
            WHEN i.indpred IS NOT NULL THEN 'it is a partial index'
            WHEN NOT i.indimmediate THEN 'it is deferrable'
            WHEN i.indisexclusion THEN 'it forbids overlaps'
            WHEN NOT i.indisvalid THEN 'it is not valid' END,
       ARRAY(SELECT pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname)
             FROM pg_catalog.unnest(i.indclass) WITH ORDINALITY k (chosen, n)
             JOIN pg_catalog.pg_opclass c ON c.oid = k.chosen
             JOIN pg_catalog.pg_amop s ON s.amopfamily = c.opcfamily AND s.amopstrategy = 3
                  AND s.amoplefttype = c.opcintype AND s.amoprighttype = c.opcintype
             JOIN pg_catalog.pg_operator o ON o.oid = s.amopopr
             JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace ORDER BY k.n),
       ARRAY(SELECT CASE WHEN k.chosen = a.attcollation OR k.chosen = 0 THEN ''
                         ELSE pg_catalog.format(' COLLATE %I.%I', n.nspname, c.collname) END
             FROM pg_catalog.unnest(i.indcollation) WITH ORDINALITY k (chosen, n)
             JOIN pg_catalog.unnest(i.indkey) WITH ORDINALITY p (number, n) ON p.n = k.n
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = p.number
             LEFT JOIN pg_catalog.pg_collation c ON c.oid = k.chosen
             LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace ORDER BY k.n),
       COALESCE(CAST(pg_catalog.jsonb_extract_path_text(pg_catalog.to_jsonb(i), 'indnullsnotdistinct')
                     AS pg_catalog.bool), false),
       EXISTS (SELECT FROM pg_catalog.pg_collation c WHERE c.oid = ANY (i.indcollation)
               AND pg_catalog.jsonb_extract_path_text(pg_catalog.to_jsonb(c), 'collisdeterministic') = 'false')
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = CAST(CAST(:name AS pg_catalog.text) AS pg_catalog.regclass) AND i.indisunique
ORDER BY i.indisprimary DESC, i.indexrelid
""")
"""The attributes of `UniqueKey` in their order; of the last two servers before 15 and 12 know nothing."""
FACTS = sa.text("""
SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal
                  AND (g.tgtype & 3) = 3 AND (g.tgtype & 28) <> 0),
       EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type = ANY (ARRAY['2', '3'])),
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMP'),
       EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type = '4'),
       (SELECT CAST(CAST(i.inhrelid AS pg_catalog.regclass) AS pg_catalog.text) FROM pg_catalog.pg_inherits i
        WHERE i.inhparent = c.oid AND c.relkind = 'r' ORDER BY i.inhrelid LIMIT 1)
FROM pg_catalog.pg_class c WHERE c.oid = CAST(CAST(:name AS pg_catalog.text) AS pg_catalog.regclass)
""")
"""Triggers before a row is written or deleted, rules, whether the role may stage rows, and the first heir."""

Quote = Callable[[str], str]
Facts = tuple[bool, bool, bool, bool, str | None]


def as_tuple(value: Any) -> Any:
    """An array as it can be compared."""
    return tuple(value) if isinstance(value, list) else value


def target_of(table: TableSchema, keys: list[UniqueKey], facts: Facts) -> MergeTarget:
    """What the catalog says of a table, in our words."""
    has_triggers, has_rules, may_stage, deletes_by_rule, heir = facts
    refused = None
    if table.kind not in {"table", "partitioned table"}:
        refused = f"it is a {table.kind}"
    elif has_rules:
        refused = "it has rules for INSERT or UPDATE, with which PostgreSQL refuses ON CONFLICT"
    elif not may_stage:
        refused = "this role may not make temporary tables (GRANT TEMPORARY ON DATABASE)"
    inherited = None if heir is None else f"{heir} inherits from it, and its key does not hold for the rows of that"
    deleting = "it has rules for DELETE, which may leave the rows" if deletes_by_rule else None
    return MergeTarget(tuple(keys), refused, has_triggers, inherited, deleting)


def stage_sql(merge: Merge, staging: TableName, table: str, quote: Quote) -> str:
    columns = ", ".join(map(quote, merge.columns))
    name = quote(staging.name)
    return f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS SELECT {columns} FROM ONLY {table} WITH NO DATA"


def merge_sql(merge: Merge, staged: str, table: str, quote: Quote) -> str:
    """One statement, whose row counts what was inserted and what was inserted or updated, and the rows that were sent.

    They are inserted in the order of the key, so that two merges lock the rows that they share in the same order.
    """
    columns, order = ", ".join(map(quote, merge.columns)), key_terms(merge, quote)
    wanted = f"SELECT {columns}, false AS is_new FROM {staged}"
    if merge.looks_first:
        wanted = _those_that_change(merge, staged, table, quote)
    is_inserted = "target.xmax = 0" if not merge.looks_first else "false"
    return f"""WITH wanted AS {"MATERIALIZED" if merge.looks_first else "NOT MATERIALIZED"} ({wanted}),
stored AS (
    INSERT INTO {table} AS target ({columns}) {overriding(merge)}SELECT {columns} FROM wanted ORDER BY {order}
    ON CONFLICT ({order}) {_conflict(merge, quote)} RETURNING {is_inserted} AS is_new)
SELECT pg_catalog.count(*) FILTER (WHERE is_new), pg_catalog.count(*),
       {
        "(SELECT pg_catalog.count(*) FROM wanted), (SELECT pg_catalog.count(*) FROM wanted WHERE is_new)"
        if merge.looks_first
        else "NULL, NULL"
    } FROM stored"""


def _conflict(merge: Merge, quote: Quote) -> str:
    if not merge.updated:
        return "DO NOTHING"
    values = ", ".join(f"{quote(name)}=excluded.{quote(name)}" for name in merge.updated)  # not an operator
    return f"DO UPDATE SET {values} WHERE {differs(merge, 'target', 'excluded', quote)}"


def differs(merge: Merge, ours: str, theirs: str, quote: Quote) -> str:
    """The condition that something differs in what is updated."""
    ours, theirs = (", ".join(f"{one}.{quote(name)}" for name in merge.updated) for one in (ours, theirs))
    image = "CAST(ROW({}) AS pg_catalog.record)"  # or each value would be compared by an operator of its own
    return f"{image.format(ours)} OPERATOR(pg_catalog.*<>) {image.format(theirs)}"


def _those_that_change(merge: Merge, staged: str, table: str, quote: Quote) -> str:
    given = ", ".join(f"given.{quote(name)}" for name in merge.columns)
    same = same_key(merge, quote)
    there = ", ".join(map(quote, dict.fromkeys([*merge.key, *merge.updated])))
    changes = "target.is_there IS NULL"
    if merge.updated:
        changes = f"({changes} OR {differs(merge, 'target', 'given', quote)})"
    return (
        f"SELECT {given}, target.is_there IS NULL AS is_new FROM {staged} AS given "
        f"LEFT JOIN (SELECT true AS is_there, {there} FROM {table}) AS target ON {same} WHERE {changes}"
    )
