"""App definitions: reading them, and rendering their files with whatever users type."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ood.apps.definition import (
    AppDefinition,
    ScriptOptions,
    check_limits,
    load_apps,
)
from ood.apps.directives import limit_directives
from ood.apps.fields import Field
from ood.apps.templates import image_name, lines_file, markdown, render, words_file
from ood.config import ROOT
from ood.errors import ConfigError, InvalidForm
from ood.quoting import shell_word
from ood.schedulers.limits import limits_of
from ood.sessions.launch import native_options
from tests.helpers import NASTY, cluster

SESSION = {
    "id": "0",
    "run_id": "20301231235959123",
    "log": "container_app_output-1.log",
    "secrets": {"registry_token": "secret_registry_token"},
}


@pytest.fixture(scope="module")
def container_app() -> AppDefinition:
    apps, problems = load_apps(ROOT / "app_defs", {})
    assert problems == []
    return apps["container_app"]


def prefilled(app: AppDefinition) -> dict[str, str]:
    return {field.name: field.value for field in app.fields}


def job_files(app: AppDefinition, **typed: str) -> dict[str, bytes]:
    values = app.read_form(prefilled(app) | typed)
    return contents(app, context=values, session=SESSION, user="ada")


def contents(app: AppDefinition, **known: object) -> dict[str, bytes]:
    return {name: data for name, (data, _) in app.job_files(known).items()}


def written_by_before_sh(directory: Path, files: dict[str, bytes]) -> dict[str, str]:
    """Run before.sh as a job does, and return the files that it wrote."""
    directory.mkdir()
    done = subprocess.run(
        ["/bin/bash", "-c", files["before.sh"]], cwd=directory, capture_output=True, check=True
    )
    assert done.stderr == b""
    return {path.name: path.read_bytes().decode() for path in directory.iterdir()}


def written_app(directory: Path, **files: str) -> Path:
    """An app `mine` of these files (`form_yml="..."`, `template__before_sh_j2="..."`)."""
    contents = {"manifest_yml": "name: Mine", "form_yml": "form: []"} | files
    for name, content in contents.items():
        *folders, base = name.split("__")
        path = directory.joinpath("mine", *folders, base.replace("_", "."))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return directory


def mine(directory: Path, **files: str) -> AppDefinition:
    apps, problems = load_apps(written_app(directory, **files), {})
    assert problems == []
    return apps["mine"]


# ---- Rendering


@pytest.mark.parametrize("value", NASTY, ids=ascii)
def test_before_sh_hands_values_on_byte_for_byte(
    container_app: AppDefinition, tmp_path: Path, value: str
) -> None:
    value = value.replace("\r", "")  # fields refuse a lone carriage return
    line = value.replace("\n", " ")
    files = job_files(
        container_app,
        container_arguments=f"-n {shlex.quote(value)} last",
        runner_options=f"--label {shlex.quote(value)}",
        environment=f"NASTY={line}\nNEXT=1",
    )
    written = written_by_before_sh(tmp_path / "job", files)
    assert set(written) == {"runner_options", "environment", "container_arguments"}
    assert shlex.split(written["container_arguments"]) == ["-n", value, "last"]
    assert shlex.split(written["runner_options"])[:2] == ["--label", value]
    assert written["environment"] == f"NASTY={line}\nNEXT=1\n"


def test_before_sh_names_the_container(container_app: AppDefinition, tmp_path: Path) -> None:
    podman = written_by_before_sh(tmp_path / "a", job_files(container_app))
    assert podman["runner_options"] == "--name hello-tre-ada-20301231235959123\n"
    assert podman["environment"] == podman["container_arguments"] == ""
    named = written_by_before_sh(tmp_path / "b", job_files(container_app, container_name="mine"))
    assert named["runner_options"] == "--name mine-ada-20301231235959123\n"
    apptainer = written_by_before_sh(tmp_path / "c", job_files(container_app, runner="apptainer"))
    assert apptainer["runner_options"] == ""


@pytest.mark.parametrize("name", ["before.sh", "script.sh", "after.sh", "clean.sh"])
@pytest.mark.parametrize("typed", [{}, {"gpu": "1", "runner": "apptainer"}], ids=["plain", "gpu"])
def test_job_scripts_are_bash(
    container_app: AppDefinition, name: str, typed: dict[str, str]
) -> None:
    subprocess.run(
        ["/bin/bash", "-n"],
        input=job_files(container_app, registry_username="ada $(id)", **typed)[name],
        check=True,
    )


def test_the_token_is_in_no_job_file(container_app: AppDefinition) -> None:
    typed = prefilled(container_app) | {"registry_token": "hush-hush"}
    values = container_app.read_form(typed)
    assert values.pop("registry_token") == "hush-hush"
    files = contents(container_app, context=values, session=SESSION, user="ada")
    assert not any(b"hush-hush" in data for data in files.values())


@pytest.mark.parametrize(
    "template",
    [
        "x={{ v }}",
        'x="{{ v }}"',
        "x='{{ v }}'",
        "# {{ v }}",
        "cat <<EOF\n{{ v }}\nEOF",
        'echo "${DIR:-{{ v }}}"',
        "echo ${DIR:-{{ v }}}",
        'echo "$(printf %s {{ v }})"',
        'echo "$(printf %s "{{ v }}")"',
        "echo `printf %s {{ v }}`",
        "echo $'{{ v }}'",
        "echo ${#x} {{ v }} # it's ${x#{{ v }}}",
        "echo $(( {{ v }} + 1 ))",
        "(( x = {{ v }} ))",
        "for (( i = 0; i < {{ v }}; i++ )); do break; done",
        "a=([{{ v }}]=1)",
        "[[ {{ v }} -eq 1 ]]",
        "[[ 1 -lt {{ v }} ]]",
        "{% if true %}x='{% endif %}{{ v }}'",
        "cat <<EOF\nit's {{ v }}\nEOF",
        "case x in x) echo {{ v }};; esac",
        "x={{ v }}# it's\necho '{{ v }}'",
    ],
)
def test_no_template_makes_code_of_a_value(tmp_path: Path, template: str) -> None:
    """It may be refused when it is read, and it may come out wrong; run it must not."""
    apps, problems = load_apps(written_app(tmp_path, template__before_sh_j2=template), {})
    if problems:
        assert re.search(r"before\.sh\.j2: line \d: ", problems[0].message)
        return
    empty = tmp_path / "empty"
    empty.mkdir()
    ran = []
    for value in NASTY:
        script = contents(apps["mine"], v=value)["before.sh"]
        subprocess.run(["/bin/bash"], input=script, cwd=empty, capture_output=True, check=False)
        if list(empty.iterdir()):
            ran.append(value)
            (empty / "pwned").unlink()
    assert ran == []


@pytest.mark.parametrize(
    "template",
    [
        "x={{ v }}",
        "echo {{ v }}",
        "printf %s {{ v }} > file",
        'echo "it\'s" {{ v }}',
        "echo 'say \"hi\"' {{ v }}",
        "x=$(printf %s {{ v }})",
        "# it's a comment\necho {{ v }}",
        "echo it\\'s {{ v }}",
        'echo "\\"" {{ v }}',
        "echo ${#x} {{ v }}",
        "echo ${x#y} # don't\necho {{ v }}",
        "echo $'it\\'s' {{ v }}",
        "a=({{ v }} {{ v }})",
        "echo $(( n + 1 )) {{ v }}",
        "if [[ {{ v }} == x ]]; then echo 'y'; fi",
    ],
)
def test_a_value_that_stands_by_itself_is_welcome(tmp_path: Path, template: str) -> None:
    app = mine(tmp_path, template__before_sh_j2=template)
    script = contents(app, v="it's")["before.sh"]
    subprocess.run(["/bin/bash", "-n"], input=script, check=True)
    assert b"it\\047s" in script


def test_text_that_must_expand_says_so(tmp_path: Path) -> None:
    source = (
        "echo {{ 'host=$(hostname)' | expands_on_the_back_end }} {{ 'a b' }} ${#x} "
        "{% raw %}{#{% endraw %}"
        "{%-- a comment --%}"
    )
    app = mine(tmp_path, template__script_sh_j2=source)
    script = contents(app)["script.sh"].decode()
    assert script.startswith("echo host=$(hostname) ")
    assert script.endswith(" ${#x} {#")


def test_files_without_j2_are_copied_as_they_are(tmp_path: Path) -> None:
    app = mine(tmp_path, template__notes_txt="{{ not }} a $template\n")
    assert contents(app) == {"notes.txt": b"{{ not }} a $template\n"}


def test_the_tree_below_template_is_copied_with_its_modes(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/greet.sh.j2").write_text("echo {{ v }}")
    app = mine(tmp_path, template__bin__auth_j2='#!/bin/sh\n{% include "shared/greet.sh.j2" %}\n')
    template = app.directory / "template"
    (template / "bin/tool").write_bytes(b"\x7fELF")
    (template / "bin/tool").chmod(0o755)
    (template / "bin/auth.j2").chmod(0o755)
    (template / "logs").mkdir()
    (template / "conf.d/deep").mkdir(parents=True)
    (template / "conf.d/deep/a.conf").write_text("x")
    (template / "conf.d/link.conf").symlink_to("deep/a.conf")
    (template / ".script.sh.swp").touch()
    assert app.job_files({"v": "$(id)"}) == {
        "bin/": (b"", 0o700),
        "bin/auth": (f"#!/bin/sh\necho {shell_word('$(id)')}".encode(), 0o700),
        "bin/tool": (b"\x7fELF", 0o700),
        "conf.d/": (b"", 0o700),
        "conf.d/deep/": (b"", 0o700),
        "conf.d/deep/a.conf": (b"x", 0o600),
        "conf.d/link.conf": (b"x", 0o600),
        "logs/": (b"", 0o700),
    }


@pytest.mark.parametrize("target", [".", "nowhere", None], ids=["directory", "nothing", "pipe"])
def test_what_cannot_be_copied_is_a_mistake(tmp_path: Path, target: str | None) -> None:
    (path := written_app(tmp_path) / "mine/template").mkdir()
    os.mkfifo(path / "x") if target is None else (path / "x").symlink_to(target)
    apps, (problem,) = load_apps(tmp_path, {})
    assert apps == {}
    assert f"{path}/x: only files, directories and links to files" in problem.message


@pytest.mark.parametrize("value", [*NASTY, "a😀b", "\x85", "\u2028", "1", 1, True, None, 1.5, []])
def test_every_value_is_one_yaml_scalar(tmp_path: Path, value: object) -> None:
    (tmp_path / "it.yml.j2").write_text("a: {{ v }}\nb:\n  - {{ v }}\n  - last\n")
    found = yaml.safe_load(render(tmp_path / "it.yml.j2", v=value))
    assert found == {"a": value, "b": [value, "last"]}
    assert type(found["a"]) is type(value)


def test_submit_yml_becomes_options(container_app: AppDefinition) -> None:
    values = container_app.read_form(
        prefilled(container_app) | {"cores": "4", "memory": "8", "gpu": "1"}
    )
    options = container_app.script_options({"context": values, "session": SESSION})
    assert options == ScriptOptions(
        output_path="container_app_output-20301231235959123.log",
        cores=4,
        memory_gib=8,
        gpus_per_node=1,
    )


def test_an_emoji_survives_submit_yml(tmp_path: Path) -> None:
    app = mine(tmp_path, submit_yml_j2='script:\n  job_name: {{ "my " ~ v }}\n')
    assert app.script_options({"v": "🚀"}).job_name == "my 🚀"


def test_files_of_words_and_lines() -> None:
    words = [word for word in NASTY if "\r" not in word]
    assert shlex.split(words_file(words)) == words
    assert words_file([]) == lines_file([]) == ""
    assert lines_file(["a b", "c"]) == "a b\nc\n"


@pytest.mark.parametrize(
    "image",
    [
        "localhost/hello-tre:1.0",
        "10.0.0.1:5000/lab/hello-tre",
        "r.example/a/hello-tre@sha256:" + "0" * 64,
        "r.example/a/hello-tre:1.0@sha256:" + "0" * 64,
    ],
)
def test_image_name(image: str) -> None:
    assert image_name(image) == "hello-tre"


def test_markdown_is_only_ever_markdown() -> None:
    assert markdown("`code` **bold**").strip() == "<p><code>code</code> <strong>bold</strong></p>"
    assert "<script" not in markdown("<script>alert(1)</script>")
    assert "<img" not in markdown("text <img src=x onerror=alert(1)>")
    for target in ("javascript:alert(1)", "JaVaScRiPt:alert(1)", "vbscript:x", "data:text/html,x"):
        shown = markdown(f"[x]({target}) ![x]({target}) [y]\n\n[y]: {target}").lower()
        assert f'="{target.lower()[:6]}' not in shown, target


# ---- Reading definitions


def test_a_form_is_read_in_its_own_order(tmp_path: Path) -> None:
    form = """
        form: [cluster, b_field, a]
        attributes:
          a: {widget: number_field, value: 3, min: 1, something_new: 1}
          not_in_the_form: {widget: nonsense}
    """
    (tmp_path / "not an app").mkdir()
    (tmp_path / "empty").mkdir()
    apps, problems = load_apps(
        written_app(tmp_path, form_yml=form, manifest_yml="{name: Mine, role: batch_connect}"),
        {"mine": {"b_field": "the site's own"}, "other": {"x": 1}},
    )
    assert problems == []
    assert list(apps) == ["mine"]
    app = apps["mine"]
    assert [(f.name, f.label, f.value) for f in app.fields] == [
        ("b_field", "B field", "the site's own"),
        ("a", "A", "3"),
    ]
    assert app.token == "sys/mine"


def test_all_mistakes_of_a_form_are_told_at_once(container_app: AppDefinition) -> None:
    with pytest.raises(InvalidForm) as refused:
        container_app.read_form(
            {"container_url": "?", "runner": "podman", "cores": "0", "environment": "x"}
        )
    assert set(refused.value.fields) == {"container_url", "cores", "memory", "environment"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"manifest_yml": "description: no name"}, ["manifest.yml", "name"]),
        ({"manifest_yml": "- a list"}, ["manifest.yml", "list"]),
        ({"manifest_yml": "name: [broken"}, ["manifest.yml", "line 1"]),
        ({"form_yml": "form: [a"}, ["form.yml", "line 1"]),
        ({"form_yml": "form: 5"}, ["form.yml"]),
        ({"form_yml": "form: {a: 1}"}, ["form.yml", "form"]),
        ({"form_yml": "form: [a]\nattributes: [a]"}, ["form.yml"]),
        ({"form_yml": "form: [a]\nattributes: {a: [text]}"}, ["form.yml", "a"]),
        (
            {"form_yml": "form: [runner]\nattributes: {runner: {widget: dropdown}}"},
            ["form.yml", "runner", "widget"],
        ),
        (
            {"form_yml": "form: [runner]\nattributes: {runner: {widget: select}}"},
            ["form.yml", "runner", "options"],
        ),
        (
            {"form_yml": "form: [cores]\nattributes: {cores: {min: few}}"},
            ["form.yml", "cores", "min"],
        ),
        (
            {"form_yml": "form: [who]\nattributes: {who: {pattern: '[a-z'}}"},
            ["form.yml", "who", "pattern"],
        ),
        (
            {"form_yml": "form: [who]\nattributes: {who: {widget: radio, options: 5}}"},
            ["form.yml", "who", "options"],
        ),
        (
            {"form_yml": "form: [who]\nattributes: {who: {widget: radio, options: [[]]}}"},
            ["form.yml", "who", "options"],
        ),
        ({"submit_yml_j2": "{% if %}"}, ["submit.yml.j2", "expression"]),
        ({"info_md_j2": "{{ open"}, ["info.md.j2", "unexpected end"]),
        ({"template__a_sh_j2": "\n{{ 'x' | nothing }}"}, ["a.sh.j2", "nothing"]),
        ({"template__a_sh_j2": '\n\necho "{{ v }}"'}, ["a.sh.j2", "line 3"]),
    ],
    ids=str,
)
def test_a_broken_app_is_named_by_file_and_key_and_leaves_the_others(
    tmp_path: Path, files: dict[str, str], said: list[str]
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole/manifest.yml").write_text("name: Whole")
    (tmp_path / "whole/form.yml").write_text("form: []")
    apps, problems = load_apps(written_app(tmp_path, **files), {})
    assert list(apps) == ["whole"]
    (problem,) = problems
    where, _, what = problem.message.partition(": ")
    assert where.startswith(str(tmp_path / "mine"))
    for word in said:
        assert word in f"{Path(where).name}: {what}"


def test_a_missing_app_directory_is_a_problem_and_not_the_end(tmp_path: Path) -> None:
    apps, problems = load_apps(tmp_path / "nowhere", {})
    assert apps == {}
    assert "nowhere" in problems[0].message


@pytest.mark.parametrize(
    ("submit", "said"),
    [
        ("script: {cores: {{ v.nothing }}}", "nothing"),
        ("script: {cores: 0}", "cores"),
        ("script: {memory: 4}", "memory"),
        ("script: {wall_time: 5}", "wall_time"),
        ("script: [a]", "dictionary"),
        ("script: {", "line 1"),
        ("- a", "list"),
        ("script: {cores: {{ v.text + 1 }}}", "str"),
        ("script: {cores: {{ v.text }}}", "cores"),
    ],
)
def test_a_broken_submit_yml_is_named_by_file_and_key(
    tmp_path: Path, submit: str, said: str
) -> None:
    app = mine(tmp_path, submit_yml_j2=submit)
    with pytest.raises(ConfigError) as broken:
        app.script_options({"v": {"text": ""}})
    where, _, what = broken.value.message.partition(": ")
    assert where == str(tmp_path / "mine/submit.yml.j2")
    assert said in what


@pytest.mark.parametrize(
    "template", ["{{ context.nothing }}", "{{ context.name + 1 }}", "{{ 1 // 0 }}", "{{ '\\0' }}"]
)
def test_a_job_template_that_cannot_be_rendered_is_named(tmp_path: Path, template: str) -> None:
    app = mine(tmp_path, template__before_sh_j2=template)
    with pytest.raises(ConfigError, match=r"mine/template/before\.sh\.j2: "):
        app.job_files({"context": {"name": "x"}})


def test_an_app_without_job_templates_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mine/template"):
        mine(tmp_path).job_files({})


def test_an_undefined_value_is_named_and_never_empty(tmp_path: Path) -> None:
    (tmp_path / "it.md.j2").write_text("{{ who }}")
    with pytest.raises(ConfigError, match=r"it\.md\.j2: .*who"):
        render(tmp_path / "it.md.j2")


@pytest.mark.parametrize(
    ("limits", "asked", "mistakes"),
    [
        ({}, {"cores": 999, "memory_gib": 999}, {}),
        ({"max_cores": 4, "max_memory_gib": 8, "gpus": 1}, {}, {}),
        (
            {"max_cores": 4, "max_memory_gib": 8, "gpus": 1},
            {"cores": 4, "memory_gib": 8, "gpus_per_node": 1},
            {},
        ),
        ({"max_cores": 4}, {"cores": 5}, {"cores": "This machine allows at most 4."}),
        (
            {"max_memory_gib": 8},
            {"memory_gib": 9},
            {"memory": "This machine allows at most 8 GiB."},
        ),
        ({}, {"gpus_per_node": 1}, {}),  # not known: the scheduler says
        ({"gpus": 0}, {"gpus_per_node": 1}, {"gpu": "has no GPU"}),
        ({"gpus": 2}, {"gpus_per_node": 3}, {"gpu": "allows at most 2."}),
        (
            {"max_cores": 1, "max_memory_gib": 1, "gpus": 0},
            {"cores": 2, "memory_gib": 2, "gpus_per_node": 1},
            {"cores": "most 1.", "memory": "1 GiB", "gpu": "no GPU"},
        ),
    ],
    ids=str,
)
def test_limits_of_a_back_end(
    limits: dict[str, Any], asked: dict[str, Any], mistakes: dict[str, str]
) -> None:
    found: dict[str, str] = {}
    try:
        here = cluster(**limits)
        check_limits(ScriptOptions(**asked), here, limits_of(here, []))
    except InvalidForm as error:
        found = error.fields
    assert found.keys() == mistakes.keys()
    assert all(part in found[name] for name, part in mistakes.items())


@pytest.mark.parametrize(
    ("field", "limits", "said"),
    [
        ({"name": "cores"}, {"max_cores": 8}, {"label": "It (max 8)", "max": "8"}),
        ({"name": "cores", "max": 4}, {"max_cores": 8}, {"label": "It (max 4)", "max": "4"}),
        ({"name": "cores", "max": 9}, {"max_cores": 8}, {"label": "It (max 8)", "max": "8"}),
        ({"name": "cores"}, {"max_memory_gib": 8}, {"label": "It", "max": ""}),
        ({"name": "memory"}, {"max_memory_gib": 15}, {"label": "It (max 15 GiB)", "max": "15"}),
        ({"name": "memory"}, {"max_memory_gib": 10**7}, {"max": "10000000"}),
        ({"name": "memory"}, {}, {"label": "It", "max": ""}),
        ({"name": "gpu"}, {"gpus": 2}, {"hide": "false"}),
        ({"name": "gpu"}, {}, {"hide": "true"}),
        ({"name": "environment"}, {"max_cores": 8}, {}),
    ],
    ids=str,
)
def test_fields_show_the_limits_of_a_back_end(
    field: dict[str, Any], limits: dict[str, Any], said: dict[str, str]
) -> None:
    found = limit_directives(
        Field.model_validate({"label": "It", **field}), limits_of(cluster(**limits), [])
    )
    assert found | said == found
    assert bool(found) == bool(said)


def test_accounts_and_emails_become_options_of_sbatch() -> None:
    options = ScriptOptions(accounting_id="a b; c", email_on_started=True, native=["--x"])
    assert native_options(options) == ["--account=a b; c", "--mail-type=BEGIN", "--x"]
    assert native_options(ScriptOptions()) == []


def test_fields_that_open_ondemand_knows_by_name(tmp_path: Path) -> None:
    form = """
        form: [bc_num_hours, bc_num_slots, bc_account, bc_queue, bc_email_on_started]
        attributes:
          bc_num_hours: {value: 2}
          bc_num_slots: {label: Number of CPU, max: 24}
    """
    app = mine(tmp_path, form_yml=form, submit_yml_j2="script: {cores: 3}")
    hours, slots, *_, email = app.fields
    assert (hours.widget, hours.value, hours.min, hours.required) == ("number_field", "2", 1, True)
    assert (slots.label, slots.max, email.widget) == ("Number of CPU", 24, "check_box")
    values = app.read_form(prefilled(app) | {"bc_account": "nsh", "bc_email_on_started": "1"})
    options = app.script_options({"context": values})
    assert options == ScriptOptions(
        wall_time=7200, cores=3, accounting_id="nsh", email_on_started=True
    )  # what submit.yml says counts more


WORDS = ["copy", "items", "values", "keys", "get", "update", "pop", "clear", "dataset", "action"]


def test_any_word_can_name_a_field(tmp_path: Path) -> None:
    script = "".join(
        f"echo {{{{ context.{word} }}}} {{{{ context['{word}'] }}}}\n" for word in WORDS
    )
    app = mine(
        tmp_path,
        form_yml=f"form: [{', '.join(WORDS)}]\nattributes: {{copy: {{widget: check_box}}}}",
        template__script_sh_j2=script + "{% if context.copy %}copying{% endif %}"
        "{{ session.secrets.items }}",
    )
    values = app.read_form({word: word for word in WORDS} | {"copy": "1"})
    script = contents(app, context=values, session={"secrets": {"items": "x"}})[
        "script.sh"
    ].decode()
    assert script.splitlines() == [
        *(f"echo {word} {word}" for word in ["True", *WORDS[1:]]),
        "copyingx",
    ]


@pytest.mark.parametrize("name", ["csrf_token", "a-b", "a b", "é"])
def test_a_name_that_the_form_cannot_use(tmp_path: Path, name: str) -> None:
    apps, (problem,) = load_apps(written_app(tmp_path, form_yml=f"form: ['{name}']"), {})
    assert apps == {}
    assert f"attributes.{name}.name: use another name of letters, digits and _" in problem.message
