/**
 * What a person's hands do on the page, for the browser tests: open a section of the settings, drop a file, play
 * the sample and watch what moves.
 */

/** @typedef {import('playwright-core').Page} Page */

/** Opens one section of the settings, and closes the others. @param {Page} page @param {string} title */
export const open = (page, title) =>
  page.evaluate((words) => {
    for (const one of document.querySelectorAll('details')) {
      const summary = one.querySelector('summary')?.textContent?.trim() ?? '';
      one.open =
        one.id === 'panel' || summary.startsWith(words) || (words === 'Mapping' && summary === 'Avatar');
    }
  }, title);

/**
 * Drops a file on the page, as a person's pointer would.
 * @param {Page} page @param {ArrayBuffer | Uint8Array} bytes @param {string} name
 */
export async function drop(page, bytes, name) {
  const base64 = Buffer.from(/** @type {any} */ (bytes)).toString('base64');
  await page.evaluate(
    ([text, fileName]) => {
      const dataTransfer = new DataTransfer();
      const content = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      dataTransfer.items.add(new File([content], fileName));
      for (const type of ['dragenter', 'dragover', 'drop']) {
        dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
      }
    },
    [base64, name],
  );
}

/** Waits until an avatar is worn. @param {Page} page @param {string} name */
export const isWorn = (page, name) =>
  page.waitForFunction((worn) => globalThis.diffspeaker.wardrobe.worn?.name === worn, name);

/** Waits until nobody speaks and the face has come to rest. @param {Page} page */
export const isAtRest = (page) =>
  page.waitForFunction(() => !globalThis.diffspeaker.talk.take && !globalThis.diffspeaker.face.isLive);

/**
 * Plays the sample to its end.
 * @param {Page} page
 * @returns {Promise<Record<string, number>>} the most that each of the avatar's targets was moved, by its name
 */
export async function speak(page) {
  await page.evaluate(() => {
    /** @type {any} */
    const most = {};
    globalThis.most = most;
    clearInterval(globalThis.watching);
    globalThis.watching = setInterval(() => {
      const { retarget } = globalThis.diffspeaker.wardrobe.avatar;
      for (const [i, { target }] of retarget.links.entries()) {
        most[target] = Math.max(most[target] ?? 0, retarget.weights[i]);
      }
    }, 15);
  });
  await page.getByRole('button', { name: 'Play sample' }).click();
  await page.waitForFunction(() => globalThis.diffspeaker.face.isLive);
  await isAtRest(page);
  return page.evaluate(() => globalThis.most);
}
