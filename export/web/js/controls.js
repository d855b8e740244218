// The settings of a search: confidence, overlap, classes.

import { colourOf, css } from "./drawing.js";

export class Controls {
  /**
   * @param {(id: string) => HTMLElement} element finds an element of the page.
   * @param {() => void} onchange
   */
  constructor(element, onchange) {
    this.element = element;
    this.onchange = onchange;
    this.classes = null;
    for (const id of ["conf", "iou"]) {
      element(id).oninput = () => {
        element(`${id}-value`).value = Number(element(id).value).toFixed(2);
        onchange();
      };
    }
    element("classes").onchange = () => this.choose();
    element("all").onclick = () => this.choose(true);
    element("none").onclick = () => this.choose(false);
  }

  /** @returns {{conf: number, iou: number, classes: ?number[]}} */
  get settings() {
    const { element, classes } = this;
    return { conf: Number(element("conf").value), iou: Number(element("iou").value), classes };
  }

  /** Offer the classes of a model, all chosen. */
  fit({ names, end2end }) {
    const { element } = this;
    element("iou").disabled = end2end;
    element("iou-note").hidden = !end2end;
    const [legend] = element("classes").children;
    element("classes").replaceChildren(legend, ...names.map(box));
    this.classes = null;
    this.count();
  }

  /** Take over which classes are chosen; all or none of them if asked for. */
  choose(all) {
    const boxes = [...this.element("classes").querySelectorAll("input")];
    if (all !== undefined) for (const one of boxes) one.checked = all;
    const chosen = boxes.filter((one) => one.checked).map((one) => Number(one.value));
    this.classes = chosen.length === boxes.length ? null : chosen;
    this.count();
    this.onchange();
  }

  count() {
    const all = this.element("classes").querySelectorAll("input").length;
    this.element("filter-count").textContent = this.classes ? `${this.classes.length} of ${all}` : `all ${all}`;
  }
}

function box(name, index) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "checkbox", checked: true, value: index });
  label.append(input, swatch(index), name);
  return label;
}

/** A patch of a class's colour. */
export function swatch(classId) {
  const patch = document.createElement("span");
  patch.className = "swatch";
  patch.style.setProperty("--class", css(colourOf(classId)));
  return patch;
}
