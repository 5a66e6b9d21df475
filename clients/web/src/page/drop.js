/**
 * An avatar into the page: dropped anywhere on it, or chosen with a button for those who do not drag.
 */

/**
 * @param {object} places
 * @param {HTMLElement} places.curtain shown while a file is held over the page
 * @param {HTMLInputElement} places.chooser a file input
 * @param {(file: File) => void} onFile
 */
export function acceptFiles({ curtain, chooser }, onFile) {
  let depth = 0; // dragenter and dragleave come for every element on the way
  const show = () => {
    curtain.hidden = depth === 0;
  };
  const holdsFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes('Files') ?? false;
  addEventListener('dragenter', (event) => {
    if (!holdsFiles(event)) return;
    depth++;
    show();
  });
  addEventListener('dragleave', (event) => {
    if (!holdsFiles(event)) return;
    depth = Math.max(0, depth - 1);
    show();
  });
  addEventListener('dragover', (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault(); // else the browser would open the file in place of the page
    if (event.dataTransfer) event.dataTransfer.dropEffect = 'copy';
  });
  addEventListener('drop', (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    depth = 0;
    show();
    const file = choose([...(event.dataTransfer?.files ?? [])]);
    if (file) onFile(file);
  });
  chooser.addEventListener('change', () => {
    const file = chooser.files?.[0];
    chooser.value = ''; // so that the same file can be chosen again
    if (file) onFile(file);
  });
}

/** Of several files the one that looks like an avatar. @param {File[]} files */
const choose = (files) => files.find(({ name }) => /\.(glb|vrm)$/i.test(name)) ?? files[0];
