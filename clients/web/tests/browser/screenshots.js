/**
 * Writes the documents' pictures: `npm run screenshots -- FOLDER` makes FOLDER/face.png, the README's, and
 * FOLDER/web.png, an avatar that was dropped on the page (docs/images where no folder is named). The faces are
 * ones that the model made of the sample's sound (a frame with the mouth well open and the eyes too), posed
 * still, because without a graphics card a picture in full takes seconds.
 */

import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { parseGlb, writeGlb } from '../../src/avatar/glb.js';
import { defaultFace, vrm1 } from '../avatars.js';
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
  await page.waitForFunction(() => !globalThis.diffspeaker.talk.take);
  /** @type {{names: string[], values: number[], gapMm: number}[]} */
  const faces = await page.evaluate(() => globalThis.faces);
  const awake = faces.filter(({ names, values }) => values[names.indexOf('eyeBlinkLeft')] < 0.12);
  const open = awake.toSorted((a, b) => a.gapMm - b.gapMm);
  return open[Math.floor(0.85 * open.length)];
}

/** The default face in other colours, as a VRM: somebody else. @returns {ArrayBuffer} */
function somebodyElse() {
  const { json, binary } = parseGlb(defaultFace(), 'the default face');
  /** @type {Record<string, [number, number, number, number]>} */
  const colours = { hair: [0.5, 0.75, 1, 1], cloth: [1, 0.45, 0.5, 1], ribbing: [1, 0.45, 0.5, 1] };
  for (const { name, ...material } of json.materials) {
    if (colours[name]) Object.assign(material.pbrMetallicRoughness ?? {}, { baseColorFactor: colours[name] });
  }
  return vrm1(writeGlb(json, binary));
}

/** @param {import('playwright-core').Page} page @param {any} face @param {string} name */
async function picture(page, { names, values }, name) {
  await page.evaluate(
    (pose) => {
      const { face, stage } = globalThis.diffspeaker;
      face.draw = () => stage.apply(pose.names, pose.values);
    },
    { names, values },
  );
  await page.waitForTimeout(12_000); // a few pictures
  await page.screenshot({ path: path.join(folder, name), timeout: 120_000 });
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
  await picture(page, face, 'face.png');
  await page.context().close();

  const dressed = await world.openPage(browser, `${address}?quality=full`, options);
  await dressed.locator('#avatar-file').setInputFiles({
    ...{ name: 'anna.vrm', mimeType: 'model/gltf-binary', buffer: Buffer.from(somebodyElse()) },
  });
  await dressed.waitForFunction(() => globalThis.diffspeaker.wardrobe.worn, null, { timeout: 120_000 });
  await dressed.evaluate(() => {
    for (const id of ['panel', 'section-avatar', 'mapping']) {
      /** @type {any} */ (document.getElementById(id)).open = true;
    }
  });
  await picture(dressed, face, 'web.png');
} finally {
  await browser.close();
  await server.stop();
}
