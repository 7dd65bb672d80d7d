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
// data-option-for-cluster-ruby (all are listed in ood/apps/directives.py). Hidden fields are not sent,
// but a field with an error stays visible.
const dashed = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
function directivesOf(control) {
  const chosen = control.matches("select") ? control.selectedOptions[0] : control;
  if (!chosen || (control.type === "radio" && !control.checked)) return [];
  return [...chosen.attributes].flatMap(({ name, value }) => {
    const [, what, when] = /^(data-.+)-when-(un-?checked|checked)$/.exec(name) ?? [];
    if (what) return (when === "checked") === control.checked ? [[what, value]] : [];
    return name.startsWith("data-") && control.type !== "checkbox" ? [[name, value]] : [];
  });
}
function followChoices(form, changed) {
  const fields = new Map();
  for (const field of form.querySelectorAll("[data-field]")) fields.set(dashed(field.dataset.field), field);
  const controls = [...form.querySelectorAll("select, input[type=radio], input[type=checkbox]")];
  const choices = () =>
    new Set(
      controls
        .filter((each) => each.type !== "radio" || each.checked)
        .map((each) => `${dashed(each.name)}-${dashed(each.value)}`),
    );
  // Options first: the other directives must not follow an option that is no longer available.
  const before = choices();
  for (const option of form.querySelectorAll("option, input[type=radio]")) {
    const gone = [...option.attributes].some(
      ({ name, value }) =>
        value === "false" && name.startsWith("data-option-for-") && before.has(name.slice(16)),
    );
    option.disabled = gone;
    (option.closest("label") ?? option).hidden = gone;
    if (gone && option.checked) option.checked = false;
  }
  for (const select of form.querySelectorAll("select")) {
    const offered = [...select.options].find((option) => !option.disabled);
    if (select.selectedOptions[0]?.disabled && offered) offered.selected = true;
  }
  const chosen = choices();
  const told = new Map([...fields.keys()].map((name) => [name, { max: [], min: [] }]));
  for (const control of controls) {
    for (const [name, value] of directivesOf(control)) {
      const [, what, rest] = /^data-(label|help|min|max|hide|set)-(.+)$/.exec(name) ?? [];
      if (!what) continue;
      const [target, condition] = fields.has(rest) ? [rest] : rest.split("-for-");
      if (!fields.has(target) || (condition && !chosen.has(condition))) continue;
      const known = told.get(target);
      if (what === "hide") known.hide ||= value === "true";
      else if (what === "min" || what === "max") known[what].push(value);
      else if (what === "set" && control === changed) setField(fields.get(target), value);
      else if (what !== "set") known[what] = value;
    }
  }
  for (const [name, { hide, label, help, min, max }] of told) {
    const field = fields.get(name);
    const input = field.querySelector("input, select, textarea");
    const gone = Boolean(hide) && !field.querySelector("[aria-invalid]");
    field.hidden = gone;
    for (const each of field.querySelectorAll("input, select, textarea")) {
      if (each.type !== "radio" || gone || !each.closest("label").hidden) each.disabled = gone;
    }
    const labelled = field.querySelector("legend") ?? field.querySelector("label");
    labelled.firstChild.data = label ?? field.dataset.label;
    const own = field.querySelector("[data-own-help]");
    const said = field.querySelector("[data-told-help]");
    if (own) {
      own.hidden = help !== undefined;
      said.hidden = !own.hidden;
      said.textContent = help ?? "";
    }
    if (input.type !== "number") continue;
    const least = [input.dataset.ownMin, ...min].filter(Boolean).map(Number);
    const most = [input.dataset.ownMax, ...max].filter(Boolean).map(Number);
    if (least.length) input.min = Math.max(...least);
    else input.removeAttribute("min");
    if (most.length) input.max = Math.min(...most);
    else input.removeAttribute("max");
  }
}
function setField(field, value) {
  const input = field.querySelector("input, select, textarea");
  if (input.type === "checkbox") input.checked = ["1", "true"].includes(value);
  else if (input.type === "radio") field.querySelector(`[value="${CSS.escape(value)}"]`)?.click();
  else input.value = value;
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
