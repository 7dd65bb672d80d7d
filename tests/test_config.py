"""portal.yml and clusters.d: what they may say, and how a mistake in them is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from ood.config import EMBEDDED, ROOT, PortalSettings, load_clusters, load_settings
from ood.errors import ConfigError
from ood.portal import Portal

OWENS = """
v2:
  metadata: {title: Owens, url: 'https://www.osc.edu', hidden: false}
  login: {host: owens.osc.edu}
  job:
    adapter: slurm
    cluster: owens
    bin: /usr/slurm/bin
    conf: /etc/slurm.conf
    bin_overrides: {sbatch: /usr/local/bin/sbatch}
    submit_host: owens-login.osc.edu
    copy_environment: false
  acls: [{adapter: group, groups: [ada], type: whitelist}]
  batch_connect:
    basic: {script_wrapper: "module purge\\n%s", set_host: "host=$(hostname -A)"}
  custom:
    portal: {home: unsynched, partition: lab, max_cores: 28, max_memory_gib: 128, gpus: 1}
    grafana: {host: 'https://grafana.osc.edu'}
"""


def write(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        (directory / f"{name}.yml").write_text(text)
    return directory


# ---- portal.yml


SITE = "portal_host: h\nknown_hosts: keys"


def test_the_embedded_default_is_this_machine() -> None:
    settings = load_settings(EMBEDDED)
    assert (settings.auth, settings.portal_host) == ("token", None)
    clusters, problems = load_clusters(settings.clusters)
    assert problems == []
    assert [(id, found.label) for id, found in clusters.items()] == [
        ("this_machine", "This machine")
    ]
    assert settings.app_defs == ROOT / "app_defs"


def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, mine="title: Mine")
    monkeypatch.setenv("OOD_PORTAL_CONFIG", str(tmp_path / "mine.yml"))
    assert load_settings().title == "Mine"
    monkeypatch.delenv("OOD_PORTAL_CONFIG")
    assert load_settings() == load_settings(EMBEDDED)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = "auth: ssh\nportal_host: h:2222\nknown_hosts: keys\nclusters: /etc/c\napp_defs: ../apps"
    settings = load_settings(write(tmp_path, portal=text) / "portal.yml")
    assert settings.known_hosts == tmp_path / "keys"
    assert settings.clusters == Path("/etc/c")
    assert settings.app_defs == tmp_path / "../apps"


def test_an_empty_portal_yml_is_all_defaults(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, portal="# nothing\n") / "portal.yml")
    assert (settings.auth, settings.clusters) == ("token", tmp_path / "clusters.d")


@pytest.mark.parametrize(
    "text",
    [
        "downloads: false",
        "download: maybe",
        "roots: /safe_data",
        "roots: [safe_data]",
        "roots: ['']",
        "roots: [~]",
        "roots: ['~alice']",
        "roots: [/safe_data/../etc]",
        'favourites: ["/a\\0b"]',
    ],
)
def test_a_mistake_in_what_users_may_do_stops_the_start(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"portal\.yml: line 1: files\."):
        load_settings(write(tmp_path, portal=f"files: {{{text}}}") / "portal.yml")


def test_what_users_may_do_with_files(tmp_path: Path) -> None:
    text = "files: {edit: false, roots: ['~', ~/data, '/safe_data/{project}', /]}"
    files = load_settings(write(tmp_path, portal=text) / "portal.yml").files
    assert (files.upload, files.download, files.edit) == (True, True, False)
    assert files.roots == ("~", "~/data", "/safe_data/{project}", "/")


def test_settings_do_not_change_while_the_portal_runs() -> None:
    settings = load_settings(EMBEDDED)
    with pytest.raises(ValidationError, match="frozen"):
        settings.auth = "ssh"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("titel: Mine", "titel"),
        ("auth: kerberos", "auth"),
        ("auth: ssh", "`portal_host` and `known_hosts`"),
        ("auth: ssh\nportal_host: h", "`known_hosts`"),
        ("portal_host: h", "remove `portal_host`"),
        (f"auth: header\n{SITE}", "`credentials: certificate`"),
        (f"auth: header\n{SITE}\ncredentials: certificate\nuser_ca: ca", "`front_ends`"),
        (f"auth: ssh\n{SITE}\ncredentials: certificate", "or neither"),
        (f"auth: ssh\n{SITE}\nuser_ca: ca", "or neither"),
        ("front_ends: [front.example]", "front_ends"),
        ("front_ends: [10.0.0.0/8]", "front_ends"),
        ("user_header: 'X: y'", "user_header"),
        ("idle_minutes: 0", "idle_minutes"),
        ("form_values: {container_app: text}", "form_values.container_app"),
        ("secure_cookies: perhaps", "secure_cookies"),
        ("- a\n- list", "list"),
        ("title: [broken", "line 1"),
        ("title: caf\udce9", "codec"),
    ],
)
def test_a_mistake_in_portal_yml_names_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "portal.yml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as broken:
        load_settings(path)
    where, _, what = broken.value.message.partition(": ")
    assert where == str(path)
    assert said in what


def test_a_missing_portal_yml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yml: No such file"):
        load_settings(tmp_path / "gone.yml")


# ---- clusters.d


def test_an_open_ondemand_cluster_file_is_read_unmodified(tmp_path: Path) -> None:
    clusters, problems = load_clusters(write(tmp_path, owens=OWENS))
    assert problems == []
    owens = clusters["owens"]
    assert (owens.id, owens.label, owens.login_host) == ("owens", "Owens", "owens.osc.edu")
    assert owens.job is not None
    assert owens.job.model_dump() == {
        "adapter": "slurm",
        "cluster": "owens",
        "bin": "/usr/slurm/bin",
        "conf": "/etc/slurm.conf",
        "bin_overrides": {"sbatch": "/usr/local/bin/sbatch"},
        "submit_host": "owens-login.osc.edu",
        "acls": (),
    }
    assert owens.script_wrapper == "module purge\n%s"
    assert owens.set_host == "host=$(hostname -A)"
    assert (owens.home, owens.partition) == ("unsynched", "lab")
    assert (owens.max_cores, owens.max_memory_gib, owens.gpus) == (28, 128, 1)


@pytest.mark.parametrize(
    "text",
    [
        "v2: {login: {host: h}}",
        "v2: {login: {host: h}, job: , metadata: , batch_connect: , custom: }",
        "v2: {login: {host: h}, custom: {portal: }, batch_connect: {basic: }}",
        "v2: {login: {host: h}, metadata: {title: , hidden: }, custom: {portal: {home: }}, "
        "batch_connect: {basic: {script_wrapper: , set_host: }}}",
    ],
)
def test_a_cluster_without_job_is_for_logging_in_only(tmp_path: Path, text: str) -> None:
    clusters, problems = load_clusters(write(tmp_path, login=text))
    assert problems == []
    login = clusters["login"]
    assert login.job is None
    assert (login.label, login.login_host, login.script_wrapper) == ("login", "h", "%s")
    assert (login.home, login.max_cores, login.gpus) == ("synched", None, None)


@pytest.mark.parametrize(
    ("text", "cores", "memory"),
    [
        ("job: {adapter: local}", 6, 15),
        ("job: {adapter: local}, custom: {portal: {max_cores: 2}}", 2, 15),
        ("job: {adapter: local}, custom: {portal: {max_memory_gib: 4}}", 6, 4),
        ("job: {adapter: local, submit_host: h}", None, None),
        ("job: {adapter: slurm}", None, None),
        ("login: {host: h}", None, None),
    ],
)
def test_local_jobs_may_have_what_this_machine_has(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    cores: int | None,
    memory: int | None,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": int(14.7 * 2**18)}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    clusters, _ = load_clusters(write(tmp_path, c=f"v2: {{{text}}}"))
    found = clusters["c"].on_this_machine()
    gpus = None if cores is None else 0  # Slurm says how many there are
    assert (found.max_cores, found.max_memory_gib, found.gpus) == (cores, memory, gpus)


def test_a_number_is_text_too(tmp_path: Path) -> None:
    text = (
        "v2: {metadata: {title: 2030}, login: {host: 5}, job: {adapter: slurm, cluster: 2, bin: }}"
    )
    clusters, problems = load_clusters(write(tmp_path, c=text))
    assert problems == []
    c = clusters["c"]
    assert c.job is not None
    assert (c.label, c.login_host, c.job.cluster, c.job.bin) == ("2030", "5", "2", None)


def test_script_wrapper_is_a_format(tmp_path: Path) -> None:
    wrapper = "date +%%s > began\\n%s\\necho ${x%%%%.*} %%%%s 100%"
    text = f'v2: {{batch_connect: {{basic: {{script_wrapper: "{wrapper}"}}}}}}'
    clusters, problems = load_clusters(write(tmp_path, c=text))
    assert problems == []
    wrapped = "date +%s > began\necho %s %%\necho ${x%%.*} %%s 100%"
    assert clusters["c"].wrapped("echo %s %%") == wrapped


def test_clusters_whose_jobs_are_for_some_groups_only(tmp_path: Path) -> None:
    text = "v2: {login: {host: h}, job: {adapter: slurm, acls: [{adapter: group, groups: [a]}]}}"
    write(tmp_path, c=text, d="v2: {job: {adapter: slurm}}")
    portal = Portal(PortalSettings(clusters=tmp_path, app_defs=tmp_path))
    assert [*portal.job_clusters({"a"})] == ["c", "d"]
    assert [*portal.job_clusters({"b"})] == ["d"]
    assert [*portal.clusters_for({"b"})] == ["c", "d"]
    assert portal.clusters["c"].scheduler_key == portal.clusters["d"].scheduler_key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("v2: {job: {adapter: torque}}", "v2.job.adapter"),
        ("v2: {job: {bin: /usr/bin}}", "v2.job.adapter"),
        ("v2: {job: {adapter: slurm, bin_overrides: [a]}}", "v2.job.bin_overrides"),
        ("v2: {custom: {portal: {max_cores: 0}}}", "v2.custom.portal.max_cores"),
        ("v2: {custom: {portal: {max_memory_gib: lots}}}", "v2.custom.portal.max_memory_gib"),
        ("v2: {custom: {portal: {gpus: -1}}}", "v2.custom.portal.gpus"),
        ("v2: {custom: {portal: {home: nearby}}}", "v2.custom.portal.home"),
        ("v2: {login: {host: [a]}}", "v2.login.host"),
        ("v2: {acls: }", "v2.acls"),
        ("v2: {acls: [{adapter: group, groups: }]}", "v2.acls.0.groups"),
        ("v2: {acls: [{adapter: group, groups: [no]}]}", "v2.acls.0.groups.0"),
        ("v2: {acls: [{adapter: group, groups: [a], type: deny}]}", "v2.acls.0.type"),
        ("v2: {batch_connect: {basic: {script_wrapper: date}}}", "must contain `%s` once"),
        ("v2: {batch_connect: {basic: {script_wrapper: '%%s'}}}", "must contain `%s` once"),
        ("v2: {batch_connect: {basic: {script_wrapper: '%s;%s'}}}", "must contain `%s` once"),
        ("v2: {", "line 1"),
        ("text", "str"),
        ("", "v2"),
        ("v2: text", "v2"),
        ("job: {adapter: slurm}", "v2"),
    ],
)
def test_a_broken_file_disables_that_one_cluster(tmp_path: Path, text: str, said: str) -> None:
    clusters, problems = load_clusters(write(tmp_path, broken=text, owens=OWENS))
    assert list(clusters) == ["owens"]
    (problem,) = problems
    where, _, what = problem.message.partition(": ")
    assert where == str(tmp_path / "broken.yml")
    assert said in what


def test_an_unreadable_file_disables_that_one_cluster(tmp_path: Path) -> None:
    write(tmp_path, owens=OWENS)
    (tmp_path / "dangling.yml").symlink_to("nowhere")
    clusters, problems = load_clusters(tmp_path)
    assert list(clusters) == ["owens"]
    assert "dangling.yml: No such file" in problems[0].message


def test_a_cluster_is_named_as_its_file(tmp_path: Path) -> None:
    names = ["gpu.hpc", "gpu.hpc.2", "_test", "2"]
    clusters, problems = load_clusters(write(tmp_path, **dict.fromkeys(names, OWENS)))
    assert ({*clusters}, problems) == ({*names}, [])


@pytest.mark.parametrize("name", ["has space", "..dots", "naïve", "-dash", "portal"])
def test_a_file_name_that_is_no_cluster_name_is_told(tmp_path: Path, name: str) -> None:
    clusters, problems = load_clusters(write(tmp_path, **{name: OWENS}))
    assert clusters == {}
    assert f"{name}.yml: a cluster's file name" in problems[0].message


def test_other_files_are_no_clusters_and_yaml_is_an_ending_too(tmp_path: Path) -> None:
    for name in ("owens.yaml", "owens.yml.bak", "README"):
        (tmp_path / name).write_text(OWENS)
    clusters, problems = load_clusters(tmp_path)
    assert (list(clusters), problems) == (["owens"], [])


def test_no_clusters_d_is_told(tmp_path: Path) -> None:
    clusters, problems = load_clusters(tmp_path / "clusters.d")
    assert clusters == {}
    assert "clusters.d: directory not found" in problems[0].message


@pytest.mark.parametrize(
    "origins",
    [
        ("https://apps.example", "https://apps.example"),
        ("https://APPS.example:8443", "https://apps.example"),
        ("https://portal.apps.example", "https://*.apps.example"),
        ("http://x.y.localhost:8000", "http://*.localhost:8000"),
    ],
)
def test_the_portals_host_name_is_not_one_for_services(
    tmp_path: Path, origins: tuple[str, str]
) -> None:
    portal, apps = origins
    text = f"portal_origin: {portal}\napps_origin: {apps}\n"
    with pytest.raises(ConfigError, match="must not match `apps_origin`"):
        load_settings(write(tmp_path, portal=text) / "portal.yml")


def test_origins(tmp_path: Path) -> None:
    for wrong in ("apps.example", "https://*", "https://a.*.example", "https://apps.example/", "*"):
        for key in ("apps_origin", "portal_origin"):
            with pytest.raises(ConfigError, match=key):
                load_settings(write(tmp_path, portal=f"{key}: '{wrong}'") / "portal.yml")
    text = "portal_origin: https://apps.example\napps_origin: https://*.apps.example\n"
    assert load_settings(write(tmp_path, portal=text) / "portal.yml").apps_origin


def test_origins_are_as_browsers_write_them(tmp_path: Path) -> None:
    for given, written in (
        ("https://*.apps.example:443", "https://*.apps.example"),
        ("http://apps.example:80", "http://apps.example"),
        ("http://apps.example:443", "http://apps.example:443"),
        ("https://apps.example:8443", "https://apps.example:8443"),
    ):
        path = write(tmp_path, portal=f"apps_origin: {given}") / "portal.yml"
        assert load_settings(path).apps_origin == written
