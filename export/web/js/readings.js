// Says what is seen and how fast: the figures over the picture, the list beside it, and aloud for screen readers.

import { swatch } from "./controls.js";
import { countClasses, foundWords } from "./words.js";

const FIGURES_MS = 250; // figures that change with every frame cannot be read
const ALOUD_MS = 4000; // nor listened to

export class Readings {
  /** @param {(id: string) => HTMLElement} element finds an element of the page. */
  constructor(element) {
    this.element = element;
    this.next = 0;
    this.nextAloud = 0;
    this.said = "";
    this.listed = "";
  }

  /**
   * Show what was found.
   *
   * @param {import("./postprocess.js").Found} found
   * @param {string[]} names
   * @param {import("./meter.js").Meter} meter
   * @param {boolean} moving whether more frames follow at once.
   * @param {boolean} aloud whether screen readers are told.
   */
  show({ classId }, names, meter, moving, aloud = true) {
    const now = performance.now();
    if (moving && now < this.next) return;
    this.next = now + FIGURES_MS;
    this.element("fps").textContent = moving && meter.fps ? meter.fps.toFixed(meter.fps < 10 ? 1 : 0) : "–";
    this.element("latency").textContent = meter.latency === null ? "–" : `${Math.round(meter.latency)} ms`;
    const words = foundWords(classId, names);
    if (words !== this.listed) this.list(classId, names);
    this.listed = words;
    if (!aloud || (moving && now < this.nextAloud)) return;
    this.nextAloud = now + ALOUD_MS;
    this.say(`Seen: ${words}`);
  }

  /** Nothing is looked at any more. */
  clear() {
    this.listed = "";
    this.write([faint("Nothing yet")]);
  }

  list(classId, names) {
    const lines = countClasses(classId).map(([index, count]) => {
      const line = document.createElement("li");
      line.append(swatch(index), names[index], Object.assign(document.createElement("b"), { textContent: count }));
      return line;
    });
    this.write(lines.length ? lines : [faint("Nothing")]);
  }

  write(lines) {
    this.element("seen").replaceChildren(...lines);
  }

  /** Say something to screen readers, unless it was the last thing said. */
  say(words) {
    if (words !== this.said) this.element("status").textContent = words;
    this.said = words;
  }
}

function faint(text) {
  return Object.assign(document.createElement("li"), { className: "faint", textContent: text });
}
