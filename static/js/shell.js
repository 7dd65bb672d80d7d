// A shell in the page: xterm.js is the terminal, and one WebSocket carries input and output. The
// control messages are listed in ood/shells/shell.py.

import { Terminal } from "../vendor/xterm-6.0.0.mjs";
import { FitAddon } from "../vendor/xterm-addon-fit-0.11.0.mjs";
import { SearchAddon } from "../vendor/xterm-addon-search-0.16.0.mjs";
import { Unicode11Addon } from "../vendor/xterm-addon-unicode11-0.9.0.mjs";
import { WebLinksAddon } from "../vendor/xterm-addon-web-links-0.12.0.mjs";

const PIECE = 16 * 1024; // bytes of input per message
const UNTAKEN = 64 * 1024; // bytes of input sent but not yet acknowledged
const UNSHOWN = 32 * 1024; // bytes of output shown between acknowledgements
const SILENT = 50000; // ms without a message after which the connection counts as dropped
const PATIENCE = 600000; // ms that a shell keeps running without its page

const $ = (id) => document.getElementById(id);
const place = $("shell");
const address = new URL(location.href);

// ---- The terminal

// The page's content security policy allows xterm.js's style elements only with this nonce.
const createElement = document.createElement.bind(document);
document.createElement = (name, ...rest) => {
  const element = createElement(name, ...rest);
  if (name === "style") element.nonce = place.dataset.styleNonce;
  return element;
};
// The policy allows no style attributes, which xterm.js uses for 24-bit colours. Setting the same
// text through element.style is allowed.
HTMLSpanElement.prototype.setAttribute = function (name, value) {
  if (name === "style") this.style.cssText = value;
  else Element.prototype.setAttribute.call(this, name, value);
};

// ANSI colours with enough contrast on the portal's background.
const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
const COLOURS = {
  light: "#17212b #a8231d #1b6a36 #735000 #1a5f8c #8a2a83 #0b6771 #5a6672 #4c5a68 #c4302a #23803f #8a6100 #2272a8 #a1349a #0f7d88 #76828f",
  dark: "#2b3844 #ff8a82 #7bd699 #ecc66a #7cc0ee #e3a0dd #72d3dc #d4dde5 #7d8b99 #ff9d96 #93e3ac #f5d68a #a3d4f5 #eebbe9 #97e4eb #ffffff",
};

function theme() {
  const { backgroundColor, color } = getComputedStyle(place);
  const [red, green, blue] = backgroundColor.match(/[\d.]+/g).map(Number);
  const dark = red * 3 + green * 6 + blue < 1280;
  const colours = COLOURS[dark ? "dark" : "light"].split(" ");
  const found = { background: backgroundColor, foreground: color, cursor: color, cursorAccent: backgroundColor };
  found.selectionBackground = dark ? "#3d5a73" : "#b9d6ec";
  NAMES.forEach((name, at) => {
    found[name] = colours[at];
    found[`bright${name[0].toUpperCase()}${name.slice(1)}`] = colours[at + 8];
  });
  return found;
}

function openLink(event, text) {
  if (!(event.ctrlKey || event.metaKey) || !/^https?:\/\//i.test(text)) return;
  window.open(text, "_blank", "noopener,noreferrer");
}
const tell = { hover: (_event, text) => (place.title = `Ctrl+click: ${text}`), leave: () => (place.title = "") };

const terminal = new Terminal({
  allowProposedApi: true, // needed by the Unicode 11 addon
  cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches,
  fontFamily: '"DejaVu Sans Mono", "Liberation Mono", Menlo, Consolas, monospace',
  fontSize: Number(localStorage.getItem("shell-font")) || 14,
  linkHandler: { activate: openLink, ...tell },
  minimumContrastRatio: 4.5,
  screenReaderMode: localStorage.getItem("shell-reader") === "1",
  scrollback: 10000,
  theme: theme(),
});
const fit = new FitAddon();
const search = new SearchAddon();
terminal.loadAddon(fit);
terminal.loadAddon(search);
terminal.loadAddon(new WebLinksAddon(openLink, tell));
terminal.loadAddon(new Unicode11Addon());
terminal.unicode.activeVersion = "11";
terminal.open(place);
terminal.textarea.setAttribute("aria-describedby", "shell-leave");
fit.fit();
terminal.focus();

new ResizeObserver(() => fit.fit()).observe(place);
const recolour = () => (terminal.options.theme = theme());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
new MutationObserver(recolour).observe(document.documentElement, { attributes: true });

const site = document.title;
terminal.onTitleChange((title) => (document.title = title ? `${title} · ${site}` : site));

// ---- Status and notices

const state = (text) => ($("shell-state").textContent = text);

// Show a notice above the terminal, with offers of the form [text, address or function].
function notice(text, bad = false, ...offers) {
  $("shell-notice").replaceChildren();
  if (!text) return;
  const paragraph = document.createElement("p");
  paragraph.className = bad ? "notice bad" : "notice wait";
  paragraph.append(text);
  for (const [label, does] of offers) {
    const offer = document.createElement(typeof does === "string" ? "a" : "button");
    offer.className = "button small";
    offer.textContent = label;
    if (typeof does === "string") offer.href = does;
    else offer.type = "button";
    if (typeof does === "function") offer.addEventListener("click", does);
    paragraph.append(" ", offer);
  }
  $("shell-notice").append(paragraph);
}
const another = ["Open a new shell", place.dataset.new];
const signIn = ["Sign in", place.dataset.signIn];

// ---- The connection

let socket;
let shell = address.searchParams.get("shell");
let over = false; // the shell has ended
let received = null; // offset of the last byte received
let shown = 0;
let told = 0;
let replayed = 0; // output before this offset is replayed: the terminal's replies to it are dropped
let input = []; // input not yet sent
let sent = 0;
let taken = 0;
let heard = 0;
let brokenSince = null;
let retry;

function connect() {
  clearTimeout(retry);
  const asked = new URL(address);
  asked.protocol = asked.protocol.replace("http", "ws");
  asked.hash = "";
  asked.searchParams.set("columns", terminal.cols);
  asked.searchParams.set("rows", terminal.rows);
  if (shell) asked.searchParams.set("shell", shell);
  if (received !== null) asked.searchParams.set("seen", received);
  socket = new WebSocket(asked);
  socket.binaryType = "arraybuffer";
  heard = Date.now();
  const here = socket;
  here.onmessage = ({ data }) => {
    heard = Date.now();
    if (here !== socket) return;
    if (typeof data === "string") hear(JSON.parse(data));
    else show(new Uint8Array(data));
  };
  here.onclose = () => here === socket && broken();
}

function say(facts) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(facts));
}

function hear(word) {
  if ("shell" in word) begin(word);
  if ("taken" in word) {
    taken = Math.min(word.taken, sent);
    type();
  }
  if ("notice" in word) notice(word.notice);
  if ("end" in word) end(word.end, word.message);
}

function begin(word) {
  shell = word.shell;
  address.searchParams.delete("job");
  address.searchParams.set("shell", shell);
  history.replaceState(null, "", address);
  $("shell-title").textContent = word.title;
  brokenSince = null;
  sent = taken = 0;
  state("Connected");
  notice("");
  if (word.from !== received) {
    if (received !== null) terminal.reset();
    received = shown = told = word.from;
    replayed = word.replay;
    terminal.write(word.prelude);
  }
  told = shown;
  say({ columns: terminal.cols, rows: terminal.rows, shown });
  if (word.redraw) {
    // Editors and pagers redraw the screen when the size changes.
    say({ columns: Math.max(terminal.cols - 1, 1), rows: terminal.rows });
    setTimeout(() => say({ columns: terminal.cols, rows: terminal.rows }), 200);
  }
  type();
}

function show(bytes) {
  received += bytes.length;
  const upTo = received;
  terminal.write(bytes, () => {
    shown = upTo;
    if (shown - told < UNSHOWN) return;
    told = shown;
    say({ shown });
  });
}

const encoder = new TextEncoder();
function take(bytes) {
  if (over || shown < replayed) return; // replies to replayed output
  for (let at = 0; at < bytes.length; at += PIECE) input.push(bytes.subarray(at, at + PIECE));
  type();
}
function type() {
  while (input.length && socket.readyState === WebSocket.OPEN && sent - taken < UNTAKEN) {
    sent += input[0].length;
    socket.send(input.shift());
  }
}
terminal.onData((text) => take(encoder.encode(text)));
terminal.onBinary((text) => take(Uint8Array.from(text, (character) => character.charCodeAt(0))));
terminal.onResize(({ cols, rows }) => say({ columns: cols, rows }));

function end(why, message) {
  over = true;
  state(why === "elsewhere" ? "Open elsewhere" : "Ended");
  terminal.options.disableStdin = true;
  terminal.options.cursorBlink = false;
  if (why === "elsewhere") {
    notice(message, false, ["Show it here", () => location.reload()], another);
  } else if (why === "signed-out" || why === "sign-in-expired") {
    notice(message, true, signIn);
  } else {
    notice(message, why !== "exited" && why !== "closed", another);
  }
}

// The connection dropped: ask the portal for the shell's state, and reconnect if it is still running.
async function broken() {
  if (over) return;
  const now = Date.now();
  brokenSince ??= now;
  state("Disconnected");
  if (!shell) {
    const answer = await ask();
    if (over) return;
    if (answer === 401) return end("signed-out", "You are signed out. Sign in to open a shell.");
    over = true;
    return notice("The portal could not be reached, so no shell was opened.", true, another);
  }
  const answer = await ask();
  if (over) return;
  if (answer === 401) {
    return end("signed-out", "You are signed out, or the portal was restarted, so this shell has ended.");
  }
  if (answer === 404) return end("left", "This shell ended while the connection was down.");
  if (now - brokenSince > PATIENCE) {
    return end("left", "The connection was down for ten minutes, so this shell has ended.");
  }
  const what = answer ? "The connection to this shell dropped." : "The portal is not responding.";
  notice(`${what} Trying to reconnect. The shell keeps running for ten minutes.`, false, another);
  retry = setTimeout(connect, Math.min(500 + (now - brokenSince) / 4, 5000));
}
// The status code of the portal's answer about this shell; 0 if there is no answer.
async function ask() {
  try {
    const asked = new URL(address);
    if (shell) asked.searchParams.set("shell", shell);
    const limit = AbortSignal.timeout(10000);
    return (await fetch(asked, { headers: { Accept: "application/json" }, cache: "no-store", signal: limit })).status;
  } catch {
    return 0;
  }
}
function cut() {
  const old = socket;
  socket = { readyState: WebSocket.CLOSED };
  old.close();
  broken();
}
window.addEventListener("offline", () => brokenSince === null && !over && cut());
window.addEventListener("online", () => brokenSince !== null && !over && connect());
setInterval(() => {
  if (socket.readyState === WebSocket.OPEN && Date.now() - heard > SILENT) cut();
}, 5000);

// ---- Keys and buttons

async function copy() {
  const text = terminal.getSelection();
  if (!text) return state("Select some text first");
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else document.execCommand("copy");
    state("Copied");
  } catch {
    state("Your browser did not allow copying");
  }
}
async function paste() {
  try {
    terminal.paste(await navigator.clipboard.readText());
  } catch {
    state("Your browser did not allow pasting. Press Ctrl+Shift+V");
  }
  terminal.focus();
}
function toggle(part, button, focus) {
  $(part).hidden = !$(part).hidden;
  $(button).setAttribute("aria-expanded", String(!$(part).hidden));
  if ($(part).hidden) terminal.focus();
  else focus?.focus();
}
const find = () => {
  toggle("shell-search", "shell-find", $("shell-text"));
  if ($("shell-search").hidden) search.clearDecorations();
};

// The letter on a key in the user's layout, or its place if the layout has none of a to z there.
const letter = ({ key, code }) => (/^[a-z]$/i.test(key) ? key : code.replace(/^Key/, "")).toLowerCase();
const KEYS = { c: copy, f: find };
terminal.attachCustomKeyEventHandler((event) => {
  if (event.ctrlKey && event.key === "F6") {
    if (event.type === "keydown") $("shell-copy").focus();
    event.preventDefault();
    return false;
  }
  if (!event.ctrlKey || !event.shiftKey || event.altKey) return !(event.shiftKey && event.key === "Insert");
  if (letter(event) === "v") return false; // the browser pastes
  const does = KEYS[letter(event)];
  if (!does) return true;
  if (event.type === "keydown") does();
  event.preventDefault();
  return false;
});

$("shell-copy").addEventListener("click", copy);
$("shell-paste").hidden = !navigator.clipboard?.readText;
$("shell-paste").addEventListener("click", paste);
$("shell-find").addEventListener("click", find);
$("shell-help-button").addEventListener("click", () => toggle("shell-help", "shell-help-button"));

function look(forward) {
  const found = forward ? search.findNext($("shell-text").value) : search.findPrevious($("shell-text").value);
  $("shell-found").textContent = found ? "" : "Not found";
}
$("shell-search").addEventListener("submit", (event) => {
  event.preventDefault();
  look(false);
});
$("shell-next").addEventListener("click", () => look(true));
$("shell-search").addEventListener("keydown", (event) => event.key === "Escape" && find());

function resizeText(by) {
  const size = Math.min(Math.max(terminal.options.fontSize + by, 8), 32);
  terminal.options.fontSize = size;
  localStorage.setItem("shell-font", size);
  fit.fit();
  state(`Text size ${size}`);
}
$("shell-smaller").addEventListener("click", () => resizeText(-1));
$("shell-larger").addEventListener("click", () => resizeText(1));

$("shell-reader").checked = terminal.options.screenReaderMode;
$("shell-reader").addEventListener("change", ({ target }) => {
  terminal.options.screenReaderMode = target.checked;
  localStorage.setItem("shell-reader", target.checked ? "1" : "0");
});

$("shell-close").addEventListener("click", async () => {
  if (over || !shell) return location.assign(place.dataset.close);
  if (!confirm("Close this shell? Any program running in it is stopped.")) return;
  const body = new URLSearchParams({ shell, csrf_token: place.dataset.csrf });
  await fetch(place.dataset.close, { method: "POST", body, redirect: "manual" }).catch(() => {});
});

connect();
