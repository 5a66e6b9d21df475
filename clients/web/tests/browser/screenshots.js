/**
 * Writes the README's picture: `npm run screenshots -- FOLDER` makes FOLDER/face.png (docs/images where no
 * folder is named). The face is one that the model made of the sample's sound (a frame with the mouth well
 * open and the eyes too), posed still, because without a graphics card a picture in full takes seconds.
 */

import { mkdirSync } from 'node:fs';
import path from 'node:path';
import * as world from './world.js';

const folder = process.argv[2] ?? path.resolve(import.meta.dirname, '../../../../docs/images');

/** The channels and values of a frame with an open mouth. @param {import('playwright-core').Page} page */
async function speakingFace(page) {
  await page.evaluate(() => {
    const { face } = globalThis.diffspeaker;
    /** @type {any[]} */
    globalThis.faces = [];
    setInterval(() => {
      const { stage } = globalThis.diffspeaker;
      if (!face.isLive) return;
      globalThis.faces.push({ names: face.channels, values: [...face.out], gapMm: stage.readLipGap() });
    }, 30);
  });
  await page.getByRole('button', { name: 'Play sample' }).click();
  await page.waitForFunction(() => globalThis.diffspeaker.face.isLive);
  await page.waitForFunction(() => !globalThis.diffspeaker.state.take);
  /** @type {{names: string[], values: number[], gapMm: number}[]} */
  const faces = await page.evaluate(() => globalThis.faces);
  const awake = faces.filter(({ names, values }) => values[names.indexOf('eyeBlinkLeft')] < 0.12);
  const open = awake.toSorted((a, b) => a.gapMm - b.gapMm);
  return open[Math.floor(0.85 * open.length)];
}

const port = await world.freePort();
const server = await world.startServer(port);
const browser = await world.startBrowser(world.writeMicrophone());
try {
  mkdirSync(folder, { recursive: true });
  const address = `http://127.0.0.1:${port}/`;
  const face = await speakingFace(await world.openPage(browser, address));
  const options = { pictures: true, viewport: { width: 1280, height: 800 } };
  const page = await world.openPage(browser, `${address}?quality=full`, options);
  await page.getByRole('button', { name: 'Microphone' }).click();
  await page.waitForFunction(() => globalThis.diffspeaker.face.isLive);
  await page.evaluate(({ names, values }) => {
    const { face, stage } = globalThis.diffspeaker;
    face.draw = () => stage.setCoefficients(names, values);
  }, face);
  await page.waitForTimeout(12_000); // a few pictures
  await page.screenshot({ path: path.join(folder, 'face.png'), timeout: 120_000 });
} finally {
  await browser.close();
  await server.stop();
}
