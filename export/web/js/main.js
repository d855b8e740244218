// Connects the page's buttons with the app.

import { App } from "./app.js";
import { Controls } from "./controls.js";
import { Detector } from "./detector.js";
import { acceptFiles } from "./files.js";
import { Camera } from "./moving.js";
import { keepOffline, offerInstall, sharedFile } from "./offline.js";
import { Readings } from "./readings.js";
import { View } from "./view.js";
import { backendWords, megabytes, slowWords } from "./words.js";

// ?backend=wasm or ?backend=webgpu behind the address, for who wants to compare them.
const backend = new URLSearchParams(location.search).get("backend");
const element = (id) => document.getElementById(id);

const detector = new Detector(new Worker(new URL("worker.js", import.meta.url), { type: "module" }));
const readings = new Readings(element);
const controls = new Controls(element, () => app.lookAgain().catch(complain));
const app = new App({
  detector,
  view: new View(element("view"), element("stage")),
  controls,
  readings,
  video: element("video"),
  onerror: complain,
  onchange: refresh,
});

function complain(error) {
  element("notice-text").textContent = error.message;
  element("notice").hidden = false;
  element("notice").scrollIntoView({ block: "nearest" });
}

/** Bring the buttons in line with what is going on. */
async function refresh() {
  const { source, paused } = app;
  const camera = source instanceof Camera;
  element("welcome").hidden = Boolean(source);
  element("readings").hidden = !source || !app.model;
  element("paused").hidden = !paused;
  element("camera").setAttribute("aria-pressed", camera);
  element("pause").setAttribute("aria-pressed", paused);
  element("pause").disabled = !source?.moving;
  element("snapshot").disabled = !source;
  element("stage").classList.toggle("empty", !source);
  element("stage").classList.toggle("shown", Boolean(source && !source.moving));
  const several = camera && (await Camera.list()).length > 1;
  element("switch").hidden = !(several && app.source instanceof Camera); // it may have been stopped meanwhile
}

async function openModel(model) {
  element("loading").hidden = false;
  try {
    const ready = await app.openModel({ ...model, backend });
    element("model-name").textContent = ready.name;
    element("reading-model").textContent = ready.name;
    element("backend").textContent = backendWords(ready);
    const [height, width] = ready.imgsz;
    const about = `${ready.name}: ${ready.names.length} classes, ${width} × ${height} px, ${ready.precision}.`;
    element("about").textContent = `${about} ${slowWords(ready, crossOriginIsolated)}`;
    readings.say(`Model ready, ${backendWords(ready)}`);
    document.documentElement.dataset.ready = ready.backend;
    return ready;
  } catch (error) {
    complain(error);
    return null;
  } finally {
    element("loading").hidden = true;
    refresh();
  }
}

/** What `serve` wrote about the page: the model, above all. */
async function readList() {
  try {
    const response = await fetch("files.json", { cache: "no-cache" });
    if (response.ok) return await response.json();
  } catch {
    // Said below: there is none, or it is something else.
  }
  throw new Error("files.json is missing beside this page: build the folder with yolo-distill serve");
}

async function openServedModel() {
  if (!globalThis.OffscreenCanvas) {
    throw new Error("This browser is too old for this page; Chrome 112, Firefox 114 and Safari 16.4 are new enough");
  }
  const { model } = await readList();
  detector.onprogress = (loaded) => {
    element("loading-bar").value = loaded / model.bytes;
    element("loading-text").textContent = `Loading ${model.name}: ${megabytes(loaded)} of ${megabytes(model.bytes)}`;
    if (loaded < model.bytes) return;
    element("loading-bar").removeAttribute("value");
    element("loading-text").textContent = `Preparing ${model.name}`;
  };
  const ready = await openModel({ name: model.name, url: new URL(model.url, location.href).href });
  if (ready) await keepOffline(ready.files);
}

async function openFile(file) {
  element("notice").hidden = true;
  if (/\.onnx$/i.test(file.name)) await openModel({ name: file.name, file });
  else await app.openFile(file);
}

async function save() {
  if (!app.view.shown) return;
  const address = URL.createObjectURL(await app.view.snapshot());
  const name = `yolo-distill ${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.png`;
  Object.assign(document.createElement("a"), { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
  readings.say("Picture saved");
}

async function startCamera() {
  element("notice").hidden = true;
  const before = document.activeElement;
  await app.openCamera();
  // The button that was pressed may be gone; the next one to want is that which stops the camera.
  if (app.source && !before.getClientRects().length) element("camera").focus();
}

element("welcome-camera").onclick = startCamera;
element("camera").onclick = () => (app.source instanceof Camera ? app.stop() : startCamera());
element("switch").onclick = () => app.switchCamera().catch(complain);
element("pause").onclick = () => app.pause().catch(complain);
element("snapshot").onclick = () => save().catch(complain);
element("notice-close").onclick = () => (element("notice").hidden = true);
acceptFiles({ input: element("file"), buttons: [element("open"), element("welcome-open")], hint: element("drop") }, openFile);
offerInstall(element("install"));

document.addEventListener("visibilitychange", () => document.hidden || app.wake().catch(complain));

globalThis.app = app; // for whoever opens the browser's console
openServedModel().catch((error) => {
  element("loading").hidden = true;
  complain(error);
});
sharedFile().then((file) => file && openFile(file)).catch(complain);
