// What pages do beyond HTML and HTMX. Everything works without it, only less pleasantly.

// One poll per page: an element with data-poll-seconds gets a "poll" event, which HTMX answers with
// a request. It backs off while the portal does not answer. In a hidden tab it pauses, or asks
// seldom where the browser may tell of what happens (notices.js).
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

// An answer to a poll is about the page, not an error to show: the notice above says it.
document.addEventListener("htmx:beforeSwap", (event) => {
  const polling = event.detail.elt.hasAttribute?.("data-poll-seconds");
  if (polling && event.detail.xhr.status >= 400) event.detail.shouldSwap = false;
  if (!polling && event.detail.successful) document.getElementById("problem").replaceChildren();
});

// Times in the reader's own zone, with the exact time on hover.
function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    const when = new Date(time.dateTime);
    time.title = time.textContent;
    time.textContent = when.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  }
}

// A log shows its end. Somebody who scrolled up to read is left there.
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

// Which <details> are open survives a swap of their card.
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

// What the chosen option says of other fields, in Open OnDemand's words: data-label-cores,
// data-max-cores, data-hide-gpu. A hidden field is not sent; one with a mistake stays to be read.
function followChoice(select) {
  for (const { name, value } of select.selectedOptions[0]?.attributes ?? []) {
    const [, what, id] = /^data-(label|max|hide)-(.+)$/.exec(name) ?? [];
    const field = id && document.getElementById(id);
    if (!field) continue;
    if (what === "label") field.labels[0].firstChild.data = value;
    if (what === "max" && value) field.max = value;
    if (what === "max" && !value) field.removeAttribute("max");
    if (what === "hide") {
      field.disabled = value === "true" && !field.matches("[aria-invalid]");
      field.closest(".field").hidden = field.disabled;
    }
  }
}
document.addEventListener("change", (event) => {
  if (event.target.matches("select")) followChoice(event.target);
});
// Last of a load: by then a browser has put back what was chosen before.
window.addEventListener("pageshow", () => document.querySelectorAll("select").forEach(followChoice));

// What cannot be taken back is asked about first.
document.addEventListener("submit", (event) => {
  const sure = event.submitter?.dataset.sure ?? event.target.dataset.sure;
  if (sure && !confirm(sure)) event.preventDefault();
});

// A form that must not be sent twice.
document.addEventListener("submit", (event) => {
  const once = event.target.dataset.once;
  if (!once) return;
  if (event.target.dataset.sent) return event.preventDefault();
  event.target.dataset.sent = "yes";
  const button = event.target.querySelector("[type=submit]");
  button.textContent = once;
  button.setAttribute("aria-disabled", "true");
});
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

// A path to the clipboard, where the browser has one for pages (https, or this machine).
for (const button of navigator.clipboard ? document.querySelectorAll("[data-copy]") : []) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const said = document.getElementById("copied");
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      said.textContent = "Copied.";
    } catch {
      said.textContent = "The browser did not let it be copied.";
    }
  });
}

document.addEventListener("htmx:afterSettle", () => dress(document));
document.addEventListener("htmx:oobAfterSwap", () => dress(document));
dress(document);
for (const element of document.querySelectorAll("[data-poll-seconds]")) startPolling(element);
document.querySelector("[aria-invalid=true]")?.focus();
