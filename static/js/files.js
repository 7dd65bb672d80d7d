// The File Manager's pages: selecting a range, the count of selected items, keyboard shortcuts.

// The letter on a key in the user's layout, or its place if the layout has none of a to z there.
const letter = ({ key, code }) => (/^[a-z]$/i.test(key) ? key : code.replace(/^Key/, "")).toLowerCase();

function selection(form) {
  const all = form.querySelector("[name=all]");
  const boxes = [...form.querySelectorAll("[name=name]")];
  const said = document.getElementById("selected");
  let last = null; // index of the first box of a range
  let shift = false; // whether Shift is held: a change event does not say

  const count = () => (all.checked ? Number(all.dataset.of) : boxes.filter((box) => box.checked).length);
  function show() {
    const number = count();
    const text = number ? `${number} selected` : "";
    if (said.textContent !== text) said.textContent = text;
    for (const button of form.querySelectorAll("[data-needs]")) {
      button.disabled = button.dataset.needs === "one" ? number !== 1 : number === 0;
    }
  }
  function setAll(checked) {
    all.checked = checked;
    for (const box of boxes) box.checked = checked;
    show();
  }
  all.addEventListener("change", () => setAll(all.checked));
  for (const type of ["keydown", "keyup", "mousedown"]) {
    form.addEventListener(type, (event) => (shift = event.shiftKey), true);
  }
  form.addEventListener("change", (event) => {
    const here = boxes.indexOf(event.target);
    if (here < 0) return;
    if (shift && last !== null) {
      const [from, to] = last < here ? [last, here] : [here, last];
      for (const box of boxes.slice(from, to + 1)) box.checked = event.target.checked;
    }
    last = here;
    all.checked = boxes.length === Number(all.dataset.of) && boxes.every((box) => box.checked);
    show();
  });
  form.addEventListener("keydown", (event) => {
    const here = boxes.indexOf(event.target);
    if (here < 0 || event.altKey || event.metaKey) return;
    const press = (action) => form.querySelector(`button[value=${action}]:enabled`)?.click();
    if (event.ctrlKey) {
      if (letter(event) !== "a") return;
      setAll(!all.checked);
    } else if (event.key === "ArrowUp") boxes[here - 1]?.focus();
    else if (event.key === "ArrowDown") boxes[here + 1]?.focus();
    else if (event.key === "Home") boxes[0].focus();
    else if (event.key === "End") boxes.at(-1).focus();
    else if (event.key === "Delete") press("delete");
    else if (event.key === "F2") press("rename");
    else return;
    event.preventDefault();
  });
  // The names are not sent when all items are selected: there may be more than one page of them.
  form.addEventListener("formdata", (event) => {
    if (all.checked) event.formData.delete("name");
  });
  show();
  window.addEventListener("pageshow", show); // the browser's Back restores the selection
}

// Ask for confirmation before leaving a page with unsaved text, and let users type tabs.
function typing(form) {
  const text = form.querySelector("textarea");
  const kept = document.querySelector("[role=alert].notice") !== null;
  const changed = () => kept || text.value !== text.defaultValue;
  let sent = false;
  form.addEventListener("submit", () => (sent = true));
  form.addEventListener("keydown", (event) => {
    if (letter(event) !== "s" || !(event.ctrlKey || event.metaKey) || event.altKey) return;
    event.preventDefault();
    form.requestSubmit(form.querySelector("[name=stay]"));
  });
  window.addEventListener("beforeunload", (event) => {
    if (!sent && changed()) event.preventDefault();
  });
  const [tabs, said] = document.querySelectorAll("#tabs input, #tabs [role=status]");
  let leaving = false; // after Esc, Tab leaves the text
  document.getElementById("tabs").hidden = false;
  tabs.addEventListener("change", () => (said.textContent = tabs.checked ? "Tab types a tab" : "Tab leaves the text"));
  text.addEventListener("blur", () => (leaving = false));
  text.addEventListener("keydown", (event) => {
    const { altKey, ctrlKey, key, metaKey, shiftKey } = event;
    if (ctrlKey && !altKey && !shiftKey && letter(event) === "m") tabs.click();
    else if (key === "Tab" && tabs.checked && !leaving && !(altKey || ctrlKey || metaKey || shiftKey)) {
      document.execCommand("insertText", false, "\t"); // which can be undone
    } else {
      if (key !== "Shift") leaving = key === "Escape";
      return;
    }
    event.preventDefault();
  });
}

for (const form of document.querySelectorAll("[data-selection]")) {
  if (form.querySelector("[name=all]")) selection(form);
}
for (const form of document.querySelectorAll("[data-typed]")) typing(form);
