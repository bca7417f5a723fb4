"use strict";
// The page of `genrec serve`: everything it shows comes from the server's public endpoints.

const $ = (id) => document.getElementById(id);
const state = { model: "", datasets: [], messages: [], busy: null, titles: new Map() };

function element(name, properties = {}, ...children) {
  const found = Object.assign(document.createElement(name), properties);
  found.append(...children.filter((child) => child !== null && child !== ""));
  return found;
}

// --- the server ---------------------------------------------------------------------------------------------------

async function call(path, body, options = {}) {
  const headers = { "content-type": "application/json" };
  const key = sessionStorage.getItem("key");
  if (key) headers.authorization = `Bearer ${key}`;
  const method = options.method || (body === undefined ? "GET" : "POST");
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal: options.signal });
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  const message = (told.error && told.error.message) || `${response.status} ${response.statusText}`;
  if (response.status === 401) $("key").hidden = false;
  throw Object.assign(new Error(message), { status: response.status });
}

const json = async (path, body, options) => (await call(path, body, options)).json();

function notice(error) {
  $("notice").hidden = !error;
  $("notice").textContent = error ? error.message || String(error) : "";
}

async function trying(work) {
  notice(null);
  try {
    return await work();
  } catch (error) {
    if (error.name !== "AbortError") notice(error);
    return null;
  }
}

// --- user and data set --------------------------------------------------------------------------------------------

const dataset = () => state.datasets.find((d) => d.name === $("dataset").value);

function visitor() { // events need somebody to belong to
  let id = localStorage.getItem("visitor");
  if (!id) localStorage.setItem("visitor", (id = `visitor-${crypto.getRandomValues(new Uint32Array(2)).join("")}`));
  return id;
}

const whom = () => $("user").value.trim() || visitor();

async function showUser() {
  const user = whom();
  $("history").replaceChildren();
  $("count").textContent = "";
  $("whom").textContent = $("user").value.trim() ? "" : "You are a new visitor: what you like here is your history.";
  if (!$("user").value.trim() && !localStorage.getItem("reacted")) return;
  const query = new URLSearchParams({ dataset: dataset().name, n: 30 });
  let found;
  try {
    found = await json(`/v1/users/${encodeURIComponent(user)}?${query}`);
  } catch (error) {
    if (error.status !== 404) throw error;
    if ($("user").value.trim()) $("whom").textContent = `User ${user} is not known yet.`;
    return;
  }
  const about = Object.entries(found.attributes).map(([name, value]) => `${name} ${value}`).join(", ");
  if ($("user").value.trim()) $("whom").textContent = about;
  $("count").textContent = `${found.events} in all`;
  for (const event of found.history.reverse()) {
    const mark = event.rating !== null ? `★ ${event.rating}` : event.event || "";
    $("history").append(element("li", {}, element("span", { textContent: event.title || event.item_id }),
      element("span", { className: "quiet", textContent: mark })));
  }
}

let suggesting;
async function suggestUsers() {
  clearTimeout(suggesting);
  suggesting = setTimeout(async () => {
    const query = new URLSearchParams({ dataset: dataset().name, q: $("user").value.trim(), n: 20 });
    const found = await json(`/v1/users?${query}`);
    $("users").replaceChildren(...found.users.map((value) => element("option", { value })));
  }, 150);
}

function showDataset() {
  const own = dataset();
  $("task").replaceChildren(...state.datasets.flatMap((d) => Object.keys(d.tasks)
    .filter((t) => d.tasks[t].length && ["event", "user_time", "text"].includes(d.units[t]))
    .filter((t) => d === own || d.units[t] === "text")
    .map((t) => element("option", { value: `${d.name}/${t}`, textContent: d === own ? t : `${t} (${d.name})` }))));
  $("filters").replaceChildren(...own.columns.map((column) => {
    if (column.values.length) {
      const all = [element("option", { value: "", textContent: "any" }),
        ...column.values.map((value) => element("option", { value, textContent: value }))];
      const select = element("select", {}, ...all);
      select.dataset.column = column.name;
      return element("label", {}, column.name, select);
    }
    const ends = [["gte", column.low, "from"], ["lte", column.high, "to"]].map(([end, value, word]) => {
      const input = element("input", { type: "number", placeholder: value, ariaLabel: `${column.name} ${word}` });
      Object.assign(input.dataset, { column: column.name, end });
      return input;
    });
    return element("label", {}, column.name, element("span", { className: "range" }, ...ends));
  }));
  showTask();
}

// --- items --------------------------------------------------------------------------------------------------------

function card(item, best, worst, recommendation) {
  const share = best > worst ? 0.15 + 0.85 * (item.score - worst) / (best - worst) : 1;
  const fill = element("i");
  fill.style.width = `${Math.round(100 * share)}%`;
  const about = Object.values(item.metadata || {}).map((v) => (Array.isArray(v) ? v.join(", ") : v)).join(" · ");
  const why = item.reason || (item.reasons || []).map((reason) => reason.text).join("; ");
  const act = element("div", { className: "act" }, ...[["like", "Like"], ["dislike", "Dislike"], ["seen", "Seen"]].map(
    ([event, label]) => {
      const button = element("button", { type: "button", textContent: label });
      button.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-label", `${label}: ${item.title || item.item_id}`);
      button.addEventListener("click", () => trying(() => react(item, event, button, recommendation)));
      return button;
    }));
  return element("li", { className: "card" },
    element("span", { className: "rank", textContent: item.rank }),
    element("h3", { textContent: item.title || item.item_id }),
    element("div", { className: "bar", title: `score ${item.score.toFixed(3)}` }, fill),
    element("p", { className: "why quiet", textContent: about }),
    element("p", { className: "why", textContent: why }),
    act);
}

function cards(items, recommendation) {
  const scores = items.map((item) => item.score);
  const [best, worst] = [Math.max(...scores), Math.min(...scores)];
  return items.map((item) => card(item, best, worst, recommendation));
}

async function react(item, event, button, recommendation) {
  const sent = { event_id: crypto.randomUUID ? crypto.randomUUID() : `${Date.now()}-${Math.random()}`, user_id: whom(),
    item_id: item.item_id, event_type: event, recommendation_id: recommendation };
  const found = await json("/v1/events", { dataset: dataset().name, events: [sent] });
  if (found.errors.length) throw new Error(found.errors[0].message);
  for (const other of button.parentElement.children) other.disabled = true;
  button.setAttribute("aria-pressed", "true");
  if (!$("user").value.trim()) localStorage.setItem("reacted", "yes");
  await showUser();
  if (!$("list").hidden) await recommend();
}

// --- chat ---------------------------------------------------------------------------------------------------------

const INLINE = /\*\*(.+?)\*\*|(?<!\\)\*(.+?)(?<!\\)\*|(?<![`\\])(`+)(?!`)(.+?)(?<!`)\3(?!`)/g;
const plain = (text) => text.replace(/\\([\\`*_[\]<>#|~.)=+-])/g, "$1");

function formatted(text) { // the little Markdown that the server writes, as nodes: nothing becomes HTML
  return text.split("\n").filter((line) => line.trim()).map((line) => {
    const paragraph = element("p");
    let end = 0;
    for (const match of line.matchAll(INLINE)) {
      paragraph.append(plain(line.slice(end, match.index)));
      const kind = match[1] !== undefined ? "strong" : match[2] !== undefined ? "em" : "code";
      paragraph.append(element(kind, { textContent: match[4]?.trim() ?? plain(match[1] ?? match[2]) }));
      end = match.index + match[0].length;
    }
    paragraph.append(plain(line.slice(end)));
    return paragraph;
  });
}

function shown(text, content, bubble) {
  const items = content && content.items;
  if (!items || !items.length) {
    bubble.replaceChildren(...formatted(text));
    return;
  }
  const rest = text.split("\n").filter((line) => !/^\d+\. /.test(line)).join("\n");
  const [head, ...notes] = formatted(rest);
  for (const note of notes) note.className = "quiet";
  bubble.replaceChildren(head, element("ol", { className: "cards" }, ...cards(items)), ...notes);
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (part.startsWith("data: ") && part !== "data: [DONE]") yield JSON.parse(part.slice(6));
    }
  }
}

async function ask(sentence) {
  $("starters").replaceChildren();
  state.messages.push({ role: "user", content: sentence });
  $("messages").append(element("div", { className: "said mine" }, ...formatted(sentence.replace(/([\\*`])/g, "\\$1"))));
  const bubble = element("div", { className: "said theirs waiting" });
  $("messages").append(bubble);
  bubble.scrollIntoView({ block: "end" });
  state.busy = new AbortController();
  $("send").textContent = "Stop";
  let text = "", content = null;
  await trying(async () => {
    const body = { model: state.model, messages: state.messages, stream: true, user: whom(),
      metadata: { dataset: dataset().name } };
    const response = await call("/v1/chat/completions", body, { signal: state.busy.signal });
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      const delta = event.choices.length ? event.choices[0].delta : {};
      if (delta.content) bubble.replaceChildren(...formatted((text += delta.content)));
      if (delta.genrec) content = delta.genrec;
    }
  });
  bubble.classList.remove("waiting");
  shown(text, content, bubble);
  if (text) state.messages.push({ role: "assistant", content: text });
  else bubble.remove();
  state.busy = null;
  $("send").textContent = "Send";
  bubble.scrollIntoView({ block: "nearest" });
}

function starters() {
  const own = dataset();
  const genre = own.columns.find((column) => column.values.length);
  const found = ["Recommend something for me", genre ? `Top 5 with ${genre.name} ${genre.values[0]}` : "", "What can I ask?"];
  $("starters").replaceChildren(...found.filter(Boolean).map((text) => {
    const button = element("button", { type: "button", textContent: text });
    button.addEventListener("click", () => ask(text));
    return button;
  }));
}

// --- list ---------------------------------------------------------------------------------------------------------

async function recommend() {
  const filter = {};
  for (const input of $("filters").querySelectorAll("select, input")) {
    if (input.value === "") continue;
    const own = (filter[input.dataset.column] ||= {});
    if (input.dataset.end) own[input.dataset.end] = Number(input.value);
    else own.any = [input.value];
  }
  const found = await json("/v1/recommendations", { user_id: whom(), dataset: dataset().name, explain: true, filter,
    num_results: Number($("n").value), diversity: Number($("diversity").value), exclude_seen: !$("seen").checked,
    query: $("query").value.trim() || null });
  const how = { model: "Ranked by the model", similar: "Most alike", popular: "The most popular, since nothing is known of you yet" };
  $("strategy").textContent = [how[found.strategy], ...found.warnings].join(". ");
  $("items").replaceChildren(...cards(found.items, found.recommendation_id));
}

// --- predict ------------------------------------------------------------------------------------------------------

function chosenTask() {
  const [name, task] = [$("task").value.split("/")[0], $("task").value.split("/").slice(1).join("/")];
  return { task, of: state.datasets.find((d) => d.name === name) };
}

function showTask() {
  const { task, of } = chosenTask();
  const unit = of ? of.units[task] : "";
  $("of-item").hidden = unit !== "event";
  $("of-text").hidden = unit !== "text";
}

let searching;
function searchItems() {
  clearTimeout(searching);
  searching = setTimeout(async () => {
    const q = $("item").value.trim();
    if (!q || state.titles.has(q)) return;
    const found = await json(`/v1/items?${new URLSearchParams({ q, n: 8, dataset: dataset().name })}`);
    for (const item of found.items) state.titles.set(item.title || item.item_id, item.item_id);
    $("found").replaceChildren(...found.items.map((item) => element("option", { value: item.title || item.item_id })));
  }, 150);
}

async function predict() {
  const { task, of } = chosenTask();
  const body = { task, dataset: of.name };
  if (of.units[task] === "text") body.text = $("text").value;
  else body.user_id = whom();
  if (of.units[task] === "event") {
    const q = $("item").value.trim();
    if (!q) throw new Error("Name an item first.");
    if (!state.titles.has(q)) {
      const found = await json(`/v1/items?${new URLSearchParams({ q, n: 1, dataset: of.name })}`);
      if (!found.items.length) throw new Error(`No item is called ${q}.`);
      state.titles.set(q, found.items[0].item_id);
      $("item").value = found.items[0].title || found.items[0].item_id;
      state.titles.set($("item").value, found.items[0].item_id);
    }
    body.item_id = state.titles.get(q);
  }
  const { predictions: [first], warnings } = await json("/v1/predictions", body);
  const value = typeof first.value === "number" ? first.value.toFixed(2) : first.value;
  const rows = Object.entries(first.probabilities).flatMap(([choice, share]) => {
    const fill = element("i");
    fill.style.width = `${100 * share}%`;
    return [element("span", { textContent: choice }), element("div", { className: "bar" }, fill),
      element("output", { textContent: `${(100 * share).toFixed(1)} %` })];
  });
  $("outcome").replaceChildren(element("p", { className: "answer", textContent: `${task}: ${value}` }),
    element("div", { className: "choices" }, ...rows),
    ...warnings.map((text) => element("p", { className: "quiet", textContent: text })));
}

// --- start --------------------------------------------------------------------------------------------------------

const tabs = [...document.querySelectorAll("[role=tab]")];

function open(tab) {
  for (const other of tabs) {
    other.setAttribute("aria-selected", String(other === tab));
    other.tabIndex = other === tab ? 0 : -1;
    $(other.getAttribute("aria-controls")).hidden = other !== tab;
  }
  if (tab.id === "tab-list" && !$("items").children.length) trying(recommend);
  if (tab.id === "tab-report") trying(showReport);
}

async function showReport() {
  if ($("frame").src) return;
  const text = await (await call("/report")).text();
  $("frame").src = URL.createObjectURL(new Blob([text], { type: "text/html" }));
}

async function start() {
  for (;;) { // the server answers before its run is loaded
    try {
      const found = await json("/v1/datasets");
      state.model = found.model;
      state.datasets = found.datasets;
      break;
    } catch (error) {
      notice(error);
      if (error.status !== 503) return;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
  notice(null);
  $("key").hidden = true;
  $("model").textContent = state.model;
  $("dataset").replaceChildren(...state.datasets.filter((d) => d.items).map((d) => element("option", { value: d.name, textContent: d.name })));
  const asked = new URLSearchParams(location.search).get("user");
  if (asked) $("user").value = asked;
  showDataset();
  starters();
  await trying(showUser);
  await suggestUsers();
}

tabs.forEach((tab, place) => {
  tab.addEventListener("click", () => open(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(place + step + tabs.length) % tabs.length];
    next.focus();
    open(next);
  });
});
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.busy) return state.busy.abort();
  const sentence = $("sentence").value.trim();
  $("sentence").value = "";
  if (sentence) ask(sentence);
});
$("sentence").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
$("wishes").addEventListener("submit", (event) => { event.preventDefault(); trying(recommend); });
$("predict").addEventListener("submit", (event) => { event.preventDefault(); trying(predict); });
$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("secret").value);
  start();
});
$("task").addEventListener("change", showTask);
$("item").addEventListener("input", searchItems);
$("user").addEventListener("input", () => trying(suggestUsers));
const another = async () => { $("items").replaceChildren(); await showUser(); if (!$("list").hidden) await recommend(); };
$("user").addEventListener("change", () => trying(another));
$("nobody").addEventListener("click", () => { localStorage.clear(); $("user").value = ""; trying(another); });
$("dataset").addEventListener("change", () => { showDataset(); starters(); trying(another); });
if (matchMedia("(max-width: 46rem)").matches) $("past").open = false;
start();
