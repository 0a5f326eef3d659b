// A question of the kind "choice": one button for each value, with the keys 1 to 9; of more than nine, type to filter.

import { count, element, show } from "./text.js";

const KEYS = 9;
const FEW = 4; // each has a line of its own on a phone
// Whether a value of the question is, or is among, what the row has.
const has = (given, value) => (Array.isArray(given) ? (value === null ? !given.length : given.includes(value)) : given === value);
const plain = (name) => name.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

export class Choices {
  #buttons = [];
  #current = 0; // of those that match
  #moved = false; // by the arrows, so that Enter takes one though nothing is typed

  constructor(question, choose) {
    this.question = question;
    this.root = document.getElementById("choices");
    this.filter = document.getElementById("filter");
    this.many = question.choices.length > KEYS;
    this.choose = choose;
    this.root.className = this.many ? "many" : question.choices.length <= FEW ? "few" : "";
    this.root.setAttribute("role", this.many ? "listbox" : "group");
    this.root.setAttribute("aria-label", "Labels");
    this.#buttons = question.choices.map((choice, index) => this.#button(choice, index));
    this.root.replaceChildren(...this.#buttons);
    if (this.many) this.#prepareFilter();
  }

  // Chances and the teacher's value are those of a queue; `before` is the reviewer's own answer that was taken back.
  show(row, before) {
    this.#buttons.forEach((button, index) => {
      const value = this.question.choices[index].value;
      const chance = row.chances?.[index] ?? null;
      const words = [];
      if (chance !== null) words.push(`${Math.round(100 * chance)} %`);
      if (row.given !== undefined && row.given !== null && row.value !== null && has(row.value, value)) words.push("teacher");
      if (before?.action === "label" && has(before.value, value)) words.push("before");
      button.classList.toggle("given", words.includes("teacher"));
      button.classList.toggle("before", words.includes("before"));
      button.querySelector(".said").textContent = words.join(" · ");
      button.querySelector(".chance").style.setProperty("--chance", chance ?? 0);
    });
    if (this.many) this.#match((this.filter.value = ""));
  }

  focus() {
    if (this.many && !matchMedia("(hover: none) and (pointer: coarse)").matches) this.filter.focus({ preventScroll: true });
    return this.many && document.activeElement === this.filter;
  }

  // Nothing is typed in the filter any more.
  clear() {
    if (this.many) this.#match((this.filter.value = ""));
  }

  // Whether a key was one of a value.
  key(digit) {
    if (this.many || !(digit >= 1 && digit <= this.#buttons.length)) return false;
    this.choose(this.question.choices[digit - 1].value);
    return true;
  }

  #button({ name, description }, index) {
    const button = element("button", "", { type: "button", className: "choice", id: `choice-${index}` });
    const words = element("bdi", "", { className: "name" });
    show(words, name);
    const said = element("span", "", { className: "said" });
    const chance = element("span", "", { className: "chance" });
    chance.setAttribute("aria-hidden", "true");
    if (this.many) {
      button.setAttribute("role", "option");
      button.tabIndex = -1;
    } else {
      button.append(element("kbd", String(index + 1)));
      button.setAttribute("aria-keyshortcuts", String(index + 1));
    }
    button.append(words, said, chance);
    if (description) button.append(element("span", description, { className: "description", dir: "auto" }));
    button.addEventListener("click", () => this.choose(this.question.choices[index].value));
    return button;
  }

  #prepareFilter() {
    const { filter } = this;
    filter.hidden = false;
    filter.placeholder = `Type to filter ${count(this.#buttons.length)} labels, Enter to choose`;
    for (const [name, value] of Object.entries({
      role: "combobox", "aria-expanded": "true", "aria-controls": "choices", "aria-autocomplete": "list",
      "aria-label": filter.placeholder,
    }))
      filter.setAttribute(name, value);
    filter.addEventListener("input", () => this.#match(filter.value));
  }

  get #matching() {
    return this.#buttons.filter((button) => !button.hidden);
  }

  // Those whose name starts with the words come first in the choice of Enter, not in their order.
  #match(words) {
    this.#moved = false;
    document.body.classList.toggle("typing", words.trim() !== "");
    const wanted = plain(words.trim());
    this.#buttons.forEach((button, index) => {
      button.hidden = !plain(this.question.choices[index].name).includes(wanted);
    });
    const starts = this.#matching.findIndex((button) => plain(button.querySelector(".name").textContent).startsWith(wanted));
    this.#mark(Math.max(0, starts));
  }

  #mark(index) {
    const matching = this.#matching;
    this.#current = Math.min(Math.max(index, 0), Math.max(0, matching.length - 1));
    for (const button of this.#buttons) button.setAttribute("aria-selected", "false");
    const chosen = this.filter.value.trim() === "" && !this.#moved ? undefined : matching[this.#current];
    if (chosen === undefined) {
      this.filter.removeAttribute("aria-activedescendant");
      this.root.scrollTop = 0;
    } else {
      chosen.setAttribute("aria-selected", "true");
      this.filter.setAttribute("aria-activedescendant", chosen.id);
      chosen.scrollIntoView({ block: "nearest" });
    }
  }

  // A key in the filter: whether it was dealt with here.
  filterKey(event) {
    const empty = this.filter.value.trim() === "";
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const step = event.key === "ArrowDown" ? 1 : -1;
      const from = this.#moved || !empty ? this.#current + step : 0;
      this.#moved = true;
      this.#mark(from);
      event.preventDefault();
      return true;
    }
    if (event.key === "Enter" && (!empty || this.#moved)) {
      event.preventDefault();
      this.#matching[this.#current]?.click();
      return true;
    }
    if (event.key === "Escape") {
      event.preventDefault();
      if (!empty || this.#moved) this.#match((this.filter.value = ""));
      else document.getElementById("text").focus();
      return true;
    }
    return false;
  }
}
