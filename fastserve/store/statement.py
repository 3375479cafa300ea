"""What a statement that came from outside may be: one SELECT over the log's views. Pure: DuckDB's own syntax tree in.

What is not known is refused: a kind of source, a function that makes tables. Files and settings are locked besides (`plan`);
this keeps questions off what the views are made of, where other callers' rows are, and off what the database tells of itself.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from fastserve.errors import InvalidRequest, quoted
from fastserve.store.views import VIEWS

TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree"})
SOURCES = frozenset(
    {"EMPTY", "BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "SHOW_REF", "PIVOT"}
)
NO_FUNCTIONS = re.compile(
    r"(pg_|duckdb_|pragma_|read_|sniff_|parquet_|sqlite_|current_(?!date|timestamp|localtime)|get(env|variable)|which_|"
    r"write_|query|set_?seed|nextval|currval|has_|in_search_path|json_(de|execute_)?seriali[sz]e|txid|version|"
    r"enable_|disable_|add_parquet|sql_|test_|sleep|error|icu_|load_|user$|session_user|stats$|__internal|inet_|setval|"
    r"get_block_size|col_description|obj_description|shobj_description|parse_duckdb)",
    re.IGNORECASE,
)
"""Functions that tell of the database and not of the log, run text, or wait."""

MAX_SQL_CHARS = 100_000
_NAME = re.compile("[A-Za-z][A-Za-z0-9_]*")
_SYSTEM_NAME = re.compile("(pg|duckdb|sqlite|pragma|information)_", re.IGNORECASE)


def check(tree: Mapping[str, Any]) -> None:
    """`tree`: as json_serialize_sql has it. Raises InvalidRequest, saying what is not taken."""
    if tree.get("error"):
        other = tree.get("error_type") == "not implemented"  # DuckDB's own words are of JSON, which nobody asked for
        raise _refused("it is another statement" if other else str(tree.get("error_message", "it cannot be read")))
    statements = tree["statements"]
    if len(statements) != 1:
        raise _refused(f"there are {len(statements)}")
    nodes = list(_nodes(statements[0]))
    own = {str(name) for node in nodes for name in _named_here(node)}
    for name in own:
        if not _NAME.fullmatch(name) or _SYSTEM_NAME.match(name):
            raise _refused(f"WITH names {quoted(name)}; expected letters, digits and _, and no system's name")
    for node in nodes:
        _check_node(node, own)


def _check_node(node: Mapping[str, Any], own: Collection[str]) -> None:
    kind = node.get("type")
    function = node.get("function_name")
    if isinstance(function, str) and (node.get("schema") or node.get("catalog") or NO_FUNCTIONS.match(function)):
        raise _refused(f"it calls {quoted(function)}")
    if "class" in node or "sample" not in node or "from_table" in node or "alias" not in node:
        return
    if kind not in SOURCES:
        raise _refused(f"it reads from {kind}")
    if kind == "BASE_TABLE":
        _check_table(node, own)
    elif kind == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name", "")).lower()
        if name not in TABLE_FUNCTIONS:
            raise _refused(f"it calls {quoted(name)}")
    elif kind == "SHOW_REF" and (node.get("query") is None or node.get("show_type") not in ("DESCRIBE", "SUMMARY")):
        raise _refused("SHOW tells of the database")


def _check_table(node: Mapping[str, Any], own: Collection[str]) -> None:
    name = str(node.get("table_name", ""))
    known = {one.lower() for one in own} | set(VIEWS)
    if node.get("schema_name") or node.get("catalog_name") or name.lower() not in known:
        raise _refused(f"there is no {quoted(name)}; there are {', '.join(VIEWS)}")
    if node.get("at_clause"):
        raise _refused("AT asks for another moment, and there is only the present one")


def _named_here(node: Mapping[str, Any]) -> Iterator[Any]:
    """Names of a node's WITH."""
    for entry in (node.get("cte_map") or {}).get("map", ()):
        yield entry["key"]
    if "cte_name" in node:
        yield node["cte_name"]


def _nodes(tree: Any) -> Iterator[Mapping[str, Any]]:
    """Every object of the tree. By a list of what is left: a tree may be deep."""
    left = [tree]
    while left:
        one = left.pop()
        if isinstance(one, Mapping):
            yield one
            left.extend(one.values())
        elif isinstance(one, Sequence) and not isinstance(one, str):
            left.extend(one)


def _refused(reason: str) -> InvalidRequest:
    return InvalidRequest(f"expected one SELECT over {', '.join(VIEWS)}: {reason}")
