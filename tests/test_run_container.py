"""Run Container as its researchers do it, in a browser, on this machine and on the devcluster."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.conftest import SCREENSHOTS, Devcluster, RunningPortal, wait_until
from tests.researcher import HELLO, LOOKS, Researcher, Scheme, accessible

TOKEN = "reg-alice"
NASTY = (
    "two  words",
    "it's",
    'say "hi"',
    "$(touch /tmp/pwned)",
    "`touch /tmp/pwned`",
    "${HOME}; touch /tmp/pwned #",
    "back\\slash \\n",
    "{{ 7*7 }} %s %j",
    "<script>alert(1)</script>",
    "-rf",
    "--privileged",
    "héllo 🚀 ≤",
    "*",
    "|& > /tmp/pwned",
)


@pytest.fixture
def ada(page: Page, embedded: RunningPortal) -> Iterator[Researcher]:
    """A researcher on the embedded default."""
    researcher = Researcher(page, embedded)
    researcher.signs_in()
    yield researcher
    assert researcher.complaints == []


@pytest.fixture
def alice(page: Page, site: RunningPortal) -> Iterator[Researcher]:
    """A researcher on the devcluster."""
    researcher = Researcher(page, site)
    researcher.signs_in("alice")
    yield researcher
    assert researcher.complaints == []


def files_in(devcluster: Devcluster, host: str, directory: str) -> list[str]:
    """The names in a directory; none when it is not there."""
    return devcluster.host(host, "ls", "-A", directory, check=False).split()


def saw_hello(log: str) -> None:
    assert "Hello there Ada!" in log
    assert "\n".join(str(n) for n in range(1, 11)) in log
    assert "Goodbye Ada!" in log
    dated = r"^\w{3} \w{3} +\d+ [\d:]+ \w+ \d{4}|^\w{3} +\d+ \w{3} \d{4} .*"
    assert re.search(f"(?m)({dated}) before.sh: JOB_FOLDER: ", log)
    assert re.search(f"(?m)({dated}) script.sh: Running ces-run podman", log)


def test_hello_tre_on_this_machine(ada: Researcher, embedded_home: Path) -> None:
    card = ada.launches(**HELLO)
    said = ada.watches(card, "completed")
    assert said[-2:] == ["running", "completed"], said
    assert card.get_attribute("data-outcome") == "succeeded"
    expect(card).to_contain_text("exit code 0")
    saw_hello(ada.reads_the_log(card))
    outputs = embedded_home / ada.outputs(card)
    assert (outputs / "safe_outputs.txt").read_text() == "This text is in safe_outputs.txt\n"
    assert (outputs / "safe_outputs.txt").stat().st_uid == os.getuid()
    assert not (embedded_home / outputs.name.replace("outputs", "scratch")).exists()
    assert (ada.context_directory(card) / "user_defined_context.json").exists()


def test_hello_tre_on_slurm(alice: Researcher, devcluster: Devcluster) -> None:
    # A free node may take a job before the first look at its card.
    partition = ("scontrol", "update", "PartitionName=desktop")
    devcluster.host("alpha-login", *partition, "State=DOWN")
    try:
        card = alice.launches(cluster="desktop", **HELLO)
        expect(card.get_by_role("heading")).to_have_text(re.compile(r"Run Container \(\d+\)"))
        job_id = re.sub(r"\D", "", card.get_by_role("heading").inner_text())
        queue = devcluster.as_user("alice", "alpha-login", f"squeue -h -j {job_id} -o '%T %k %j'")
        assert f"ood-session:{card.get_attribute('data-session-id')}" in queue
        shown = devcluster.as_user("alice", "alpha-login", f"scontrol -d show job {job_id}")
        assert alice.watches(card, "queued") == ["queued"]
    finally:
        devcluster.host("alpha-login", *partition, "State=UP")
    said = alice.watches(card, "completed")
    assert said[-2:] == ["running", "completed"], said
    assert card.get_attribute("data-outcome") == "succeeded"
    saw_hello(alice.reads_the_log(card))

    outputs = f"/home/alice/{alice.outputs(card)}"
    assert "alice" in devcluster.host(
        "desktop01", "stat", "-c", "%U", f"{outputs}/safe_outputs.txt"
    )
    scratch = outputs.replace("outputs-", "scratch-")
    assert devcluster.host("desktop01", "ls", "-d", scratch, check=False) == ""
    # The token: in no file that is left, nor in what the scheduler tells, nor on a page.
    assert TOKEN not in shown
    # (Those of other tests' sessions are removed when the portal sees them end.)
    grep = ("grep", "-rl", TOKEN, "/home/alice")
    wait_until(lambda: devcluster.host("desktop01", *grep, check=False) == "", 20)
    assert TOKEN not in alice.page.content()


def test_cancel_ends_all_of_it(alice: Researcher, devcluster: Devcluster) -> None:
    card = alice.launches(cluster="desktop", container_arguments="-d 600")
    alice.watches(card, "running")
    podman = "su - alice -c 'podman ps --format {{.Names}}' | grep hello-tre"
    running = devcluster.host("desktop01", "sh", "-c", podman)
    assert "hello-tre-alice-" in running
    scratch = re.search(r"/scratch is (\S+)", alice.reads_the_log(card))
    assert scratch
    devcluster.host("desktop01", "ls", scratch[1])
    card.get_by_role("button", name="Cancel").click()
    alice.watches(card, "completed", 30)
    assert card.get_attribute("data-outcome") == "cancelled"
    job_id = re.sub(r"\D", "", card.get_by_role("heading").inner_text())
    queue = f"squeue -h -j {job_id} -t R,PD,CG"
    wait_until(lambda: devcluster.as_user("alice", "alpha-login", queue) == "", 10)
    assert devcluster.host("desktop01", "sh", "-c", podman, check=False) == ""
    assert devcluster.host("desktop01", "ls", scratch[1], check=False) == ""


def test_hello_tre_on_an_unsynched_back_end(alice: Researcher, devcluster: Devcluster) -> None:
    card = alice.launches(cluster="beta", registry_token=TOKEN, **HELLO)
    said = alice.watches(card, "completed")
    assert said[-2:] == ["running", "completed"], said
    assert card.get_attribute("data-outcome") == "succeeded"
    expect(card).to_contain_text("Files are on\nBeta", use_inner_text=True)
    log = alice.page.locator(f"#log-{card.get_attribute('data-session-id')}")
    expect(log).to_contain_text("Goodbye Ada!")
    saw_hello(alice.reads_the_log(card))
    directory = str(alice.context_directory(card))
    here, there = (files_in(devcluster, host, directory) for host in ("portal-host", "beta-login"))
    assert {"script.sh", "user_defined_context.json", "portal.json"} <= {*here} & {*there}
    assert "outcome.json" in there
    assert "outcome.json" not in here
    assert "700 alice" in devcluster.host("beta-login", "stat", "-c", "%a %U", directory)
    outputs = f"/home/alice/{alice.outputs(card)}"
    assert "safe_outputs.txt" in files_in(devcluster, "beta-login", outputs)
    assert files_in(devcluster, "portal-host", outputs) == []
    grep = ("grep", "-rl", TOKEN, "/home/alice")
    for host in ("portal-host", "beta-login"):
        wait_until(lambda host=host: devcluster.host(host, *grep, check=False) == "", 20)


def test_cancel_before_the_start_leaves_no_secret_on_an_unsynched_back_end(
    alice: Researcher, devcluster: Devcluster
) -> None:
    devcluster.host("beta-login", "scontrol", "update", "PartitionName=work", "State=DOWN")
    try:
        card = alice.launches(cluster="beta", registry_token=TOKEN, **HELLO)
        alice.watches(card, "queued")
        directory = str(alice.context_directory(card))
        assert "secret_registry_token" in files_in(devcluster, "beta-login", directory)
        assert "secret_registry_token" not in files_in(devcluster, "portal-host", directory)
        card.get_by_role("button", name="Cancel").click()
        alice.watches(card, "completed")
        assert card.get_attribute("data-outcome") == "cancelled"
        expect(card).to_contain_text("You cancelled this job.")
        wait_until(
            lambda: "secret_registry_token" not in files_in(devcluster, "beta-login", directory), 15
        )
    finally:
        devcluster.host("beta-login", "scontrol", "update", "PartitionName=work", "State=UP")


@pytest.mark.parametrize("why", ["a full disk", "no sshd"])
def test_a_copy_that_fails_submits_nothing_and_says_so(
    alice: Researcher, devcluster: Devcluster, why: str
) -> None:

    def jobs() -> set[str]:
        return set(devcluster.host("beta-login", "squeue", "-h", "-t", "all", "-o", "%i").split())

    jobs_before, cards_before = jobs(), alice.counts_the_cards()
    if why == "a full disk":
        devcluster.as_user("alice", "beta-login", "mkdir -p ondemand")
        mount = "mount -t tmpfs -o size=16k,mode=700,uid=$(id -u alice) none /home/alice/ondemand"
        devcluster.host("beta-login", "sh", "-c", mount)
    else:
        devcluster.host("beta-login", "pkill", "sshd")
    try:
        alice.opens_run_container()
        alice.fills_in(cluster="beta", environment="X=kept")
        alice.presses_launch()
        notice = alice.page.get_by_role("alert").filter(has_text="Beta")
        expect(notice).to_contain_text(re.compile("Could not (write|copy) the job files to Beta"))
        expect(alice.page.locator("[name=environment]")).to_have_value("X=kept")
    finally:
        devcluster.host("beta-login", "umount", "-l", "/home/alice/ondemand", check=False)
        devcluster.up()
    assert jobs() <= jobs_before  # it forgets those that have ended
    assert alice.counts_the_cards() == cards_before


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"registry_token": "wrong"}, "registry"),
        (
            {"registry_token": "$(touch /tmp/pwned) 'x' \"y\" `id`", "registry_username": "-u"},
            "registry",
        ),
        ({"container_url": "10.78.0.5:5000/lab/nothing:1.0"}, "has no image"),
        ({"runner": "apptainer"}, "apptainer is not installed"),
    ],
    ids=["wrong token", "nasty token", "no image", "no runner"],
)
def test_failures_say_why(alice: Researcher, fields: dict[str, str], sentence: str) -> None:
    card = alice.launches(cluster="desktop", **fields)
    alice.watches(card, "completed", 30)
    assert card.get_attribute("data-outcome") == "failed"
    message = card.locator(".message").inner_text()
    assert re.search(sentence, message, re.IGNORECASE), message


def test_no_safe_data_says_so(page: Page, site: RunningPortal) -> None:
    bob = Researcher(page, site)
    bob.signs_in("bob")
    card = bob.launches(cluster="desktop")
    bob.watches(card, "completed", 30)
    assert card.get_attribute("data-outcome") == "failed"
    expect(card.locator(".message")).to_contain_text("safe_data")


def test_too_much_memory_is_said_in_the_form(alice: Researcher) -> None:
    alice.opens_run_container()
    alice.fills_in(cluster="desktop", memory="99", container_name="kept")
    alice.presses_launch()
    assert "15 GiB" in alice.mistake_at("memory")
    expect(alice.page.get_by_label("Container name")).to_have_value("kept")


@pytest.mark.parametrize("app", ["container_app", "jupyter_app"])
def test_the_form_follows_the_limits_of_the_chosen_back_end(
    browser: Browser, site_config: Path, tmp_path: Path, app: str
) -> None:
    shutil.copytree(site_config, tmp_path / "site")
    gpu = tmp_path / "site/clusters.d/gpu.yml"
    slurms_own = gpu.read_text()
    gpu.write_text(slurms_own.replace("partition: gpu", "partition: gpu\n      max_cores: 4"))
    unknown = slurms_own.replace("title: GPU", "title: Unknown")
    unknown = unknown.replace("partition: gpu", "partition: nope\n      gpus: 1")
    (gpu.parent / "unknown.yml").write_text(unknown)
    portal = RunningPortal(tmp_path, {"OOD_PORTAL_CONFIG": str(tmp_path / "site/portal.yml")})
    portal.start()
    try:
        with browser.new_context() as context:
            page = context.new_page()
            alice = Researcher(page, portal)
            alice.signs_in("alice")
            page.goto(f"{portal.url}/apps/{app}")
            cluster = page.get_by_label("Cluster")
            use_gpu = page.get_by_label("Use GPU?")

            def shows(cores: str, memory: str) -> None:
                for name, label in {"cores": "Cores", "memory": "Memory in GiB"}.items():
                    most = {"cores": cores, "memory": memory}[name]
                    unit = " GiB" if name == "memory" else ""
                    label += f" (max {most}{unit})" if most else ""
                    field = page.get_by_label(f"{label} (required)", exact=True)
                    expect(field).to_have_attribute("name", name)
                    assert field.get_attribute("max") == (most or None)

            alice.fills_in(cluster="desktop")
            shows("8", "15")
            expect(use_gpu).to_be_hidden()
            cluster.focus()
            page.keyboard.type("GPU")
            shows("4", "15")
            expect(use_gpu).to_be_visible()
            page.keyboard.press("Tab")
            for _ in range(20):
                if use_gpu.evaluate("field => field === document.activeElement"):
                    break
                page.keyboard.press("Tab")
            page.keyboard.press("Space")
            expect(use_gpu).to_be_checked()
            alice.fills_in(cluster="unknown")
            shows("", "")
            expect(use_gpu).to_be_visible()

            # What is hidden is not sent, and what was typed stays.
            alice.fills_in(cluster="desktop", cores="9")
            expect(use_gpu).to_be_hidden()
            assert Axe().run(page).violations_count == 0
            with page.expect_request(lambda request: request.method == "POST") as sent:
                alice.presses_launch()
            assert "gpu=1" not in (sent.value.post_data or "")
            assert alice.mistake_at("cores") == "Desktop allows at most 8."
            expect(page.locator(".mistake")).to_have_count(1)
            shows("8", "15")
            alice.fills_in(cluster="gpu", gpu="1", cores="5")
            alice.presses_launch()
            assert alice.mistake_at("cores") == "GPU allows at most 4."
            shows("4", "15")
            expect(use_gpu).to_be_checked()
            assert alice.complaints == []
    finally:
        portal.stop()


def test_what_slurm_refuses_is_said_in_the_form(
    browser: Browser, site_config: Path, tmp_path: Path
) -> None:
    """A back-end that does not tell its limits: Slurm itself says no."""
    shutil.copytree(site_config, tmp_path / "site")
    cluster = tmp_path / "site/clusters.d/desktop.yml"
    silent = "bin_overrides: {sinfo: /bin/false}"
    cluster.write_text(cluster.read_text().replace("    bin: /usr/bin", f"    {silent}"))
    portal = RunningPortal(tmp_path, {"OOD_PORTAL_CONFIG": str(tmp_path / "site/portal.yml")})
    portal.start()
    try:
        with browser.new_context() as context:
            alice = Researcher(context.new_page(), portal)
            alice.signs_in("alice")
            before = alice.counts_the_cards()
            alice.opens_run_container()
            alice.fills_in(cluster="desktop", memory="99", registry_token="typed-secret")
            alice.presses_launch()
            notice = alice.page.get_by_role("alert").filter(has_text="memory")
            expect(notice).to_contain_text("Desktop has no node with")
            expect(alice.page.get_by_label("Memory in GiB")).to_have_value("99")
            assert "never saved" in alice.mistake_at("registry_token")
            assert "typed-secret" not in alice.page.content()
            assert alice.counts_the_cards() == before
    finally:
        portal.stop()


def test_what_slurm_has_not_is_not_submitted(alice: Researcher, devcluster: Devcluster) -> None:
    """Its limits are in the form, and hold whatever the form says."""

    def jobs() -> set[str]:
        return set(devcluster.host("alpha-login", "squeue", "-h", "-t", "all", "-o", "%i").split())

    before = jobs()
    for fields, name, said in (
        ({"cores": "9"}, "cores", "Desktop allows at most 8."),
        ({"memory": "16"}, "memory", "Desktop allows at most 15 GiB."),
        ({"cluster": "beta", "cores": "5"}, "cores", "Beta allows at most 4."),
    ):
        alice.opens_run_container()
        alice.fills_in(**{"cluster": "desktop", **fields})
        alice.presses_launch()
        assert alice.mistake_at(name) == said
        expect(alice.page.locator(f"[name={name}]")).to_have_value(fields[name])
    assert jobs() <= before  # it forgets those that have ended
    alice.page.goto(f"{alice.portal.url}/apps")
    row = alice.page.get_by_role("row").filter(has_text="GPU").last
    expect(row).to_contain_text(re.compile(r"GPU\s+8\s+15 GiB\s+2\s+1 day"))


def test_nasty_values_arrive_as_typed(ada: Researcher) -> None:
    pwned = Path("/tmp/pwned")
    arguments = ["-n", *NASTY]
    typed = "\n".join("'" + value.replace("'", "'\\''") + "'" for value in arguments)
    environment = "".join(f"NASTY_{n}={value}\n" for n, value in enumerate(NASTY))
    card = ada.launches(
        container_url="localhost/hello-tre:1.0",
        environment=f"HELLO_TRE={NASTY[3]} {NASTY[7]} {NASTY[11]}\n{environment}",
        container_arguments=typed,
        container_name="My_name-1.0",
        runner_options="--label 'note=two words $(touch /tmp/pwned) \"q\"'",
    )
    ada.watches(card, "completed", 30)
    log = ada.reads_the_log(card)
    for value in arguments:
        assert f"\n    {value}\n" in log, value
    assert f"with value: {NASTY[3]} {NASTY[7]} {NASTY[11]}\n" in log
    assert "--name My_name-1.0-" in log
    assert "--label 'note=two words $(touch /tmp/pwned) \"q\"'" in log
    assert not pwned.exists()
    written = (ada.context_directory(card) / "environment").read_text()
    for n, value in enumerate(NASTY):
        assert f"NASTY_{n}={value}\n" in written


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("container_url", "--privileged", "not a valid image URL"),
        ("container_url", "registry/img:1; rm -rf ~", "not a valid image URL"),
        ("container_url", "https://registry/img:1", "Leave out"),
        ("container_name", "-v", "starting with a letter"),
        ("container_name", "$(id)", "letters, digits"),
        ("registry_username", "a:b", "cannot contain “:”"),
        ("environment", "1X=2", "not a valid variable name"),
        ("environment", "NO EQUALS", "NAME=value"),
        ("container_arguments", "it's", "not closed"),
        ("runner_options", '"open', "not closed"),
    ],
)
def test_what_cannot_be_is_refused_beside_its_field(
    ada: Researcher, field: str, value: str, reason: str
) -> None:
    ada.opens_run_container()
    ada.fills_in(**{field: value})
    ada.presses_launch()
    assert reason in ada.mistake_at(field)
    expect(ada.page.locator(f"[name={field}]")).to_have_value(value)
    expect(ada.page.locator(f"[name={field}]")).to_be_focused()


def test_form_keeps_what_was_last_entered_but_the_token(ada: Researcher) -> None:
    card = ada.launches(container_name="remembered", registry_token="my-own-token")
    ada.watches(card, "completed", 30)
    home = ada.context_directory(card).parents[8]
    ada.page.goto(f"{ada.portal.url}/apps/container_app")
    expect(ada.page.get_by_label("Container name")).to_have_value("remembered")
    expect(ada.page.locator("[name=registry_token]")).to_have_value("")
    assert "my-own-token" not in ada.page.content()
    for path in home.rglob("*"):
        with suppress(FileNotFoundError):  # another job's or the portal's, and renamed since
            assert not path.is_file() or b"my-own-token" not in path.read_bytes(), path
    # Relaunch asks for it again, with everything else filled in.
    ada.page.goto(f"{ada.portal.url}/sessions")
    ada.page.locator("article.card").first.get_by_role("button", name="Relaunch").click()
    assert "never saved" in ada.mistake_at("registry_token")
    expect(ada.page.get_by_label("Container name")).to_have_value("remembered")


def test_relaunch_and_delete(ada: Researcher) -> None:
    card = ada.launches(container_arguments="-n Again", registry_token="")
    ada.watches(card, "completed", 30)
    before = ada.page.locator("article.card").count()
    directory = ada.context_directory(card)
    card.get_by_role("button", name="Relaunch").click()
    expect(ada.page.locator("article.card")).to_have_count(before + 1)
    newest = ada.page.locator("article.card").first
    ada.watches(newest, "completed", 30)
    assert "Goodbye Again!" in ada.reads_the_log(newest)
    card.get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)
    assert directory.is_dir(), "the files stay"


def test_two_users_do_not_see_each_other(alice: Researcher, browser: Browser) -> None:
    card = alice.launches(cluster="desktop", container_arguments="-n Mine")
    session_id = card.get_attribute("data-session-id") or ""
    with browser.new_context() as context:
        bob = Researcher(context.new_page(), alice.portal)
        bob.signs_in("bob")
        base = f"{alice.portal.url}/sessions"
        for address in (f"{base}/{session_id}", f"{base}/{session_id}/log"):
            assert bob.page.request.get(address).status == 404
        bob.page.goto(base)
        assert session_id not in bob.page.content()
    found = alice.page.request.get(base, headers={"Accept": "application/json"}).json()
    assert session_id in {session["id"] for session in found["sessions"]}
    alice.watches(card, "completed")


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_pages_are_accessible(
    browser: Browser, embedded: RunningPortal, scheme: Scheme, width: int
) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme
    ) as context:
        page = context.new_page()
        ada = Researcher(page, embedded)
        page.goto(f"{embedded.url}/login")
        accessible(page, f"login-{scheme}-{width}")
        ada.signs_in()
        for name, path in {
            "home": "/",
            "apps": "/apps",
            "form": "/apps/container_app",
            "sessions": "/sessions",
            "missing": "/sessions/none",
        }.items():
            page.goto(embedded.url + path)
            accessible(page, f"{name}-{scheme}-{width}")
        ada.opens_run_container()
        ada.fills_in(container_url="x y", environment="?")
        ada.presses_launch()
        accessible(page, f"mistakes-{scheme}-{width}")


def test_launch_with_the_keyboard_alone(ada: Researcher) -> None:
    page = ada.page
    page.goto(f"{ada.portal.url}/apps/container_app")
    page.locator("#cluster").focus()
    for _ in range(40):
        if page.evaluate("document.activeElement.type") == "submit":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="My Interactive Sessions")).to_be_visible()


def test_everything_works_without_javascript(browser: Browser, embedded: RunningPortal) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        ada = Researcher(page, embedded)
        ada.signs_in()
        page.goto(f"{embedded.url}/apps/container_app")
        # Nothing could bring it back when a cluster with GPUs is chosen.
        expect(page.get_by_label("Use GPU?")).to_be_visible()
        page.get_by_label("Arguments to pass to container").fill("-d 300")
        ada.presses_launch()
        card = page.locator("article.card").first
        with page.expect_navigation():
            card.get_by_role("button", name="Cancel").click()

        def status() -> str | None:
            page.goto(f"{embedded.url}/sessions")
            return page.locator("article.card").first.get_attribute("data-status")

        wait_until(lambda: status() == "completed", 30)
        with page.expect_navigation():
            page.locator("article.card").first.get_by_role("button", name="Delete").click()
        ada.signs_out()
        page.goto(f"{embedded.url}/sessions")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_json_of_a_session(ada: Researcher) -> None:
    card = ada.launches(container_arguments="-n Json", registry_token="")
    ada.watches(card, "completed", 30)
    session_id = card.get_attribute("data-session-id")
    answer = ada.page.request.get(
        f"{ada.portal.url}/sessions/{session_id}", headers={"Accept": "application/json"}
    )
    found = json.loads(answer.text())
    assert found["id"] == session_id
    assert (found["app"], found["cluster"]) == ("container_app", "this_machine")
    assert (found["status"], found["outcome"], found["exit_code"]) == ("completed", "succeeded", 0)
    assert found["connect_url"] is None
    assert Path(found["context_directory"]).is_dir()
