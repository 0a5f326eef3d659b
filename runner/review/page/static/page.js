// The review page: asks its server for a row, shows it, and sends what the reviewer says of it.

import { ask } from "./api.js";
import { Choices } from "./choices.js";
import { Clock } from "./clock.js";
import { Several } from "./several.js";
import { count, element, show } from "./text.js";

const ALIVE_MS = 30_000;
const LOOK_AGAIN_MS = 2_000; // whether a row that another tab held is free
const WORDS = {
  sample: ["Sample", "To measure: you do not see what the teacher said."],
  queue: ["Queue", "To mend: what is most likely wrong comes first, with what the teacher said."],
};
const $ = (id) => document.getElementById(id);
const clock = new Clock();
const stacks = {}; // of each list: the decisions that this tab can take back, the last one at the end
let task, choices, several, list, row, pending;
let view = crypto.randomUUID();
let busy = true;
let statusAsked = false;
let waiting = false; // for rows that other tabs hold
let stale = false; // something was answered since
const goOn = new Set(); // lists on which the reviewer works on though there is enough

async function start() {
  try {
    task = await ask("task", {});
  } catch (error) {
    return fail(error, start);
  }
  document.title = `Review: ${task.name}`;
  $("name").textContent = task.name;
  $("reviewer").textContent = task.reviewer;
  show($("instructions-text"), task.instructions || "The spec has no instructions (task.instructions).");
  several = task.question.kind === "choices";
  choices = several ? new Several(task.question, offer) : new Choices(task.question, (value) => decide("label", value));
  $("lists").replaceChildren(...task.lists.map(({ name }) => listButton(name)));
  const names = task.lists.map(({ name }) => name);
  const asked = location.hash.slice(1);
  const open = task.lists.find(({ answered, total }) => answered < total) ?? task.lists[0];
  const reloaded = performance.getEntriesByType("navigation")[0]?.type === "reload";
  const was = reloaded ? sessionStorage.getItem("view") : null;
  sessionStorage.setItem("view", view);
  describeKeys();
  await openList(names.includes(asked) ? asked : open.name, was);
}

function listButton(name) {
  const [words, hint] = WORDS[name] ?? [name, ""];
  const button = element("button", words, { type: "button", title: hint });
  button.dataset.list = name;
  button.addEventListener("click", () => openList(name));
  return button;
}

async function openList(name, was = null) {
  if (pending) return;
  list = name;
  history.replaceState(null, "", `#${name}`);
  for (const button of $("lists").children)
    button.setAttribute("aria-pressed", String(button.dataset.list === name));
  note(WORDS[name]?.[1] ?? "");
  await send("next", { list, view, was }, () => {});
}

// Sends a request whose answer is the row to show. Until the answer is there nothing else is taken.
async function send(path, body, done) {
  busy = true;
  document.body.classList.add("busy");
  $("alert").hidden = true;
  try {
    const answer = await ask(path, body);
    pending = undefined;
    done(answer);
    display(answer);
  } catch (error) {
    if (error.status === 409) {
      // It no longer holds: say why, and go on with what does.
      pending = undefined;
      note(sentence(error.message));
      if (path === "undo") stacks[body.list]?.pop();
      if (path !== "next") return send("next", { list, view }, () => {});
    }
    fail(error, () => send(path, body, done), path);
  } finally {
    document.body.classList.remove("busy");
  }
}

function fail(error, again, path = "next") {
  console.debug(error);
  pending = again;
  busy = true;
  const what = { decide: "Your answer is not saved yet. ", undo: "It is not taken back yet. " }[path] ?? "";
  const [words, button] = $("alert").children;
  words.textContent = what + sentence(error.message);
  $("alert").hidden = false;
  button.focus();
}

const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1) + (/[.!?]$/.test(words) ? "" : ".");
const note = (words) => ($("note").textContent = words);

function display({ row: next, progress, elsewhere, undone }) {
  row = next;
  $("bar").max = Math.max(1, progress.total);
  $("bar").value = progress.answered;
  const more = ["skipped", "unclear"].filter((kind) => progress[kind]).map((kind) => `${count(progress[kind])} ${kind}`);
  $("counts").textContent = [`${count(progress.answered)} of ${count(progress.total)}`, ...more].join(" · ");
  askStatus();
  waiting = false;
  $("end").hidden = Boolean(row);
  $("text").hidden = $("dock").hidden = !row;
  if (!row) return displayEnd(progress, elsewhere);
  show($("text"), row.text);
  $("text").scrollTop = 0;
  $("text").setAttribute("aria-label", `Text ${count(row.number)}`);
  $("text").classList.toggle("long", row.text.length > 600);
  show($("reason"), teacherWords(row));
  $("reason").hidden = !$("reason").textContent;
  $("reason").scrollTop = 0;
  if (!several) {
    $("accept").hidden = row.given === undefined || row.value === null;
    $("accept").querySelector("bdi").textContent = row.given ?? "";
  }
  choices.show(row, undone);
  if (undone) note(`Taken back: ${undone.action === "label" ? nameOf(undone.value) : undone.action}.`);
  if (!choices.focus()) $("text").focus({ preventScroll: true });
  clock.start();
  busy = false;
}

// Of several choices Enter saves those that are on.
function offer(value, name) {
  $("accept").hidden = value === undefined;
  $("accept").firstChild.textContent = "Save ";
  $("accept").querySelector("bdi").textContent = name ?? "";
}

const nameOf = (value) =>
  several ? choices.nameOf(value) : task.question.choices.find((choice) => choice.value === value)?.name ?? String(value);

function teacherWords({ given, value, reason }) {
  if (given === undefined) return ""; // a blind list
  const head = given === null ? "The teacher gave no answer" : value === null ? `Teacher: ${given}` : "";
  return [head, reason].filter(Boolean).join(": ");
}

function displayEnd({ answered, total }, elsewhere) {
  waiting = elsewhere > 0;
  const words = elsewhere
    ? `${count(elsewhere)} open in another tab: answer there, or close that tab and come back.`
    : `${count(answered)} of ${count(total)} are answered. Every answer is saved; you can close this page.`;
  end(total ? (elsewhere ? "Nothing more in this tab" : "All done") : "This list is empty", words);
}

// The page asks nothing more in this list for now.
function end(title, words, more = []) {
  busy = false;
  row = null;
  $("text").hidden = $("dock").hidden = true;
  $("end").hidden = false;
  const [head, body, actions] = $("end").children;
  head.textContent = title;
  body.textContent = words;
  const others = task.lists.filter(({ name }) => name !== list).map(({ name }) => listButton(name));
  const back = element("button", "Undo ", { type: "button" });
  back.append(element("kbd", "u"));
  back.addEventListener("click", undo);
  actions.replaceChildren(...more, ...others, back);
  $("end").focus();
}

// One at a time: an estimate may take longer than an answer.
async function askStatus() {
  stale = statusAsked;
  if (statusAsked) return;
  statusAsked = true;
  const of = list;
  let status;
  try {
    status = await ask("status", { list });
  } catch (error) {
    status = { sentence: `No estimate: ${error.message}`, enough: false };
  }
  statusAsked = false;
  if (stale) askStatus();
  if (of !== list) return;
  $("estimate").textContent = status.sentence;
  if (!status.enough || goOn.has(list) || !row || busy) return;
  const on = element("button", "Go on asking", { type: "button" });
  on.addEventListener("click", () => {
    goOn.add(of);
    openList(of);
  });
  end("That is enough", `${status.sentence} What you answer beyond makes the interval narrower still.`, [on]);
}

function decide(action, value = null) {
  if (busy || !row) return;
  const decision = crypto.randomUUID();
  const body = { list, view, id: row.id, action, value, seconds: clock.seconds(), decision };
  const words = { skip: "Skipped.", unclear: "Saved as unclear." }[action] ?? `Saved: ${nameOf(value)}.`;
  send("decide", body, () => {
    (stacks[body.list] ??= []).push(decision);
    note(words);
  });
}

function undo() {
  if (busy) return;
  const undoes = stacks[list]?.at(-1) ?? null;
  send("undo", { list, view, decision: crypto.randomUUID(), undoes }, () => stacks[list]?.pop());
}

function accept() {
  if (several) return row && choices.value !== undefined ? decide("label", choices.value) : undefined;
  if (row && row.given !== undefined && row.value !== null) decide("label", row.value);
}

function help() {
  $("instructions").open ? $("instructions").close() : $("instructions").showModal();
}

function describeKeys() {
  const many = choices.many;
  const lines = [
    many ? ["letters", "filter the labels; arrows and Enter choose"] : [`1 to ${task.question.choices.length + several}`, several ? "turn a label on or off" : "choose a label"],
    ["Enter", several ? "save the labels that are on" : "in the queue: accept what the teacher said"],
    ["u, Ctrl+Z", "undo"], ["s", "skip: it comes again at the end"],
    ["?", "unclear: the text does not say"], ["i", "these instructions"],
    ["Space, arrows", "scroll a long text"],
  ];
  if (many) for (const id of ["skip", "unclear", "help"]) $(id).querySelector("kbd").prepend("Esc ");
  if (many) $("undo").querySelector("kbd").textContent = "Ctrl Z";
  if (many) lines.push(["Esc", "leave the filter, so that u, s, ? and i are heard"]);
  $("keys").replaceChildren(
    ...lines.flatMap(([key, words]) => {
      const name = element("dt");
      name.append(element("kbd", key));
      return [name, element("dd", words)];
    }),
  );
}

// The letter of a shortcut on any keyboard: where a key gives no Latin letter, by its place.
function letter(event) {
  if (/^[\x20-\x7e]$/.test(event.key)) return event.key.toLowerCase();
  return /^(Key|Digit)(.)$/.exec(event.code)?.[2].toLowerCase() ?? event.key;
}

// 1 to 9, also on keyboards that want Shift for them; NaN: none.
function digit(event) {
  if (/^[1-9]$/.test(event.key)) return Number(event.key);
  return event.shiftKey ? NaN : Number(/^Digit([1-9])$/.exec(event.code)?.[1]);
}

const SHORTCUTS = { u: undo, s: () => decide("skip"), "?": () => decide("unclear"), i: help };

function pressed(event) {
  if (event.isComposing || event.defaultPrevented || !task) return;
  const dialog = $("instructions").open;
  if (dialog) {
    if (letter(event) === "i" && !event.ctrlKey && !event.metaKey && !event.altKey) help();
    return;
  }
  const filtering = event.target === $("filter");
  if (filtering && choices.filterKey(event)) return;
  const typed = filtering && $("filter").value !== "";
  if ((event.ctrlKey || event.metaKey) && !event.altKey && letter(event) === "z" && !typed) {
    event.preventDefault();
    if (!event.repeat) undo();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Enter") {
    if (event.target.closest("button, summary, a")) return;
    event.preventDefault();
    if (!event.repeat && !typed) accept();
    return;
  }
  if (filtering) return;
  const key = letter(event);
  if (key === "r" && pending) return pending();
  if (event.repeat) return; // a key that is held down answers one row, not thirty
  if (SHORTCUTS[key]) {
    event.preventDefault();
    SHORTCUTS[key]();
  } else if (!busy && row && choices.key(digit(event))) event.preventDefault();
  else if (!busy && row && choices.many && /^[^\s]$/u.test(event.key)) $("filter").focus(); // the key is typed there
}

document.addEventListener("keydown", pressed);
$("retry").addEventListener("click", () => pending?.());
$("accept").addEventListener("click", accept);
$("undo").addEventListener("click", undo);
$("skip").addEventListener("click", SHORTCUTS.s);
$("unclear").addEventListener("click", SHORTCUTS["?"]);
$("help").addEventListener("click", help);
$("close").addEventListener("click", help);
window.addEventListener("pagehide", () => ask("leave", { view }, true).catch(() => {}));
window.addEventListener("pageshow", (event) => {
  if (event.persisted && !pending) openList(list); // back from the browser's cache: its row was let go
});
document.addEventListener("visibilitychange", async () => {
  if (document.visibilityState !== "visible" || busy || !row) return;
  const shown = row.id;
  const answer = await ask("next", { list, view }).catch(() => null);
  if (answer && !busy && row?.id === shown && answer.row?.id !== shown) display(answer);
});

async function lookAgain() {
  if (!waiting || row || busy || pending) return;
  const asked = list;
  const answer = await ask("next", { list, view }).catch(() => null);
  if (waiting && !row && !busy && !pending && list === asked && answer?.row) display(answer);
}

setInterval(lookAgain, LOOK_AGAIN_MS);
setInterval(() => task && ask("alive", { view }).catch(() => {}), ALIVE_MS);
start();
