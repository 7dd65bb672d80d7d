// The top bar. Its menus are <details>, which work without scripts. This closes them on Escape, on a
// click elsewhere and when the focus leaves, and applies a theme without a reload.

const menus = [...document.querySelectorAll(".bar details.menu")];

function closeAll(but) {
  for (const menu of menus) if (menu !== but) menu.open = false;
}

for (const menu of menus) {
  // For browsers that do not support <details name>: only one menu is open at a time.
  menu.addEventListener("toggle", () => menu.open && closeAll(menu));
  menu.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
  });
}
document.addEventListener("click", (event) => closeAll(event.target.closest("details.menu")));

const button = document.getElementById("menu-button");
function unfold(open) {
  document.getElementById("page-menus").classList.toggle("open", open);
  button.setAttribute("aria-expanded", String(open));
}
button?.addEventListener("click", () => unfold(button.getAttribute("aria-expanded") !== "true"));

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = menus.find((each) => each.open);
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  } else if (button?.getAttribute("aria-expanded") === "true") {
    unfold(false);
    button.focus();
  }
});

// Send the theme form in the background and change the theme of this page.
document.getElementById("page-theme").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  const chosen = event.submitter;
  const answer = await fetch(form.action, {
    method: "POST",
    body: new FormData(form, chosen),
    redirect: "manual",
  });
  if (answer.status && !answer.ok) return form.submit(); // shows the portal's error page
  const root = document.documentElement;
  if (chosen.value) root.dataset.theme = chosen.value;
  else delete root.dataset.theme;
  document.querySelector("meta[name=color-scheme]").content = chosen.value || "light dark";
  for (const each of form.querySelectorAll("button")) {
    each.setAttribute("aria-pressed", String(each === chosen));
  }
});
