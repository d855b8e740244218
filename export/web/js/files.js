// The ways by which a file comes in: chosen, dropped, pasted.

/**
 * @param {{input: HTMLInputElement, buttons: HTMLElement[], hint: HTMLElement}} page a file field, the buttons that
 *     open it, and what is shown while something is dragged over the page.
 * @param {(file: File) => void} onfile
 */
export function acceptFiles({ input, buttons, hint }, onfile) {
  const take = (list) => list?.[0] && onfile(list[0]);
  for (const button of buttons) button.onclick = () => input.click();
  input.onchange = () => {
    take(input.files);
    input.value = ""; // so that the same file can be chosen again
  };
  addEventListener("paste", (event) => take(event.clipboardData?.files));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    hint.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) hint.hidden = true;
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    hint.hidden = true;
    take(event.dataTransfer?.files);
  });
}
