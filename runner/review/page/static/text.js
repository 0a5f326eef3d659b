// Texts of others, as text: nothing of it is markup, and what cannot be seen is named.

const UNSEEN = new Map([
  [0x00ad, ["SHY", "soft hyphen"]],
  [0x200b, ["ZWSP", "zero width space"]],
  [0x202a, ["LRE", "left-to-right embedding"]],
  [0x202b, ["RLE", "right-to-left embedding"]],
  [0x202c, ["PDF", "end of an embedding"]],
  [0x202d, ["LRO", "left-to-right override"]],
  [0x202e, ["RLO", "right-to-left override"]],
  [0x2028, ["LS", "line separator"]],
  [0x2029, ["PS", "paragraph separator"]],
  [0x2060, ["WJ", "word joiner"]],
  [0xfeff, ["BOM", "byte order mark"]],
]);
const CONTROLS =
  "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US".split(" ");
// The server puts U+2400 to U+2421 in the place of control characters, and U+FFFD in that of broken ones.
const MARKED = /([\u2400-\u2421\ufffd\u00ad\u200b\u202a-\u202e\u2028\u2029\u2060\ufeff])/u;

export function show(element, text) {
  const parts = text.split(MARKED).map((part, index) => (index % 2 ? mark(part) : part));
  element.replaceChildren(...parts);
}

function mark(character) {
  const code = character.codePointAt(0);
  const control = code === 0x2421 ? "DEL" : CONTROLS[code - 0x2400]; // few fonts have the pictures of these
  const [sign, name] = UNSEEN.get(code) ?? (control ? [control, `control character ${control}`] : ["\ufffd", "broken character"]);
  const span = document.createElement("span");
  span.className = "mark";
  span.setAttribute("role", "img");
  span.setAttribute("aria-label", name);
  span.title = name;
  span.textContent = sign;
  return span;
}

export const count = (number) => number.toLocaleString("en");

export function element(tag, words = "", properties = {}) {
  const made = document.createElement(tag);
  made.textContent = words;
  return Object.assign(made, properties);
}
