// Notices: a session started, ended, or is about to reach its time limit. Every answer to a page's
// poll tells how the sessions stand ("sessions" below); what changed since any tab last heard of it
// is shown once, in the page that is looked at, in its title and, where the user allowed it, by the
// browser. What was heard is kept for all tabs in localStorage: a reload says nothing again.

const script = document.getElementById("notices-script");
const { user, now, icons } = script.dataset;
const HEARD = `ood-heard-${user}`; // {at, stands: {session id: standing}}
const WAITING = `ood-notices-${user}`; // notices that no tab has shown yet
const KEPT = 200; // sessions
const RANK = { queued: 0, running: 1, ending: 2 }; // an outcome is the last

const region = document.getElementById("notices");
const title = document.title;

const read = (key, otherwise) => {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
};
const write = (key, value) => localStorage.setItem(key, JSON.stringify(value));
const alone = (work) => navigator.locks?.request("ood-notices", work) ?? work();

// Of what was there before this browser first came, nothing is told.
if (!localStorage.getItem(HEARD)) write(HEARD, { at: Number(now), stands: {} });

document.addEventListener("sessions", ({ detail }) =>
  alone(async () => {
    const heard = read(HEARD, { at: detail.at, stands: {} });
    const news = [];
    for (const [id, createdAt, standing] of detail.sessions) {
      const before = heard.stands[id] ?? (createdAt >= heard.at ? "queued" : standing);
      if ((RANK[standing] ?? 3) > (RANK[before] ?? 3)) news.push([id, standing]);
      heard.stands[id] = standing;
    }
    heard.at = detail.at;
    heard.stands = Object.fromEntries(Object.entries(heard.stands).slice(-KEPT));
    write(HEARD, heard);
    for (const [id, standing] of news) await tell(id, standing);
    show();
  }),
);

async function tell(id, standing) {
  const answer = await fetch(`/sessions/${id}`, { headers: { Accept: "application/json" } });
  if (!answer.ok) return; // deleted meanwhile
  const session = await answer.json();
  const name = session.job_id ? `${session.title} (${session.job_id})` : session.title;
  const text = `${name} ${says(standing, session)}`;
  write(WAITING, [...read(WAITING, []), { id, standing, text }]);
  if (document.hidden && allowed()) {
    const notification = new Notification(text, { tag: `${id} ${standing}` });
    notification.addEventListener("click", () => {
      window.focus();
      location.assign(`/sessions/${id}`);
    });
  }
}

function says(standing, session) {
  const minutes = Math.max(1, Math.round(session.time_remaining / 60));
  switch (standing) {
    case "running":
      return session.connect_url ? "is running: you can connect to it now." : "has started.";
    case "ending":
      return `reaches its time limit in ${minutes} minute${minutes === 1 ? "" : "s"}. Save your work.`;
    case "succeeded":
      return "has ended: it succeeded.";
    case "failed":
      return "failed. Its card says why.";
    case "cancelled":
      return "was cancelled.";
    case "timed-out":
      return "reached its time limit and was ended.";
    case "out-of-memory":
      return "used more memory than it asked for and was ended.";
    default:
      return "has ended.";
  }
}

// What waits is shown by the first tab that is looked at.
function show() {
  const waiting = read(WAITING, []);
  if (document.hidden) return count(waiting.length);
  if (waiting.length) write(WAITING, []);
  for (const notice of waiting) {
    region.querySelector(`[data-session="${notice.id}"]`)?.remove(); // what it says is over
    region.append(element(notice));
  }
  while (region.children.length > 3) region.firstElementChild.remove();
  count(region.children.length);
}

function element({ id, standing, text }) {
  const notice = document.createElement("div");
  notice.className = `toast ${standing}`;
  notice.dataset.session = id;
  const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  icon.setAttribute("class", "icon");
  icon.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `${icons}#${standing}`);
  icon.append(use);
  const said = document.createElement("p");
  said.textContent = `${text} `;
  const card = document.createElement("a");
  card.href = `/sessions/${id}`;
  card.textContent = "Show its card";
  said.append(card);
  const close = document.createElement("button");
  close.type = "button";
  close.className = "quiet small";
  close.textContent = "Dismiss";
  close.addEventListener("click", () => {
    notice.remove();
    count(region.children.length);
  });
  notice.append(icon, said, close);
  return notice;
}

function count(notices) {
  document.title = notices ? `(${notices}) ${title}` : title;
}

document.addEventListener("visibilitychange", () => document.hidden || alone(async () => show()));
window.addEventListener("storage", (event) => {
  if (event.key === WAITING) alone(async () => show());
});

// The browser's own notices are asked for by a button, never by themselves.
function allowed() {
  return "Notification" in window && Notification.permission === "granted";
}
for (const button of document.querySelectorAll("[data-allow-notices]")) {
  button.hidden = !("Notification" in window) || Notification.permission !== "default";
  button.addEventListener("click", async () => {
    const said = document.getElementById("notices-allowed");
    const permission = await Notification.requestPermission();
    button.hidden = permission !== "default";
    said.textContent =
      permission === "granted"
        ? "This browser tells you when a session starts or ends, while a page of the portal is open."
        : "The browser was not allowed to. You can allow it in the browser’s settings for this site.";
  });
}
show();
