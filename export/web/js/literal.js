// Values written as in Python, which is how exporters note them in an ONNX file: `{0: 'disc', 1: 'square'}`.
//
// As Python reads them (`ast.literal_eval`): a dictionary is a Map, a tuple a Tuple, a whole number a number, one with
// a point a Real. A text that is no such value stays the text itself. And back, as Python's `repr` shows them.

export class Tuple extends Array {}

/** A number with a point or exponent, which Python tells from a whole one. */
export class Real {
  constructor(value) {
    this.value = value;
  }
}

const NUMBER = /^(?:0[xX][\da-fA-F]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?)/;
const ESCAPES = { n: "\n", t: "\t", r: "\r", 0: "\0", a: "\x07", b: "\b", f: "\f", v: "\v", "\n": "" };
const NAMES = { True: true, False: false, None: null };

/** The value that a text stands for; the text itself if it is no literal. */
export function parseLiteral(text) {
  try {
    const reader = new Reader(text);
    const value = reader.value();
    reader.end();
    return value;
  } catch {
    return text;
  }
}

class Reader {
  constructor(text) {
    this.text = text.replace(/^[ \t]+/, "");
    this.at = 0;
  }

  /** The first character that is no space, without taking it. */
  peek() {
    while (/\s/.test(this.text[this.at] ?? "")) this.at++;
    return this.text[this.at];
  }

  take(character) {
    if (this.peek() !== character) return false;
    this.at++;
    return true;
  }

  need(character) {
    if (!this.take(character)) throw new SyntaxError(`no ${character} at ${this.at}`);
  }

  end() {
    if (this.peek() !== undefined) throw new SyntaxError("more after the end");
  }

  value() {
    const next = this.peek();
    if (next === "{") return this.braces();
    if (next === "[") return this.sequence("[", "]").items;
    if (next === "(") return this.parentheses();
    if (next === "'" || next === '"') return this.strings();
    if (next === "-" || next === "+") return this.signed();
    const word = /^[A-Za-z_]+/.exec(this.text.slice(this.at))?.[0];
    if (word in NAMES) {
      this.at += word.length;
      return NAMES[word];
    }
    return this.number();
  }

  sequence(open, close) {
    this.need(open);
    const items = [];
    let comma = false;
    while (!this.take(close)) {
      if (items.length && !comma) this.need(",");
      items.push(this.value());
      comma = this.take(",");
    }
    return { items, comma };
  }

  parentheses() {
    const { items, comma } = this.sequence("(", ")");
    if (items.length === 1 && !comma) return items[0];
    return Tuple.from(items);
  }

  braces() {
    this.need("{");
    const map = new Map();
    while (!this.take("}")) {
      if (map.size) {
        this.need(",");
        if (this.take("}")) break;
      }
      const key = this.value();
      this.need(":");
      map.set(key, this.value());
    }
    return map;
  }

  /** One string, or several beside each other, which are one. */
  strings() {
    let text = "";
    while (this.peek() === "'" || this.peek() === '"') text += this.string();
    return text;
  }

  string() {
    const quote = this.text[this.at++];
    let text = "";
    for (;;) {
      const character = this.text[this.at++];
      if (character === undefined || character === "\n") throw new SyntaxError("a string without an end");
      if (character === quote) return text;
      text += character === "\\" ? this.escape() : character;
    }
  }

  escape() {
    const kind = this.text[this.at++];
    const digits = { x: 2, u: 4, U: 8 }[kind];
    if (digits) {
      const code = this.text.slice(this.at, this.at + digits);
      if (!/^[\da-fA-F]+$/.test(code) || code.length < digits) throw new SyntaxError("an escape cut off");
      this.at += digits;
      return String.fromCodePoint(parseInt(code, 16));
    }
    return ESCAPES[kind] ?? (/['"\\]/.test(kind) ? kind : `\\${kind}`);
  }

  signed() {
    const minus = this.text[this.at++] === "-";
    this.peek();
    const number = this.number();
    if (!minus) return number;
    return number instanceof Real ? new Real(-number.value) : -number;
  }

  number() {
    const digits = NUMBER.exec(this.text.slice(this.at))?.[0];
    if (!digits) throw new SyntaxError(`no value at ${this.at}`);
    this.at += digits.length;
    if (/\w/.test(this.text[this.at] ?? "")) throw new SyntaxError("a number that goes on");
    const value = Number(digits.replaceAll("_", ""));
    if (Number.isNaN(value) || /^0\d*[1-9]/.test(digits) && !/[.eExX]/.test(digits)) throw new SyntaxError("no number");
    return /^0[xX]/.test(digits) || !/[.eE]/.test(digits) ? value : new Real(value);
  }
}

/** A value as Python's `repr` shows it. */
export function repr(value) {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value === "string") return quoted(value);
  if (value instanceof Real) return real(value.value);
  if (value instanceof Map) return `{${[...value].map(([key, one]) => `${repr(key)}: ${repr(one)}`).join(", ")}}`;
  if (value instanceof Tuple) return tuple(value);
  if (Array.isArray(value)) return `[${value.map(repr).join(", ")}]`;
  return String(value);
}

/** A list of values as Python shows a tuple: shapes, above all. */
export function tuple(items) {
  return `(${Array.from(items, repr).join(", ")}${items.length === 1 ? "," : ""})`;
}

function quoted(text) {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const inside = text.replace(/[\\\n\r\t\x00-\x1f\x7f'"]/g, (one) => {
    if (one === "'" || one === '"') return one === quote ? `\\${one}` : one;
    const short = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" }[one];
    return short ?? `\\x${one.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
  return quote + inside + quote;
}

function real(value) {
  if (value === Infinity) return "inf";
  if (Number.isInteger(value) && Math.abs(value) < 1e16) return `${value}.0`;
  // Python writes small numbers with an exponent of two digits, from 1e-5 downwards.
  const small = value !== 0 && Math.abs(value) < 1e-4;
  const text = small ? value.toExponential() : String(value);
  return text.replace(/e([+-])(\d)$/, "e$10$2");
}
