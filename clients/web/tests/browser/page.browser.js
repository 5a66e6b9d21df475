/**
 * The page as a person meets it: a real browser, the real server, speech as its microphone; what the face
 * does is read from the mesh itself. Run with `npm run test:browser` (see world.js for what it needs).
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as world from './world.js';

const OPEN_MM = 3; // how much further than at rest the lips must part in speech

/** @type {Awaited<ReturnType<typeof world.startServer>>} */
let server;
/** @type {import('playwright-core').Browser} */
let browser;
/** One page for the tests that need no pictures, in turn. @type {Awaited<ReturnType<typeof world.openPage>>} */
let page;
let port = 0;

const at = (/** @type {string} */ query = '') => `http://127.0.0.1:${port}/${query}`;
const button = (/** @type {string} */ name) => page.getByRole('button', { name });
const isPressed = async (/** @type {string} */ name) =>
  (await button(name).getAttribute('aria-pressed')) === 'true';
const isLive = () => page.waitForFunction(() => globalThis.diffspeaker.face.isLive);
const isAtRest = () =>
  page.waitForFunction(() => !globalThis.diffspeaker.talk.take && !globalThis.diffspeaker.face.isLive);
const gaps = (/** @type {world.Reading[]} */ readings) => readings.map(({ gapMm }) => gapMm);

before(async () => {
  port = await world.freePort();
  server = await world.startServer(port);
  browser = await world.startBrowser(world.writeMicrophone());
  page = await world.openPage(browser, at());
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

test('the mouth opens with the microphone’s speech, closes in silence, and the face blinks', async (t) => {
  await world.startReading(page);
  assert.equal(await isPressed('Microphone'), false);
  await button('Microphone').click();
  assert.equal(await isPressed('Microphone'), true);
  const enoughS = world.SILENCE_BEFORE_S + world.speechS + 9;
  await page.waitForFunction((s) => globalThis.readings.some(({ ptsS }) => ptsS > s), enoughS);
  const all = await world.readings(page);
  const { startS, endS } = await world.soundOf(page);
  const parts = {
    before: all.filter(({ ptsS }) => ptsS < startS - 0.1),
    speech: all.filter(({ ptsS }) => ptsS > startS && ptsS < endS),
    after: all.filter(({ ptsS }) => ptsS > endS + 0.5),
  };
  for (const [name, part] of Object.entries(parts)) {
    const [low, middle, high] = [0.05, 0.5, 0.95].map((share) =>
      world.quantile(gaps(part), share).toFixed(1),
    );
    t.diagnostic(`lip gap ${name}: ${low} / ${middle} / ${high} mm (p5 / p50 / p95)`);
  }
  const closedMm = world.quantile(gaps(parts.before), 0.5);
  assert.ok(world.quantile(gaps(parts.speech), 0.8) > closedMm + OPEN_MM, 'speech opens the mouth');
  assert.ok(world.quantile(gaps(parts.before), 0.95) < closedMm + 0.5 * OPEN_MM, 'it is closed before');
  assert.ok(world.quantile(gaps(parts.after), 0.95) < closedMm + 0.5 * OPEN_MM, 'it closes and stays closed');
  const lids = [...parts.before, ...parts.after].map(({ blink }) => blink);
  assert.ok(Math.max(...lids) > 0.5 && world.quantile(lids, 0.5) < 0.3, 'it blinks in silence');

  await button('Microphone').click();
  await isAtRest();
  assert.equal(await isPressed('Microphone'), false);
  assert.deepEqual(page.complaints(), []);
});

test('the sample plays, its sound waits for the face, and the button comes back up', async () => {
  const heard = (await world.readings(page)).length;
  await button('Play sample').click();
  await isLive();
  const { delayS, faceDelayMs } = await page.evaluate(() => ({
    delayS: globalThis.diffspeaker.talk.take.delayS,
    faceDelayMs: globalThis.diffspeaker.connection.welcome.face_delay_ms,
  }));
  assert.ok(delayS > 0.5e-3 * faceDelayMs && delayS <= 2, `held back by ${delayS} s`);
  await isAtRest();
  assert.equal(await isPressed('Play sample'), false);
  const moved = gaps((await world.readings(page)).slice(heard));
  assert.ok(world.quantile(moved, 0.9) > world.quantile(moved, 0.05) + OPEN_MM, 'the mouth moved');
  assert.deepEqual(page.complaints(), []);
});

test('stopping the sample closes the mouth', async () => {
  await button('Play sample').click();
  await isLive();
  await button('Play sample').click();
  assert.equal(await isPressed('Play sample'), false);
  await isAtRest();
  await page.waitForFunction((mm) => globalThis.diffspeaker.stage.readLipGap() < mm, 0.5 * OPEN_MM);
  assert.deepEqual(page.complaints(), []);
});

/** Opens a section of the settings, and with it closes the one before. */
async function open(/** @type {string} */ title) {
  if (!(await page.locator('#panel').evaluate((panel) => /** @type {any} */ (panel).open))) {
    await page.getByText('Settings', { exact: true }).click();
  }
  await page.locator('.section > summary', { hasText: title }).click();
}
const closeSections = () =>
  page.evaluate(() => {
    for (const section of document.querySelectorAll('details')) section.open = false;
  });

test('vertices and styles can be chosen while the microphone is open', async () => {
  await button('Microphone').click();
  await isLive();
  await open('Figures');
  await page.getByRole('radio', { name: 'Vertices' }).check();
  await page.waitForFunction(
    () => globalThis.diffspeaker.face.isLive && globalThis.diffspeaker.face.vertices,
  );
  const echo = () =>
    page.evaluate(
      () =>
        new Promise((resolve) => {
          const heard = (/** @type {any} */ { detail }) => resolve(detail.style);
          globalThis.diffspeaker.connection.addEventListener('style', heard, { once: true });
        }),
    );
  await open('Speaking style');
  const { styles, scales } = await page.evaluate(() => {
    const { welcome } = globalThis.diffspeaker.connection;
    return { styles: welcome.styles, scales: welcome.style_scales };
  });
  const slider = (/** @type {string} */ name) =>
    page.getByRole('slider', { name: new RegExp(`^${name}`, 'i') });
  for (const [name, value] of [
    [styles[1], '0.5'],
    [scales[0], '1.5'],
  ]) {
    const answer = echo();
    await slider(name).fill(value);
    assert.equal(/** @type {any} */ (await answer)[name], Number(value));
  }
  const answer = echo();
  await button('As it was').click();
  assert.deepEqual(Object.keys(/** @type {any} */ (await answer)), [styles[0]]);
  await open('Figures');
  await page.getByRole('radio', { name: 'Coefficients' }).check();
  await page.waitForFunction(
    () => globalThis.diffspeaker.face.isLive && !globalThis.diffspeaker.face.vertices,
  );
  await page.locator('#figure-age', { hasText: /\d+ \/ \d+ ms/ }).waitFor();
  await closeSections();
  await button('Microphone').click();
  await isAtRest();
  assert.deepEqual(page.complaints(), []);
});

test('a second page watches the stream by name, as vertices, and sees the same lips', async () => {
  const speaker = await world.openPage(browser, at('?stream=anna'));
  const watcher = await world.openPage(browser, at('?watch=anna&kind=vertices'));
  await world.startReading(speaker);
  await world.startReading(watcher);
  await speaker.getByRole('button', { name: 'Play sample' }).click();
  await speaker.waitForFunction(() => globalThis.diffspeaker.face.isLive);
  await speaker.waitForFunction(() => !globalThis.diffspeaker.talk.take);
  const told = new Map((await world.readings(speaker)).map(({ frame, gapMm }) => [frame, gapMm]));
  const seen = (await world.readings(watcher)).filter(({ frame }) => frame > 10 && told.has(frame));
  assert.ok(seen.length > 30, `the watcher was shown ${seen.length} of ${told.size} frames`);
  assert.ok(world.quantile(gaps(seen), 0.9) > world.quantile(gaps(seen), 0.05) + OPEN_MM, 'the mouth moved');
  const apart = seen.map(({ frame, gapMm }) => Math.abs(gapMm - /** @type {number} */ (told.get(frame))));
  assert.ok(Math.max(...apart) < 0.1, `${Math.max(...apart)} mm apart`);
  assert.ok(await watcher.getByRole('button', { name: 'Microphone' }).isHidden());
  assert.deepEqual([...speaker.complaints(), ...watcher.complaints()], []);
  await watcher.context().close();
  await speaker.context().close();
});

test('an error of the server is shown as a sentence with its hint', async () => {
  await page.evaluate(() => globalThis.diffspeaker.connection.socket.send('{"type":"wave"}'));
  const alert = page.getByRole('alert');
  await alert.waitFor();
  assert.match((await alert.textContent()) ?? '', /There is no message type 'wave'\..*PROTOCOL\.md/);
  await button('Try again').click();
  await page.waitForFunction(() => globalThis.diffspeaker.connection.state === 'open');
  assert.ok(await alert.isHidden());
});

test('everything has a name, and a place in the order of the Tab key', async () => {
  const focused = () =>
    page.evaluate(() => {
      const it = /** @type {any} */ (document.activeElement);
      const { outlineStyle } = getComputedStyle(it.type === 'radio' ? it.nextElementSibling : it);
      return [(it.labels?.[0]?.querySelector('span') ?? it).textContent.trim(), outlineStyle];
    });
  await closeSections();
  await page.evaluate(() => /** @type {any} */ (document.activeElement).blur());
  await page.locator('#microphone').focus();
  const order = [];
  for (let i = 0; i < 10; i++) {
    if (i > 0) await page.keyboard.press('Tab');
    const [name, outline] = await focused();
    if (i > 0) assert.notEqual(outline, 'none', `the focus shows on ${name}`);
    order.push(name);
    if (name === 'Settings' || name === 'Figures') await page.keyboard.press('Enter');
  }
  const sections = ['Avatar', 'Speaking style', 'Channels', 'Sound', 'Recording', 'Figures'];
  assert.deepEqual(order, ['Microphone', 'Play sample', 'Settings', ...sections, 'Coefficients']);
  for (const title of sections) {
    await open(title);
    if (title === 'Figures') await open(title); // the Tab key's Enter had opened it
    for (const role of /** @type {const} */ ([
      ...['button', 'radio', 'combobox', 'slider', 'checkbox', 'img', 'status'],
    ])) {
      for (const target of await page.getByRole(role).all()) {
        assert.match(await target.ariaSnapshot(), /"\S.*"|: \S/, `a ${role} without a name in ${title}`);
      }
    }
  }
  assert.equal(await page.getByRole('heading', { level: 1 }).count(), 1);
  assert.equal(await page.locator('html').getAttribute('lang'), 'en');
  await closeSections();
  assert.deepEqual(page.complaints(), []);
});

test('nothing is cut off on a phone', async () => {
  for (const [width, height] of [
    [360, 640],
    [390, 844],
    [740, 360],
  ]) {
    await page.setViewportSize({ width, height });
    for (const title of ['Avatar', 'Speaking style', 'Channels', 'Sound', 'Recording', 'Figures']) {
      await open(title);
      if (title === 'Avatar') await page.locator('#mapping > summary').click();
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(overflow <= 0, `scrolls sideways by ${overflow} px at ${width}`);
      const inside = await page.locator('#panel').evaluate((panel) => panel.scrollWidth - panel.clientWidth);
      assert.ok(inside <= 0, `${title} scrolls sideways by ${inside} px at ${width}`);
      for (const target of await page.locator('button:visible, #panel > summary, #status').all()) {
        const box = /** @type {any} */ (await target.boundingBox());
        assert.ok(box.x >= 0 && box.x + box.width <= width, `within ${width} px`);
        if ((await target.getAttribute('id')) !== 'status')
          assert.ok(box.height >= 40, 'big enough for a finger');
      }
    }
    await closeSections();
  }
  await page.setViewportSize({ width: 480, height: 360 });
  assert.deepEqual(page.complaints(), []);
});

test('the face is drawn, also without a graphics card', async () => {
  const drawn = await world.openPage(browser, at(), { pictures: true });
  const dark = await drawn.locator('canvas').evaluate(async (canvas) => {
    const { stage } = globalThis.diffspeaker;
    stage.render();
    const { width, height } = /** @type {HTMLCanvasElement} */ (canvas);
    const copy = new OffscreenCanvas(width, height).getContext('2d');
    copy?.drawImage(/** @type {HTMLCanvasElement} */ (canvas), 0, 0);
    return copy?.getImageData(width >> 1, height >> 1, 1, 1).data;
  });
  assert.ok(dark && dark[0] > dark[2] + 20, `skin in the middle of the picture, not ${dark}`);
  assert.deepEqual(drawn.complaints(), []);
  await drawn.context().close();
});

test('a microphone that is open speaks on after the server has restarted', async () => {
  await button('Microphone').click();
  await isLive();
  await server.stop();
  await page.getByText('Trying again').first().waitFor();
  server = await world.startServer(port);
  await page.waitForFunction(() => globalThis.diffspeaker.connection.state === 'open');
  await isLive();
  assert.match((await page.getByRole('status').textContent()) ?? '', /Listening/);
});
