"""Long tables: filters, sorting, pages, and the links that change these."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from flask import request

Row = TypeVar("Row")
Columns = Mapping[str, Callable[[Row], Any]]
"""The sort key of each column, by the column's name."""

MAX_TEXT = 200  # characters of the filter


@dataclass(frozen=True)
class TableQuery:
    """How to show a table. `filters` are parameters of this table only, `text` is the filter,
    and `sort` is the name of a column, with `-` in front for descending order."""

    filters: Mapping[str, str]
    text: str
    sort: str
    page: int

    def link(self, **changes: str | int) -> str:
        """The query string with some parameters changed. Without `page`, it asks for page 1."""
        query = {**self.filters, "text": self.text, "sort": self.sort, **changes}
        query = {name: value for name, value in query.items() if value not in ("", 1)}
        return f"?{urlencode(query)}" if query else ""


@dataclass(frozen=True)
class TablePage(Generic[Row]):
    """The rows on page `number` of `pages`. All pages together have `total` rows."""

    rows: list[Row]
    total: int
    number: int
    pages: int


def table_query(filters: Mapping[str, str]) -> TableQuery:
    """What the current request asks for. An invalid page number counts as 1."""
    page = request.args.get("page", "1")
    return TableQuery(
        filters,
        text=request.args.get("text", "").strip()[:MAX_TEXT],
        sort=request.args.get("sort", ""),
        page=int(page) if page.isascii() and page.isdigit() and len(page) < 9 else 1,
    )


def page_of(
    rows: Iterable[Row], query: TableQuery, columns: Columns[Row], size: int
) -> TablePage[Row]:
    """Sort rows and take one page of at most `size` rows. Equal rows keep their order, as do all
    rows when the query names no column."""
    column = query.sort.removeprefix("-")
    rows = list(rows)
    if column in columns:
        rows.sort(key=columns[column], reverse=column != query.sort)
    pages = max(1, -(-len(rows) // size))
    number = min(max(query.page, 1), pages)
    return TablePage(rows[(number - 1) * size : number * size], len(rows), number, pages)
