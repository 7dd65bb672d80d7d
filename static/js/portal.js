// Enhancements for all pages. The pages also work without them.

// One poll per page: an element with data-poll-seconds gets a "poll" event, which makes HTMX send a
// request. Polling slows down while the portal is not responding. In a hidden tab it pauses, or slows
// down if browser notifications are allowed (notices.js).
const HIDDEN = 20000;
const tells = () => "Notification" in window && Notification.permission === "granted";
function startPolling(element) {
  const usual = Number(element.dataset.pollSeconds) * 1000;
  const stale = document.getElementById("stale");
  let wait = usual;
  let timer;
  const plan = () => {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(poll, wait);
    else if (tells()) timer = setTimeout(poll, Math.max(wait, HIDDEN));
  };
  const poll = () => element.dispatchEvent(new Event("poll"));
  element.addEventListener("htmx:afterRequest", (event) => {
    const answered = event.detail.successful;
    wait = answered ? usual : Math.min(wait * 2, 60000);
    if (stale) stale.hidden = answered;
    plan();
  });
  document.addEventListener("visibilitychange", () => {
    wait = usual;
    clearTimeout(timer);
    if (document.hidden) plan();
    else poll();
  });
  plan();
}

// A failed poll shows the #stale notice and leaves the page as it is.
document.addEventListener("htmx:beforeSwap", (event) => {
  const polling = event.detail.elt.hasAttribute?.("data-poll-seconds");
  if (polling && event.detail.xhr.status >= 400) event.detail.shouldSwap = false;
  if (!polling && event.detail.successful) document.getElementById("page-problem").replaceChildren();
});

// Show times in the user's time zone, with the original text as a tooltip.
function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    const when = new Date(time.dateTime);
    time.title = time.textContent;
    time.textContent = when.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  }
}

// Scroll logs to the end, unless the user has scrolled up.
const readers = new WeakMap();
function followLogs(root) {
  for (const log of root.querySelectorAll("[data-follow]")) {
    if (readers.has(log)) continue;
    readers.set(log, true);
    const before = scrolled.get(log.parentElement.id);
    log.scrollTop = before ?? log.scrollHeight;
    log.addEventListener("scroll", () => {
      const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 8;
      if (atEnd) scrolled.delete(log.parentElement.id);
      else scrolled.set(log.parentElement.id, log.scrollTop);
    });
  }
}
const scrolled = new Map();

// Keep <details> open when their card is swapped.
const open = new Set();
document.addEventListener(
  "toggle",
  (event) => {
    if (event.target.open) open.add(event.target.id);
    else if (event.target.isConnected) open.delete(event.target.id);
  },
  true,
);
function reopenDetails(root) {
  for (const details of root.querySelectorAll("details[id]")) {
    if (open.has(details.id)) details.open = true;
  }
}

function dress(root) {
  localTimes(root);
  reopenDetails(root);
  followLogs(root);
}

// Open OnDemand's dynamic form attributes, such as data-label-cores, data-max-cores, data-hide-gpu and
// data-option-for-cluster-ruby. ood/apps/directives.py lists them all, and applies them in the same way.
// Hidden fields are not sent, but a field with an error stays visible.
const dashed = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
const longest = (names) => names.reduce((one, other) => (other.length > one.length ? other : one), "");

// All controls of a form, and the values that the server will use.
function formState(form) {
  const fields = new Map();
  for (const field of form.querySelectorAll("[data-field]")) fields.set(dashed(field.dataset.field), field);
  const controls = [...form.querySelectorAll("select, input, textarea")].filter(({ name }) => name);
  const names = [...new Set(controls.map(({ name }) => dashed(name)))];
  const values = (hidden) => {
    const found = new Map();
    for (const control of controls) {
      const name = dashed(control.name);
      if (control.type === "checkbox") found.set(name, control.checked ? "1" : "0");
      else if (control.type !== "radio" || control.checked) found.set(name, control.value);
    }
    for (const name of hidden) found.set(name, fields.get(name).dataset.ownValue);
    return found;
  };
  return { fields, controls, names, values };
}

// The directives in force of one control, as [verb, dashed field, value].
function directivesOf({ fields }, control, values, conditions) {
  const value = values.get(dashed(control.name));
  let sources = [control];
  if (control.type === "select-one") sources = [...control.options].filter((option) => option.value === value);
  else if (control.type === "radio" && control.value !== value) sources = [];
  return sources
    .flatMap((source) => [...source.attributes])
    .flatMap(({ name, value: text }) => {
      const [, start, when] = /^(data-.+)-when-(checked|un-?checked)$/.exec(name) ?? [];
      if (Boolean(start) !== (control.type === "checkbox")) return [];
      if (start && (when === "checked") !== (value === "1")) return [];
      const [, verb, rest] = /^data-(label|help|min|max|hide|set)-(.+)$/.exec(start ?? name) ?? [];
      if (!verb) return [];
      const known = [...fields.keys()];
      const target = fields.has(rest) ? rest : longest(known.filter((each) => rest.startsWith(`${each}-for-`)));
      const condition = rest.slice(target.length + 5);
      return target && (!condition || conditions.has(condition)) ? [[verb, target, text]] : [];
    });
}

// What all directives in force say about each field.
function effects(state) {
  let hidden = new Set();
  for (let round = 0; ; round++) {
    const values = state.values(hidden);
    const conditions = new Set([...values].map(([name, value]) => `${name}-${dashed(value)}`));
    const told = new Map([...state.fields.keys()].map((name) => [name, { max: [], min: [], hide: [] }]));
    for (const control of state.controls) {
      for (const [verb, target, value] of directivesOf(state, control, values, conditions)) {
        const known = told.get(target);
        if (Array.isArray(known[verb])) known[verb].push(value);
        else known[verb] = value;
      }
    }
    const before = hidden;
    hidden = new Set();
    for (const [name, { hide }] of told) {
      const usually = "hideByDefault" in state.fields.get(name).dataset && !hide.includes("false");
      if (hide.includes("true") || usually) hidden.add(name);
    }
    const settled = before.size === hidden.size && [...before].every((name) => hidden.has(name));
    if (settled || round >= state.fields.size) return { told, hidden, values, conditions };
  }
}

// Whether an option is offered.
function offered(option, names, conditions) {
  const needed = new Map(); // whether another field has one of the values for this option
  for (const { name, value } of option.attributes) {
    const [, exclusive, condition] = /^data-(exclusive-)?option-for-(.+)$/.exec(name) ?? [];
    if (!condition) continue;
    const met = conditions.has(condition);
    const other = longest(names.filter((each) => condition.startsWith(`${each}-`)));
    if (!exclusive && value === "false" && met) return false;
    if (exclusive && other) needed.set(other, needed.get(other) || (value === "true" && met));
  }
  return [...needed.values()].every(Boolean);
}

// Offer only the options that fit. Returns the controls whose choice changed.
function offerOptions({ controls, names }, conditions) {
  const moved = [];
  const offer = (option) => {
    option.disabled = !offered(option, names, conditions);
    (option.closest("label") ?? option).hidden = option.disabled;
  };
  for (const control of controls) {
    if (control.type === "select-one") {
      const options = [...control.options];
      options.forEach(offer);
      const first = options.find((option) => !option.disabled);
      if (!control.selectedOptions[0]?.disabled || !first) continue;
      first.selected = true;
      moved.push(control);
    } else if (control.type === "radio") {
      offer(control);
      if (!control.disabled || !control.checked) continue;
      control.checked = false;
      moved.push(control);
    }
  }
  return moved;
}

function followChoices(form, changed) {
  const state = formState(form);
  // Each control that changed sets other fields, once, and each of these may do so in turn.
  const waiting = new Set(changed ? [changed] : []);
  const followed = new Set();
  let now = effects(state);
  for (let round = 0; round <= 3 * state.controls.length; round++) {
    const moved = offerOptions(state, now.conditions);
    for (const control of moved) waiting.add(control);
    const next = [...waiting].find((control) => !followed.has(control));
    if (!next && !moved.length) break;
    if (next) {
      followed.add(next);
      now = effects(state);
      for (const [verb, target, value] of directivesOf(state, next, now.values, now.conditions)) {
        if (verb === "set") for (const control of setField(state.fields.get(target), value)) waiting.add(control);
      }
    }
    now = effects(state);
  }
  show(state, now);
}

function show({ fields }, { told, hidden }) {
  for (const [name, { label, help, min, max }] of told) {
    const field = fields.get(name);
    const input = field.querySelector("input, select, textarea");
    const gone = hidden.has(name) && !field.querySelector("[aria-invalid]");
    field.hidden = gone;
    for (const each of field.querySelectorAll("input, select, textarea")) {
      if (each.type !== "radio" || gone || !each.closest("label").hidden) each.disabled = gone;
    }
    const labelled = field.querySelector("legend") ?? field.querySelector("label");
    labelled.firstChild.data = label ?? field.dataset.label;
    const own = field.querySelector("[data-own-help]");
    const said = field.querySelector("[data-told-help]");
    own.hidden = help !== undefined;
    said.hidden = !own.hidden;
    said.textContent = help ?? "";
    own.parentElement.hidden = !(own.hidden || own.textContent);
    if (input.type !== "number") continue;
    const least = [input.dataset.ownMin, ...min].filter(Boolean).map(Number);
    const most = [input.dataset.ownMax, ...max].filter(Boolean).map(Number);
    if (least.length) input.min = Math.max(...least);
    else input.removeAttribute("min");
    if (most.length) input.max = Math.min(...most);
    else input.removeAttribute("max");
  }
}

// Returns the control whose value changed, if any. A choice that does not exist is left alone.
function setField(field, value) {
  const controls = [...field.querySelectorAll("input, select, textarea")];
  const control = controls.find((each) => each.type !== "radio" || each.value === value);
  if (!control) return [];
  const key = ["checkbox", "radio"].includes(control.type) ? "checked" : "value";
  const before = control[key];
  if (control.type === "select-one" && ![...control.options].some((option) => option.value === value)) return [];
  control[key] = control.type === "checkbox" ? ["1", "true"].includes(value) : control.type === "radio" || value;
  return control[key] === before ? [] : [control];
}
document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (form?.querySelector("[data-field]")) followChoices(form, event.target);
});
// By the time of pageshow the browser has restored the form's earlier values.
window.addEventListener("pageshow", () => {
  for (const form of document.forms) if (form.querySelector("[data-field]")) followChoices(form);
});

// Ask for confirmation before actions that cannot be undone.
document.addEventListener("submit", (event) => {
  const sure = event.submitter?.dataset.sure ?? event.target.getAttribute("data-sure");
  if (sure && !confirm(sure)) event.preventDefault();
});

// Forms that must be sent only once. A field named `dataset` hides the property of this name.
document.addEventListener("submit", (event) => {
  const once = event.target.getAttribute("data-once");
  if (!once) return;
  if (event.target.hasAttribute("data-sent")) return event.preventDefault();
  event.target.setAttribute("data-sent", "yes");
  const button = event.target.querySelector("[type=submit]");
  button.textContent = once;
  button.setAttribute("aria-disabled", "true");
});
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

// Copy a path. Browsers allow this only over HTTPS or on localhost.
for (const button of navigator.clipboard ? document.querySelectorAll("[data-copy]") : []) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const said = document.getElementById("copied");
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      said.textContent = "Copied.";
    } catch {
      said.textContent = "Your browser did not allow copying.";
    }
  });
}

document.addEventListener("htmx:afterSettle", () => dress(document));
document.addEventListener("htmx:oobAfterSwap", () => dress(document));
dress(document);
for (const element of document.querySelectorAll("[data-poll-seconds]")) startPolling(element);
document.querySelector("[aria-invalid=true]")?.focus();
