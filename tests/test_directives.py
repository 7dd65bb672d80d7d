"""Open OnDemand's `data-*` directives: what choices do to other fields, on the server and in a
browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import yaml
from playwright.sync_api import Page, expect

from ood.apps.definition import AppDefinition, load_apps
from ood.apps.directives import changes
from ood.check import check_all
from ood.errors import InvalidForm
from ood.web.apps import read_typed
from tests.conftest import RunningPortal
from tests.researcher import Researcher, accessible

FORM = """
cluster: this_machine
form: [cluster, node_type, version, num_cores, enable_cuda, cuda_version, account, note]
attributes:
  node_type:
    widget: select
    options:
      - [ "standard", "standard",
          data-max-num-cores-for-cluster-this-machine: 4, data-max-num-cores-for-cluster-other: 2,
          data-hide-enable-cuda: true, data-set-account: "plain-code" ]
      - [ "gpu node", "any_gpu",
          data-max-num-cores: 1, data-label-num-cores: "Cores beside the GPU",
          data-help-num-cores: "One is all there is.", data-set-account: "gpu-code",
          data-set-enable-cuda: 1 ]
  version:
    widget: radio_button
    value: "1"
    options:
      - ["One", "1"]
      - ["Two", "2", data-option-for-node-type-standard: false]
  num_cores: {widget: number_field, label: Number of cores, help: As *many* as it needs.,
              value: 1, min: 1, max: 8, required: true}
  enable_cuda:
    widget: check_box
    label: Enable CUDA
    html_options: {data: {hide-cuda-version-when-unchecked: true}}
  cuda_version:
    widget: select
    options: [[ "10", "cuda/10", data-option-for-node-type-standard: false ], [ "12", "cuda/12" ]]
  account: {label: Account}
  note: {display: true, hide_when_empty: true}
"""
CHAIN = """
form: [a, b, c, shy, big_note, dataset, size, n, box, own_max]
attributes:
  a:
    widget: select
    options:
      - [one, one, data-set-b: big, data-max-N: 3, data-help-dataset: Which one]
      - [two, two, Data_Hide_Size: true]
      - [three, three, data-hide-shy: false, data-set-box: 1]
  b:
    widget: select
    options:
      - [small, small, data-set-c: y]
      - [big, Big_One.2, data-hide-big_note: true, data-option-for-a-two: false]
      - [big too, big, data-hide-big-note: true, data-option-for-a-three: false, data-set-c: z]
  c:
    widget: select
    value: y
    options:
      - [x, x, data-option-for-b-big-one-2: false, data-hide-box: true]
      - [y, y, data-exclusive-option-for-b-small: true, data-exclusive-option-for-b-big: true]
      - [z, z, data-option-for-b-small: false, data-max-n-for-b-big: 2, data-min-n-for-size-l: 2]
  shy: {hide_by_default: true}
  big_note: {required: true, value: why}
  dataset: {}
  size:
    widget: radio
    value: s
    options: [[s, s, data-max-n: 5], [l, l, data-hide-dataset: true, data-option-for-box-1: false]]
  n: {widget: number_field, min: 1, max: 9, value: 1}
  box: {widget: check_box, html_options: {data: {hide_size_when_checked: true}}}
  own_max: {}
"""
STANDARD = {
    "cluster": "this_machine",
    "node_type": "standard",
    "version": "1",
    "num_cores": "4",
    "enable_cuda": "0",
    "cuda_version": "cuda/12",
    "account": "",
}
GPU = {**STANDARD, "node_type": "any_gpu", "num_cores": "1", "enable_cuda": "1"}


@pytest.fixture(scope="module")
def app_defs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("apps")
    files = {
        "choosy/manifest.yml": "name: Choosy",
        "choosy/form.yml": FORM,
        "choosy/submit.yml.j2": "script: {cores: {{ context.num_cores }}}",
        "choosy/template/script.sh.j2": "#!/bin/bash\necho {{ context.cuda_version }}\n",
        "chain/manifest.yml": "name: Chain",
        "chain/form.yml": CHAIN,
    }
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return directory


@pytest.fixture(scope="module")
def app(app_defs: Path) -> AppDefinition:
    apps, problems = load_apps(app_defs, {})
    assert problems == []
    return apps["choosy"]


@pytest.mark.parametrize(
    ("typed", "wrong"),
    [
        (STANDARD, {}),
        (GPU, {}),
        ({**GPU, "version": "2", "cuda_version": "cuda/10"}, {}),
        ({**STANDARD, "num_cores": "5"}, {"num_cores": "4 or less"}),
        ({**STANDARD, "cluster": "other", "num_cores": "3"}, {"num_cores": "2 or less"}),
        ({**STANDARD, "cluster": "third", "num_cores": "8"}, {}),
        ({**GPU, "num_cores": "2"}, {"num_cores": "1 or less"}),
        ({**STANDARD, "version": "2"}, {"version": "one of the options"}),
        ({**GPU, "cuda_version": "none"}, {"cuda_version": "one of the options"}),
        # What is hidden is not asked for, whatever is sent.
        ({**STANDARD, "cuda_version": "none"}, {}),
    ],
)
def test_what_was_chosen_says_what_is_accepted(
    app: AppDefinition, typed: dict[str, str], wrong: dict[str, str]
) -> None:
    found: dict[str, str] = {}
    try:
        app.read_form(typed)
    except InvalidForm as error:
        found = error.fields
    assert found.keys() == wrong.keys()
    assert all(wrong[name] in found[name] for name in wrong)


def test_a_hidden_field_has_its_own_value(app: AppDefinition) -> None:
    values = app.read_form({**STANDARD, "enable_cuda": "1"})
    assert values["enable_cuda"] is False  # hidden by the node type, so not switched on
    hidden = app.read_form({**GPU, "enable_cuda": "0", "cuda_version": "; rm"})
    assert hidden["cuda_version"] == "cuda/10"


def test_the_clusters_of_an_app(app: AppDefinition) -> None:
    assert app.runs_on("this_machine")
    assert not app.runs_on("other")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("options: [[a, a, {hide-b: true}]]", "`hide-b` is not a directive"),
        ("options: [[{data-hide-b: true}]]", "an option has no label"),
    ],
)
def test_what_is_no_directive_is_told(tmp_path: Path, given: str, said: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/manifest.yml").write_text("name: A")
    (tmp_path / "a/form.yml").write_text(
        f"form: [x]\nattributes:\n  x:\n    widget: select\n    {given}"
    )
    _, problems = load_apps(tmp_path, {})
    (problem,) = problems
    assert "form.yml: line 5: attributes.x.options: " in problem.message
    assert said in problem.message


@pytest.fixture(scope="module")
def portal(app_defs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    directory = tmp_path_factory.mktemp("portal")
    settings = {"app_defs": str(app_defs), "clusters": "clusters.d"}
    (directory / "portal.yml").write_text(yaml.safe_dump(settings))
    (directory / "clusters.d").mkdir()
    for name in ("this_machine", "other"):
        text = f"v2: {{metadata: {{title: {name}}}, job: {{adapter: local}}}}"
        (directory / f"clusters.d/{name}.yml").write_text(text)
    running = RunningPortal(
        directory,
        {"HOME": str(directory), "OOD_PORTAL_CONFIG": str(directory / "portal.yml")},
    )
    running.start()
    yield running
    running.stop()


def opens(page: Page, portal: RunningPortal, app: str) -> Researcher:
    ada = Researcher(page, portal)
    ada.goes_to_the_sign_in()
    ada.asks_for_another_address()
    ada.opens_the_address()
    page.goto(f"{portal.url}/apps/{app}")
    return ada


def test_a_browser_follows_choices(page: Page, portal: RunningPortal) -> None:
    ada = opens(page, portal, "choosy")
    cores, cuda, box = (
        page.locator(f"#{name}") for name in ("num_cores", "cuda_version", "enable_cuda")
    )
    two = page.get_by_label("Two")
    assert page.locator("#cluster option").all_inner_texts() == ["this_machine"]
    expect(cores).to_have_attribute("max", "4")
    expect(box).to_be_hidden()
    expect(two).to_be_hidden()
    # What the server had sent is what the script makes of it too.
    page.select_option("#node_type", "any_gpu")
    expect(cores).to_have_attribute("max", "1")
    expect(page.get_by_label("Cores beside the GPU")).to_be_visible()
    expect(page.locator("#num_cores-help")).to_have_text(
        "One is all there is.", use_inner_text=True
    )
    expect(page.locator("#account")).to_have_value("gpu-code")
    expect(box).to_be_checked()
    expect(cuda).to_be_visible()
    two.check()
    cuda.select_option("cuda/10")
    box.uncheck()
    expect(cuda).to_be_hidden()
    accessible(page, "form-with-directives")
    page.select_option("#node_type", "standard")
    assert ada.complaints == []
    expect(cores).to_have_attribute("max", "4")
    expect(page.get_by_label("Number of cores")).to_be_visible()
    expect(page.locator("#num_cores-help em")).to_have_text("many")
    expect(two).not_to_be_checked()
    expect(page.locator("#account")).to_have_value("plain-code")
    page.get_by_label("One").check()
    page.locator("#note").fill("shown on the card")
    card = ada.presses_launch_and_sees_the_card()
    expect(card.locator("dl").first).to_contain_text("shown on the card")
    page.goto(f"{portal.url}/apps/choosy")
    page.get_by_label("One").check()
    page.locator("#note").fill("")
    card = ada.presses_launch_and_sees_the_card()
    expect(card.locator("dt", has_text="Note")).to_have_count(0)
    assert ada.complaints == []


SEES = """() => Object.fromEntries([...document.querySelectorAll("[data-field]")].map(field => [
  field.dataset.field,
  [
    field.hidden,
    field.querySelector("[type=number]")?.min ?? "",
    field.querySelector("[type=number]")?.max ?? "",
    [...field.querySelectorAll("option, [type=radio]")]
      .filter(option => (option.closest("label") ?? option).hidden).map(option => option.value),
  ],
]))"""
SENDS = "() => Object.fromEntries(new FormData(document.querySelector('main form')))"
COUNTS = """() => {
  window.count = 0;
  addEventListener("submit", event => {  // after the page's own listener
    if (!event.defaultPrevented) count += 1;
    event.preventDefault();
  });
}"""
CHOOSES = """({name, index}) => {
  const controls = [...document.querySelectorAll(`main [name="${name}"]`)];
  const control = controls[index % controls.length];
  if (control.disabled) return;
  if (control.type === "select-one") {
    const offered = [...control.options].filter(option => !option.disabled);
    offered[index % offered.length].selected = true;
    control.dispatchEvent(new Event("change", {bubbles: true}));
  } else control.click();
}"""


def test_the_server_and_a_browser_agree(page: Page, portal: RunningPortal, app_defs: Path) -> None:
    """Whatever is chosen, in whatever order."""
    app = load_apps(app_defs, {})[0]["chain"]
    opens(page, portal, "chain")
    random, seen = Random(5), set()
    for _ in range(60):
        name = random.choice(["a", "b", "c", "size", "box"])
        page.evaluate(CHOOSES, {"name": name, "index": random.randrange(6)})
        typed = read_typed(app, page.evaluate(SENDS))
        changed = changes(app.fields, typed)
        now = {field.name: changed[field.name].applied(field) for field in app.fields}
        assert page.evaluate(SEES) == {
            field.name: [
                changed[field.name].hide,
                "" if now[field.name].min is None else f"{now[field.name].min:g}",
                "" if now[field.name].max is None else f"{now[field.name].max:g}",
                [each.value for each in field.options if each not in now[field.name].options],
            ]
            for field in app.fields
        }, typed
        seen.add(str(typed))
    assert len(seen) > 10


def test_what_a_choice_sets_off_goes_on(page: Page, portal: RunningPortal) -> None:
    opens(page, portal, "chain")
    b, c, note = page.locator("#b"), page.locator("#c"), page.locator("#big_note")
    page.select_option("#a", "three")  # shows what is hidden by default
    expect(page.locator("#shy")).to_be_visible()
    page.select_option("#b", "small")
    expect(note).to_be_visible()
    page.select_option("#a", "one")  # sets b, and so hides the note, rules out c's option
    expect(page.locator("#shy")).to_be_hidden()
    expect(b).to_have_value("big")
    expect(page.locator("#dataset-help")).to_have_text("Which one")
    expect(note).to_be_hidden()
    expect(c).to_have_value("z")
    page.select_option("#a", "three")  # rules out b's option, and so c's; box hides size
    expect(b).to_have_value("small")
    expect(c).to_have_value("y")
    expect(page.get_by_role("group", name="Size")).to_be_hidden()
    # A field named `dataset` does not let the form be sent twice.
    page.evaluate(COUNTS)
    for _ in range(2):
        page.locator("main form [type=submit]").dispatch_event("click")
    assert page.evaluate("count") == 1


def test_directives_without_effect_are_told(tmp_path: Path) -> None:
    (tmp_path / "apps/a/template").mkdir(parents=True)
    for name, text in {
        "portal.yml": "app_defs: apps\n",
        "apps/a/manifest.yml": "name: A",
        "apps/a/submit.yml.j2": "",
        "apps/a/template/script.sh": "",
        "apps/a/form.yml": """
form: [cluster, a, b, box, num_cores]
attributes:
  a:
    widget: select
    options:
      - [x, data-hide-b: true, data-hide-c: true, data-alias-b: y, data-max-num_cores: 3]
      - [y, data-max-num-cores-for-cluster-alpha: 1, data-max-b-for-zone-2: 1]
      - [z, data-option-for-cluster-alpha: false, data-exclusive-option-for-zone-2: true]
  b: {html_options: {data: {hide-a-when-checked: true}}}
  box:
    widget: check_box
    html_options: {data: {hide-b-when-checked: true, hide-b: true, set-b-when-checked: x}}
""",
    }.items():
        (tmp_path / name).write_text(text)
    mistakes, warnings = check_all(tmp_path / "portal.yml")
    assert mistakes[1:] == []  # there is no clusters.d
    assert [line.partition("form.yml: ")[2].partition(": this")[0] for line in warnings] == [
        "line 4: attributes.a.data-alias-b",
        "line 4: attributes.a.data-exclusive-option-for-zone-2",
        "line 4: attributes.a.data-hide-c",
        "line 4: attributes.a.data-max-b-for-zone-2",
        "line 10: attributes.b.data-hide-a-when-checked",
        "line 11: attributes.box.data-hide-b",
        "line 11: attributes.box.data-set-b-when-checked",
    ]


def test_what_is_not_asked_for_is_remembered_with_its_own_value(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/manifest.yml").write_text("name: A")
    (tmp_path / "a/form.yml").write_text(
        "form: [mode, number, box, key]\n"
        "attributes:\n"
        "  mode:\n"
        "    widget: select\n"
        "    options: [[x, x, data-hide-number: true, data-hide-box: true, data-hide-key: true],\n"
        "              y]\n"
        "  number: {widget: number_field, value: 3, required: true}\n"
        "  box: {widget: check_box, value: true}\n"
        "  key: {widget: password_field, value: of the site}\n"
    )
    apps, problems = load_apps(tmp_path, {})
    assert problems == []
    typed = read_typed(apps["a"], {"mode": "x"})  # a browser does not send what is hidden
    assert typed == {"cluster": "", "mode": "x", "number": "3", "box": "0", "key": ""}
    assert apps["a"].read_form(typed)["number"] == 3
    assert read_typed(apps["a"], {"mode": "y"})["number"] == ""
