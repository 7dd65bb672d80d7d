"""`flask --app app check`: every mistake of a site's files, by file, line and key."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ood.check import check_all
from ood.config import EMBEDDED
from tests.conftest import ROOT

HOST_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"  # GitHub's
)
BROKEN = {
    "portal.yml": """\
titel: Mine
auth: header
idle_minutes: 0
known_hosts: nowhere
app_defs: apps
clusters: clusters.d
clusters: clusters.d
""",
    "clusters.d/alpha.yml": """\
v2:
  metadata:
    titel: Alpha
  job:
    adapter: torque
    submit_hosts: h
  custom:
    portal:
      home: nearby
      cores: 4
""",
    "clusters.d/beta.yml": "v2:\n  job: {adapter: slurm}\n   login: x\n",
    "clusters.d/gamma.yml": """\
v2:
  job: {adapter: slurm}
  custom: {portal: {home: unsynched}}
""",
    "apps/one/manifest.yml": "name: One\ncatgory: Mine\nsubcategory: Fine\n",
    "apps/one/form.yml": """\
form: [cluster, cores, mode, secret, auto_accounts]
attributes:
  core:
    widget: number_field
  mode:
    widget: dropdown
    labell: Mode
    help: a
    help: b
  secret:
    widget: password_field
    min: few
""",
    "apps/one/submit.yml.j2": "script:\n  cores: {{ context.coers }}\n",
    "apps/one/info.md.j2": "{{ session.outputs }} {{ session.otputs }}\n{{ context.cores }}\n",
    "apps/one/template/before.sh.j2": """\
echo {{ context.cores }} {{ context.secret }}
echo {{ session.secrets.secret }} {{ session.secrets.other }} "{{ user }}"
{% set mine = 1 %}
echo {{ mine }} {{ cluster.id }} {{ cluster.ip }} {{ context.maybe | default(1) }}
echo $(( {{ context.cores }} ))
{% include "nothing.sh.j2" %}
{% if context.mode == "never" %}{{ context.coers }}{% elif app.nam is defined %}a{% endif %}
""",
    "apps/one/template/script.sh.erb": "",
    "apps/two/manifest.yml": "name: [Two]\nservice: {path: '//', titel: x}\n",
    "apps/two/form.yml": "form: 5\n",
    "apps/two/submit.yml.j2": "script: {}\n",
    "apps/two/template/script.sh": "",
    "apps/two/template/after.sh.j2": "\n{% if %}\n",
    "apps/three/manifest.yml": "name: Three\n",
    "apps/three/form.yml": "cluster: [alpha, nowhere]\nform: [cores]\n",
    "apps/three/submit.yml.j2": "script:\n  cores: {{ context.cores }}\n  memory: 4\n",
    "apps/three/template/script.sh": "",
}
MISTAKES = """\
portal.yml: line 1: titel: Extra inputs are not permitted
portal.yml: line 3: idle_minutes: Input should be greater than 0
portal.yml: line 7: clusters: this key appears twice, and only the last one is used
clusters.d/alpha.yml: line 5: v2.job.adapter: Input should be 'slurm' or 'local'
clusters.d/alpha.yml: line 9: v2.custom.portal.home: Input should be 'synched' or 'unsynched'
clusters.d/beta.yml: line 3: not valid YAML (while parsing a block mapping, expected \
<block end>, but found '<block mapping start>')
clusters.d/gamma.yml: line 3: `v2.custom.portal.home: unsynched` needs `v2.login.host`, the \
host with the homes
apps/one/form.yml: line 6: attributes.mode.widget: Input should be 'number_field', 'select', \
'radio', 'check_box', 'text_field', 'text_area', 'password_field' or 'hidden_field'
apps/one/form.yml: line 9: attributes.mode.help: this key appears twice, and only the last one is \
used
apps/one/form.yml: line 12: attributes.secret.min: Input should be a valid number, unable to parse \
string as a number
apps/one/submit.yml.j2: line 2: `context` has no `coers`. Did you mean `cores`?
apps/one/info.md.j2: line 1: `session` has no `otputs`. Did you mean `outputs`?
apps/one/info.md.j2: line 2: there is no `context`
apps/one/template/before.sh.j2: line 1: `context` has no `secret`
apps/one/template/before.sh.j2: line 2: `session.secrets` has no `other`
apps/one/template/before.sh.j2: line 2: this value is inside ". Move it out: values are quoted \
already.
apps/one/template/before.sh.j2: line 4: `cluster` has no `ip`
apps/one/template/before.sh.j2: line 5: this value is inside ((. Move it out: values are quoted \
already.
apps/one/template/before.sh.j2: line 6: cannot include nothing.sh.j2
apps/one/template/before.sh.j2: line 7: `context` has no `coers`. Did you mean `cores`?
apps/one/template/script.sh.j2: missing: this is the script of the job
apps/two/manifest.yml: line 1: name: Input should be a valid string
apps/two/manifest.yml: line 2: service.title: Field required
apps/two/manifest.yml: line 2: service.path: String should match pattern \
'^([A-Za-z0-9_.~-][A-Za-z0-9_.~/-]*)?$'
apps/two/manifest.yml: line 2: service.titel: Extra inputs are not permitted
apps/two/form.yml: line 1: form: expected a list of names
apps/two/template/after.sh.j2: line 2: Expected an expression, got 'end of statement block'
apps/three/submit.yml.j2: line 3: script.memory: Extra inputs are not permitted"""
WARNINGS = """\
clusters.d/alpha.yml: line 3: v2.metadata.titel: unknown key. Did you mean `title`?
clusters.d/alpha.yml: line 6: v2.job.submit_hosts: unknown key. Did you mean `submit_host`?
clusters.d/alpha.yml: line 10: v2.custom.portal.cores: unknown key. Did you mean `max_cores`?
apps/one/manifest.yml: line 2: catgory: unknown key. Did you mean `category`?
apps/one/form.yml: line 3: attributes.core: `form` has no such field. Did you mean `cores`?
apps/one/form.yml: line 7: attributes.mode.labell: unknown key. Did you mean `label`?
apps/one/form.yml: line 1: form.4: this portal does not fill in this field: set \
its `widget`, or remove it
apps/one/template/script.sh.erb: this portal does not use this file: see \
docs/from-open-ondemand.md"""


def written(directory: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return directory / "portal.yml"


def checked(path: Path | None = None) -> tuple[int, str, str]:
    """Run the command as an administrator does: exit code, output and errors."""
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "check"],
        cwd=ROOT,
        env=os.environ | ({"OOD_PORTAL_CONFIG": str(path)} if path else {}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def test_every_mistake_is_named(tmp_path: Path) -> None:
    code, said, errors = checked(written(tmp_path, BROKEN))
    lines = said.replace(f"{tmp_path}/", "").splitlines()
    mistakes = [line for line in lines if not line.startswith("Warning: ")]
    warnings = [line.removeprefix("Warning: ") for line in lines if line.startswith("Warning: ")]
    assert sorted(mistakes) == sorted(MISTAKES.splitlines())
    assert sorted(warnings) == sorted(WARNINGS.splitlines())
    assert code == 1
    assert f"{len(mistakes)} mistakes found" in errors


IMPORT = """
import sys, threading
sys.argv = ["gunicorn", "check"]
import app
assert threading.active_count() == 1
assert "app" not in vars(app)
"""


@pytest.mark.parametrize("portal_yml", [EMBEDDED, ROOT / "nowhere.yml"])
def test_importing_the_application_starts_nothing(portal_yml: Path) -> None:
    env = os.environ | {"OOD_PORTAL_CONFIG": str(portal_yml), "FLASK_RUN_FROM_CLI": "true"}
    subprocess.run([sys.executable, "-c", IMPORT], cwd=ROOT, env=env, check=True, timeout=60)


def test_a_broken_portal_yml_stops_the_portal(tmp_path: Path) -> None:
    path = written(tmp_path, {"portal.yml": "titel: Mine"})
    for command in (["flask", "--app", "app", "run"], ["gunicorn", "app:app"]):
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=os.environ | {"OOD_PORTAL_CONFIG": str(path), "PORT": "0"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode != 0
        assert "portal.yml: line 1: titel: Extra inputs are not permitted" in done.stderr


CHECK = """
import socket, sys, threading
from flask.cli import cli
threading.Thread.start = socket.socket = None
cli.main(["--app", "app", "check"])
"""


def test_checking_starts_no_thread_and_no_connection() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECK], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_whole_site_has_none() -> None:
    code, said, errors = checked()
    assert (code, said, errors) == (
        0,
        f"No mistakes found in {EMBEDDED} or the files it names.\n",
        "",
    )


def test_the_devclusters_files_have_none(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "devcluster/site/clusters.d", tmp_path / "clusters.d")
    shutil.copy(ROOT / "devcluster/site/portal.yml", tmp_path)
    (tmp_path / "known_hosts").write_text(f"* {HOST_KEY}\n")
    assert check_all(tmp_path / "portal.yml") == ([], [])


def test_the_sample_for_sites_has_none(tmp_path: Path) -> None:
    shutil.copy(ROOT / "deploy/portal.yml", tmp_path)
    (tmp_path / "known_hosts").write_text(f"* {HOST_KEY}\n")
    shutil.copytree(ROOT / "devcluster/site/clusters.d", tmp_path / "clusters.d")
    assert check_all(tmp_path / "portal.yml") == ([], [])


@pytest.mark.parametrize(
    ("portal_yml", "said"),
    [
        ("title: [broken", "portal.yml: line 1: not valid YAML"),
        ("- a list", "portal.yml: expected keys and values, not list"),
        ("clusters: [a]", "portal.yml: line 1: clusters: "),
        ("title: x\nauth: ssh\n", "portal.yml: line 2: `auth: ssh` needs `portal_host`"),
        (
            "auth: header\nportal_host: h\nknown_hosts: k\n",
            "line 1: `auth: header` needs `credentials: certificate`: there is no password; "
            "`auth: header` needs `front_ends`",
        ),
        ("portal_host: h\n", "line 1: `auth: token` is for this machine only"),
        ("title: x\nknown_hosts: k\n", "portal.yml: line 2: known_hosts: "),
    ],
)
def test_a_broken_portal_yml_is_no_obstacle(tmp_path: Path, portal_yml: str, said: str) -> None:
    files = {"portal.yml": portal_yml, "clusters.d/a.yml": "v2: text"}
    mistakes, warnings = check_all(written(tmp_path, files))
    assert any(said in line for line in mistakes), mistakes
    assert any("clusters.d/a.yml: line 1: v2: missing" in line for line in mistakes)
    assert warnings == []


def test_a_missing_portal_yml_is_told(tmp_path: Path) -> None:
    code, said, _ = checked(tmp_path / "gone.yml")
    assert code == 1
    assert f"{tmp_path}/gone.yml: No such file or directory" in said


def test_keys_of_open_ondemand_without_effect(tmp_path: Path) -> None:
    files = {
        "portal.yml": "app_defs: apps\n",
        "clusters.d/c.yml": """\
v2:
  job: {adapter: slurm, acls: [{adapter: group, groups: [a], typ: blocklist}]}
  batch_connect:
    ssh_allow: false
    basic: {min_port: 50000, header: "#!/bin/bash", set_host: "host=$(hostname)"}
    vnc: {script_wrapper: "module load turbovnc\\n%s"}
""",
        "apps/a/manifest.yml": "name: A",
        "apps/a/form.yml": "form: [n]",
        "apps/a/submit.yml.j2": """\
cluster: c
batch_connect:
  template: basic
{% if context.n %}
  conn_params: [csrf_token]
{% endif %}
  min_port: 50000
  max_port:
script:
  queue_name: 2
  wall_time:
  native: [-N, 1]
""",
        "apps/a/template/script.sh": "",
        "apps/b/manifest.yml": "name: B",
        "apps/b/form.yml": "form: []",
        "apps/b/submit.yml.j2": "batch_connect:\n  template: vnc\n",
        "apps/b/template/script.sh": "",
    }
    mistakes, warnings = check_all(written(tmp_path, files))
    no, cluster = "this key has no effect in this portal", f"{tmp_path}/clusters.d/c.yml"
    assert warnings == [
        f"{cluster}: line 5: v2.batch_connect.basic.min_port: {no}",
        f"{cluster}: line 5: v2.batch_connect.basic.header: {no}",
        f"{cluster}: line 2: v2.job.acls.0.typ: unknown key. Did you mean `type`?",
        f"{cluster}: line 4: v2.batch_connect.ssh_allow: users can still open "
        "shells on the nodes of their jobs",
        f"{tmp_path}/apps/a/submit.yml.j2: line 1: cluster: {no}",
        f"{tmp_path}/apps/a/submit.yml.j2: line 5: batch_connect.conn_params: {no}",
        f"{tmp_path}/apps/a/submit.yml.j2: line 7: batch_connect.min_port: {no}",
    ]
    (mistake,) = mistakes
    assert "apps/b/submit.yml.j2: line 2: batch_connect.template: Input should be" in mistake


def test_values_for_what_is_not_there(tmp_path: Path) -> None:
    values = "form_values:\n  container_ap: {}\n  jupyter_app:\n    container_urll: x\n"
    files = {"portal.yml": values, "clusters.d/a.yml": "v2: {job: {adapter: local}}"}
    mistakes, warnings = check_all(written(tmp_path, files))
    path = tmp_path / "portal.yml"
    assert mistakes == []
    assert warnings == [
        f"{path}: line 2: form_values.container_ap: unknown app. Did you mean `container_app`?",
        f"{path}: line 4: form_values.jupyter_app.container_urll: unknown field. Did you mean "
        "`container_url`?",
    ]


def test_an_app_for_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    files = {
        "portal.yml": "app_defs: apps",
        "clusters.d/a.yml": "v2: {job: {adapter: local}}",
        "apps/one/manifest.yml": "name: One",
        "apps/one/form.yml": "form: [x]\ncluster: owens",
        "apps/one/submit.yml.j2": "",
        "apps/one/template/script.sh": "",
    }
    _, (warning,) = check_all(written(tmp_path, files))
    assert "apps/one/form.yml: line 2: cluster: clusters.d has no matching cluster" in warning


def test_included_templates_are_checked_with_the_names_of_the_app(tmp_path: Path) -> None:
    files = {
        "portal.yml": "app_defs: apps",
        "clusters.d/a.yml": "v2: {job: {adapter: local}}",
        "apps/one/manifest.yml": "name: One",
        "apps/one/form.yml": "form: [x]",
        "apps/one/submit.yml.j2": "",
        "apps/shared/run.sh.j2": "echo {{ own }} {{ context.x }}\necho {{ context.y }}\n",
        "apps/one/template/script.sh.j2": "{% set own = 1 %}\n{% include 'shared/run.sh.j2' %}",
    }
    (mistake,), warnings = check_all(written(tmp_path, files))
    assert mistake == f"{tmp_path}/apps/shared/run.sh.j2: line 2: `context` has no `y`"
    assert warnings == []


@pytest.mark.parametrize(
    ("portal_yml", "said"),
    [
        ("apps_origin: https://*.apps.example", "portal_origin: missing"),
        ("portal_origin: https://portal.example", "apps_origin: missing"),
        (
            "portal_origin: https://portal.example\napps_origin: https://apps.example",
            "apps_origin: all services share this origin",
        ),
        (
            "portal_origin: http://portal.example\napps_origin: http://*.apps.example",
            "apps_origin: without https",
        ),
    ],
)
def test_where_services_are_served(tmp_path: Path, portal_yml: str, said: str) -> None:
    files = {"portal.yml": portal_yml, "clusters.d/one.yml": "v2: {job: {adapter: slurm}}"}
    mistakes, (warning,) = check_all(written(tmp_path, files))
    assert mistakes == []
    assert said in warning
