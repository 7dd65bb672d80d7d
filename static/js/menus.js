// The bar at the top: menus are <details>, which open without any of this. Here they close on
// Escape, on a click elsewhere and when the focus leaves, and a theme is taken without a reload.

const menus = [...document.querySelectorAll(".bar details.menu")];

function closeAll(but) {
  for (const menu of menus) if (menu !== but) menu.open = false;
}

for (const menu of menus) {
  // One at a time, where the browser does not see to it by their common name.
  menu.addEventListener("toggle", () => menu.open && closeAll(menu));
  menu.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
  });
}
document.addEventListener("click", (event) => closeAll(event.target.closest("details.menu")));

const button = document.getElementById("menu-button");
function unfold(open) {
  document.getElementById("menus").classList.toggle("open", open);
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

// The theme: the form is sent as it is, and the page changes where it stands.
document.getElementById("theme").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  const chosen = event.submitter;
  const answer = await fetch(form.action, {
    method: "POST",
    body: new FormData(form, chosen),
    redirect: "manual",
  });
  if (answer.status && !answer.ok) return form.submit(); // the portal says what is wrong
  const root = document.documentElement;
  if (chosen.value) root.dataset.theme = chosen.value;
  else delete root.dataset.theme;
  document.querySelector("meta[name=color-scheme]").content = chosen.value || "light dark";
  for (const each of form.querySelectorAll("button")) {
    each.setAttribute("aria-pressed", String(each === chosen));
  }
});
