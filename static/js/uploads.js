// Uploads in parts, with progress, which resume after the connection drops. POST asks the portal which
// parts it has, PUT sends a part, and DELETE removes an unfinished upload.

const PART = 64 * 1024 * 1024; // bytes per request: the portal's maximum
const AT_ONCE = 2;
const PLANNED = 500; // files per POST
const LONGEST_WAIT = 30_000; // ms between attempts while the portal is not responding
const TRIES = 5; // attempts at a part that makes no progress although the portal responds

const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
function size(count) {
  let unit = 0;
  while (count >= 999.5 && unit < 4) [count, unit] = [count / 1024, unit + 1];
  return `${unit ? count.toPrecision(3).replace(/\.?0+$/, "") : count} ${units[unit]}`;
}
const many = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

class Refused extends Error {
  constructor(status, answer) {
    super(answer?.error?.message ?? "The portal did not accept this file. Try again.");
    this.status = status;
    this.code = answer?.error?.code;
    this.offset = answer?.offset;
  }
}

function start(box) {
  const address = box.dataset.address;
  const token = box.querySelector("[name=csrf_token]").value;
  const list = box.querySelector("ul.uploads");
  const all = box.querySelector("[data-all]");
  const said = box.querySelector("[data-said]");
  const dialog = box.querySelector("dialog");
  const queue = [];
  const active = new Set();
  const sum = { files: 0, done: 0, failed: 0, cancelled: 0, bytes: 0, sent: 0 };
  let asking = Promise.resolve(); // the open question: only one at a time

  // ---- Requests

  function send(method, query, body, type, item) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open(method, address + query);
      request.setRequestHeader("X-CSRFToken", token);
      request.setRequestHeader("Accept", "application/json");
      if (type) request.setRequestHeader("Content-Type", type);
      request.onerror = request.ontimeout = () => reject(new TypeError("no answer"));
      request.onabort = () => reject(new DOMException("", "AbortError"));
      request.onload = () => {
        let answer = null;
        try {
          answer = JSON.parse(request.responseText);
        } catch {
          // for example, a web server's own error page
        }
        if (request.status < 300) resolve(answer);
        else if ([502, 504].includes(request.status) || (request.status === 503 && !answer?.error)) {
          reject(new TypeError("no answer")); // from the web server in front of the portal
        } else reject(new Refused(request.status, answer));
      };
      if (item) {
        item.request = request;
        request.upload.onprogress = (event) => item.shows(item.offset + event.loaded);
      }
      request.send(body);
    });
  }
  const facts = (item) => ({ name: item.path, size: item.file.size, modified: item.file.lastModified });
  function plan(items, directories = []) {
    const body = JSON.stringify({ files: items.map(facts), directories });
    return send("POST", "", body, "application/json").then((answer) => answer.files);
  }
  const query = (item, more) => `?${new URLSearchParams({ ...facts(item), ...more })}`;

  // ---- One file

  class Item {
    constructor(file, path) {
      Object.assign(this, { file, path, offset: 0, ifThere: "refuse", cancelled: false, counted: 0 });
    }

    begins() {
      this.row = document.createElement("li");
      const name = document.createElement("bdi");
      name.textContent = this.path;
      this.bar = document.createElement("progress");
      this.bar.max = Math.max(this.file.size, 1);
      this.bar.setAttribute("aria-label", this.path);
      this.text = document.createElement("span");
      this.text.className = "help";
      this.button = document.createElement("button");
      Object.assign(this.button, { type: "button", className: "quiet small", textContent: "Cancel" });
      this.button.setAttribute("aria-label", `Cancel ${this.path}`);
      this.button.addEventListener("click", () => this.cancel());
      this.row.append(name, this.bar, this.text, this.button);
      list.append(this.row);
      this.shows(this.offset);
    }

    shows(sent, text = `${size(sent)} of ${size(this.file.size)}`) {
      sent = Math.min(sent, this.file.size);
      this.bar.value = sent;
      this.text.textContent = text;
      sum.sent += sent - this.counted;
      this.counted = sent;
      showAll();
    }

    fails(message) {
      this.shows(this.offset, message);
      this.row.classList.add("failed");
      this.bar.remove();
      this.button.textContent = "Dismiss";
      this.button.setAttribute("aria-label", `Dismiss ${this.path}`);
      this.button.onclick = () => this.row.remove();
      sum.failed += 1;
    }

    cancel() {
      if (!active.has(this)) return;
      this.cancelled = true;
      this.request?.abort();
      this.wakes?.();
    }

    async goes() {
      this.begins();
      try {
        await this.sends();
        sum.done += 1;
        this.shows(this.file.size);
        this.row.remove();
      } catch (error) {
        if (this.cancelled) {
          sum.cancelled += 1;
          this.row.remove();
          await send("DELETE", query(this)).catch(() => {}); // anything left is listed as unfinished
        } else this.fails(error instanceof Refused ? error.message : "This file cannot be read.");
      }
    }

    async sends() {
      let wait = 1000;
      let tries = 0;
      for (;;) {
        if (this.cancelled) throw new Error("cancelled");
        try {
          if (this.lost) {
            const [known] = await plan([this]);
            this.offset = known.offset;
            this.lost = false;
          }
          const part = this.file.slice(this.offset, this.offset + PART);
          if (part.size) await part.slice(0, 1).arrayBuffer(); // fails here if the file no longer exists
          const more = { offset: this.offset, if_there: this.ifThere };
          const answer = await send("PUT", query(this, more), part, "application/octet-stream", this);
          [this.offset, wait, tries] = [answer.offset, 1000, 0];
          if (answer.done) return;
        } catch (error) {
          if (this.cancelled) throw error;
          if (error.code === "upload-elsewhere") {
            if ((tries += 1) > TRIES) throw error;
            this.offset = error.offset;
            await this.rests(tries * 300); // an earlier request may still be running
          } else if (error.code === "file-exists" && this.ifThere === "refuse") {
            this.ifThere = await asks([this]);
            if (this.ifThere === "skip") this.cancelled = true;
            this.lost = true;
          } else if (error instanceof TypeError || error.status === 503) {
            this.shows(this.offset, error.status ? "Waiting for other uploads…" : "The connection dropped. Trying again…");
            await this.rests(wait);
            wait = Math.min(wait * 2, LONGEST_WAIT);
            this.lost = true;
          } else throw error;
        }
      }
    }

    rests(ms) {
      return Promise.race([pause(ms), new Promise((done) => (this.wakes = done))]);
    }
  }

  // ---- All of them

  async function add(chosen, directories = []) {
    if (!chosen.length && !directories.length) return;
    box.open = true;
    said.hidden = true;
    const items = chosen.map(({ file, path }) => new Item(file, path));
    const taken = [];
    try {
      for (let at = 0; at < Math.max(items.length, directories.length); at += PLANNED) {
        const some = items.slice(at, at + PLANNED);
        const known = await plan(some, directories.slice(at, at + PLANNED));
        known.forEach(({ offset, there }, number) => {
          some[number].offset = offset;
          if (there) taken.push(some[number]);
        });
      }
    } catch (error) {
      return say(error instanceof Refused ? error.message : "The portal is not responding. Try again.", true);
    }
    const answer = taken.length ? await asks(taken) : "";
    for (const item of taken) item.ifThere = answer;
    const going = items.filter((item) => item.ifThere !== "skip");
    queue.push(...going);
    sum.files += going.length;
    sum.bytes += going.reduce((bytes, item) => bytes + item.file.size, 0);
    showAll();
    for (let worker = active.size; worker < AT_ONCE; worker += 1) work();
    if (!going.length) finish();
  }

  async function work() {
    const item = queue.shift();
    if (!item) return;
    active.add(item);
    await item.goes();
    active.delete(item);
    showAll();
    if (queue.length) work();
    else if (!active.size) finish();
  }

  function asks(items) {
    const question = asking.then(
      () =>
        new Promise((answered) => {
          const names = dialog.querySelector("ul");
          names.replaceChildren(
            ...items.slice(0, 20).map((item) => {
              const line = document.createElement("li");
              line.textContent = item.path;
              return line;
            }),
          );
          if (items.length > 20) names.append(`and ${items.length - 20} more`);
          dialog.returnValue = "skip"; // for Escape
          dialog.addEventListener("close", () => answered(dialog.returnValue || "skip"), { once: true });
          dialog.showModal();
        }),
    );
    asking = question;
    return question;
  }
  for (const button of dialog.querySelectorAll("button")) {
    button.addEventListener("click", () => dialog.close(button.value));
  }

  function showAll() {
    all.hidden = !active.size && !queue.length;
    const bar = all.querySelector("progress");
    bar.max = Math.max(sum.bytes, 1);
    bar.value = sum.sent;
    const files = `${sum.done} of ${many(sum.files, "file")}`;
    all.querySelector("p").textContent = `${files}, ${size(sum.sent)} of ${size(sum.bytes)}`;
  }

  function finish() {
    const text = [
      sum.done && `${many(sum.done, "file")} uploaded.`,
      sum.failed && `${many(sum.failed, "file")} could not be uploaded.`,
      sum.cancelled && `${many(sum.cancelled, "upload")} cancelled.`,
    ];
    const sentence = text.filter(Boolean).join(" ") || "Nothing was uploaded.";
    const { failed } = sum;
    for (const key of Object.keys(sum)) sum[key] = 0;
    if (failed) return say(sentence, true);
    sessionStorage.setItem("uploaded", sentence); // shown after the reload
    location.reload();
  }

  function say(text, bad) {
    said.textContent = text;
    said.classList.toggle("bad", bad);
    said.hidden = false;
    showAll();
  }

  // ---- Choosing and dropping files

  box.querySelector("form").hidden = true;
  box.querySelector("[data-script]").hidden = false;
  for (const button of box.querySelectorAll("[data-choose]")) {
    const input = box.querySelector(`[data-input=${button.dataset.choose}]`);
    button.addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      const files = [...input.files];
      input.value = "";
      add(files.map((file) => ({ file, path: file.webkitRelativePath || file.name })));
    });
  }
  all.querySelector("[data-cancel]").addEventListener("click", () => {
    sum.cancelled += queue.splice(0).length;
    for (const item of active) item.cancel();
  });
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  for (const type of ["dragleave", "drop"]) {
    document.addEventListener(type, (event) => {
      if (type === "drop" || !event.relatedTarget) document.body.classList.remove("dropping");
    });
  }
  document.addEventListener("drop", async (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    const files = [];
    const directories = [];
    try {
      for (const entry of entries) await walk(entry, files, directories);
    } catch {
      return say("Some of the dropped files cannot be read.", true);
    }
    add(files, directories);
  });
  window.addEventListener("beforeunload", (event) => {
    if (active.size || queue.length) event.preventDefault();
  });
  const earlier = sessionStorage.getItem("uploaded");
  sessionStorage.removeItem("uploaded");
  if (earlier) {
    box.open = true;
    say(earlier, false);
  }
}

async function walk(entry, files, directories) {
  const path = entry.fullPath.slice(1);
  if (entry.isFile) {
    files.push({ file: await new Promise((done, fail) => entry.file(done, fail)), path });
    return;
  }
  directories.push(path);
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!some.length) return;
    for (const each of some) await walk(each, files, directories);
  }
}

const box = document.querySelector("details.upload");
if (box) start(box);
