// How long somebody worked on a row: time in which the page is seen, without breaks.

const BREAK_MS = 120_000; // so long without a key, a click or a movement, and nobody is reading

export class Clock {
  #total = 0;
  #last = performance.now();
  #seen = document.visibilityState === "visible";

  constructor() {
    for (const kind of ["keydown", "pointerdown", "pointermove", "wheel", "touchmove"])
      window.addEventListener(kind, () => this.#count(), { capture: true, passive: true });
    document.addEventListener("visibilitychange", () => {
      this.#count();
      this.#seen = document.visibilityState === "visible";
    });
  }

  start() {
    this.#total = 0;
    this.#last = performance.now();
  }

  seconds() {
    this.#count();
    return this.#total / 1000;
  }

  #count() {
    const now = performance.now();
    if (this.#seen) this.#total += Math.min(now - this.#last, BREAK_MS);
    this.#last = now;
  }
}
