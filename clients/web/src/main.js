/**
 * The page's entry: reads the address, puts the parts together, runs the picture loop.
 *
 * One connection is kept all the time, so that the page knows the server's styles and delay before anyone
 * speaks. For tests and tinkerers, `window.diffspeaker` holds the stage, the connection, the face and the rest.
 */

import { channelsOf, REGIONS } from './avatar/channels.js';
import { openAvatar } from './avatar/open.js';
import { Cloud } from './cloud.js';
import { connect, freshName } from './connect.js';
import { Face } from './face.js';
import { Hearing } from './hearing.js';
import { LiveFace } from './live-face.js';
import { readOptions } from './options.js';
import { AvatarPanel } from './page/avatar-panel.js';
import { acceptFiles } from './page/drop.js';
import { RecordingPanel } from './page/recording-panel.js';
import { StylePanel } from './page/style-panel.js';
import { Talk } from './page/talk.js';
import { Wardrobe } from './page/wardrobe.js';
import { PageError } from './page-error.js';
import * as panel from './panel.js';
import { element, say } from './panel.js';
import { drawsInSoftware, morphOnProcessor, Pace } from './software.js';
import { createStage, FRAME } from './stage.js';

const SAID_FOR_S = 6;

const options = readOptions(location.href);
const isWatching = options.watch !== null;
document.documentElement.classList.toggle('transparent', options.transparent);

/** What the server's bundle moves, and whether there is a face to show it on. */
const bundle = await fetch('bundle.json').then(
  (response) => (response.ok ? response.json() : null),
  () => null,
);
const hasCoefficients = bundle?.motion.kind !== 'vertices';

// ---- the connection ----------------------------------------------------------------------------------------

const connection = connect(options.server, {
  // A name of its own for each connection: the server may still be letting go of the one before.
  stream: options.watch ?? options.stream ?? freshName,
  role: isWatching ? 'watch' : 'converse',
  token: options.token,
  kind: hasCoefficients ? options.kind : 'vertices',
  lookaheadMs: options.lookaheadMs,
  passthrough: isWatching && options.sound,
});
let wasOpen = false;
let isReady = false;

/** @param {string} type @param {(detail: any) => void} listener */
const on = (type, listener) =>
  connection.addEventListener(type, (event) => listener(/** @type {CustomEvent} */ (event).detail));

on('state', ({ state }) => {
  panel.showConnection(state);
  showState();
});
on('welcome', () => {
  wasOpen = true;
  if (connection.awayS > 0) announce(`Back after ${connection.awayS.toFixed(1)} s.`);
  panel.hideConnectionFault();
});
on('fault', ({ code, message, hint, retrying }) => {
  const isExpected = isWatching ? code === 'unknown_stream' : code === 'stream_taken' && !options.stream;
  if (isExpected) return;
  panel.showFault(message, hint, { again: retrying ? null : () => connection.start(), ofConnection: true });
});
addEventListener('online', () => connection.start());
addEventListener('pagehide', () => connection.stop());
addEventListener('pageshow', ({ persisted }) => persisted && connection.start());

// ---- sound -------------------------------------------------------------------------------------------------

const buttons = { microphone: element('microphone'), sample: element('sample') };
const talk = new Talk(connection, {
  sampleUrl: 'sample.wav',
  onTake: (take) => {
    if (take) panel.hideFault();
    face.sound = take;
  },
  onChange: showState,
  onFault: tell,
});
for (const kind of /** @type {const} */ (['microphone', 'sample'])) {
  buttons[kind].addEventListener('click', () => talk.press(kind));
  buttons[kind].hidden = isWatching;
}
element('hear-choice').hidden = isWatching;
element('hear').addEventListener('change', () => talk.hear(element('hear').checked));

/** @param {boolean} isOn whether a watcher hears the speaker */
function listen(isOn) {
  const sound = /** @type {Hearing | null} */ (face.sound);
  if (isOn === (sound !== null)) return;
  sound?.close();
  face.sound = isOn ? new Hearing(connection) : null;
  element('listen').setAttribute('aria-pressed', String(isOn));
  if (connection.wishes.passthrough === isOn) return;
  connection.wishes.passthrough = isOn;
  connection.restart();
}
element('listen').hidden = !isWatching;
element('listen').addEventListener('click', () => listen(face.sound === null));

// ---- what the user is told ---------------------------------------------------------------------------------

/** Something to say for a moment. @type {{words: string, untilMs: number}} */
let news = { words: '', untilMs: 0 };

/** @param {string} words */
function announce(words) {
  news = { words, untilMs: words ? performance.now() + 1000 * SAID_FOR_S : 0 };
  setTimeout(showState, 1000 * SAID_FOR_S + 50);
  showState();
}

/** @param {unknown} error */
function tell(error) {
  if (error instanceof PageError) panel.showFault(error.message, error.hint);
  else
    panel.showFault(
      error instanceof Error ? error.message : String(error),
      'Reload the page, or try another browser.',
    );
}

function showState() {
  for (const [kind, button] of Object.entries(buttons)) {
    button.setAttribute('aria-pressed', String(kind === talk.kind));
    button.disabled = !isReady; // until there is a face to move
  }
  say(element('status'), performance.now() < news.untilMs ? news.words : statusWords());
}

function statusWords() {
  const { state } = connection;
  if (state === 'failed') return 'The server refused the connection. Press a button to try again.';
  if (state === 'waiting') {
    if (isWatching) return `Waiting for “${options.watch}” to speak…`;
    return wasOpen ? 'The connection was lost. Trying again…' : 'The server does not answer. Trying again…';
  }
  if (state !== 'open' && !talk.take?.stopping) return 'Connecting to the server…';
  if (isWatching) return `Watching “${options.watch}”.`;
  if (talk.kind === 'microphone')
    return talk.starting ? 'Opening the microphone…' : 'Listening: speak, and watch the face.';
  if (talk.kind === 'sample') return 'Playing a sample.';
  return 'Press Microphone and speak, or play the sample.';
}

// ---- the picture -------------------------------------------------------------------------------------------

/** @param {string} what */
const hasNoFace = (what) => {
  say(element('loading'), '');
  panel.showFault(
    `The face cannot be shown: ${what}`,
    'Reload the page, or try a browser with WebGL switched on.',
  );
};
const canvas = element('stage');
const inSoftware = options.quality === 'low' || (options.quality !== 'full' && drawsInSoftware());
const stage = createStage(canvas, {
  transparent: options.transparent,
  shadows: !inSoftware,
  onError: ({ message }) => hasNoFace(`${message}.`),
});
const pace = inSoftware ? new Pace(stage) : null;
const face = new LiveFace(stage, connection, {
  still: matchMedia('(prefers-reduced-motion: reduce)').matches,
});
const own = await loadOwn();
stage.show(own);
face.moveTo(stage);
new ResizeObserver(() => stage.resize()).observe(canvas);

/** The bundle's own face; a cloud of points where it has none. */
async function loadOwn() {
  if (bundle?.rig.avatar === null) return new Cloud(FRAME);
  try {
    const loaded = new Face(await openAvatar('avatar.glb'));
    if (inSoftware) morphOnProcessor(loaded);
    return loaded;
  } catch (error) {
    hasNoFace(error instanceof Error ? error.message : String(error));
    throw error;
  }
}

function picture() {
  requestAnimationFrame(picture);
  face.draw();
  stage.render();
}

// ---- avatars and settings ----------------------------------------------------------------------------------

const wardrobe = new Wardrobe(stage, face, own, { inSoftware, hasCoefficients });
const avatarPanel = new AvatarPanel(wardrobe, {
  onChoose: () => element('avatar-file').click(),
  onTakeOff: () => {
    wardrobe.takeOff();
    showAvatar();
  },
});
new StylePanel(connection, { canChange: !isWatching });
const recordingPanel = new RecordingPanel(face, wardrobe);

/** @param {string | File} source */
async function wear(source) {
  panel.hideFault();
  announce('Opening the avatar…');
  try {
    const avatar = await wardrobe.wear(source);
    if (!avatar) return;
    setKind('coefficients');
    showAvatar();
    const { driven, links } = avatar.retarget;
    announce(
      `This is “${avatar.name}”: ${driven.length} of its ${links.length} morphs and expressions are driven.`,
    );
    if (avatar.notes.length === 0) return;
    element('panel').open = element('section-avatar').open = true;
    if (!avatar.speaks) element('mapping').open = true;
  } catch (error) {
    announce('');
    tell(error);
  }
}

function showAvatar() {
  avatarPanel.show();
  recordingPanel.show();
  showKind();
}

panel.revealSections();
acceptFiles({ curtain: element('curtain'), chooser: element('avatar-file') }, wear);

const radios = /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll('input[name="kind"]'));

/** @param {'coefficients' | 'vertices'} kind */
function setKind(kind) {
  if (connection.wishes.kind !== kind) {
    connection.wishes.kind = kind;
    connection.restart();
  }
  showKind();
}

/** Vertices are those of the bundle's own head; coefficients need a model that has them. */
function showKind() {
  for (const radio of radios) {
    radio.checked = radio.value === connection.wishes.kind;
    radio.disabled = radio.value === 'vertices' ? wardrobe.worn !== null : !hasCoefficients;
  }
}
for (const radio of radios) {
  radio.addEventListener('change', () => setKind(/** @type {'coefficients' | 'vertices'} */ (radio.value)));
}
const regions = /** @type {HTMLInputElement[]} */ ([...element('regions').querySelectorAll('input')]);
for (const box of regions) {
  box.addEventListener('change', () => {
    const kept = REGIONS.filter((region) =>
      regions.some(({ value, checked }) => value === region && checked),
    );
    face.only(kept.length === REGIONS.length ? null : kept.flatMap(channelsOf));
  });
}

// ---- begin -------------------------------------------------------------------------------------------------

globalThis.diffspeaker = { stage, connection, face, talk, wardrobe, recordingPanel };
picture();
setInterval(() => {
  const nowS = performance.now() / 1000;
  const drawsPerS = face.draws.read(nowS);
  pace?.keepUp(drawsPerS);
  panel.showFigures(face, nowS, drawsPerS);
  recordingPanel.show();
}, 1000);
setInterval(() => {
  const { take } = talk;
  if (take) buttons[take.kind].style.setProperty('--level', Math.min(1, 4 * take.level).toFixed(2));
  avatarPanel.showWeights();
}, 80);
document.body.classList.add('ready');
isReady = true;
panel.showConnection(connection.state);
showState();
showAvatar();
if (isWatching && options.sound) listen(true);
if (options.avatar) wear(options.avatar);
