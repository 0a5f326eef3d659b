// A question of the kind "choices": any number of values, or none. A choice is turned on and off; Enter saves what is on.

import { Choices } from "./choices.js";

const NONE = null; // the value of the button for none of them

export class Several {
  #chosen = new Set();
  #none = false; // said to be none: an answer that must be given, not one that is left over

  // `changed` is told what would be saved, with its name: undefined where nothing is chosen yet.
  constructor(question, changed) {
    this.question = question;
    this.changed = changed;
    const taken = question.choices.some(({ name }) => name.toLowerCase() === "none");
    this.none = taken ? "(none)" : "none";
    const choices = [...question.choices, { value: NONE, name: this.none, description: "" }];
    this.inner = new Choices({ ...question, choices }, (value) => this.toggle(value));
    this.inner.root.addEventListener("mousedown", (event) => event.preventDefault()); // so that Enter still saves
  }

  get many() {
    return this.inner.many;
  }

  // What would be saved now; undefined where nobody has chosen anything.
  get value() {
    const chosen = this.question.choices.map(({ value }) => value).filter((value) => this.#chosen.has(value));
    return chosen.length || this.#none ? chosen : undefined;
  }

  // In a queue the teacher's choices are on already, after an undo the reviewer's own.
  show(row, before) {
    const start = before?.action === "label" ? before.value : row.given === undefined ? null : row.value;
    this.#chosen = new Set(start ?? []);
    this.#none = start?.length === 0;
    this.inner.show(row, before);
    this.#mark();
  }

  toggle(value) {
    if (value === NONE) {
      this.#none = !this.#none;
      this.#chosen.clear();
    } else {
      this.#none = false;
      if (!this.#chosen.delete(value)) this.#chosen.add(value);
    }
    this.inner.clear();
    this.#mark();
  }

  nameOf(value) {
    const name = (one) => this.question.choices.find((choice) => choice.value === one)?.name ?? String(one);
    return value.map(name).join("; ") || this.none;
  }

  focus = () => this.inner.focus();
  key = (digit) => this.inner.key(digit);
  filterKey = (event) => this.inner.filterKey(event);

  #mark() {
    const on = [...this.question.choices.map(({ value }) => this.#chosen.has(value)), this.#none];
    [...this.inner.root.children].forEach((button, index) => {
      button.classList.toggle("on", on[index]);
      button.setAttribute(this.many ? "aria-checked" : "aria-pressed", String(on[index]));
    });
    this.changed(this.value, this.value && this.nameOf(this.value));
  }
}
