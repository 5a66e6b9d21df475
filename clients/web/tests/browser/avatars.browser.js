/**
 * Other people's avatars: real VRMs and GLBs (built by avatars.js from the default face), dropped into a real
 * browser. Run with `npm run test:browser`.
 */

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { ARKIT } from '../../src/avatar/channels.js';
import { defaultFace, plate, renamed, vrm0, vrm1 } from '../avatars.js';
import { drop, isWorn, open, speak } from './hands.js';
import * as world from './world.js';

const OPEN = 0.2; // of a whole morph or expression

/** @type {Awaited<ReturnType<typeof world.startServer>>} */
let server;
/** @type {import('playwright-core').Browser} */
let browser;
/** @type {Awaited<ReturnType<typeof world.openPage>>} */
let page;
let port = 0;

const at = (/** @type {string} */ query = '') => `http://127.0.0.1:${port}/${query}`;
const button = (/** @type {string} */ name) => page.getByRole('button', { name });
const fault = async () => {
  await page.getByRole('alert').waitFor();
  return (await page.getByRole('alert').textContent()) ?? '';
};

before(async () => {
  port = await world.freePort();
  const folder = mkdtempSync(path.join(tmpdir(), 'diffspeaker-'));
  mkdirSync(path.join(folder, 'avatars'));
  writeFileSync(path.join(folder, 'avatars', 'me.vrm'), Buffer.from(vrm1(plate(ARKIT))));
  writeFileSync(path.join(folder, 'avatars', 'notes.txt'), 'mine');
  server = await world.startServer(port, folder);
  browser = await world.startBrowser(world.writeMicrophone());
  page = await world.openPage(browser, at(), { viewport: { width: 900, height: 700 } });
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

for (const [words, build] of /** @type {const} */ ([
  ['a VRM 1.0', () => vrm1(defaultFace())],
  ['a VRM 0.x', () => vrm0(defaultFace())],
])) {
  test(`${words} is dropped on the page and speaks with its expressions`, async () => {
    await drop(page, build(), 'anna.vrm');
    await isWorn(page, 'anna.vrm');
    await page.getByText(/“anna\.vrm”: 6 of its 59 morphs/).waitFor();
    const most = await speak(page);
    const vowels = ['aa', 'ih', 'ou', 'ee', 'oh'].map((name) => most[name]);
    assert.ok(Math.max(...vowels) > OPEN, `the mouth opens: ${vowels}`);
    const rest = await page.evaluate(() => {
      const { meshes } = globalThis.diffspeaker.wardrobe.worn;
      const { morphTargetInfluences } = meshes[0];
      return Math.max(...morphTargetInfluences.slice(14)); // all but the eyes', which blink
    });
    assert.ok(rest < 0.1, `and closes: ${rest}`);
    assert.deepEqual(page.complaints(), []);
  });
}

test('a GLB with ARKit morphs in another spelling speaks with all 52', async () => {
  const spell = (/** @type {string} */ name) =>
    name[0].toUpperCase() +
    name
      .slice(1)
      .replace(/Left$/, '_L')
      .replace(/Right$/, '_R');
  await drop(page, renamed(defaultFace(), spell), 'bob.glb');
  await isWorn(page, 'bob.glb');
  await open(page, 'Mapping');
  await page.getByText('52 driven, 0 not').waitFor();
  const most = await speak(page);
  assert.ok(most.JawOpen > OPEN, `the jaw opens: ${most.JawOpen}`);
  assert.deepEqual(page.complaints(), []);
});

test('what is unmatched is listed, can be mapped by hand, and the mapping is there again the next time', async () => {
  await drop(page, plate(['Shape 1', 'viseme_PP', 'viseme_aa', 'viseme_U']), 'plate.glb');
  await isWorn(page, 'plate.glb');
  await open(page, 'Mapping');
  await page.getByText('3 driven, 1 not').waitFor();
  const row = page.getByRole('group', { name: 'Shape 1' });
  await row.getByText('no known name').waitFor();
  await row.getByRole('combobox').selectOption('smile');
  await page.getByText('4 driven, 0 not').waitFor();
  await row.getByRole('slider').fill('2');
  await row.getByText('× 2.00').waitFor();
  const most = await speak(page);
  assert.ok(most['Shape 1'] > 0, 'a smile moves it');
  assert.ok(most.viseme_aa > OPEN);

  await button('Take it off').click();
  await drop(page, plate(['Shape 1', 'viseme_PP', 'viseme_aa', 'viseme_U']), 'again.glb');
  await isWorn(page, 'again.glb');
  assert.equal(await row.getByRole('combobox').inputValue(), 'smile');
  await button('Match by name again').click();
  assert.equal(await row.getByRole('combobox').inputValue(), '');
  assert.deepEqual(page.complaints(), []);
});

test('an avatar on which speech moves nothing says so, and opens its mapping', async () => {
  await drop(page, plate(['Shape 1', 'Shape 2']), 'mute.glb');
  await isWorn(page, 'mute.glb');
  await page.getByText(/Speech moves nothing on “mute\.glb”/).waitFor();
  await page.getByRole('group', { name: 'Shape 2' }).getByRole('combobox').selectOption('jawOpen');
  assert.ok((await speak(page))['Shape 2'] > OPEN);
});

test('a VRM whose blink would still the mouth speaks on, and its own word can be kept', async () => {
  await drop(page, vrm1(plate(ARKIT), { fields: { blink: { overrideMouth: 'block' } } }), 'frozen.vrm');
  await isWorn(page, 'frozen.vrm');
  await page.getByText(/“blink” would hold the mouth still.*set aside/).waitFor();
  const shown = () =>
    page.evaluate((names) => {
      const { worn } = globalThis.diffspeaker.wardrobe;
      worn.apply(['jawOpen', 'eyeBlinkLeft', 'eyeBlinkRight'], [0.8, 1, 1]);
      return worn.meshes[0].morphTargetInfluences[names.indexOf('jawOpen')];
    }, ARKIT);
  assert.ok((await shown()) > 0.5);
  await open(page, 'Avatar');
  await page.getByLabel('Let its expressions hold back the mouth').check();
  assert.equal(await shown(), 0);
  await page.evaluate(() => {
    // What the page says lasts as long as the blink: hold it, before the page draws once more.
    const { worn } = globalThis.diffspeaker.wardrobe;
    worn.apply(['eyeBlinkLeft', 'eyeBlinkRight'], [1, 1]);
    worn.apply = () => {};
  });
  await page.getByText('“blink” holds the mouth still at this moment.').waitFor();
});

test('a file that is no avatar is refused in a sentence, and the avatar stays', async () => {
  await drop(page, plate(['jawOpen']), 'good.glb');
  await isWorn(page, 'good.glb');
  /** @type {[string, ArrayBuffer | Uint8Array, RegExp][]} */
  const files = [
    [
      'holiday.png',
      Buffer.from('\x89PNG\r\n\x1a\n0123456789abcdef', 'latin1'),
      /not a GLB or VRM: it seems to be a picture/,
    ],
    ['half.glb', plate(['jawOpen']).slice(0, 400), /“half\.glb” is cut short/],
    ['stone.glb', plate([]), /“stone\.glb” has no morphs.*shape keys/],
    ['empty.vrm', new Uint8Array(0), /it is empty/],
  ];
  for (const [name, bytes, sentence] of files) {
    await drop(page, bytes, name);
    assert.match(await fault(), sentence);
    await page.getByRole('button', { name: 'Close this message' }).click();
    assert.ok(await page.getByRole('alert').isHidden());
  }
  assert.equal(await page.evaluate(() => globalThis.diffspeaker.wardrobe.worn.name), 'good.glb');
  assert.ok((await speak(page)).jawOpen > OPEN);
});

test('a file can be chosen instead of dropped, and taken off again', async () => {
  await open(page, 'Avatar');
  const asked = page.waitForEvent('filechooser');
  await button('Choose a file').click();
  await (await asked).setFiles({ name: 'chosen.vrm', mimeType: '', buffer: Buffer.from(vrm0(plate(ARKIT))) });
  await isWorn(page, 'chosen.vrm');
  await button('Take it off').click();
  await page.getByText('The face that comes with the server').waitFor();
  assert.ok((await speak(page)).jawOpen > OPEN);
  assert.deepEqual(page.complaints(), []);
});

test('an avatar of the server’s folder is worn from the address, and that folder lends nothing else', async () => {
  const mine = await world.openPage(browser, at('?avatar=me.vrm&transparent'));
  await mine.waitForFunction(() => globalThis.diffspeaker.wardrobe.worn?.name === 'me.vrm');
  for (const place of ['avatars/notes.txt', 'avatars/', 'avatars/../notes.vrm', 'avatars/none.glb']) {
    assert.equal((await fetch(at(place))).status, 404, place);
  }
  const none = await world.openPage(browser, at('?avatar=none.glb'));
  await none.getByText('“none.glb” could not be read: the server answers 404.').waitFor();
  assert.equal(await none.evaluate(() => globalThis.diffspeaker.wardrobe.worn), null);
  await none.context().close();
  await mine.context().close();
});
