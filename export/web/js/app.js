// The app: one source, one detector, one view, and what happens between them.

import { Meter } from "./meter.js";
import { Camera, VideoFile } from "./moving.js";
import { Newest } from "./newest.js";
import { Still } from "./still.js";

export class App {
  /**
   * @param {object} parts
   * @param {import("./detector.js").Detector} parts.detector
   * @param {import("./view.js").View} parts.view
   * @param {import("./controls.js").Controls} parts.controls
   * @param {import("./readings.js").Readings} parts.readings
   * @param {HTMLVideoElement} parts.video
   * @param {(error: Error) => void} parts.onerror told what went wrong, in words for people.
   * @param {() => void} parts.onchange told that `source` or `paused` is another.
   */
  constructor({ detector, view, controls, readings, video, onerror, onchange }) {
    Object.assign(this, { detector, view, controls, readings, video, onerror, onchange });
    this.model = null;
    this.source = null;
    this.paused = false;
    this.meter = new Meter();
    this.newest = new Newest((take) => this.look(take));
    this.starting = 0;
  }

  /** Open a model; what is shown is looked at anew. */
  async openModel(model) {
    this.model = await this.detector.open(model);
    this.controls.fit(this.model);
    const { source } = this;
    if (source && (!source.moving || this.paused)) this.newest.offer(() => source.take());
    return this.model;
  }

  /** Open a picture or video file. */
  openFile(file) {
    const video = file.type.startsWith("video/") || /\.(mp4|m4v|mov|webm|mkv|avi)$/i.test(file.name);
    return this.play(() => (video ? new VideoFile(this.video, file) : new Still(file)));
  }

  openCamera(which) {
    return this.play(() => Camera.open(this.video, which));
  }

  async switchCamera() {
    const which = await this.source.next();
    return this.openCamera(which);
  }

  /** Put a source in the place of the one before. */
  async play(open) {
    this.stop();
    const turn = this.starting;
    try {
      const source = await open();
      if (turn !== this.starting) return source.stop(); // another one was asked for meanwhile
      this.source = source;
      source.onlost = (words) => {
        this.stop();
        this.onerror(new Error(words));
      };
      this.onchange();
      await source.start((take) => this.model && this.newest.offer(take));
      if (!this.model) this.readings.say("Waiting for the model");
    } catch (error) {
      if (turn !== this.starting) return;
      this.stop();
      this.onerror(error);
    }
  }

  stop() {
    this.starting++; // what is still being opened is not wanted any more
    this.source?.stop();
    this.source = null;
    this.paused = false;
    this.newest.clear();
    this.meter.clear();
    this.view.clear();
    this.readings.clear();
    this.onchange();
  }

  /** Go on after the page was out of sight: some browsers stop a video there and leave it so. */
  async wake() {
    if (this.source?.moving && !this.paused) await this.source.resume();
  }

  /** Take a frame, find what is in it, show it. */
  async look(take) {
    const { source, model } = this;
    try {
      const { frame, taken } = await take().catch((error) => {
        // A video that is seeking back to its start, say, has no frame just now; the next one comes.
        if (source?.moving && error.name === "InvalidStateError") return {};
        throw error;
      });
      if (!frame) return;
      const answer = await this.detector.find(frame, this.controls.settings);
      if (source !== this.source || model !== this.model) return discard(answer);
      this.view.show(answer, model.names);
      if (!this.paused) this.meter.add(taken, performance.now());
      // The frame that was in work when the person paused is shown, but what is said is that it is paused.
      this.readings.show(answer.found, model.names, this.meter, source.moving && !this.paused, !this.paused);
      this.onfound?.(answer);
    } catch (error) {
      if (source !== this.source) return;
      this.stop();
      this.onerror(error);
    }
  }

  /** Show what the standing frame holds under the settings as they now are. */
  async lookAgain() {
    if (!this.view.shown || (this.source?.moving && !this.paused)) return;
    const { found } = await this.detector.again(this.controls.settings);
    if (!found || !this.view.shown) return;
    this.view.update(found);
    this.readings.show(found, this.model.names, this.meter, false);
  }

  async pause() {
    this.paused = !this.paused;
    this.newest.clear();
    this.meter.clear();
    if (this.paused) this.source.pause();
    else await this.source.resume();
    this.readings.say(this.paused ? "Paused" : "Going on");
    this.onchange();
  }
}

function discard({ frame, copy }) {
  frame.close();
  copy?.close();
}
