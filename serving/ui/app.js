// The home-feed page. Every list comes from TensorFlow Serving's public REST API; titles and histories are the shop's.
import { WORDS } from "./words.js";

const COUNT = 12; // items of a list
const INVENTED = "invented user"; // an id that no log has
const $ = (id) => document.getElementById(id);

const state = {
  language: new URLSearchParams(location.search).get("lang") || (navigator.language.startsWith("zh") ? "zh" : "en"),
  model: "", users: [],
  user: "", history: [], // [{item, event}], the newest first
  view: { signature: "recommend", what: "" },
  titles: new Map(), // item -> {title, category, price}
  inputs: new Map(), // version -> signature -> input -> {dtype}
  asked: 0, // the number of the newest question: an older one's answer is not shown
};
const words = () => WORDS[state.language];

// --- The REST API ----------------------------------------------------------------------------------------------------
async function call(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error || response.statusText);
  return answer;
}

// What TensorFlow Serving wants in a request although it may be left out over gRPC.
const LEFT_OUT = {
  user_id: [""], traits: [[""]], history_item_ids: [[""]], history_events: [[""]], history_timestamps: [[0]],
  timestamp: [0], k: [COUNT], exclude_item_ids: [[""]], exclude_seen: [true], diversity: [0], exploration: [0], seed: [0],
  new_items_every: [0],
};

async function inputsOf(version, signature) {
  if (!state.inputs.has(version)) {
    const answer = await call(`/v1/models/${state.model}/versions/${version}/metadata`);
    state.inputs.set(version, answer.metadata.signature_def.signature_def);
  }
  return Object.keys(state.inputs.get(version)[signature].inputs);
}

async function ask(version, signature, given) {
  const all = {};
  for (const name of await inputsOf(version, signature)) all[name] = given[name] ?? LEFT_OUT[name];
  const start = performance.now();
  const path = `/v1/models/${state.model}/versions/${version}:predict`;
  const answer = await call(path, { signature_name: signature, inputs: all });
  const milliseconds = Math.round(performance.now() - start);
  const of = (name, place) => answer.outputs[name]?.[0]?.[place];
  const items = answer.outputs.item_ids[0]
    .map((item, place) => ({
      item, score: of("scores", place), reason: of("reasons", place) || "", propensity: of("propensities", place),
    }))
    .filter((entry) => entry.item);
  return { version, items, milliseconds };
}

function question() {
  const { signature, what } = state.view;
  if (signature === "search") return { query: [what], user_id: [state.user === INVENTED ? "" : state.user] };
  if (signature === "similar_items") return { item_id: [what] };
  const given = { user_id: [state.user], diversity: [+$("diversity").value], exploration: [+$("exploration").value] };
  if (given.exploration[0]) given.seed = [Math.floor(Math.random() * 2 ** 31)];
  if (state.user === INVENTED && state.history.length) given.history_item_ids = [state.history.map((had) => had.item)];
  return given;
}

async function learnTitles(items) {
  const missing = [...new Set(items)].filter((item) => item && !state.titles.has(item));
  for (let start = 0; start < missing.length; start += 100) {
    const query = missing.slice(start, start + 100).map((item) => `id=${encodeURIComponent(item)}`).join("&");
    for (const [item, facts] of Object.entries(await call(`data/items?${query}`))) state.titles.set(item, facts);
  }
}

// --- What is shown ---------------------------------------------------------------------------------------------------
const titleOf = (item) => state.titles.get(item)?.title || item;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function reasonText(reason) {
  const [kind, ...cause] = reason.split(":");
  const say = words().because[kind];
  return say ? say(titleOf(cause.join(":"))) : reason;
}

function moveOf(item, place, others) {
  if (!others) return "";
  const before = others.findIndex((entry) => entry.item === item);
  if (before < 0) return element("span", { className: "up", textContent: ` · ${words().onlyHere}` });
  if (before === place) return element("span", { textContent: ` · ${words().unchanged}` });
  const by = before - place;
  const text = ` · ${by > 0 ? "▲" : "▼"} ${words().moved(Math.abs(by))}`;
  return element("span", { className: by > 0 ? "up" : "down", textContent: text });
}

function card(entry, place, others) {
  const facts = state.titles.get(entry.item) || {};
  const told = [facts.category, facts.price === undefined ? "" : facts.price.toFixed(2)].filter(Boolean).join(" · ");
  const numbers = [`${words().score} ${entry.score.toFixed(3)}`];
  if (entry.propensity !== undefined && +$("exploration").value && state.view.signature === "recommend") {
    numbers.push(`${words().chance} ${entry.propensity.toPrecision(2)}`);
  }
  const button = (word, act) => {
    const made = element("button", { type: "button", textContent: words()[word], onclick: () => act(entry.item) });
    made.setAttribute("aria-label", `${words()[word]}: ${titleOf(entry.item)}`);
    return made;
  };
  return element("li", { tabIndex: -1 },
    element("span", { className: "rank", textContent: place + 1 }),
    element("div", {},
      element("div", { className: "name", textContent: titleOf(entry.item) }),
      element("div", { className: "facts", textContent: told }),
      element("div", { className: "facts" },
        [numbers.join(", "), entry.reason && reasonText(entry.reason)].filter(Boolean).join(" · "),
        moveOf(entry.item, place, others)),
      element("div", { className: "acts" }, button("similar", showSimilar), button("like", like))));
}

function showHistory() {
  $("history").replaceChildren(...state.history.map((had, place) => {
    const line = element("li", {}, `${titleOf(had.item)} `, element("span", { className: "soft", textContent: had.event }));
    if (state.user === INVENTED) {
      const forget = element("button", { type: "button", textContent: "×", onclick: () => drop(place) });
      forget.setAttribute("aria-label", `${words().forget}: ${titleOf(had.item)}`);
      line.append(" ", forget);
    }
    return line;
  }));
  $("empty").hidden = state.history.length > 0;
}

function showTitle() {
  const { signature, what } = state.view;
  const who = state.user === INVENTED ? words().invented : state.user;
  const titles = {
    recommend: () => words().feedOf(who), search: () => words().foundFor(what),
    similar_items: () => words().alike(titleOf(what)),
  };
  $("what").textContent = titles[signature]();
  $("back").hidden = signature === "recommend";
  $("sliders").hidden = signature !== "recommend";
}

async function refresh() {
  const mine = ++state.asked;
  showTitle();
  $("lists").setAttribute("aria-busy", "true");
  try {
    const versions = [$("version").value, $("other").value].filter(Boolean);
    const given = question(); // the same for both, its seed as well
    const answers = await Promise.all(versions.map((version) => ask(version, state.view.signature, given)));
    const causes = answers.flatMap(({ items }) => items.map((entry) => entry.reason.split(":").slice(1).join(":")));
    await learnTitles([...answers.flatMap(({ items }) => items.map((entry) => entry.item)), ...causes,
      ...state.history.map((had) => had.item)]);
    if (mine !== state.asked) return;
    showTitle();
    showHistory();
    $("lists").replaceChildren(...answers.map((answer, side) => {
      const list = element("ol", { className: "list" },
        ...answer.items.map((entry, place) => card(entry, place, answers[1 - side]?.items)));
      list.setAttribute("aria-label", `${words().version} ${answer.version}`);
      const head = answers.length > 1 ? [element("h3", { textContent: `${words().version} ${answer.version}` })] : [];
      return element("section", {}, ...head, list);
    }));
    $("status").textContent = answers.some(({ items }) => items.length)
      ? answers.map((a) => words().took(a.items.length, a.milliseconds, a.version)).join(" · ")
      : words().nothing;
    $("wrong").textContent = "";
  } catch (error) {
    if (mine === state.asked) $("wrong").textContent = words().wrong(error.message);
  } finally {
    if (mine === state.asked) $("lists").removeAttribute("aria-busy");
  }
}

// --- What a person does ----------------------------------------------------------------------------------------------
function look(signature, what = "") {
  state.view = { signature, what };
  return refresh();
}

const showSimilar = (item) => look("similar_items", item);

function choose(id) {
  state.user = id;
  $("user").value = id === INVENTED ? "" : id;
  const known = state.users.find((user) => user.id === id);
  state.history = known ? known.history.map(([item, event]) => ({ item, event })) : [];
  return look("recommend");
}

function like(item) {
  // A known user's history is the log's: what is liked here begins an invented one with it.
  if (state.user !== INVENTED) {
    state.user = INVENTED;
    $("user").value = "";
  }
  state.history = [{ item, event: "♥" }, ...state.history.filter((had) => had.item !== item)];
  return look("recommend");
}

function drop(place) {
  state.history.splice(place, 1);
  return refresh();
}

function move(by) {
  const cards = [...document.querySelectorAll(".list li")];
  const here = cards.indexOf(document.activeElement.closest(".list li"));
  cards[Math.min(Math.max(here + by, 0), cards.length - 1)]?.focus();
}

function act(place) {
  document.activeElement.closest(".list li")?.querySelectorAll("button")[place]?.click();
}

const KEYS = {
  "/": () => $("query").focus(), u: () => $("user").focus(), i: () => choose(INVENTED),
  j: () => move(1), k: () => move(-1), s: () => act(0), a: () => act(1),
};

function speak() {
  document.documentElement.lang = state.language;
  for (const one of document.querySelectorAll("[data-word]")) one.textContent = words()[one.dataset.word];
  const other = state.language === "en" ? ["zh", "中文"] : ["en", "English"];
  [$("language").lang, $("language").textContent] = other;
  $("other").options[0].textContent = words().none;
}

async function learnVersions() {
  const answer = await call(`/v1/models/${state.model}`);
  const versions = answer.model_version_status.filter((status) => status.state === "AVAILABLE").map((s) => s.version);
  const option = (version) => element("option", { value: version, textContent: version });
  $("version").replaceChildren(...versions.map(option));
  $("other").replaceChildren(element("option", { value: "" }), ...versions.map(option));
}

async function begin() {
  try {
    const about = await call("data/about");
    [state.model, state.users] = [about.model, about.users];
    await learnVersions();
  } catch (error) {
    $("wrong").textContent = words().wrong(error.message);
    return;
  }
  $("users").replaceChildren(...state.users.map((user) => element("option", { value: user.id })));
  speak();
  await choose(state.users[0]?.id || INVENTED);
}

$("person").addEventListener("submit", (event) => { event.preventDefault(); choose($("user").value.trim() || INVENTED); });
$("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const what = $("query").value.trim();
  look(what ? "search" : "recommend", what);
});
$("invent").addEventListener("click", () => choose(INVENTED));
$("back").addEventListener("click", () => look("recommend"));
$("language").addEventListener("click", () => {
  state.language = state.language === "en" ? "zh" : "en";
  speak();
  refresh();
});
for (const id of ["version", "other"]) $(id).addEventListener("change", refresh);
for (const id of ["diversity", "exploration"]) {
  $(id).addEventListener("input", () => { $(`${id}Is`).textContent = $(id).value; });
  $(id).addEventListener("change", refresh);
}
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input:not([type=range]), select, textarea");
  if (event.key === "Escape") {
    document.activeElement.blur();
    if (state.view.signature !== "recommend") look("recommend");
  } else if (!isTyping && !event.ctrlKey && !event.metaKey && !event.altKey && KEYS[event.key]) {
    event.preventDefault();
    KEYS[event.key]();
  }
});
begin();
