"""Sessions: what is written down, what is believed of it, and what a card may say.

Most of it stands on a real home directory. A scheduler that says what the test wants takes the real
one's place only where a real one cannot be made to say it; the last part is the real thing.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM
from typing import Any

import pytest
import yaml

from ood.apps.definition import AppDefinition, load_apps
from ood.apps.templates import render
from ood.background import BackgroundQuestions
from ood.config import Cluster
from ood.errors import (
    CommandTimedOut,
    FileFailed,
    FileRefused,
    HostUnreachable,
    InvalidForm,
    LaunchFailed,
    NotFound,
    PortalError,
    SchedulerError,
)
from ood.help_topics import NO_REASON, Reason
from ood.hosts.base import FileEntry, Host
from ood.hosts.local import LocalHost
from ood.hosts.local_files import LocalFiles
from ood.quoting import shell_word
from ood.schedulers.base import Job, JobRequest, JobStatus, Outcome, Scheduler
from ood.schedulers.local import Local
from ood.sessions.board import Board
from ood.sessions.card import Card
from ood.sessions.context_directory import Facts, Listing, PortalFiles, parse_facts
from ood.sessions.job_report import (
    NO_REPORT,
    JobReport,
    parse_exit_code,
    parse_started_job,
    read_report,
    remove_secrets,
    tail_of,
)
from ood.sessions.job_table import jobs_on
from ood.sessions.launch import JOB_ENVIRONMENT, JOB_SCRIPT, launch, remember_form
from ood.sessions.record import SessionRecord, parse_record
from ood.sessions.status import Evidence, judge
from ood.sessions.store import SessionStore
from ood.sessions.watch import Watch
from tests.conftest import wait_until
from tests.helpers import NASTY, Clock, ScriptedScheduler, cluster, ended, job, refuses

ID = "01234567-89ab-4cde-8f01-23456789abcd"
OTHER = ID.replace("0123", "9999")
SECRET = "hush-hush $(id) 'é'"
RECORD = SessionRecord(ID, "here", None, 1_900_000_000, "sys/greeter", "Greeter")
DEEP = "[" * 60_000

GREETER = {
    "manifest.yml": "name: Greeter",
    "form.yml": """
        form: [cluster, who, password, seconds, code, token, shy]
        attributes:
          who: {widget: text_area, label: Who to greet}
          seconds: {widget: number_field, value: 0}
          code: {widget: number_field, value: 0}
          token: {widget: password_field}
          shy: {widget: check_box, value: false, cacheable: false}
    """,
    "submit.yml.j2": """
        script:
          output_path: {{ "greeter-" ~ session.run_id ~ ".log" }}
          cores: 1
    """,
    "template/before.sh.j2": """
        echo before.sh as {{ user }}
        password={{ context.password }}
        port=$(find_port) || return 3
        created=$(create_passwd 12)
    """,
    "template/script.sh.j2": "#!/bin/bash\n"
    "printf 'Hello %s!\\n' {{ context.who }}\n"
    "cat {{ session.secrets.token }} 2> /dev/null | wc -c\n"
    "seconds={{ context.seconds }}\n"
    "for ((n = 0; n < 10 * seconds; n++)); do [[ -e go ]] || sleep 0.1; done\n"
    "exit {{ context.code }}\n",
    "template/after.sh.j2": 'echo "port $port password ${#created}"',
    "template/clean.sh.j2": "echo cleaned; echo outputs-7 > outputs_directory\n"
    '[[ $code == 0 ]] || echo "It went wrong." > failure',
}


@pytest.fixture
def greeter(tmp_path: Path) -> AppDefinition:
    for name, content in GREETER.items():
        path = tmp_path / "app_defs/greeter" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    apps, problems = load_apps(tmp_path / "app_defs", {})
    assert problems == []
    return apps["greeter"]


class Ada:
    """A user, her home directory, and her sessions on the back-end `here`."""

    def __init__(self, home: Path, app: AppDefinition, scheduler: Scheduler) -> None:
        self.home = home
        self.app = app
        self.scheduler = scheduler
        self.clusters = {"here": cluster(max_cores=2)}
        self.clock: Clock | None = None
        self.back_end: Host = LocalHost()
        self.restarts_the_portal()

    def restarts_the_portal(self) -> None:
        self.store = SessionStore(LocalHost())
        apps = {self.app.name: self.app}
        self.board = Board(
            Watch(
                "ada",
                self.store,
                self.clusters,
                apps,
                BackgroundQuestions(),
                lambda _: self.scheduler,
                lambda _: self.back_end,
            )
        )

    @property
    def db(self) -> Path:
        return Path(self.store.root) / "db"

    @property
    def contexts(self) -> Path:
        return Path(self.store.root) / "sys/greeter/output"

    def launches(self, **typed: str) -> str:
        prefilled = {field.name: field.value for field in self.app.fields}
        return launch(self.board, self.app, self.clusters["here"], prefilled | typed)

    def waits(self, seconds: float) -> None:
        assert self.clock is not None
        self.clock.now += seconds

    def looks(self) -> list[Card]:
        """Look at the cards after a while, in which a scheduler would be asked again."""
        if self.clock is not None:
            self.waits(10)
        return self.board.cards()

    def ends(self, id: str) -> None:
        """Let a job go on that waits."""
        (self.context(id) / "go").touch()

    def sees(self) -> Card:
        (card,) = self.looks()
        return card

    def context(self, id: str) -> Path:
        return self.contexts / id

    def writes(self, id: str, **files: object) -> None:
        """Write files into a job context directory, as the job would."""
        for name, content in files.items():
            path = self.context(id) / name.replace("_yml", ".yml").replace("_json", ".json")
            path.write_text(content if isinstance(content, str) else json.dumps(content))

    def has_somewhere(self, text: str) -> list[Path]:
        """The files in her home directory that hold this text."""
        files = [path for path in self.home.rglob("*") if path.is_file()]
        return [path for path in files if text.encode() in path.read_bytes()]

    def record(self, id: str) -> dict[str, Any]:
        return dict(json.loads((self.db / id).read_text()))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def scripted() -> ScriptedScheduler:
    return ScriptedScheduler()


@pytest.fixture
def ada(
    home: Path,
    greeter: AppDefinition,
    scripted: ScriptedScheduler,
    monkeypatch: pytest.MonkeyPatch,
) -> Ada:
    """Ada, whose scheduler and clock do what the test says."""
    ada = Ada(home, greeter, scripted)
    ada.clock = Clock()
    for room in (
        "background",
        "schedulers.monitor",
        "sessions.board",
        "sessions.launch",
        "sessions.session",
    ):
        monkeypatch.setattr(f"ood.{room}.time", ada.clock)
    monkeypatch.setattr("ood.sessions.watch.time", ada.clock)
    return ada


@pytest.fixture
def really(home: Path, greeter: AppDefinition, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ada]:
    """Ada with the local scheduler, real jobs, and answers that are good for a moment."""
    monkeypatch.setattr("ood.sessions.board.CARDS_SECONDS", 0.0)
    monkeypatch.setattr("ood.background.GOOD_FOR", 0.0)
    monkeypatch.setattr("ood.background.PATIENCE", 30.0)
    ada = Ada(home, greeter, Local(cluster(), LocalHost()))
    yield ada
    for card in ada.board.cards():
        ada.board.delete(card.record.id)


# ---- Records


def test_a_record_is_read_as_it_was_written() -> None:
    record = replace(RECORD, job_id="12").completed(1_900_000_060)
    assert parse_record(ID, record.to_json()) == record
    assert parse_record(ID, RECORD.to_json()) == RECORD


def test_a_record_has_open_ondemands_keys() -> None:
    assert json.loads(RECORD.to_json()) == {
        "id": ID,
        "cluster_id": "here",
        "job_id": None,
        "created_at": 1_900_000_000,
        "token": "sys/greeter",
        "title": "Greeter",
        "script_type": "basic",
        "cache_completed": None,
        "completed_at": None,
    }


def record_of(**keys: Any) -> bytes:
    return json.dumps(json.loads(RECORD.to_json()) | keys).encode()


def test_open_ondemands_own_record_is_read() -> None:
    data = record_of(
        job_id=4711, token="sys/bc_desktop/owens", script_type="vnc", view=None, title="Déskţop 🚀"
    )
    record = parse_record(ID, data)
    assert record is not None
    assert (record.job_id, record.app_name) == ("4711", "bc_desktop/owens")
    assert (record.script_type, record.title) == ("vnc", "Déskţop 🚀")
    assert parse_record(ID, record_of(job_id="12_[1-5].owens-batch")) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff",
        DEEP.encode(),
        record_of(id=OTHER),
        record_of(id=None),
        record_of(cluster_id="../here"),
        record_of(cluster_id=""),
        record_of(cluster_id=["here"]),
        record_of(token="sys/../../.ssh"),
        record_of(token="../x"),
        record_of(token="sys/"),
        record_of(token="sys/a b"),
        record_of(token="sys/a\n"),
        record_of(token=None),
        record_of(job_id="--all"),
        record_of(job_id="1 2"),
        record_of(job_id="$(id)"),
        record_of(job_id=""),
        record_of(job_id=["12"]),
        record_of(job_id="1" * 65),
        record_of(created_at=None),
        record_of(created_at="1900000000"),
        record_of(created_at=True),
        record_of(created_at=float("nan")),
        record_of(created_at=10**18),
        record_of(created_at=-(10**18)),
    ],
    ids=lambda data: ascii(data)[-99:],
)
def test_what_is_no_record(data: bytes) -> None:
    assert parse_record(ID, data) is None


@pytest.mark.parametrize(
    "name", ["", "x", "..", ID.upper(), ID + "\n", f"{ID}.1a2b3c4d.bak", "../" + ID]
)
def test_what_is_no_session_id(name: str) -> None:
    assert parse_record(name, record_of(id=name)) is None


@pytest.mark.parametrize("title", ["x" * 10_000, "\ud800", None, "", ["a"], "<script>"])
def test_any_title_can_be_shown(title: object) -> None:
    record = parse_record(ID, record_of(title=title))
    assert record is None or 0 < len(record.title.encode()) <= 800


# ---- Facts


def test_facts_are_read_as_they_were_written() -> None:
    facts = Facts(("token",), 5, Outcome.FAILED, 3, "Why.", "node1", 60)
    assert parse_facts(facts.to_json()) == facts
    assert parse_facts(Facts().to_json()) == parse_facts(None) == Facts()


@pytest.mark.parametrize(
    "found",
    [
        {"outcome": "great"},
        {"outcome": ["failed"]},
        {"outcome": {}},
        {"outcome": 1},
        {"exit_code": "0"},
        {"exit_code": True},
        {"exit_code": 1.5},
        {"withheld": "token"},
        {"withheld": None},
        {"cancelled_at": "now", "time_limit": [60], "reason": 0, "host": None},
        [],
        "text",
    ],
    ids=str,
)
def test_facts_that_make_no_sense_are_left_out(found: object) -> None:
    assert parse_facts(json.dumps(found).encode()) == Facts()


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff", DEEP.encode(), b'{"exit_code": 1e999}'],
    ids=lambda data: str(data)[:20],
)
def test_files_that_make_no_sense_say_nothing(data: bytes) -> None:
    assert parse_facts(data) == Facts()
    assert parse_exit_code(data) is None
    assert parse_started_job(data) is None


def test_long_texts_are_cut() -> None:
    facts = parse_facts(json.dumps({"reason": "x" * 9999, "host": "x" * 9999}).encode())
    assert (len(facts.reason), len(facts.host)) == (1000, 200)


def test_an_outcome_and_a_start_are_read() -> None:
    assert parse_exit_code(b'{"exit_code": 3, "ended_at": 9}') == 3
    assert parse_exit_code(b'{"exit_code": 0}') == 0
    assert parse_started_job(b'{"job_id": "12"}') == "12"


@pytest.mark.parametrize("id", ["", 12, None, "--all", "$(id)", "a b", "1" * 100])
def test_a_started_job_without_a_job_id_says_nothing(id: object) -> None:
    """What a record could not hold must not be written into one: its card would be gone."""
    assert parse_started_job(json.dumps({"job_id": id}).encode()) is None


# ---- Status

NOTHING = Evidence(
    job=None,
    problem="",
    report=NO_REPORT,
    submitted=True,
    fresh=False,
    age=5.0,
    cancelled_here=False,
)
COMPLETED = JobStatus.COMPLETED


def evidence_of(known: dict[str, Any]) -> Evidence:
    """Evidence with some fields of its own and some of the job's report."""
    reported = {key: value for key, value in known.items() if hasattr(NO_REPORT, key)}
    others = {key: value for key, value in known.items() if key not in reported}
    return replace(NOTHING, report=replace(NO_REPORT, **reported), **others)


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        # What the scheduler lists
        ({"job": job(status=JobStatus.QUEUED, reason="Resources")}, ("queued", None, None)),
        ({"job": job(status=JobStatus.HELD)}, ("held", None, None)),
        ({"job": job(status=JobStatus.SUSPENDED), "connected": True}, ("suspended", None, None)),
        ({"job": job()}, ("starting", None, None)),
        ({"job": job(), "connected": True}, ("running", None, None)),
        ({"job": job(), "connected": True, "exit_code": 0}, ("completed", "succeeded", 0)),
        ({"job": job(), "connected": True, "exit_code": 3}, ("running", None, None)),
        ({"job": job(status=JobStatus.QUEUED), "exit_code": 0}, ("queued", None, None)),
        ({"job": job(status=JobStatus.UNDETERMINED)}, ("undetermined", None, None)),
        # How it says it ended
        ({"job": ended(Outcome.SUCCEEDED, 0)}, ("completed", "succeeded", 0)),
        ({"job": ended(Outcome.FAILED, 3)}, ("completed", "failed", 3)),
        ({"job": ended(Outcome.FAILED), "exit_code": 4}, ("completed", "failed", 4)),
        ({"job": ended(Outcome.CANCELLED, 0)}, ("completed", "cancelled", None)),
        ({"job": ended(Outcome.TIMED_OUT), "exit_code": 143}, ("completed", "timed-out", None)),
        ({"job": ended(Outcome.OUT_OF_MEMORY, 0)}, ("completed", "out-of-memory", None)),
        ({"job": job(status=COMPLETED)}, ("completed", "unknown", None)),
        ({"job": ended(Outcome.UNKNOWN), "exit_code": 0}, ("completed", "succeeded", 0)),
        ({"job": ended(Outcome.UNKNOWN), "exit_code": 9}, ("completed", "failed", 9)),
        # What the job itself left
        ({"exit_code": 0}, ("completed", "succeeded", 0)),
        ({"exit_code": 0, "problem": "No answer."}, ("completed", "succeeded", 0)),
        ({"exit_code": 2}, ("completed", "failed", 2)),
        ({"exit_code": 143}, ("completed", "failed", 143)),
        ({"exit_code": 143, "cancelled_here": True}, ("completed", "cancelled", 143)),
        ({"exit_code": 2, "cancelled_here": True}, ("completed", "failed", 2)),
        # No word of it
        ({"problem": "No answer."}, ("undetermined", None, None)),
        ({}, ("undetermined", None, None)),
        ({"age": 1e9}, ("undetermined", None, None)),
        ({"cancelled_here": True}, ("undetermined", None, None)),
        ({"fresh": True}, ("queued", None, None)),
        ({"fresh": True, "problem": "No answer."}, ("queued", None, None)),
        # Never submitted, as far as is known
        ({"submitted": False, "age": 59.0}, ("queued", None, None)),
        ({"submitted": False, "age": 61.0, "problem": "No."}, ("undetermined", None, None)),
        ({"submitted": False, "age": 61.0, "fresh": True}, ("queued", None, None)),
        ({"submitted": False, "age": 61.0}, ("completed", "failed", None)),
        (
            {"submitted": False, "age": 61.0, "cancelled_here": True},
            ("completed", "cancelled", None),
        ),
    ],
    ids=str,
)
def test_a_verdict_needs_its_evidence(
    evidence: dict[str, Any], verdict: tuple[str, str | None, int | None]
) -> None:
    found = judge(evidence_of(evidence))
    assert (found.status, found.outcome, found.exit_code) == verdict


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        ({"problem": "No answer."}, "No answer."),
        ({}, "The scheduler no longer lists this job, and the job did not record its outcome."),
        ({"exit_code": 1, "failure": Reason("Because.")}, "Because."),
        ({"exit_code": 0, "failure": Reason("Because.")}, ""),
        ({"job": ended(Outcome.FAILED, reason="NonZeroExitCode")}, ""),  # Slurm's own word
        (
            {
                "job": ended(Outcome.FAILED, reason="NonZeroExitCode"),
                "failure": Reason("Because."),
            },
            "Because.",
        ),
        ({"job": ended(Outcome.CANCELLED, reason="by 0")}, ""),
    ],
    ids=str,
)
def test_a_verdict_gives_its_reason(evidence: dict[str, Any], reason: str) -> None:
    assert judge(evidence_of(evidence)).reason.text == reason


def test_only_a_final_word_is_ever_completed() -> None:
    """Whatever else is known: without a final state, an outcome or a failed launch, it may run."""
    for status in set(JobStatus) - {COMPLETED}:
        for evidence in (NOTHING, replace(NOTHING, problem="x"), replace(NOTHING, age=1e9)):
            assert judge(evidence).status is not COMPLETED
            assert judge(replace(evidence, job=job(status=status))).status is not COMPLETED


# ---- The end of a log


@pytest.mark.parametrize(
    ("data", "cut", "tail"),
    [
        (b"", False, ""),
        (b"\n", False, ""),
        (b"one\ntwo\n", False, "one\ntwo"),
        (b"one\ntwo", False, "one\ntwo"),
        (b"alf a line\ntwo\n", True, "two"),
        (b"one endless line", True, "one endless line"),
        (b"10%\r50%\r100%\nnext\n", False, "100%\nnext"),
        (b"dos\r\nlines\r\n", False, "dos\nlines"),
        (b"\x1b[31mred\x1b[0m \x1b[2Jclear \x1bM up\n", False, "red clear  up"),
        (b"nul\0 bell\a del\x7f tab\t c1\xc2\x9b\n", False, "nul bell del tab\t c1"),
        ("é🚀\n".encode(), False, "é🚀"),
        (
            b"\x80 broken \xf0\x9f\n",
            False,
            "\N{REPLACEMENT CHARACTER} broken \N{REPLACEMENT CHARACTER}",
        ),
        (b"<script>&amp;\n", False, "<script>&amp;"),
        ("\n".join(map(str, range(30))).encode(), False, "\n".join(map(str, range(10, 30)))),
        (b"\n\n\nlast\n", False, "\n\n\nlast"),
    ],
)
def test_the_tail_of_a_log(data: bytes, cut: bool, tail: str) -> None:
    assert tail_of(data, cut=cut) == tail


# ---- The store


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def store(home: Path) -> SessionStore:
    host = LocalHost()
    assert host.home == str(home)
    return SessionStore(host)


@pytest.fixture
def db(store: SessionStore) -> Path:
    db = Path(store.root, "db")
    db.mkdir(parents=True)
    return db


def test_records_are_kept_newest_first(store: SessionStore) -> None:
    assert store.records() == []
    newer = replace(RECORD, id=OTHER, created_at=RECORD.created_at + 1)
    for record in (RECORD, newer):
        store.write(record)
    assert store.records() == [newer, RECORD]
    changed = replace(RECORD, job_id="12")
    store.write(changed)
    assert store.records() == [newer, changed]
    store.remove(newer)
    assert store.records() == [changed]
    assert SessionStore(LocalHost()).records() == [changed]


def test_records_are_the_users_alone_and_written_in_one_step(store: SessionStore) -> None:
    store.write(RECORD)
    db = Path(store.root, "db")
    assert mode(db / ID) == 0o600
    assert mode(db) == 0o700
    assert [path.name for path in db.iterdir()] == [ID], "nothing is left aside"


def test_a_record_that_another_program_changed_is_read_again(store: SessionStore, db: Path) -> None:
    store.write(RECORD)
    assert store.records() == [RECORD]
    changed = replace(RECORD, title="Another title")
    (db / ID).write_bytes(changed.to_json())
    assert store.records() == [changed]


def test_what_is_no_record_is_passed_over(store: SessionStore, db: Path) -> None:
    store.write(RECORD)
    (db / f"{ID}.1234abcd.bak").write_bytes(RECORD.to_json())
    (db / OTHER).mkdir()
    for at, content in enumerate((b"", b"{", DEEP.encode(), b" " * 70_000, record_of(id=ID))):
        (db / ID.replace("0123", f"aaa{at}")).write_bytes(content)
    os.mkfifo(db / ID.replace("0123", "bbbb"))
    (db / ID.replace("0123", "cccc")).symlink_to(db / ID)
    assert store.records() == [RECORD]


def test_a_record_that_cannot_be_read_hides_itself_only(
    store: SessionStore, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions do not stop root, as who these tests run: so the refusal is played."""
    store.write(RECORD)
    (db / OTHER).write_bytes(record_of(id=OTHER))
    real = LocalFiles.read

    def read(files: LocalFiles, path: str, limit: int, offset: int = 0) -> bytes:
        if path.endswith(OTHER):
            raise FileRefused(f"You have no permission for {path}.")
        return real(files, path, limit, offset)

    monkeypatch.setattr(LocalFiles, "read", read)
    assert store.records() == [RECORD]


def test_a_context_directory_is_the_users_alone(store: SessionStore) -> None:
    place = store.directory(RECORD)
    place.write({"a": (b"1", 0o600), "b": (b"2", 0o700)})
    directory = Path(store.directory(RECORD).path)
    assert directory.relative_to(store.root) == Path("sys/greeter/output", ID)
    assert (mode(directory), mode(directory / "a"), mode(directory / "b")) == (0o700, 0o600, 0o700)
    listing = Listing(place)
    assert set(listing.files) == {"a", "b"}
    assert listing.read("b") == b"2"
    place.remove()
    assert Listing(place).files == {}
    assert listing.read("b") is None


def test_what_was_typed_is_remembered_by_app(store: SessionStore) -> None:
    assert store.last_values("sys/greeter") == {}
    store.remember_values("sys/greeter", {"who": "é\n🚀"})
    assert store.last_values("sys/greeter") == {"who": "é\n🚀"}
    assert store.last_values("sys/other") == {}
    (file,) = Path(store.root, "cache").iterdir()
    assert (file.name, mode(file)) == ("sys_greeter.json", 0o600)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", DEEP.encode(), b'{"a": '], ids=lambda data: str(data)[:20]
)
def test_a_broken_memory_is_no_memory(store: SessionStore, content: bytes) -> None:
    store.remember_values("sys/greeter", {"who": "x"})
    Path(store.root, "cache/sys_greeter.json").write_bytes(content)
    assert store.last_values("sys/greeter") == {}


# ---- The context directory


class Broken:
    """A file system that gives an error for paths with these endings."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def check(self, path: str) -> None:
        if any(path.endswith(each) for each in self.paths):
            raise FileFailed("Could not read it: Input/output error.", "EIO")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Broken:
    """Permissions do not stop root, as who these tests run."""
    broken, read, listed = Broken(), LocalFiles.read, LocalFiles.list

    def checked_read(files: LocalFiles, path: str, limit: int, offset: int = 0) -> bytes:
        broken.check(path)
        return read(files, path, limit, offset)

    def checked_list(files: LocalFiles, path: str) -> list[FileEntry]:
        broken.check(path)
        return listed(files, path)

    monkeypatch.setattr(LocalFiles, "read", checked_read)
    monkeypatch.setattr(LocalFiles, "list", checked_list)
    return broken


class Looker:
    """Looks at one job context directory, time and again."""

    def __init__(self, store: SessionStore, app: AppDefinition) -> None:
        self.place = store.directory(RECORD)
        self.directory = Path(self.place.path)
        self.files = PortalFiles(self.place, app)
        self.report = NO_REPORT

    def looks(self) -> JobReport:
        listing = Listing(self.place)
        self.files.update(listing)
        self.report = read_report(listing, self.report, self.files.log_name, ("secret_token",))
        return self.report


@pytest.fixture
def looker(store: SessionStore, greeter: AppDefinition) -> Looker:
    options = {"output_path": f"{store.directory(RECORD).path}/out.log"}
    files = {
        "out.log": b"one\ntwo\n",
        "job_script_options.json": json.dumps(options).encode(),
        "user_defined_context.json": b'{"cluster": "here", "who": "<b>", "shy": "1", "old": 5}',
    }
    store.directory(RECORD).write({name: (data, 0o600) for name, data in files.items()})
    return Looker(store, greeter)


def test_a_context_directory_tells_of_its_job(looker: Looker) -> None:
    directory = looker.directory
    found = looker.looks()
    assert (looker.files.log_name, found.log_tail) == ("out.log", "one\ntwo")
    assert looker.files.values(display=False) == (
        ("Who to greet", "<b>"),
        ("Shy", "yes"),
        ("old", "5"),
    )
    assert (found.connected, found.exit_code, found.started_job) == (False, None, None)
    (directory / "started.json").write_text('{"job_id": "12"}')
    (directory / "outcome.json").write_text('{"exit_code": 3}')
    (directory / "connection.yml").touch()
    (directory / "failure").write_text("  It \x1b[1mbroke\a.\nIgnored\n")
    (directory / "outputs_directory").write_text("outputs-12\n")
    with (directory / "out.log").open("a") as log:
        log.write("three\n")
    found = looker.looks()
    assert (found.connected, found.exit_code, found.started_job) == (True, 3, "12")
    assert (found.failure, found.outputs) == (Reason("It broke."), "outputs-12")
    assert found.log_tail == "one\ntwo\nthree"


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../../etc/passwd", "a/b/..", "", "\ud800"])
def test_a_log_is_looked_for_in_its_directory_only(looker: Looker, path: str) -> None:
    options = looker.directory / "job_script_options.json"
    options.write_text(json.dumps({"output_path": path}))
    found = looker.looks()
    assert "/" not in looker.files.log_name
    assert found.log_tail == ""


def test_links_are_not_followed(looker: Looker, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text('{"exit_code": 0}')
    directory = looker.directory
    (directory / "out.log").unlink()
    for name in ("outcome.json", "out.log", "failure"):
        (directory / name).symlink_to(target)
    found = looker.looks()
    assert (found.exit_code, found.log_tail, found.failure) == (None, "", NO_REASON)


@pytest.mark.parametrize(
    "name",
    [
        "out.log",
        "outcome.json",
        "started.json",
        "failure",
        "outputs_directory",
        "job_script_options.json",
        "user_defined_context.json",
        "portal.json",
    ],
)
def test_a_pipe_holds_nobody_up(looker: Looker, name: str) -> None:
    """A thread of the portal that opened it would wait for ever, and with it the user's cards."""
    pipe = looker.directory / name
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)

    def look() -> None:
        looker.looks()
        _ = (looker.files.facts, looker.files.typed)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(20)
    held_up = looking.is_alive()
    if held_up:
        os.close(os.open(pipe, os.O_WRONLY))
        looking.join()
    assert not held_up


def test_a_secret_that_the_job_has_just_removed_is_removed(looker: Looker) -> None:
    secret = looker.directory / "secret_token"
    secret.write_text(SECRET)
    found = looker.looks()
    assert found.secrets == ("secret_token",)
    secret.unlink()
    assert remove_secrets(looker.place, found).secrets == ()


@pytest.mark.parametrize("outputs", ["../..", "outputs-", "outputs-1/../x", "outputs-1 <b>", "é"])
def test_only_an_outputs_directory_is_told(looker: Looker, outputs: str) -> None:
    (looker.directory / "outputs_directory").write_text(outputs)
    found = looker.looks()
    assert found.outputs == ""


def test_a_directory_that_was_removed_is_empty(looker: Looker) -> None:
    looker.place.remove()
    found = looker.looks()
    assert not looker.files.exist
    assert (looker.files.values(display=False), found.log_tail) == ((), "")
    assert looker.files.facts == Facts()


@pytest.mark.parametrize("name", ["outcome.json", "connection.yml", "out.log"])
def test_what_cannot_be_read_stays_and_is_read_again(
    looker: Looker, broken: Broken, name: str
) -> None:
    (looker.directory / "connection.yml").write_text("host: node1\nport: 5000\n")
    before = looker.looks()
    (looker.directory / "failure").write_text("It broke.\n")
    (looker.directory / "outcome.json").write_text('{"exit_code": 3}')
    (looker.directory / "connection.yml").write_text("host: node1\nport: 5001\n")
    (looker.directory / "out.log").write_text("three\n")
    broken.paths.append(name)
    found = looker.looks()
    assert "Input/output error" in found.unread
    assert (found.failure, found.connected) == (Reason("It broke."), True)
    assert found.exit_code == (None if name == "outcome.json" else 3)
    assert found.connection_changed == (name != "connection.yml")
    assert found.log_tail == (before.log_tail if name == "out.log" else "three")
    broken.paths.clear()
    found = looker.looks()
    assert (found.unread, found.exit_code, found.log_tail) == ("", 3, "three")
    assert found.connection_changed


# ---- Launching


def test_the_record_is_there_before_the_job(ada: Ada, scripted: ScriptedScheduler) -> None:
    seen: list[Card] = []

    def submit(request: JobRequest) -> str:
        seen.extend(ada.looks())
        ada.waits(120)  # however long it takes: it is not a launch that broke off
        seen.extend(ada.looks())
        assert ada.record(seen[0].record.id)["job_id"] is None
        assert request.comment == f"ood-session:{seen[0].record.id}"
        return "12"

    scripted.submits = submit
    id = ada.launches()
    assert [(card.record.id, card.status) for card in seen] == [(id, "queued")] * 2
    assert ada.record(id)["job_id"] == "12"


def test_a_launch_writes_open_ondemands_files(ada: Ada) -> None:
    id = ada.launches(who="Bob\n🚀", token=SECRET)
    directory = ada.context(id)
    assert (mode(directory), mode(ada.db / id)) == (0o700, 0o600)
    files = {path.name: mode(path) for path in directory.iterdir()}
    assert set(files) == {
        *("before.sh", "script.sh", "after.sh", "clean.sh", "secret_token", "portal.json"),
        *("job_script_content.sh", "job_script_options.json", "user_defined_context.json"),
    }
    assert set(files.values()) == {0o600}
    assert (directory / "secret_token").read_text() == SECRET
    typed = json.loads((directory / "user_defined_context.json").read_text())
    assert typed == {
        "cluster": "here",
        "who": "Bob\n🚀",
        "password": "",
        "seconds": "0",
        "code": "0",
        "shy": "0",
    }
    options = json.loads((directory / "job_script_options.json").read_text())
    assert options["job_name"] == "sys-dashboard-sys-greeter"
    assert options["output_path"].startswith(f"{directory}/greeter-20")
    assert ada.has_somewhere(SECRET) == [directory / "secret_token"]
    assert ada.board.portal_files(id).facts.withheld == ("token",)


def test_a_launch_copies_the_tree_below_template(ada: Ada, greeter: AppDefinition) -> None:
    (greeter.directory / "template/bin/empty").mkdir(parents=True)
    tool = greeter.directory / "template/bin/tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    context = ada.context(ada.launches())
    assert (mode(context / "bin/tool"), mode(context / "bin/empty")) == (0o700, 0o700)


def test_the_sites_own_token_is_used_and_never_asked_for_again(
    ada: Ada, greeter: AppDefinition
) -> None:
    fields = tuple(
        field.model_copy(update={"value": "site-token"}) if field.is_secret else field
        for field in greeter.fields
    )
    ada.app = replace(greeter, fields=fields)
    id = ada.launches(token="")
    assert (ada.context(id) / "secret_token").read_text() == "site-token"
    assert ada.board.portal_files(id).facts.withheld == ()
    assert ada.has_somewhere("site-token") == [ada.context(id) / "secret_token"]


def test_what_is_asked_of_the_scheduler(ada: Ada, scripted: ScriptedScheduler) -> None:
    asked: list[JobRequest] = []

    def submit(request: JobRequest) -> str:
        asked.append(request)
        return "7"

    scripted.submits = submit
    ada.clusters["here"] = Cluster.model_validate(
        {
            "id": "here",
            "v2": {
                "job": {"adapter": "local"},
                "batch_connect": {"basic": {"script_wrapper": "module purge\n%s\necho 100%"}},
            },
        }
    )
    id = ada.launches()
    (request,) = asked
    assert request.workdir == str(ada.context(id))
    assert request.content.startswith("#!/bin/bash\nmodule purge\n")
    assert request.content.endswith("\necho 100%\n")
    assert f"cd {ada.context(id)} ||" in request.content
    assert (request.cores, request.memory_gib, request.wall_time) == (1, None, None)
    assert (ada.context(id) / "job_script_content.sh").read_text() == request.content


def test_a_refused_launch_leaves_nothing(ada: Ada, scripted: ScriptedScheduler) -> None:
    scripted.submits = refuses(LaunchFailed("Ask for less."))
    with pytest.raises(LaunchFailed, match="Ask for less"):
        ada.launches(token=SECRET)
    assert list(ada.db.iterdir()) == []
    assert list(ada.contexts.iterdir()) == []
    assert ada.looks() == []


@pytest.mark.parametrize("in_the_way", ["db", "sys"])
def test_a_launch_that_cannot_be_written_leaves_nothing(
    ada: Ada, scripted: ScriptedScheduler, in_the_way: str
) -> None:
    root = Path(ada.store.root)
    root.mkdir(parents=True)
    (root / in_the_way).touch()
    scripted.submits = refuses(LaunchFailed("It must not be submitted."))
    with pytest.raises(LaunchFailed, match="Could not write the job files"):
        ada.launches(token=SECRET)
    assert ada.has_somewhere(SECRET) == []
    assert list(root.rglob(f"{'[0-9a-f]' * 8}-*")) == []


@pytest.mark.parametrize("file", ["before.sh", "portal.json", "secret_token", "db/"])
def test_a_connection_that_drops_while_launching_leaves_no_card_that_waits(
    ada: Ada, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """Files of this machine are always there: so the loss is played."""
    real = LocalFiles.write

    def write(files: LocalFiles, path: str, data: bytes, mode: int) -> None:
        if file in path:
            raise HostUnreachable("The connection was lost.")
        real(files, path, data, mode)

    with monkeypatch.context() as lost:
        lost.setattr(LocalFiles, "write", write)
        with pytest.raises(PortalError):
            ada.launches(token=SECRET)
    ada.waits(120)
    assert {card.status for card in ada.looks()} <= {"completed"}
    assert ada.has_somewhere(SECRET) == []


@pytest.mark.parametrize(
    ("typed", "field"), [({"seconds": "soon"}, "seconds"), ({"who": "\0"}, "who")]
)
def test_a_mistaken_launch_leaves_nothing(ada: Ada, typed: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidForm) as mistaken:
        ada.launches(**typed)
    assert set(mistaken.value.fields) == {field}
    assert list(ada.home.iterdir()) == []


@pytest.mark.parametrize(
    "silence", [CommandTimedOut("No answer."), HostUnreachable("Gone."), SchedulerError("What?")]
)
def test_a_launch_without_an_answer_has_a_card_that_finds_out(
    ada: Ada, scripted: ScriptedScheduler, silence: PortalError
) -> None:
    scripted.submits = refuses(silence)
    id = ada.launches()
    assert ada.sees().status == "queued"
    scripted.answer = [job("12", comment=f"ood-session:{id}")]
    card = ada.sees()
    assert (card.status, card.record.job_id) == ("starting", "12")
    assert ada.record(id)["job_id"] == "12"


def test_a_mistake_of_ours_while_submitting_keeps_the_card(
    ada: Ada, scripted: ScriptedScheduler
) -> None:
    def submit(_: JobRequest) -> str:
        raise RuntimeError

    scripted.submits = submit
    with pytest.raises(RuntimeError):
        ada.launches()
    assert ada.sees().status == "queued"


def test_the_form_is_remembered_without_secrets(ada: Ada, greeter: AppDefinition) -> None:
    typed = {"cluster": "here", "who": "Bob", "token": SECRET, "shy": "1", "odd": "x"}
    remember_form(ada.board, greeter, typed)
    assert ada.store.last_values("sys/greeter") == {"cluster": "here", "who": "Bob"}
    assert ada.has_somewhere(SECRET) == []


# ---- The board, when the portal or the scheduler was away


@pytest.fixture
def crashed(ada: Ada, scripted: ScriptedScheduler) -> str:
    """A session whose portal was killed between the submission and its answer."""

    def submit(_: JobRequest) -> str:
        raise KeyboardInterrupt

    scripted.submits = submit
    with pytest.raises(KeyboardInterrupt):
        ada.launches(token=SECRET)
    ada.restarts_the_portal()
    return ada.looks()[0].record.id


def test_a_crash_is_repaired_by_the_comment(
    ada: Ada, crashed: str, scripted: ScriptedScheduler
) -> None:
    scripted.answer = [
        job("11", comment=f"ood-session:{OTHER}"),
        job("12"),
        job("13", comment=f"ood-session:{crashed}"),
    ]
    assert ada.sees().status == "starting"
    assert ada.record(crashed)["job_id"] == "13"
    ada.board.cancel(crashed)
    assert scripted.cancelled == ["13"]


def test_a_crash_is_repaired_by_the_job_itself(
    ada: Ada, crashed: str, scripted: ScriptedScheduler
) -> None:
    ada.writes(crashed, started_json={"job_id": "14"})
    scripted.answer = SchedulerError("No answer.")
    assert ada.sees().status == "undetermined"
    assert ada.record(crashed)["job_id"] == "14"


@pytest.mark.usefixtures("crashed")
def test_a_launch_that_never_was_is_over_after_a_minute(ada: Ada) -> None:
    ada.waits(20)
    assert ada.sees().status == "queued"
    ada.waits(60)
    card = ada.sees()
    assert (card.status, card.outcome) == ("completed", "failed")
    assert "Relaunch" in card.reason
    assert ada.has_somewhere(SECRET) == []


def test_silence_is_no_proof_that_a_launch_never_was(
    ada: Ada, crashed: str, scripted: ScriptedScheduler
) -> None:
    scripted.answer = SchedulerError("No answer.")
    ada.waits(10_000)
    card = ada.sees()
    assert (card.status, card.reason) == ("undetermined", "No answer.")
    scripted.answer = [job("15", comment=f"ood-session:{crashed}")]
    assert ada.sees().status == "starting"


def test_a_card_from_queued_to_completed(ada: Ada, scripted: ScriptedScheduler) -> None:
    id = ada.launches(token=SECRET)
    assert ada.board.cards()[0].status == "queued", "not listed yet, but submitted just now"
    said = []
    for answer in (
        [job(status=JobStatus.QUEUED, reason="Resources")],
        SchedulerError("No answer."),
        [job()],
        [job(status=JobStatus.SUSPENDED)],
        [],
    ):
        scripted.answer = answer
        said.append(ada.sees().status)
    ada.writes(id, connection_yml="host: node1")
    scripted.answer = [job()]
    card = ada.sees()
    assert [*said, card.status] == [
        *("queued", "undetermined", "starting", "suspended", "undetermined"),
        "running",
    ]
    assert (card.host, card.time_limit, card.time_left) == ("node1", 3600, 60)
    scripted.answer = [ended(Outcome.SUCCEEDED, 0)]
    card = ada.sees()
    assert (card.status, card.outcome, card.exit_code) == ("completed", "succeeded", 0)


NODE_FAILED = "Node node1 failed. Relaunch the job."


def test_a_directory_that_gives_errors_is_no_proof_of_anything(
    ada: Ada, scripted: ScriptedScheduler, broken: Broken
) -> None:
    id = ada.launches(who="Bob")
    ada.writes(id, connection_yml="host: node1\nport: 5000\n", portal_json={"withheld": ["token"]})
    scripted.answer = [job()]
    assert ada.sees().status == "running"
    broken.paths.append(f"output/{id}")
    card = ada.sees()
    assert (card.status, ("Who to greet", "Bob") in card.parameters) == ("running", True)
    ada.board.cancel(id)
    scripted.answer = [ended(Outcome.FAILED, 3)]
    for _ in range(3):
        assert ada.sees().status == "completed"
    assert not ada.record(id)["cache_completed"]
    scripted.answer = []
    card = ada.sees()
    assert (card.status, "Input/output error" in card.reason) == ("undetermined", True)
    ada.restarts_the_portal()
    assert ada.sees().status == "undetermined"
    assert not ada.record(id)["cache_completed"]
    broken.paths.clear()
    ada.writes(id, outcome_json={"exit_code": 143})
    assert ada.sees().status == "completed"
    ada.looks()
    facts = json.loads((ada.context(id) / "portal.json").read_text())
    assert (facts["outcome"], facts["withheld"]) == ("failed", ["token"])


def test_an_error_is_no_proof_that_a_launch_never_was(
    ada: Ada, broken: Broken, crashed: str
) -> None:
    broken.paths.append(f"output/{crashed}")
    ada.waits(90)
    assert ada.sees().status == "undetermined"
    broken.paths.clear()
    assert ada.sees().outcome == "failed"


def test_a_session_that_open_ondemand_saw_end_waits_for_its_directory(
    ada: Ada, broken: Broken
) -> None:
    id = ada.launches()
    ada.store.write(replace(ada.sees().record, cache_completed=True))
    broken.paths.append(f"output/{id}")
    ada.looks()
    broken.paths.clear()
    ada.writes(id, outcome_json={"exit_code": 0})
    assert ada.sees().outcome == "succeeded"


def test_a_record_that_cannot_be_read_for_a_moment_keeps_its_card(ada: Ada, broken: Broken) -> None:
    id = ada.launches()
    ada.sees()
    (ada.db / id).touch()
    broken.paths.append(f"db/{id}")
    assert ada.sees().record.id == id


def test_two_portals_agree_how_a_session_ended(ada: Ada, scripted: ScriptedScheduler) -> None:
    ada.launches()
    scripted.answer = [job()]
    ada.sees()
    first = ada.board
    ada.restarts_the_portal()
    scripted.answer = [replace(ended(Outcome.FAILED, 3), state="NODE_FAIL")]
    ada.sees()  # the second portal sees its end, and then the first
    ada.board = first
    card = ada.sees()
    assert (card.status, card.outcome, card.reason) == ("completed", "failed", NODE_FAILED)


def test_open_ondemand_completed_it_and_its_job_left_an_outcome(
    ada: Ada, scripted: ScriptedScheduler
) -> None:
    id = ada.launches()
    scripted.answer = []
    ada.writes(id, outcome_json={"exit_code": 3, "ended_at": 1}, failure="It went wrong.")
    record = ada.record(id) | {"cache_completed": True, "completed_at": 1}
    (ada.db / id).write_text(json.dumps(record))
    card = ada.sees()
    assert (card.outcome, card.exit_code, card.reason) == ("failed", 3, "It went wrong.")


def test_a_card_that_is_completed_stays_so(ada: Ada, scripted: ScriptedScheduler) -> None:
    id = ada.launches()
    scripted.answer = [replace(ended(Outcome.FAILED, 3), state="NODE_FAIL")]
    before = ada.sees()
    assert ada.record(id)["cache_completed"] is True
    assert ada.record(id)["completed_at"] == int(ada.clock.now if ada.clock else 0)
    scripted.answer = SchedulerError("No answer.")
    assert ada.sees() == before
    ada.restarts_the_portal()
    after = ada.sees()
    assert (after.outcome, after.exit_code, after.reason, after.host, after.time_limit) == (
        *("failed", 3, NODE_FAILED),
        *("node1", 3600),
    )


@pytest.mark.parametrize("again_after", [2, 20])
def test_accounting_has_the_last_word_and_is_not_asked_at_every_look(
    ada: Ada, scripted: ScriptedScheduler, again_after: float
) -> None:
    ada.launches()
    assert ada.sees().status == "undetermined"
    scripted.accounting = [ended(Outcome.OUT_OF_MEMORY)]
    ada.waits(again_after)
    (card,) = ada.board.cards()
    assert card.status == ("completed" if again_after > 15 else "undetermined")


def test_what_the_job_left_is_proof_enough(ada: Ada, scripted: ScriptedScheduler) -> None:
    id = ada.launches()
    scripted.answer = SchedulerError("No answer.")
    ada.writes(id, outcome_json={"exit_code": 5}, failure="The disk is full.")
    card = ada.sees()
    assert (card.outcome, card.exit_code, card.reason) == ("failed", 5, "The disk is full.")


def test_what_a_job_leaves_in_its_last_moment_is_on_its_card(
    ada: Ada, scripted: ScriptedScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends after the portal has begun to look, and before the scheduler answers."""
    id = ada.launches(token=SECRET)
    log = ada.looks()[0].log_name

    def jobs(*, everyones: bool = False) -> list[Job]:  # noqa: ARG001
        ada.writes(id, outcome_json={"exit_code": 5}, failure="The disk is full.")
        (ada.context(id) / log).write_text("the last line\n")
        (ada.context(id) / "secret_token").unlink(missing_ok=True)
        return [ended(Outcome.FAILED)]

    monkeypatch.setattr(scripted, "jobs", jobs)
    card = ada.sees()
    assert (card.exit_code, card.reason, card.log_tail) == (
        *(5, "The disk is full."),
        "the last line",
    )


def test_a_session_that_open_ondemand_saw_end_is_over(ada: Ada) -> None:
    ada.store.write(replace(RECORD, token="sys/bc_desktop/owens", cluster_id="owens").completed(5))
    card = ada.sees()
    assert (card.status, card.outcome, card.cluster_title) == ("completed", "unknown", "owens")


def test_twenty_cards_in_five_tabs_are_one_question(ada: Ada, scripted: ScriptedScheduler) -> None:
    ids = iter(range(20))
    scripted.submits = lambda _: str(next(ids))
    for _ in range(20):
        ada.launches()
    scripted.answer = [job(str(at)) for at in range(20)]
    ada.waits(10)
    scripted.asked = 0
    for _ in range(5):
        cards = ada.board.cards()
        assert [card.status for card in cards] == ["starting"] * 20
    assert scripted.asked == 1
    ada.waits(3)
    ada.board.cards()
    assert scripted.asked == 1
    ada.waits(3)
    ada.board.cards()
    assert scripted.asked == 2


# ---- The board, and what can be done with a card


def test_nobody_finds_what_is_not_there(ada: Ada) -> None:
    for act in (ada.board.find, ada.board.cancel, ada.board.delete, ada.board.portal_files):
        with pytest.raises(NotFound):
            act(ID)


@pytest.mark.parametrize(
    "last",
    [
        ended(Outcome.SUCCEEDED, 0),
        ended(Outcome.CANCELLED),
        ended(Outcome.UNKNOWN),
    ],
    ids=lambda last: str(last.outcome),
)
def test_no_secret_outlives_its_job(ada: Ada, scripted: ScriptedScheduler, last: Job) -> None:
    ada.launches(token=SECRET)
    scripted.answer = [job(status=JobStatus.QUEUED)]
    ada.sees()
    assert ada.has_somewhere(SECRET) != [], "the job has not had it yet"
    scripted.answer = [last]
    ada.sees()
    assert ada.has_somewhere(SECRET) == []


def test_a_hung_home_directory_holds_nobody_up(ada: Ada, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten tabs wait no longer than their patience, and one thread asks."""
    ada.launches()
    free, hung = threading.Event(), []

    def records(store: SessionStore) -> list[SessionRecord]:
        hung.append(threading.current_thread())
        assert free.wait(60)
        return real(store)

    real = SessionStore.records
    monkeypatch.setattr(SessionStore, "records", records)
    monkeypatch.setattr("ood.sessions.board.PATIENCE", 0.3)
    monkeypatch.setattr("ood.background.time", time)
    began = time.monotonic()
    with ThreadPoolExecutor(10) as tabs:
        problems = list(tabs.map(lambda _: problem_of(ada.board.cards), range(10)))
    assert time.monotonic() - began < 30
    assert all("did not answer in time" in problem for problem in problems)
    assert len(hung) == 1
    free.set()
    wait_until(lambda: problem_of(ada.board.cards) == "", 5)


def problem_of(ask: Callable[[], object]) -> str:
    try:
        ask()
    except PortalError as error:
        return error.message
    return ""


def test_a_session_deleted_while_its_end_is_written_down_stays_deleted(
    ada: Ada, scripted: ScriptedScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = ada.launches()
    ada.sees()
    scripted.answer = [ended(Outcome.SUCCEEDED)]
    writing, free = threading.Event(), threading.Event()

    def write(store: SessionStore, record: SessionRecord) -> None:
        writing.set()
        assert free.wait(10)
        real(store, record)

    real = SessionStore.write
    monkeypatch.setattr(SessionStore, "write", write)
    ada.waits(20)
    ada.board._ask_cards()
    assert writing.wait(10)
    known = ada.board._ask_cards().known
    assert known
    card = replace(known[0], status=JobStatus.COMPLETED)
    monkeypatch.setattr(ada.board, "find", lambda _: card)
    ada.board.delete(id)
    free.set()
    ada.board._ask_cards().answer()
    assert ada.looks() == []
    assert list(ada.db.iterdir()) == []


def test_cancel_before_the_start(ada: Ada, scripted: ScriptedScheduler) -> None:
    id = ada.launches(token=SECRET)
    scripted.answer = [job(status=JobStatus.QUEUED)]
    ada.board.cancel(id)
    assert scripted.cancelled == ["7"]
    scripted.answer = [ended(Outcome.CANCELLED)]
    assert ada.sees().outcome == "cancelled"
    ada.board.cancel(id)
    assert scripted.cancelled == ["7"], "it has ended"


def test_a_cancelled_job_that_leaves_no_trace_but_143_was_cancelled(
    ada: Ada, scripted: ScriptedScheduler
) -> None:
    id = ada.launches()
    scripted.answer = [job()]
    ada.board.cancel(id)
    scripted.answer = []
    ada.writes(id, outcome_json={"exit_code": 143})
    ada.restarts_the_portal()
    assert ada.sees().outcome == "cancelled"


def test_a_launch_that_is_not_accepted_yet_cannot_be_cancelled(ada: Ada, crashed: str) -> None:
    with pytest.raises(PortalError, match="not accepted this job yet"):
        ada.board.cancel(crashed)


def test_another_job_with_the_same_number_is_not_shown_and_not_cancelled(
    ada: Ada, scripted: ScriptedScheduler
) -> None:
    id = ada.launches()
    scripted.answer = [job("7", comment=f"ood-session:{OTHER}")]
    card = ada.sees()
    assert (card.status, card.host) == ("undetermined", "")
    ada.board.cancel(id)
    assert (scripted.cancelled, ada.sees().cancelling) == ([], False)
    ada.board.delete(id)
    assert scripted.cancelled == []


def test_active_jobs_links_a_card_to_its_own_job_only(
    ada: Ada, scripted: ScriptedScheduler
) -> None:
    id = ada.launches()
    for comment, is_hers in ((f"ood-session:{id}", True), (f"ood-session:{OTHER}", False)):
        scripted.answer = [job("7", comment=comment)]
        ada.looks()
        for everyones in (False, True):
            (row,) = jobs_on(ada.board, ada.clusters.values(), everyones=everyones).rows
            assert (row.card is not None) == is_hers


def test_a_job_that_is_not_listed_is_not_cancelled(ada: Ada, scripted: ScriptedScheduler) -> None:
    """Another user's job may have its number now."""
    ada.board.delete(ada.launches())
    assert (scripted.cancelled, ada.looks()) == ([], [])


def test_without_accounting_only_the_jobs_that_have_ended_are_undetermined(
    ada: Ada, scripted: ScriptedScheduler
) -> None:
    numbers = iter(["7", "8", "9"])
    scripted.submits = lambda _: next(numbers)
    runs, gone, left = (ada.launches() for _ in range(3))
    ada.writes(left, outcome_json={"exit_code": 0})
    scripted.answer = [job("7", comment=f"ood-session:{runs}")]
    scripted.accounting = SchedulerError("Down.", "Problem talking to the database")
    cards = {card.record.id: card for card in ada.looks()}
    assert cards[runs].status in ("starting", "running")
    assert cards[gone].status == "undetermined"
    assert "accounting database is not responding" in cards[gone].reason
    assert (cards[left].status, cards[left].outcome) == ("completed", "succeeded")


def test_a_cancel_that_is_refused_changes_nothing(ada: Ada, scripted: ScriptedScheduler) -> None:
    id = ada.launches()

    scripted.answer, scripted.cancels = [job()], refuses(SchedulerError("No."))
    for act in (ada.board.cancel, ada.board.delete):
        with pytest.raises(SchedulerError, match="No"):
            act(id)
    assert ada.board.portal_files(id).facts.cancelled_at is None
    assert (ada.db / id).exists()


def test_cancel_works_without_the_context_directory(ada: Ada, scripted: ScriptedScheduler) -> None:
    id = ada.launches()
    ada.store.directory(ada.sees().record).remove()
    scripted.answer = [job()]
    ada.board.cancel(id)
    assert scripted.cancelled == ["7"]


def test_delete_removes_the_card_and_cancels_the_job(ada: Ada, scripted: ScriptedScheduler) -> None:
    id = ada.launches(token=SECRET)
    scripted.answer = [job()]
    ada.board.delete(id)
    assert scripted.cancelled == ["7"]
    assert ada.looks() == []
    assert ada.has_somewhere(SECRET) == []
    assert (ada.context(id) / "script.sh").exists(), "files stay"


def test_delete_of_a_completed_card_cancels_nothing(ada: Ada, scripted: ScriptedScheduler) -> None:
    id = ada.launches()
    scripted.answer = [ended(Outcome.SUCCEEDED)]
    ada.looks()
    ada.board.delete(id)
    assert scripted.cancelled == []
    assert ada.looks() == []


def test_a_card_whose_cluster_is_gone_can_be_deleted(ada: Ada) -> None:
    id = ada.launches()
    ada.clusters.clear()
    ada.restarts_the_portal()
    card = ada.sees()
    assert card.status == "undetermined"
    assert "no longer configured" in card.reason
    ada.board.delete(id)
    assert ada.looks() == []


def test_a_card_whose_app_is_gone_is_still_a_card(ada: Ada, greeter: AppDefinition) -> None:
    ada.launches(who="Bob")
    ada.app = replace(greeter, name="another")
    ada.restarts_the_portal()
    card = ada.sees()
    assert card.record.title == "Greeter"
    assert ("who", "Bob") in card.parameters


# ---- What the scheduler runs


class JobDirectory:
    """A job context directory, whose job script bash runs here and now."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def start(self, **scripts: str) -> subprocess.Popen[bytes]:
        secrets = ["secret_token"]
        (self.path / secrets[0]).touch()
        for name, text in ({"script": "#!/bin/bash\n"} | scripts).items():
            (self.path / f"{name}.sh").write_text(text)
        script = render(
            JOB_SCRIPT, work_dir=str(self.path), set_host="host=$(echo me)", secrets=secrets
        )
        return subprocess.Popen(["/bin/bash", "-c", script], stdin=subprocess.DEVNULL)

    def run(self, **scripts: str) -> int:
        return self.start(**scripts).wait(60)

    @property
    def names(self) -> set[str]:
        return {path.name for path in self.path.iterdir() if path.suffix != ".sh"}

    @property
    def connection(self) -> Any:
        return yaml.safe_load((self.path / "connection.yml").read_text())

    @property
    def exit_code(self) -> Any:
        return json.loads((self.path / "outcome.json").read_text())["exit_code"]


def environment_of(home: Path, show: str, **environment: str) -> str:
    """What a job on a cluster sees, whose user has this home directory."""
    directory = home / "it's a $(touch pwned) directory"
    directory.mkdir()
    script = render(JOB_ENVIRONMENT, work_dir=str(directory))
    usual = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["/bin/bash", "-c", f"{script}\n{show}"],
        env=usual | environment,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.stderr, list(directory.iterdir())) == ("", [])
    return done.stdout


def test_jobs_have_the_environment_of_a_login_shell(tmp_path: Path) -> None:
    (tmp_path / ".bash_profile").write_text(
        "echo Welcome; echo why >&2; cd /tmp; umask 0; sleep 60 &\n"
        'module() { echo "module $*"; }; export -f module\n'
        "readonly THREE='three\ntouch pwned\n'; export THREE; export TMP=/nowhere\n"
        "export LANG=de_DE.UTF-8 TWO='two\nlines' PATH=/opt/site/bin:$PATH; readonly -x STAYS=1\n"
    )
    show = 'module load x; echo "$LANG|$TWO|${PATH%%:*}|${PWD##*/}"; umask; bash -c "module y"'
    assert environment_of(tmp_path, show, LANG="C", TWO="2") == (
        "module load x\nde_DE.UTF-8|two\nlines|/opt/site/bin|it's a $(touch pwned) directory\n"
        f"{subprocess.check_output(['bash', '-c', 'umask'], text=True)}module y\n"
    )


@pytest.mark.parametrize(
    "text", ["exit 0", "exec cat", "read answer; exit", "kill -9 $$", "exec >&-"]
)
def test_start_up_files_cannot_end_or_hold_a_job(tmp_path: Path, text: str) -> None:
    (tmp_path / ".bash_profile").write_text(f"export LANG=no\n{text}\n")
    assert environment_of(tmp_path, 'echo "$LANG"', LANG="C.UTF-8") in ("C.UTF-8\n", "no\n")


def test_jobs_do_not_use_directories_of_another_host(tmp_path: Path) -> None:
    there = {"TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": "/run/user/of-another-host", "TMP": "/no"}
    show = 'echo "$TMPDIR ${XDG_RUNTIME_DIR-unset} ${TMP-unset}"'
    assert environment_of(tmp_path, show, **there) == f"{tmp_path} unset unset\n"


def test_directives_of_a_site_come_before_the_first_command(ada: Ada) -> None:
    wrapper = "#SBATCH --comment=x\n\n # more\n#SBATCH --exclusive\nmodule purge\n%s"
    v2 = {"job": {"adapter": "slurm"}, "batch_connect": {"basic": {"script_wrapper": wrapper}}}
    ada.clusters["here"] = Cluster.model_validate({"id": "here", "v2": v2})
    id = ada.launches()
    content = (ada.context(id) / "job_script_content.sh").read_text()
    assert content.startswith(f"#!/bin/bash\n{wrapper.partition('module')[0]}ood_login=")
    assert content.index("login_environment") < content.index("module purge") < content.index("cd ")


@pytest.fixture
def job_directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory(tmp_path / "it's a $(touch pwned) directory")


PASSWORDS = [value for value in NASTY if not {"\n", "\r"} & set(value)]


@pytest.mark.parametrize("password", PASSWORDS, ids=ascii)
def test_any_password_comes_back_from_connection_yml(
    job_directory: JobDirectory, password: str
) -> None:
    assert job_directory.run(before=f"password={shell_word(password)}; port=0123") == 0
    assert job_directory.connection["password"] == password
    assert job_directory.connection["host"] == "me"


@pytest.mark.parametrize(
    ("scripts", "code"),
    [
        ({}, 0),
        ({"script": "#!/bin/bash\nexit 3"}, 3),
        ({"script": "not a script"}, 127),
        ({"script": "#!/no/such/interpreter"}, 127),
        ({"before": "exit 5"}, 5),
        ({"before": "set -e; false"}, 1),
        ({"after": "exit 7"}, 7),
        ({"clean": "false"}, 0),
        ({"clean": "exit 8", "script": "#!/bin/bash\nexit 3"}, 3),
        ({"clean": "(((", "script": "#!/bin/bash\nexit 3"}, 3),
    ],
    ids=str,
)
def test_however_a_job_ends_it_leaves_its_outcome_and_no_secret(
    job_directory: JobDirectory, scripts: dict[str, str], code: int
) -> None:
    assert job_directory.run(**scripts) == code
    assert job_directory.exit_code == code
    assert "secret_token" not in job_directory.names
    assert not [name for name in job_directory.names if name.endswith(".new")]
    assert ("connection.yml" in job_directory.names) == (not {"before", "after"} & scripts.keys())


@pytest.mark.parametrize(
    "scripts",
    [
        {"before": "[[ $(type -t module) == function ]] && export -f module"},
        {"before": "return 4"},
        {"before": "((("},
        {"before": "set -eu", "script": "#!/bin/bash\nexit 3"},
        {"before": "cd /", "script": "#!/bin/bash\n[[ $PWD == / ]] && exit 3"},
        {"after": "[[ -n ${NOTHING:-} ]] && echo"},
        {"before": "trap 'rm scratch; exit 9' EXIT; touch scratch"},
        {"after": "cd /tmp; return 6"},
    ],
    ids=str,
)
def test_sourced_files_end_as_in_open_ondemand(
    job_directory: JobDirectory, scripts: dict[str, str]
) -> None:
    code = 3 if "script" in scripts else 0
    assert job_directory.run(**scripts) == code
    assert job_directory.exit_code == code
    assert job_directory.connection["host"] == "me"
    assert not {"scratch", "secret_token"} & job_directory.names


@pytest.mark.parametrize(
    ("signal", "code"), [(SIGTERM, 143), (SIGINT, 130), (SIGHUP, 129)], ids=["TERM", "INT", "HUP"]
)
def test_a_job_that_is_signalled_ends_its_script_and_cleans_up(
    job_directory: JobDirectory, signal: int, code: int
) -> None:
    script = "#!/bin/bash\ntrap 'touch ended; exit 1' TERM\ntouch running\nsleep 60 & wait\n"
    process = job_directory.start(script=script, clean="touch cleaned")
    wait_until(lambda: "running" in job_directory.names, 5)
    process.send_signal(signal)
    assert process.wait(30) == code
    assert job_directory.exit_code == code
    assert {"ended", "cleaned"} <= job_directory.names
    assert "secret_token" not in job_directory.names


# ---- The real thing: the local scheduler


def ends(ada: Ada, seconds: float = 10) -> Card:
    wait_until(lambda: ada.sees().status == "completed", seconds)
    return ada.sees()


def test_a_job_from_launch_to_success(really: Ada) -> None:
    id = really.launches(who="Bob", password='01234567"\\', seconds="60", token=SECRET)
    card = really.sees()
    assert card.status in ("starting", "running")
    wait_until(lambda: really.sees().status == "running", 5)
    directory = really.context(id)
    connection = yaml.safe_load((directory / "connection.yml").read_text())
    assert connection["password"] == '01234567"\\'
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert 2000 <= connection["port"] < outgoing
    assert connection["host"] == really.sees().host
    assert mode(directory / "connection.yml") == 0o600
    really.ends(id)
    card = ends(really)
    assert (card.outcome, card.exit_code, card.outputs) == ("succeeded", 0, "outputs-7")
    assert card.record.job_id == "1"
    log = (directory / card.log_name).read_text()
    assert log == card.log_tail + "\n"
    assert sorted(log.splitlines()) == sorted(
        [
            *("before.sh as ada", "Hello Bob!", str(len(SECRET.encode()))),
            *(f"port {connection['port']} password 12", "cleaned"),
        ]
    )
    assert json.loads((directory / "started.json").read_text())["job_id"] == "1"
    assert json.loads((directory / "outcome.json").read_text())["exit_code"] == 0
    assert really.has_somewhere(SECRET) == []


def test_nasty_values_arrive_in_the_job_as_typed(really: Ada) -> None:
    values = [value.replace("\r", "") for value in NASTY if value.strip()]
    ids = {value: really.launches(who=value) for value in values}
    wait_until(lambda: all(card.status == "completed" for card in really.looks()), 20)
    for value, id in ids.items():
        card = really.board.find(id)
        log = (really.context(id) / card.log_name).read_bytes()
        assert f"Hello {value}!\n".encode() in log
        assert not (really.context(id) / "pwned").exists()


def test_a_job_that_fails_says_why(really: Ada) -> None:
    really.launches(code="3")
    card = ends(really)
    assert (card.outcome, card.exit_code, card.reason) == ("failed", 3, "It went wrong.")


def test_cancel_ends_the_job_and_cleans_up(really: Ada) -> None:
    id = really.launches(seconds="60", token=SECRET)
    wait_until(lambda: really.sees().status == "running", 5)
    really.board.cancel(id)
    card = ends(really)
    assert (card.outcome, card.exit_code) == ("cancelled", None)
    assert card.log_tail.endswith("cleaned")
    assert really.has_somewhere(SECRET) == []


def test_a_portal_that_comes_back_finds_the_job(really: Ada) -> None:
    id = really.launches(seconds="60")
    wait_until(lambda: really.sees().status == "running", 5)
    really.restarts_the_portal()
    assert really.sees().status == "running"
    really.ends(id)
    assert ends(really).outcome == "succeeded"
    really.restarts_the_portal()
    assert really.sees().outcome == "succeeded"
