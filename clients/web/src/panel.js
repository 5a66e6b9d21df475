/**
 * The small panel of figures, the status line and the error box: words into the page, and nothing else.
 */

const CONNECTION_WORDS = {
  stopped: 'closed',
  connecting: 'connecting',
  open: 'connected',
  waiting: 'lost, trying again',
  failed: 'refused',
};

/** @param {string} id @returns {any} */
export const element = (id) => document.getElementById(id);

/** @param {number} seconds */
const inMs = (seconds) => (Number.isFinite(seconds) ? Math.max(0, Math.round(1000 * seconds)) : '–');

/** @param {number} seconds */
const inWords = (seconds) => (Number.isFinite(seconds) ? `${inMs(seconds)} ms` : '–');

/** Above 0 the face is early. @param {number} seconds */
const signed = (seconds) => {
  const ms = Math.round(1000 * seconds);
  return ms > 0 ? `+${ms}` : String(ms).replace('-', '−');
};

/** @param {number} rate */
const perSecond = (rate) => (Number.isFinite(rate) ? Math.round(rate) : '–');

/** Writes a text only where it changes, so that a screen reader is not told the same twice. */
export function say(/** @type {HTMLElement} */ target, /** @type {string} */ text) {
  if (target.textContent !== text) target.textContent = text;
}

/** @param {import('./connection.js').State} state */
export function showConnection(state) {
  document.body.dataset.connection = state;
  say(element('figure-connection'), CONNECTION_WORDS[state]);
}

/**
 * Once a second.
 * @param {import('./live-face.js').LiveFace} face
 * @param {number} nowS
 * @param {number} drawsPerS
 */
export function showFigures(face, nowS, drawsPerS) {
  const { ageS, skewS, connection } = face;
  const frames = face.framesShown.read(nowS);
  if (!element('panel').open) return;
  const delayMs = connection.welcome?.face_delay_ms;
  say(element('figure-delay'), delayMs === undefined ? '–' : `${Math.round(delayMs)} ms`);
  say(element('figure-held'), inWords(face.sound?.delayS ?? Number.NaN));
  const [skew, least, most] = [0.5, 0.05, 0.95].map((share) => signed(skewS.at(share)));
  say(element('figure-skew'), skewS.count ? `${skew} ms (${least} to ${most})` : '–');
  say(element('figure-age'), ageS.count ? `${inMs(ageS.at(0.5))} / ${inMs(ageS.at(0.95))} ms` : '–');
  say(element('figure-dropped'), String(face.droppedFrames));
  say(element('figure-rate'), `${face.isLive ? perSecond(frames) : '–'} · drawn ${perSecond(drawsPerS)}`);
}

/** Whether the connection's error is shown: the next welcome takes back no other. */
let isOfConnection = false;

/**
 * @param {string} message what is wrong
 * @param {string} hint what to do about it
 * @param {{again?: (() => void) | null, ofConnection?: boolean}} [options] `again`: what "Try again" does; no such
 *   button without it
 */
export function showFault(message, hint, { again = null, ofConnection = false } = {}) {
  isOfConnection = ofConnection;
  say(element('fault-message'), message);
  say(element('fault-hint'), hint);
  element('fault-again').hidden = !again;
  element('fault-again').onclick = () => {
    hideFault();
    again?.();
  };
  element('fault-close').onclick = hideFault;
  element('fault').hidden = false;
}

export function hideFault() {
  element('fault').hidden = true;
}

/** The connection is there again. */
export function hideConnectionFault() {
  if (isOfConnection) hideFault();
}

/** An opened section is brought into view: its title under the panel's own. */
export function revealSections() {
  const panel = element('panel');
  for (const section of panel.querySelectorAll('.section')) {
    section.addEventListener('toggle', () => {
      if (section.open) panel.scrollTo({ top: section.offsetTop - panel.firstElementChild.offsetHeight });
    });
  }
}
