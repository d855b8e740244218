// Keeps the app for when there is no network, lets threads share memory, and takes what other apps share with it.
//
// One cache holds one version whole: the page, the model, and files.json, which says what belongs together. It is
// answered from at once; a new version is fetched beside it and takes over when it is whole. Of onnxruntime-web a
// device uses one of two builds, so that one is kept which the page names.

const VERSION = "__VERSION__";
// Pages of other folders share the caches of an origin.
const PREFIX = `yolo-distill ${self.registration.scope} `;
const CACHE = PREFIX + VERSION;
const SHARED = `${PREFIX}shared`;
const LIST = new URL("files.json", self.registration.scope).href;
// A phone that left the server's network asks into the void; what is kept is good enough then.
const PATIENCE_MS = 3000;

// Pages that are isolated from others may have threads; servers of static files mostly do not send these.
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("message", (event) => event.waitUntil(keepAll(event.data.keep ?? [])));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (!url.href.startsWith(self.registration.scope)) return;
  if (request.method === "POST" && url.pathname.endsWith("/share")) event.respondWith(share(request));
  else if (request.method === "GET") event.respondWith(answer(request));
});

async function install() {
  const response = await fetch(LIST, { cache: "no-store" });
  const { app, ort, model } = await response.clone().json();
  const cache = await caches.open(CACHE);
  await cache.put(LIST, response);
  // What the page fetched a moment ago is in the browser's own cache; it asks the server whether that still holds.
  await cache.addAll(app.map((path) => new Request(path, { cache: "no-cache" })));
  // The model's address is its content: it is fetched once, whatever else changes.
  await keep(model.url);
  const before = await keptOrt();
  for (const path of ort) if (before.has(path)) await keep(path);
  await self.skipWaiting();
}

async function activate() {
  await self.clients.claim(); // first, or what a page fetches meanwhile would be asked of the worker before
  for (const name of await caches.keys()) {
    if (name.startsWith(PREFIX) && name !== CACHE && name !== SHARED) await caches.delete(name);
  }
}

/** Keep what a page uses, unless a newer version has taken over: to open a cache that is gone would make it again. */
async function keepAll(paths) {
  if (await caches.has(CACHE)) await Promise.all(paths.map(keep));
}

/** Put a file into this version's cache: an older version's copy where the address says that it is the same. */
async function keep(path) {
  const url = new URL(path, self.registration.scope).href;
  const cache = await caches.open(CACHE);
  if (await cache.match(url)) return;
  const same = path.startsWith("model/") && (await caches.match(url));
  if (same) await cache.put(url, same);
  else await cache.add(new Request(url, { cache: "no-cache" }));
}

/** The files of onnxruntime-web that this device used before. */
async function keptOrt() {
  const paths = new Set();
  for (const name of await caches.keys()) {
    if (!name.startsWith(PREFIX)) continue;
    for (const { url } of await (await caches.open(name)).keys()) {
      const path = url.slice(self.registration.scope.length);
      if (path.startsWith("ort/")) paths.add(path);
    }
  }
  return paths;
}

async function answer(request) {
  const kept = await caches.match(request, { cacheName: CACHE, ignoreSearch: request.mode === "navigate" });
  if (!kept) return isolated(await fetch(request));
  if (request.mode === "navigate" && (await moved())) return fetch(request);
  // A model that was replaced is seen at once: the list of files comes from the network where that answers.
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const fresh = request.url === LIST && (await fetch(request, { signal }).catch(() => null));
  return isolated(fresh?.ok ? fresh : kept);
}

/** Whether another program answers at this address by now, as happens on localhost: then the app leaves it. */
async function moved() {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const fresh = await fetch(LIST, { cache: "no-store", signal }).catch(() => null);
  if (!fresh || fresh.status >= 500) return false;
  const ours = fresh.ok && (await fresh.json().then((list) => Array.isArray(list.app)).catch(() => false));
  if (ours) return false;
  await self.registration.unregister();
  for (const name of await caches.keys()) if (name.startsWith(PREFIX)) await caches.delete(name);
  return true;
}

function isolated(response) {
  if (response.type === "opaque" || response.type === "error" || response.type === "opaqueredirect") return response;
  const headers = new Headers(response.headers);
  for (const [key, value] of Object.entries(ISOLATION)) headers.set(key, value);
  const bare = [101, 204, 205, 304].includes(response.status);
  return new Response(bare ? null : response.body, { status: response.status, statusText: response.statusText, headers });
}

/** Lay a shared file where the page finds it, and open the page. */
async function share(request) {
  const file = (await request.formData()).get("file");
  if (file instanceof File) {
    const cache = await caches.open(SHARED);
    const headers = { "Content-Type": file.type, "X-Name": encodeURIComponent(file.name) };
    await cache.put("shared", new Response(file, { headers }));
  }
  return Response.redirect("./?shared", 303);
}
