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
  const { ageS, connection } = face;
  const frames = face.framesShown.read(nowS);
  if (!element('panel').open) return;
  const delayMs = connection.welcome?.face_delay_ms;
  say(element('figure-delay'), delayMs === undefined ? '–' : `${Math.round(delayMs)} ms`);
  say(element('figure-age'), ageS.count ? `${inMs(ageS.at(0.5))} / ${inMs(ageS.at(0.95))} ms` : '–');
  say(element('figure-dropped'), String(face.droppedFrames));
  say(element('figure-rate'), `${face.isLive ? perSecond(frames) : '–'} · drawn ${perSecond(drawsPerS)}`);
}

/**
 * @param {string} message what is wrong
 * @param {string} hint what to do about it
 * @param {(() => void) | null} again what "Try again" does; no such button without it
 */
export function showFault(message, hint, again = null) {
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

/**
 * Fills the style choice; it is shown where there is something to choose.
 * @param {import('./wire-types.js').Welcome} welcome
 * @param {string | null} chosen
 */
export function showStyles({ styles, style }, chosen) {
  const select = element('style');
  const names = Array.from(select.options, ({ value }) => value);
  if (names.join() !== styles.join()) {
    select.replaceChildren(...styles.map((name) => new Option(name[0].toUpperCase() + name.slice(1), name)));
  }
  const strongest = styles.reduce((a, b) => ((style[b] ?? 0) > (style[a] ?? 0) ? b : a), styles[0]);
  select.value = chosen ?? strongest;
  element('style-choice').hidden = styles.length < 2;
}
