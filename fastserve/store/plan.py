"""What a database is told so that it shows the log: tables, views, the files that it may open, and then nothing more.

Thread: the one that has the database. Memory: tables are borrowed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

OPTIONS = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_persistent_secrets": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
}


def options(memory_bytes: int, threads: int) -> dict[str, Any]:
    """For a database in memory that reaches for nothing by itself."""
    return {**OPTIONS, "memory_limit": f"{memory_bytes >> 20}MiB", "threads": str(threads)}


class Plan(Struct, frozen=True):
    """`sqls` make views over `tables` (Arrow, by name) and the files `paths`."""

    paths: Sequence[str]
    sqls: Sequence[str]
    tables: Mapping[str, Any]

    def make(self, one: Any) -> None:
        """In a database that has none of it."""
        for name, table in self.tables.items():
            one.register(name, table)
        for sql in self.sqls:
            one.execute(sql)

    def then(self, more: "Plan") -> "Plan":
        """This, and what stands on it."""
        return Plan(self.paths, [*self.sqls, *more.sqls], {**self.tables, **more.tables})

    def lock(self, one: Any) -> None:
        """It opens these files only, and no setting can be changed any more."""
        paths = ", ".join("'" + path.replace("'", "''") + "'" for path in self.paths)
        one.execute(f"set allowed_paths = [{paths}]")
        one.execute("set enable_external_access = false")
        one.execute("set lock_configuration = true")
