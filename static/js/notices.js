// Notices that a session has started, ended or is about to reach its time limit. Every poll returns the
// sessions' states (the "sessions" event below). Each change is shown once: in the visible tab, in its
// title and, if the user allowed it, as a browser notification. localStorage holds what all tabs have
// already seen, so a reload does not repeat it.

const script = document.getElementById("notices-script");
const { user, now, icons } = script.dataset;
const HEARD = `ood-heard-${user}`; // {at, stands: {session id: state}}
const WAITING = `ood-notices-${user}`; // notices not yet shown in any tab
const KEPT = 200; // sessions
const RANK = { queued: 0, running: 1, ending: 2 }; // an outcome ranks last

const region = document.getElementById("page-notices");
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

// Do not report sessions from before this browser's first visit.
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
  if (!answer.ok) return; // the session has been deleted
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
      return session.connect_url ? "is ready. You can connect to it now." : "has started.";
    case "ending":
      return `will reach its time limit in ${minutes} minute${minutes === 1 ? "" : "s"}. Save your work.`;
    case "succeeded":
      return "succeeded.";
    case "failed":
      return "failed. See its card for the reason.";
    case "cancelled":
      return "was cancelled.";
    case "timed-out":
      return "reached its time limit and was stopped.";
    case "out-of-memory":
      return "used more memory than it requested and was stopped.";
    default:
      return "has ended.";
  }
}

// The first visible tab shows the waiting notices.
function show() {
  const waiting = read(WAITING, []);
  if (document.hidden) return count(waiting.length);
  if (waiting.length) write(WAITING, []);
  for (const notice of waiting) {
    region.querySelector(`[data-session="${notice.id}"]`)?.remove(); // out of date
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
  card.textContent = "Show card";
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

// Permission for browser notifications is requested only by a button.
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
        ? "This browser will notify you when a session starts or ends, while a portal page is open."
        : "Notifications are blocked. You can allow them in your browser’s settings for this site.";
  });
}
show();
