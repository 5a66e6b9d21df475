/**
 * What the browser tests stand on: a real `diffspeaker serve`, a real Chromium without a graphics card, a
 * wav file as its microphone (silence, the sample's speech, silence), and a sampler that reads the mesh.
 *
 * Environment: PYTHON (an interpreter that has the server), CHROMIUM (a browser, /usr/bin/chromium).
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';

const WEB = path.resolve(import.meta.dirname, '../..');
const REPOSITORY = path.resolve(WEB, '../..');

export const SILENCE_BEFORE_S = 3;
const SILENCE_AFTER_S = 60;

/** The seconds of sound in the sample. */
export let speechS = 0;

/** Writes the microphone's file; returns its path. */
export function writeMicrophone() {
  const wav = readFileSync(path.join(WEB, 'sample.wav'));
  const rate = wav.readUInt32LE(24);
  assert.deepEqual(
    [wav.readUInt16LE(20), wav.readUInt16LE(22), wav.readUInt16LE(34)],
    [1, 1, 16],
    'mono PCM16',
  );
  const start = wav.indexOf('data', 12, 'latin1') + 8;
  const speech = wav.subarray(start, start + wav.readUInt32LE(start - 4));
  speechS = speech.length / 2 / rate;
  const before = Buffer.alloc(2 * rate * SILENCE_BEFORE_S);
  const after = Buffer.alloc(2 * rate * SILENCE_AFTER_S);
  const pcm = Buffer.concat([before, speech, after]);
  const header = Buffer.from(wav.subarray(0, 44));
  header.writeUInt32LE(36 + pcm.length, 4);
  header.writeUInt32LE(16, 16);
  header.write('data', 36, 'latin1');
  header.writeUInt32LE(pcm.length, 40);
  const file = path.join(mkdtempSync(path.join(tmpdir(), 'diffspeaker-')), 'microphone.wav');
  writeFileSync(file, Buffer.concat([header, pcm]));
  return file;
}

/** @returns {Promise<number>} a port that was free a moment ago */
export function freePort() {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
      server.close(() => resolve(port));
    });
  });
}

/**
 * Starts the server and waits until it is ready.
 * @param {number} port
 * @param {string} [cwd] the folder that it is started in
 * @returns {Promise<{stop: () => Promise<void>}>}
 */
export async function startServer(port, cwd = REPOSITORY) {
  const code = 'import sys; from streamer.cli.main import main; sys.exit(main())';
  const child = spawn(process.env.PYTHON ?? 'python3', ['-c', code, 'serve', '--port', String(port)], {
    cwd,
    env: { ...process.env, PYTHONPATH: REPOSITORY },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (text) => {
      said += text;
    });
  }
  const exited = new Promise((resolve) => child.once('exit', resolve));
  const deadline = Date.now() + 120_000;
  for (;;) {
    const ready = await fetch(`http://127.0.0.1:${port}/readyz`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (ready) break;
    assert.ok(child.exitCode === null && Date.now() < deadline, `the server did not start:\n${said}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return {
    stop: async () => {
      child.kill('SIGTERM');
      await exited;
    },
  };
}

/** @param {string} microphone the wav file that Chromium hears, once, from the moment that it is opened */
export function startBrowser(microphone) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      ...['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking'],
      ...['--disable-component-update', '--disable-sync', '--use-gl=angle', '--use-angle=swiftshader'],
      ...[
        '--enable-unsafe-swiftshader',
        '--use-fake-ui-for-media-stream',
        '--use-fake-device-for-media-stream',
      ],
      ...[
        `--use-file-for-fake-audio-capture=${microphone}%noloop`,
        '--autoplay-policy=no-user-gesture-required',
      ],
    ],
  });
}

/**
 * Opens the page and waits until it is connected.
 *
 * A processor that plays graphics card draws a few pictures a second and does little else. What a test reads
 * from the mesh is the same whether or not it is drawn, so only tests that ask for pictures get them.
 * @param {import('playwright-core').Browser} browser
 * @param {string} address
 * @param {import('playwright-core').BrowserContextOptions & {pictures?: boolean, isConnected?: boolean}} [options]
 *   `isConnected`: false does not wait for the connection, which a watcher may not get yet
 */
export async function openPage(browser, address, { pictures = false, isConnected = true, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 480, height: 360 }, ...options });
  const page = await context.newPage();
  if (!pictures) {
    await page.addInitScript(() => {
      Object.defineProperty(globalThis, 'diffspeaker', {
        configurable: true,
        set(value) {
          value.stage.render = () => {};
          Object.defineProperty(globalThis, 'diffspeaker', { value });
        },
      });
    });
  }
  page.setDefaultTimeout(60_000);
  /** @type {string[]} */
  const complaints = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  await page.goto(address);
  await page.waitForFunction(
    (mustBeOpen) =>
      globalThis.diffspeaker && (!mustBeOpen || globalThis.diffspeaker.connection.state === 'open'),
    isConnected,
  );
  return Object.assign(page, { complaints: () => complaints.filter(isOurs) });
}

/** Chromium's own remarks about drawing without a graphics card are not the page's. @param {string} text */
const isOurs = (text) => !/GPU stall|GL Driver Message|swiftshader|software (WebGL|rendering)/i.test(text);

/**
 * One frame of the stream, as the mesh was posed for it.
 * @typedef {object} Reading
 * @property {string} take which connection and epoch it belongs to
 * @property {number} frame its index
 * @property {number} ptsS its time on the epoch's audio clock
 * @property {number} gapMm between the inner lips, read from the mesh
 * @property {number} blink the left lid's coefficient, NaN in vertices mode
 */

/**
 * Poses the mesh for every frame that the jitter buffer holds and reads it, so that a machine too busy to draw
 * loses nothing. What is heard is kept beside it: the loudness of each chunk that was sent, by its pts.
 * @param {import('playwright-core').Page} page
 */
export async function startReading(page) {
  await page.evaluate(() => {
    const { face, stage } = globalThis.diffspeaker;
    /** @type {any[]} */
    globalThis.readings = [];
    /** @type {any[]} */
    globalThis.loudness = [];
    let take = '';
    let next = 0;
    setInterval(() => {
      const { buffer } = face;
      const sent = globalThis.diffspeaker.talk.take;
      if (sent) globalThis.loudness.push({ ptsS: sent.levelPtsS, level: sent.level });
      if (!buffer) return;
      const now = `${face.welcome.session} ${buffer.epoch}`;
      if (now !== take) next = 0;
      take = now;
      const lid = face.vertices ? -1 : face.channels.indexOf('eyeBlinkLeft');
      const played = buffer.lastPtsS;
      for (next = Math.max(next, buffer.oldest); next <= buffer.newest; next++) {
        const ptsS = next / buffer.frameRateHz;
        buffer.at(ptsS, face.out);
        if (face.vertices) stage.setVertices(face.out);
        else stage.apply(face.channels, face.out);
        const [gapMm, blink] = [stage.readLipGap(), lid < 0 ? Number.NaN : face.out[lid]];
        globalThis.readings.push({ take, frame: next, ptsS, gapMm, blink });
      }
      buffer.lastPtsS = played;
    }, 20);
  });
}

/** @param {import('playwright-core').Page} page @returns {Promise<Reading[]>} */
export const readings = (page) => page.evaluate(() => globalThis.readings);

/**
 * From when to when sound was sent, on the audio clock.
 * @param {import('playwright-core').Page} page
 */
export async function soundOf(page) {
  const loudness = await page.evaluate(() => globalThis.loudness);
  const loud = loudness.filter((/** @type {any} */ { level }) => level > 0.02);
  assert.ok(loud.length > 5, 'sound was sent');
  return { startS: loud[0].ptsS, endS: loud.at(-1).ptsS };
}

/**
 * The value that a share of the values does not exceed.
 * @param {number[]} values @param {number} share
 */
export function quantile(values, share) {
  assert.ok(values.length > 0, 'no values');
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}
