"""The guides match the code: the names in them exist, they name everything that they should, and
their examples work."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml
from playwright.sync_api import Page, expect

from ood.apps.definition import ICONS, Manifest, ScriptOptions, ServiceOptions, load_apps
from ood.apps.fields import KNOWN_FIELDS, Field, Widget
from ood.apps.formats import FORMATS
from ood.check import check_all
from ood.config import ROOT, Cluster, FilesSettings, JobSettings, PortalSettings, ShellSettings
from tests.conftest import RunningPortal
from tests.researcher import Researcher

DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("[!.]*/README.md")])
APPS = (ROOT / "docs/apps.md").read_text()
BRINGING = (ROOT / "docs/from-open-ondemand.md").read_text()
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()


# ---- Links and paths


def anchors(path: Path) -> set[str]:
    """The anchors of headings, as GitHub and GitLab make them."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower()).replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_exist(path: Path) -> None:
    tops = "|".join(re.escape(each.name) for each in ROOT.iterdir() if each.is_dir())
    named = re.findall(rf"`((?:{tops})/[\w./-]*)`", path.read_text())
    for name in named:
        if name.startswith("var/"):
            continue
        places = (ROOT / name, path.parent / name, ROOT / "ood" / name)
        assert any(place.exists() for place in places), name


def test_tests_that_the_guides_name_exist() -> None:
    tests = "".join(path.read_text() for path in ROOT.glob("tests/test_*.py"))
    for path in DOCS:
        for name in re.findall(r"`(test_\w+)`", path.read_text()):
            assert f"def {name}(" in tests, f"{path.name}: {name}"


def test_modules_of_the_architecture_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    for name in re.findall(r"`([\w/]+\.(?:py|j2|md))`", text):
        found = [*ROOT.glob(f"ood/**/{name}"), *ROOT.glob(f"tests/{name}"), *ROOT.glob(name)]
        assert found, name


# ---- What there is, and what the guides say there is


def named_in_tables(text: str) -> set[str]:
    """What stands as code in the first column of tables."""
    return {
        name
        for row in re.findall(r"^\| (.*?) \|", text, flags=re.M)
        for name in re.findall(r"`([^`]+)`", row)
    }


def section(text: str, heading: str) -> str:
    """A section of a page, with those below it."""
    level = len(heading.split(" ")[0])
    start = text.index(f"\n{heading}\n") + 1
    rest = text[start + len(heading) :]
    prose = re.sub(r"^```.*?^```$", lambda code: "x" * len(code[0]), rest, flags=re.M | re.S)
    end = re.search(rf"^#{{1,{level}}} ", prose, flags=re.M)
    return heading + (rest[: end.start()] if end else rest)


def keys_of_clusters() -> Iterator[str]:
    for field in Cluster.model_fields.values():
        path = getattr(field.validation_alias, "path", None)
        if path and path[1] == "custom":
            yield str(path[-1])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (section(CONFIGURATION, "## portal.yml"), {*PortalSettings.model_fields}),
        (section(CONFIGURATION, "## Shells"), {*ShellSettings.model_fields}),
        (section(CONFIGURATION, "## What users may do with files"), {*FilesSettings.model_fields}),
        (section(CONFIGURATION, "## clusters.d/NAME.yml"), {*keys_of_clusters()}),
        (section(APPS, "## `manifest.yml`"), {*Manifest.model_fields}),
        (section(APPS, "## `form.yml`"), {*Field.model_fields} - {"name"} | {*get_args(Widget)}),
        (section(APPS, "## `submit.yml.j2`"), {*ScriptOptions.model_fields}),
    ],
    ids=["portal.yml", "shell", "files", "clusters.d", "manifest.yml", "form.yml", "submit.yml"],
)
def test_every_key_is_explained(text: str, names: set[str]) -> None:
    assert names - named_in_tables(text) == set()


def test_no_key_is_explained_that_is_not_there() -> None:
    said = named_in_tables(section(APPS, "## `submit.yml.j2`"))
    assert said == {*ScriptOptions.model_fields}
    said = named_in_tables(section(CONFIGURATION, "## portal.yml"))
    assert {name for name in said if "." not in name} <= {*PortalSettings.model_fields}
    said = named_in_tables(section(CONFIGURATION, "## Shells"))
    assert said == {*ShellSettings.model_fields}
    said = named_in_tables(section(CONFIGURATION, "## What users may do with files"))
    assert said == {*FilesSettings.model_fields}


def test_what_is_in_the_text_is_there_too() -> None:
    assert all(f"`{name}`" in APPS for name in (*FORMATS, *ICONS))
    assert all(
        name in section(APPS, "## A service to connect to") for name in ServiceOptions.model_fields
    )
    assert all(f"`{name}`" in BRINGING for name in {*get_args(Widget), *KNOWN_FIELDS})
    assert all(name in BRINGING for name in JobSettings.model_fields)
    verbs = {*re.findall(r"data-([a-z]+)-[A-Zf]", (ROOT / "ood/apps/directives.py").read_text())}
    assert verbs == {"hide", "min", "max", "option", "label", "help", "set"}
    for text in (APPS, BRINGING):
        assert all(f"`data-{verb}-" in text for verb in verbs)


def test_helpers_of_jobs_are_explained() -> None:
    script = (ROOT / "ood/sessions/job_script_content.sh.j2").read_text()
    (exported,) = re.findall(r"^export -f (.+)$", script, flags=re.M)
    assert all(f"`{name}" in section(APPS, "## What the job finds") for name in exported.split())


# ---- Apps written from the guide alone


def blocks(text: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```$", text, flags=re.M | re.S)


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_the_worked_example_is_the_one_that_is_shipped() -> None:
    shown = dict(re.findall(r"^`([\w./]+)`:\n\n```\w*\n(.*?)^```$", APPS, flags=re.M | re.S))
    app = ROOT / "app_defs/greetings_app"
    shipped = {str(p.relative_to(app)): p.read_text() for p in app.rglob("*") if p.is_file()}
    assert shown == shipped


def test_the_example_of_directives_is_one(tmp_path: Path) -> None:
    (form,) = blocks(section(APPS, "### What a choice does to other fields"))
    write(tmp_path / "one/manifest.yml", "name: One")
    write(tmp_path / "one/form.yml", form)
    apps, problems = load_apps(tmp_path, {})
    assert problems == []
    typed = {"node_type": "standard", "num_cores": "8", "use_cuda": "1", "cuda_version": "12"}
    assert apps["one"].read_form(typed)["use_cuda"] is False


SERVICE = '''#!/usr/bin/python3
"""A service as the guides tell of: it demands its token, and knows its base address."""
import http.server, os, sys

given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
host, port = given["--listen"].rsplit(":", 1)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.headers.get("Authorization") == f"token {os.environ['MY_TOKEN']}"
        right = self.path.startswith(given["--base-url"])
        self.send_response(200 if known and right else 403)
        self.end_headers()
        self.wfile.write(b"<h1>It is served</h1>" if known and right else b"no")


http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
'''
BROUGHT_OVER = """
cluster: "*"
attributes:
  custom_environment:
    widget: text_area
    label: Environment Setup
    value: |
      # lines like: export NAME=value
  conda_extensions: "1"
  extra_jupyter_args:
    widget: text_field
    label: Extra jupyter arguments
    format: shell_words
    display: true
  bc_num_hours:
    value: 1
  bc_num_slots:
    label: Number of CPU
    value: 1
    min: 1
    max: 24
    step: 1
  bc_num_mems:
    widget: "number_field"
    label: Memory per CPU (GB)
    value: 1
    min: 1
    max: 128
    step: 1
form:
  - custom_environment
  - conda_extensions
  - extra_jupyter_args
  - bc_num_hours
  - bc_num_slots
  - bc_num_mems
  - bc_email_on_started
"""


@pytest.fixture(scope="module")
def from_the_guides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    """A portal with two apps: one by the guide's example of a service, and one brought over from
    Open OnDemand by its steps."""
    home = tmp_path_factory.mktemp("guides")
    apps = home / "apps"
    manifest, scripts = blocks(section(APPS, "## A service to connect to"))
    # The example is JupyterLab's; this service has a page at its own address.
    manifest = manifest.replace("path: lab  ", "path: ''").replace("alive: api ", "alive: ''")
    write(apps / "mine/manifest.yml", f"name: Mine\n{manifest}")
    write(apps / "mine/form.yml", "form: []\n")
    write(apps / "mine/submit.yml.j2", "")
    for name, content in re.findall(
        r"^# (\w+\.sh\.j2)\n(.*?)(?=\n# \w+\.sh|\Z)", scripts, re.M | re.S
    ):
        write(apps / "mine/template" / name, content)
    tool = home / "bin/my-service"
    write(tool, SERVICE)
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)

    example = section(BRINGING, "### An example")
    submit, script = blocks(example)
    view = blocks(section(BRINGING, "### 5. `view.html.erb` becomes `service` in `manifest.yml`"))[
        0
    ]
    ours = "\n".join(line[58:] for line in view.splitlines()[1:])
    ours = ours.replace("path: lab", "path: ''").replace("alive: api", "alive: ''")
    write(apps / "jupyter/manifest.yml", f"name: Jupyter\nrole: batch_connect\n{ours}")
    write(apps / "jupyter/form.yml", BROUGHT_OVER)
    submit = submit.replace("  queue_name: {{ context.bc_partition }}\n", "")  # there are none here
    write(apps / "jupyter/submit.yml.j2", submit)
    before = (
        "port=$(find_port)\npassword=$(create_passwd 48)\n"
        "export MY_TOKEN=$password BASE={{ session.service_path }}\n"
    )
    write(apps / "jupyter/template/before.sh.j2", before)
    after = (apps / "mine/template/after.sh.j2").read_text()
    write(apps / "jupyter/template/after.sh.j2", after)
    # The stand-in for Jupyter takes what it is told by options.
    script = script.replace(
        'jupyter lab --config="$CONFIG_FILE"',
        'my-service --listen "0.0.0.0:$port" --base-url "$BASE"',
    )
    write(apps / "jupyter/template/script.sh.j2", script)

    settings = {
        "app_defs": "apps",
        "portal_origin": "http://127.0.0.1:${PORT}",
        "apps_origin": "http://*.localhost:${PORT}",
    }
    write(home / "portal.yml", yaml.safe_dump(settings))
    write(home / "clusters.d/here.yml", "v2: {job: {adapter: local}}")
    assert check_all(home / "portal.yml") == ([], [])
    portal = RunningPortal(
        home,
        {
            "HOME": str(home),
            "OOD_PORTAL_CONFIG": str(home / "portal.yml"),
            "PATH": f"{home}/bin:/usr/bin:/bin",
        },
    )
    portal.start()
    yield portal
    portal.stop()


def test_apps_written_from_the_guides_work(page: Page, from_the_guides: RunningPortal) -> None:
    ada = Researcher(page, from_the_guides)
    ada.opens_the_address()
    typed = {
        "mine": {},
        "jupyter": {
            # Its script is a login shell, with a PATH of its own.
            "custom_environment": f"export PATH={from_the_guides.log.parent}/bin:$PATH",
            "extra_jupyter_args": "--title 'two words; touch pwned'",
        },
    }
    for app, fields in typed.items():
        page.goto(f"{from_the_guides.url}/apps/{app}")
        ada.fills_in(**fields)
        card = ada.presses_launch_and_sees_the_card()
        ada.watches(card, "running")
        with page.expect_popup() as opened:
            card.get_by_role("link", name="Connect to").click()
        expect(opened.value.get_by_role("heading", name="It is served")).to_be_visible()
        opened.value.close()
        if app == "jupyter":
            expect(card.locator("dl").first).to_contain_text("two words; touch pwned")
            session = card.get_attribute("data-session-id")
            facts = page.request.get(
                f"{from_the_guides.url}/sessions/{session}", headers={"Accept": "application/json"}
            ).json()
            assert facts["time_limit"] == 3600
            directory = Path(facts["context_directory"])
            assert "export PATH=" in (directory / "environment.sh").read_text()
            assert not [*from_the_guides.log.parent.rglob("pwned")]
        card.get_by_role("button", name="Cancel").click()
        ada.watches(card, "completed")
    assert ada.complaints == []
