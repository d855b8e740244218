// The page's side of the service worker: offline, installed, and opened with what another app shared.

/**
 * Keep the app for when there is no network.
 *
 * @param {string[]} files of onnxruntime-web that this device uses.
 */
export async function keepOffline(files) {
  if (!navigator.serviceWorker) return;
  try {
    await navigator.serviceWorker.register("sw.js", { updateViaCache: "none" });
    const { active } = await navigator.serviceWorker.ready;
    active.postMessage({ keep: files });
  } catch (error) {
    // A certificate that the browser does not trust, or no room: the app works, but not offline.
    console.info(`not kept for offline use: ${error.message}`);
  }
}

/** The file that another app shared with this one, if that is how the page was opened. @returns {Promise<?File>} */
export async function sharedFile() {
  if (!new URLSearchParams(location.search).has("shared")) return null;
  history.replaceState(null, "", "./");
  const cache = await caches.open(`yolo-distill ${new URL("./", location.href).href} shared`);
  const response = await cache.match("shared");
  if (!response) return null;
  await cache.delete("shared");
  const name = decodeURIComponent(response.headers.get("X-Name"));
  return new File([await response.blob()], name, { type: response.headers.get("Content-Type") });
}

/** Show a button where the browser offers to install the app. */
export function offerInstall(button) {
  addEventListener("beforeinstallprompt", (event) => {
    event.preventDefault();
    button.hidden = false;
    button.onclick = () => {
      button.hidden = true;
      event.prompt();
    };
  });
}
