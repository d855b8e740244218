// Draws detections onto a canvas, in the colours that yolo_distill/runtime/drawing.py gives the classes.

import { PERSON, pointsOf } from "./keypoints.js";
import { drawMasks } from "./mask-drawing.js";
import { corners } from "./turned-boxes.js";

const GOLDEN_RATIO = 0.618034; // steps of this size round the colour circle never come close to each other soon

/** A class's colour: red, green, blue, 0 to 255. */
export function colourOf(classId) {
  const hue = (0.02 + classId * GOLDEN_RATIO) % 1;
  const saturation = classId % 2 ? 0.85 : 0.7;
  return [5, 3, 1].map((shift) => {
    const place = (shift + 6 * hue) % 6;
    const level = 0.95 * (1 - saturation * Math.max(0, Math.min(place, 4 - place, 1)));
    return Math.round(255 * level);
  });
}

export const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

/**
 * Draw a box, the name and the confidence of each detection, and its mask or keypoints.
 *
 * @param {CanvasRenderingContext2D|OffscreenCanvasRenderingContext2D} context
 * @param {import("./postprocess.js").Found} found
 * @param {string[]} names
 * @param {{scale: number, unit: number}} look pixels of the canvas per pixel of the picture; width of a fine line.
 */
export function drawFound(context, found, names, { scale, unit }) {
  const { xyxy, scores, classId, masks, keypoints } = found;
  const text = 13 * unit;
  context.font = `600 ${text}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = 2.5 * unit;
  const colours = Array.from(classId, colourOf);
  if (masks) drawMasks(context, masks, colours, scale, context.lineWidth);
  // From the worst to the best, so that the best lies on top; and no line goes through a name.
  const order = Array.from(scores.keys()).reverse();
  const cornersOf = (i) => Array.from(xyxy.subarray(4 * i, 4 * i + 4), (value) => value * scale);
  for (const i of order) {
    context.strokeStyle = css(colours[i]);
    context.stroke(frame(found, i, scale));
  }
  const labels = place(context, [...order].reverse().map((i) => ({
    words: `${names[classId[i]]} ${scores[i].toFixed(2)}`, box: cornersOf(i), colour: colours[i],
  })), text, unit);
  for (const label of labels.reverse()) write(context, label, text, unit);
  if (keypoints) for (const i of order) drawPoints(context, pointsOf(keypoints, i), css(colours[i]), scale);
}

/** The box of an object, turned where it is. */
function frame({ xyxy, turned }, i, scale) {
  const [x1, y1, x2, y2] = xyxy.subarray(4 * i, 4 * i + 4);
  const points = turned ? corners(turned.subarray(5 * i, 5 * i + 5)) : [x1, y1, x2, y1, x2, y2, x1, y2];
  const path = new Path2D();
  for (let at = 0; at < 8; at += 2) path.lineTo(points[at] * scale, points[at + 1] * scale);
  path.closePath();
  return path;
}

/** The keypoints of an object that are seen, each in a colour of its own, and the bones of a person. */
function drawPoints(context, points, colour, scale) {
  context.strokeStyle = colour;
  for (const [from, to] of points.length === 17 ? PERSON : []) {
    if (!points[from].seen || !points[to].seen) continue;
    context.beginPath();
    context.moveTo(points[from].x * scale, points[from].y * scale);
    context.lineTo(points[to].x * scale, points[to].y * scale);
    context.stroke();
  }
  points.forEach(({ x, y, seen }, number) => {
    if (!seen) return;
    context.fillStyle = css(colourOf(number));
    context.beginPath();
    context.arc(x * scale, y * scale, 1.5 * context.lineWidth, 0, 2 * Math.PI);
    context.fill();
  });
}

/** Give each label a place beside its box where it covers the others least; the first has the first choice. */
function place(context, labels, text, unit) {
  const tall = text + 5 * unit;
  const { width, height } = context.canvas;
  const taken = [];
  for (const label of labels) {
    const wide = context.measureText(label.words).width + 10 * unit;
    const [x1, y1, x2, y2] = label.box;
    let least = Infinity;
    // Above the box, inside it, and below it; at its left and at its right side.
    for (const y of [...(y1 >= tall ? [y1 - tall] : []), y1, y2, y2 - tall]) {
      for (const x of [x1 - 1.25 * unit, x2 + 1.25 * unit - wide]) {
        const left = Math.max(Math.min(x, width - wide), 0);
        const top = Math.max(Math.min(y, height - tall), 0);
        let shared = 0;
        for (const one of taken) {
          shared += Math.max(Math.min(left + wide, one.left + one.wide) - Math.max(left, one.left), 0)
            * Math.max(tall - Math.abs(top - one.top), 0);
        }
        if (shared < least) [least, label.left, label.top, label.wide] = [shared, left, top, wide];
      }
    }
    taken.push(label);
  }
  return labels;
}

function write(context, { words, colour, left, top, wide }, text, unit) {
  const tall = text + 5 * unit;
  context.fillStyle = css(colour);
  context.fillRect(left, top, wide, tall);
  const [red, green, blue] = colour;
  context.fillStyle = 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#000" : "#fff";
  context.fillText(words, left + 5 * unit, top + tall / 2 + text / 16);
}
