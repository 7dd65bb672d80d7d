"""Filters, sorting and pages, which the File Manager and Active Jobs share. No devcluster."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from ood.portal import Portal
from ood.schedulers.base import Job, JobStatus, Outcome
from ood.sessions.job_table import JobRow, Jobs
from ood.web.tables import TableQuery, page_of
from tests.test_files import Visitor, ada, home, settings

__all__ = ["ada", "home", "settings"]

COLUMNS = {"number": lambda row: row // 10}


@pytest.mark.parametrize(
    ("sort", "page", "rows", "number"),
    [
        ("", 1, [31, 12, 11], 1),
        ("number", 1, [12, 11, 21], 1),
        ("-number", 1, [31, 21, 12], 1),
        ("-number", 2, [11], 2),
        ("nonsense", 9, [21], 2),
        ("--number", 0, [31, 12, 11], 1),
    ],
)
def test_sorting_and_pages(sort: str, page: int, rows: list[int], number: int) -> None:
    found = page_of([31, 12, 11, 21], TableQuery({}, "", sort, page), COLUMNS, size=3)
    assert (found.rows, found.number) == (rows, number)
    assert (found.total, found.pages) == (4, 2)


def test_a_table_without_rows_has_one_page() -> None:
    found = page_of([], TableQuery({}, "", "", 7), COLUMNS, size=3)
    assert (found.rows, found.total, found.number, found.pages) == ([], 0, 1, 1)


def test_links_keep_everything_but_the_page() -> None:
    query = TableQuery({"hidden": "1", "details": ""}, "a&b", "-size", 3)
    assert query.link() == "?hidden=1&text=a%26b&sort=-size"
    assert query.link(page=2) == "?hidden=1&text=a%26b&sort=-size&page=2"
    assert query.link(text="", hidden="", sort="") == ""


@pytest.fixture
def sees(ada: Visitor, monkeypatch: pytest.MonkeyPatch) -> Visitor:
    """Somebody with 60 jobs."""
    portal: Portal = ada.portal
    (cluster,) = [each for id, each in portal.clusters.items() if id == "this_machine"]
    rows = [
        JobRow(
            cluster,
            Job(
                str(number),
                f"job {number % 7}",
                "DONE",
                JobStatus.COMPLETED if number % 2 else JobStatus.RUNNING,
                Outcome.SUCCEEDED if number % 2 else None,
                user="ada",
                submitted_at=number,
            ),
            None,
        )
        for number in range(1, 61)
    ]

    def jobs_on(*_: Any, everyones: bool) -> Jobs:
        return Jobs(rows if not everyones else [*rows, *rows], {})

    monkeypatch.setattr("ood.web.jobs.jobs_on", jobs_on)
    return ada


def ids(page: str) -> list[int]:
    return [int(id) for id in re.findall(r'data-job-id="(\d+)"', page)]


def test_the_table_of_jobs(sees: Visitor) -> None:
    page = sees.opens("/jobs").text
    assert ids(page) == [*range(60, 0, -2), *range(59, 19, -2)]
    assert "60 jobs, page 1 of 2" in page
    assert 'href="/jobs?page=2"' in page
    assert ids(sees.opens("/jobs?page=2").text) == list(range(19, 0, -2))
    page = sees.opens("/jobs?sort=-id&status=running&text=job+3").text
    assert ids(page) == [52, 38, 24, 10]
    links = {unescape(link) for link in re.findall(r'id="sort-\w+" href="([^"]*)"', page)}
    assert "/jobs?status=running&text=job+3&sort=id" in links
    assert 'aria-sort="descending"' in page
    assert 'value="job 3"' in page
    page = sees.opens("/jobs?whose=all&page=3&sort=name").text
    assert "120 jobs, page 3 of 3" in page
    assert 'href="/jobs?whose=all&amp;sort=name&amp;page=2"' in page
    assert "No jobs match" in sees.opens("/jobs?text=nothing").text
    assert len(sees.json("/jobs?status=completed&sort=id")["jobs"]) == 30


def test_the_table_of_jobs_is_polled_for_the_page_it_shows(sees: Visitor) -> None:
    page = sees.opens("/jobs?page=2&sort=-id").text
    polled = re.search(r'hx-get="(/jobs/changes[^"]*)"', page)
    assert polled is not None
    assert unescape(polled[1]) == "/jobs/changes?sort=-id&page=2"
    have = re.search(r'name="have" value="(\w+)"', page)
    assert have is not None
    assert sees.opens(f"{unescape(polled[1])}&have={have[1]}").status_code == 204
    assert ids(sees.opens(unescape(polled[1])).text) == list(range(10, 0, -1))
