// Downloads the model, telling how far it is.

/**
 * @param {string} url
 * @param {string} name of the file, for errors.
 * @param {(loaded: number, total: number) => void} progress bytes; the total is 0 where it is not known.
 * @returns {Promise<Uint8Array>}
 */
export async function download(url, name, progress) {
  const response = await fetch(url).catch(() => null);
  if (!response) throw new Error(`${name}: cannot be reached; is there a network?`);
  if (!response.ok) throw new Error(`${name}: cannot be downloaded (the server answered ${response.status})`);
  const total = Number(response.headers.get("Content-Length")) || 0;
  const parts = [];
  let loaded = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    loaded += value.length;
    // A packed transfer is longer than it says.
    progress(loaded, total >= loaded ? total : 0);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
