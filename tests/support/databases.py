"""A workshop with a database of the test's own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, text

from holdfast.work.testing import Workshop


class Databases(Workshop):
    """A workshop whose every database is the one of `engine`."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def database(self, name: str = "default") -> Engine:
        return self.engine

    def close(self) -> None:
        self.engine.dispose()
        super().close()

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def execute(self, *statements: str) -> None:
        """Execute statements in a transaction."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
