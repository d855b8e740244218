// Sources whose picture moves: a camera and a video file, both played by the page's <video>.

import { cameraTrouble } from "./words.js";

/**
 * Frames of a <video>: each new one is announced, and taken if it is wanted.
 *
 * All sources play in the same element, so that it is a source's own from `start` to `stop` only: one that was asked for
 * and is not wanted any more when it is there touches nothing.
 */
export class Moving {
  constructor(video, title) {
    this.video = video;
    this.title = title;
    this.moving = true;
    this.attached = false;
    this.handle = 0;
    this.taken = 0;
  }

  /** @param {(take: () => Promise<{frame: any, taken: number}>) => void} offer told of each new frame. */
  async start(offer) {
    this.offer = offer;
    this.attached = true;
    this.attach();
    await this.resume();
    if (this.attached) this.watch();
  }

  watch() {
    const { video } = this;
    // Firefox learned late to tell of frames; there, one is supposed at each repaint.
    const ask = video.requestVideoFrameCallback?.bind(video) ?? requestAnimationFrame;
    this.handle = ask((now, about) => {
      this.taken = about?.captureTime ?? now;
      if (!video.paused) this.offer(() => this.take());
      this.watch();
    });
  }

  async take() {
    const { taken, video } = this;
    const frame = globalThis.VideoFrame ? new VideoFrame(video) : await createImageBitmap(video);
    return { frame, taken };
  }

  pause() {
    this.video.pause();
  }

  async resume() {
    try {
      await this.video.play();
    } catch (error) {
      if (error.name !== "AbortError") throw error; // paused or stopped before it began
    }
  }

  stop() {
    this.offer = () => {};
    if (!this.attached) return;
    this.attached = false;
    if (this.video.cancelVideoFrameCallback) this.video.cancelVideoFrameCallback(this.handle);
    else cancelAnimationFrame(this.handle);
    this.video.pause();
    this.detach();
  }
}

export class VideoFile extends Moving {
  /**
   * @param {HTMLVideoElement} video
   * @param {File} file
   */
  constructor(video, file) {
    super(video, file.name);
    this.file = file;
  }

  async start(offer) {
    try {
      await super.start(offer);
    } catch (error) {
      if (error.name !== "NotSupportedError") throw error;
      throw new Error(`${this.title}: this browser cannot play it; MP4 with H.264 plays everywhere`);
    }
    if (!this.attached) return;
    this.video.onerror = () => this.onlost?.(`${this.title}: is damaged, and cannot be played any further`);
  }

  attach() {
    this.address = URL.createObjectURL(this.file);
    this.video.src = this.address;
    this.video.loop = true;
  }

  detach() {
    this.video.onerror = null;
    this.video.removeAttribute("src");
    this.video.load();
    URL.revokeObjectURL(this.address);
  }
}

export class Camera extends Moving {
  /**
   * Ask for a camera.
   *
   * @param {HTMLVideoElement} video
   * @param {{facing?: string, device?: string}} which "environment" or "user"; or a device by its id.
   * @throws {Error} in words for people.
   */
  static async open(video, { facing = "environment", device } = {}) {
    if (!navigator.mediaDevices?.getUserMedia) throw new Error(cameraTrouble(null, isSecureContext));
    const which = device ? { deviceId: { exact: device } } : { facingMode: facing };
    let stream;
    try {
      const size = { width: { ideal: 1280 }, height: { ideal: 720 } };
      stream = await navigator.mediaDevices.getUserMedia({ video: { ...which, ...size }, audio: false });
    } catch (error) {
      throw new Error(cameraTrouble(error, isSecureContext));
    }
    const [track] = stream.getVideoTracks();
    const source = new Camera(video, track.label || "camera");
    source.stream = stream;
    source.track = track;
    // A camera that is pulled out, or taken by a call.
    track.onended = () => source.onlost?.(`${source.title}: the camera was taken away; start it again`);
    return source;
  }

  /** The camera after this one: the other side of a phone, else the next device. */
  async next() {
    const { facingMode, deviceId } = this.track.getSettings();
    if (facingMode) return { facing: facingMode === "user" ? "environment" : "user" };
    const ids = (await Camera.list()).map((one) => one.deviceId);
    return { device: ids[(ids.indexOf(deviceId) + 1) % ids.length] };
  }

  static async list() {
    const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
    return devices.filter(({ kind }) => kind === "videoinput");
  }

  attach() {
    this.video.srcObject = this.stream;
  }

  detach() {
    this.video.srcObject = null;
  }

  stop() {
    super.stop();
    this.track.onended = null;
    this.track.stop();
  }
}
