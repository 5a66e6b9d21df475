/**
 * The page's entry: reads the address, wires the buttons, runs the picture loop.
 *
 * One connection is kept all the time, so that the page knows the server's styles and delay before anyone
 * speaks. A take (microphone or sample) runs over it and ends it; the next connection follows by itself.
 * For tests and tinkerers, `window.diffspeaker` holds the stage, the connection, the face and the state.
 */

import { Connection } from './connection.js';
import { LiveFace } from './live-face.js';
import { PageError } from './microphone.js';
import { readOptions } from './options.js';
import { element, hideFault, say, showConnection, showFault, showFigures, showStyles } from './panel.js';
import { drawsInSoftware, morphOnProcessor } from './software.js';
import { createStage } from './stage.js';
import { Take } from './take.js';

const SAMPLE_URL = 'sample.wav';
const USUAL_RATE_HZ = 48000; // guessed until the sound card has been asked, which needs a press of a button
const LONGEST_END_S = 3;

const options = readOptions(location.href);
const pageName = `page-${crypto.getRandomValues(new Uint32Array(1))[0].toString(16)}`;
const reducedMotion = matchMedia('(prefers-reduced-motion: reduce)').matches;

/** @type {{kind: 'coefficients' | 'vertices', style: string | null, take: Take | null, starting: boolean}} */
const state = { kind: options.kind, style: null, take: null, starting: false };
/** @type {AudioContext | null} */
let context = null;
let helloRateHz = USUAL_RATE_HZ;

/** What the server's bundle moves, and whether there is a face to show it on. */
const bundle = await fetch('bundle.json').then(
  (response) => (response.ok ? response.json() : null),
  () => null,
);
const hasCoefficients = bundle?.motion.kind !== 'vertices';
if (!hasCoefficients) state.kind = 'vertices';
let attempts = 0;
let wasOpen = false;

const buttons = { microphone: element('microphone'), sample: element('sample') };

const connection = new Connection({
  // A name of its own for each connection: the server may still be letting go of the one before.
  url: () => options.address(options.watch ?? options.stream ?? `${pageName}-${attempts++}`),
  hello: () => {
    helloRateHz = context?.sampleRate ?? USUAL_RATE_HZ;
    return {
      role: options.watch ? 'watch' : 'converse',
      token: options.token,
      audio: options.watch ? undefined : { encoding: 's16', sample_rate_hz: helloRateHz, channels: 1 },
      // A vertex in i16 is true to 15 micrometres, at half the size.
      output: { kind: state.kind, dtype: state.kind === 'vertices' ? 'i16' : 'f32' },
      lookahead_ms: options.watch ? undefined : options.lookaheadMs,
      style: state.style && !options.watch ? { [state.style]: 1 } : undefined,
    };
  },
});

// ---- what the user is told ---------------------------------------------------------------------------------

function showState() {
  const { take } = state;
  const kind = take && !take.stopping ? take.kind : null;
  for (const [name, button] of Object.entries(buttons)) {
    button.setAttribute('aria-pressed', String(name === kind));
    button.disabled = !globalThis.diffspeaker; // until there is a face to move
  }
  say(element('status'), statusWords(kind));
}

/** @param {'microphone' | 'sample' | null} kind what is being sent */
function statusWords(kind) {
  if (connection.state === 'failed') return 'The server refused the connection. Press a button to try again.';
  if (connection.state === 'waiting') {
    if (options.watch) return `Waiting for “${options.watch}” to speak…`;
    return wasOpen ? 'The connection was lost. Trying again…' : 'The server does not answer. Trying again…';
  }
  if (connection.state !== 'open' && !state.take?.stopping) return 'Connecting to the server…';
  if (options.watch) return `Watching “${options.watch}”.`;
  if (kind === 'microphone')
    return state.starting ? 'Opening the microphone…' : 'Listening: speak, and watch the face.';
  if (kind === 'sample') return 'Playing a sample.';
  return 'Press Microphone and speak, or play the sample.';
}

// ---- takes -------------------------------------------------------------------------------------------------

/** @param {'microphone' | 'sample'} kind */
async function press(kind) {
  const { take } = state;
  if (take?.kind === kind && !take.stopping) finish(take, kind === 'sample');
  else await begin(kind);
}

/** @param {'microphone' | 'sample'} kind */
async function begin(kind) {
  hideFault();
  context ??= new AudioContext({ latencyHint: 'interactive' });
  const hadTake = state.take !== null;
  if (state.take) drop(state.take); // what is left of it gives way
  if (hadTake || connection.state !== 'open' || context.sampleRate !== helloRateHz) connection.restart();
  const take = new Take(context, connection, kind);
  take.onEnd = () => finish(take, false);
  state.take = face.take = take;
  state.starting = true;
  showState();
  try {
    await Promise.all([take.open(SAMPLE_URL), untilOpen()]);
    take.start();
  } catch (error) {
    drop(take);
    const hint = error instanceof PageError ? error.hint : 'Reload the page, or try another browser.';
    showFault(error instanceof Error ? error.message : String(error), hint);
  } finally {
    state.starting = false;
    showState();
  }
}

/** Resolves when the connection is open, or has given up. */
function untilOpen() {
  return new Promise((resolve) => {
    const look = () => {
      if (!['open', 'failed', 'stopped'].includes(connection.state)) return;
      connection.removeEventListener('state', look);
      resolve(undefined);
    };
    connection.addEventListener('state', look);
    look();
  });
}

/**
 * Lets a take come to its end; it is dropped when the server has said `ended`.
 * @param {Take} take
 * @param {boolean} abrupt whether it should fall silent at once
 */
function finish(take, abrupt) {
  take.stop({ abrupt });
  setTimeout(() => {
    if (state.take !== take) return;
    drop(take); // the server never answered
    connection.restart();
  }, 1000 * LONGEST_END_S);
  showState();
}

/** @param {Take} take */
function drop(take) {
  take.close();
  if (state.take === take) state.take = face.take = null;
  showState();
}

// ---- the connection's news ---------------------------------------------------------------------------------

/** @param {string} type @param {(detail: any) => void} listener */
const on = (type, listener) =>
  connection.addEventListener(type, (event) => listener(/** @type {CustomEvent} */ (event).detail));

on('state', ({ state: now }) => {
  showConnection(now);
  if (now === 'failed' && state.take) drop(state.take);
  showState();
});
on('welcome', (welcome) => {
  wasOpen = true;
  hideFault();
  showStyles(welcome, state.style);
});
on('ended', () => {
  if (state.take?.stopping) drop(state.take);
});
on('fault', ({ code, message, hint, retrying }) => {
  const isExpected = options.watch ? code === 'unknown_stream' : code === 'stream_taken' && !options.stream;
  if (!isExpected) showFault(message, hint, retrying ? null : () => connection.start());
});

// ---- the controls ------------------------------------------------------------------------------------------

for (const [kind, button] of Object.entries(buttons)) {
  button.addEventListener('click', () => press(/** @type {'microphone' | 'sample'} */ (kind)));
  button.hidden = Boolean(options.watch);
}
for (const radio of document.querySelectorAll('input[name="kind"]')) {
  const input = /** @type {HTMLInputElement} */ (radio);
  input.checked = input.value === state.kind;
  input.disabled = input.value === 'coefficients' && !hasCoefficients;
  input.addEventListener('change', () => {
    state.kind = /** @type {'coefficients' | 'vertices'} */ (input.value);
    connection.restart();
  });
}
element('style').disabled = Boolean(options.watch);
element('style').addEventListener('change', () => {
  state.style = element('style').value;
  connection.sendStyle({ [element('style').value]: 1 });
});
addEventListener('online', () => connection.start());
addEventListener('pagehide', () => connection.stop());
addEventListener('pageshow', ({ persisted }) => persisted && connection.start());

// ---- the picture -------------------------------------------------------------------------------------------

document.documentElement.classList.toggle('transparent', options.transparent);
connection.start();

const canvas = element('stage');
const inSoftware = options.quality === 'low' || (options.quality !== 'full' && drawsInSoftware());
const fullStage = await createStage(canvas, {
  avatarUrl: bundle?.rig.avatar === null ? null : 'avatar.glb',
  transparent: options.transparent,
  shadows: !inSoftware,
  onError: ({ message }) => {
    say(element('loading'), '');
    showFault(
      `The face cannot be shown: ${message}.`,
      'Reload the page, or try a browser with WebGL switched on.',
    );
  },
});
const software = inSoftware ? morphOnProcessor(fullStage) : null;
const stage = software?.stage ?? fullStage;
const face = new LiveFace(stage, connection, { still: reducedMotion });
new ResizeObserver(() => stage.resize()).observe(canvas);

globalThis.diffspeaker = { stage, connection, face, state };

function picture() {
  requestAnimationFrame(picture);
  face.draw(performance.now() / 1000);
  stage.render();
}

picture();
setInterval(() => {
  const nowS = performance.now() / 1000;
  const drawsPerS = face.draws.read(nowS);
  software?.keepUp(drawsPerS);
  showFigures(face, nowS, drawsPerS);
}, 1000);
setInterval(() => {
  const { take } = state;
  if (take) buttons[take.kind].style.setProperty('--level', Math.min(1, 4 * take.level).toFixed(2));
}, 80);
document.body.classList.add('ready');
showState();
