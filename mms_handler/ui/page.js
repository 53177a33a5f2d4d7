// The page: asks the server for its models once a second, and sends what the form has.

import { curl, inPython, invoke, isInline, short } from "./commands.js";
import { Form } from "./form.js";
import { element, Models } from "./models.js";
import { bars, parse, scores, table } from "./reply.js";
import { address, ask, askJson, hasToken, TokenNeeded, useToken } from "./server.js";
import { Tabs } from "./tabs.js";

const get = (id) => document.getElementById(id);

// Milliseconds between two questions: while the page is seen, while it is not, and after a failure.
const [SEEN, HIDDEN, FAILED] = [1000, 30000, 5000];

let known = []; // the models
let chosen = null; // the name of one
let filled = ""; // what the form was filled from
let timer = 0;

const models = new Models(get("models"), get("no-models"), choose);
let form = null; // its constructor already says that it has changed
form = new Form(() => form && showCommands());
const replyTabs = new Tabs(get("tab-bars").parentElement);
new Tabs(get("tab-curl").parentElement);

// --- what the server says ---

async function look() {
  clearTimeout(timer);
  let next = document.hidden ? HIDDEN : SEEN;
  try {
    const [described, live] = await Promise.all([askJson("ui/models.json"), askJson("ui/live.json")]);
    show(described);
    models.count(live);
    say(described.dev ? "serving one model while it is edited" : "connected", "muted");
  } catch (error) {
    next = FAILED;
    if (error instanceof TokenNeeded) return askForToken();
    say("the server does not answer; trying again", "bad");
  }
  timer = setTimeout(look, next);
}

function say(sentence, kind) {
  const state = get("server-state");
  if (state.textContent !== sentence) state.textContent = sentence;
  state.className = kind;
}

function show(described) {
  known = described.models;
  get("version").textContent = described.version;
  get("change-token").hidden = !hasToken();
  models.show(known);
  if (!known.some((model) => model.name === chosen)) {
    const first = known.find((model) => model.versions.some((version) => version.state === "ready")) ?? known[0];
    chosen = first?.name ?? null;
  }
  get("try").hidden = chosen === null;
  models.mark(chosen);
  if (chosen !== null) fill();
}

function choose(name) {
  chosen = name;
  models.mark(name);
  fill();
}

// --- the form ---

const model = () => known.find((each) => each.name === chosen);

// Fills the form if the model that it is for has changed.
function fill() {
  const versions = model().versions.filter((each) => each.version && each.state !== "failed");
  const names = versions.map((each) => each.version);
  const key = JSON.stringify([chosen, names]);
  const select = get("asked-version");
  const kept = key === filled || JSON.parse(filled || "[]")[0] === chosen ? select.value : "";
  if (key !== filled) {
    const options = names.map((name) => element("option", { value: name, textContent: name }));
    select.replaceChildren(element("option", { value: "", textContent: "as the server chooses" }), ...options);
    select.value = names.includes(kept) ? kept : "";
    select.hidden = get("asked-version-label").hidden = names.length < 2;
  }
  const version = asked();
  const source = JSON.stringify([chosen, version.version, version.sample, version.inputs]);
  if (source !== fill.source) {
    fill.source = source;
    get("try-name").textContent = chosen;
    form.fill(version);
    forgetReply();
  }
  filled = key;
  showCommands();
}

// The version that the form is for.
function asked() {
  const versions = model().versions;
  const wanted = get("asked-version").value;
  const served = [...versions].sort((a, b) => (b.share ?? 0) - (a.share ?? 0));
  return versions.find((each) => wanted && each.version === wanted) ?? served[0];
}

function request() {
  const version = get("asked-version").value;
  const path = ["predictions", chosen, ...(version ? [version] : [])].map(encodeURIComponent).join("/");
  const body = form.body();
  if (body.contentType === "application/json") body.text = short(body.text);
  return { path, url: address(path), accept: get("accept").value, token: hasToken(), ...body };
}

async function send() {
  const sent = request();
  if (sent.missing) {
    status(sent.missing, "bad");
    return;
  }
  get("send").setAttribute("aria-busy", "true");
  status("waiting for the reply", "muted");
  const start = performance.now();
  try {
    const headers = { "Content-Type": sent.contentType, Accept: sent.accept };
    const reply = await ask(sent.path, { method: "POST", body: sent.data, headers });
    const blob = await reply.blob();
    await showReply(reply, blob, performance.now() - start);
  } catch (error) {
    get("reply").hidden = true;
    if (error instanceof TokenNeeded) askForToken();
    status(`No reply: ${error.message}`, "bad");
  } finally {
    get("send").removeAttribute("aria-busy");
  }
}

// --- the reply ---

function status(sentence, kind, ...more) {
  get("reply-status").className = kind;
  get("reply-status").replaceChildren(sentence, ...more);
}

function forgetReply() {
  get("reply").hidden = true;
  status("Nothing was sent yet.", "muted");
}

async function showReply(reply, blob, ms) {
  const type = reply.headers.get("Content-Type") ?? "";
  const version = reply.headers.get("X-Model-Version");
  const facts = [`${reply.status} ${reply.statusText}`.trim(), `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`, `${blob.size} bytes`];
  if (version) facts.push(`version ${version}`);
  const text = /^image\//.test(type) ? "" : await blob.text();
  const { rows, pretty } = parse(text, type);
  const more = [];
  if (!reply.ok) more.push(element("br"), messageOf(text));
  const edit = reply.headers.get("X-Does-Not-Load");
  if (edit) more.push(element("br"), element("span", { className: "warn", textContent: `The last version answered; the edit does not load: ${edit}` }));
  status(facts.join(" · "), reply.ok ? "good" : "bad", ...more);
  showViews(reply.ok ? rows : null, /^image\//.test(type) ? blob : pretty);
}

function messageOf(text) {
  try {
    return JSON.parse(text).message ?? "";
  } catch {
    return text.slice(0, 500);
  }
}

function showViews(rows, whole) {
  const scored = scores(rows);
  const views = [...(scored ? ["tab-bars"] : []), ...(rows ? ["tab-table"] : []), "tab-text"];
  replyTabs.offer(views);
  replyTabs.choose(views[0]);
  get("table").replaceChildren(...(rows ? table(rows) : []));
  get("text").replaceChildren(whole instanceof Blob ? element("img", { src: URL.createObjectURL(whole), alt: "The reply, a picture" }) : whole);
  if (scored) showBars(scored);
  get("reply").hidden = false;
}

function showBars(rows) {
  const select = get("bars-row");
  get("bars-row-choice").hidden = rows.length < 2;
  select.replaceChildren(...rows.slice(0, 1000).map((_, i) => element("option", { value: i, textContent: i })));
  select.onchange = () => get("bars").replaceChildren(...bars(rows[select.value]));
  select.onchange();
}

// --- the same request ---

function showCommands() {
  if (chosen === null || get("try").hidden) return;
  const sent = request();
  replace("curl", curl(sent));
  replace("python", inPython(sent));
  replace("invoke", invoke(sent));
  const save = get("save");
  save.hidden = isInline(sent) || sent.text === undefined;
  if (save.href.startsWith("blob:")) URL.revokeObjectURL(save.href);
  if (!save.hidden) {
    save.href = URL.createObjectURL(new Blob([sent.text]));
    save.download = sent.file;
    save.textContent = `Save the body as ${sent.file}`;
  }
}

// Writes a text that has changed; the same text again would end its selection.
function replace(id, text) {
  if (get(id).textContent !== text) get(id).textContent = text;
}

async function copy(id) {
  try {
    await navigator.clipboard.writeText(get(id).textContent);
    get("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(get(id));
    get("copied").textContent = "Selected: press Ctrl+C.";
  }
}

// --- the token ---

// The server has refused a request: without a token, or with one that it does not take.
function askForToken() {
  if (get("token-dialog").open) return;
  say("the server needs a token", "bad");
  const wrong = hasToken() ? "The server does not take this token." : "";
  useToken("");
  get("change-token").hidden = false;
  showTokenForm(wrong);
}

function showTokenForm(wrong) {
  get("token-wrong").textContent = wrong;
  get("token-dialog").showModal();
}

get("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(get("token").value);
  get("token").value = "";
  get("token-dialog").close();
  look();
});
get("token-cancel").addEventListener("click", () => get("token-dialog").close());
get("change-token").addEventListener("click", () => showTokenForm(""));

// --- events ---

get("request").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
get("request").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    send();
  }
});
get("asked-version").addEventListener("change", fill);
get("reset").addEventListener("click", () => form.fill(asked()));
document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", () => copy(button.dataset.of)));
document.addEventListener("visibilitychange", () => document.hidden || look());
look();
