/**
 * Sliders for how the face speaks: the server's styles, which are mixed in proportion, and its scales.
 *
 * What is moved is sent as it is moved, ten times a second at most, and holds for later connections. Where every
 * style stands at 0 none is named, and the server's default holds.
 */

import { element } from '../panel.js';

const EVERY_MS = 100;
const MAX_SCALE = 2;

export class StylePanel {
  /** @param {import('../connection.js').Connection} connection @param {{canChange: boolean}} options */
  constructor(connection, { canChange }) {
    this.connection = connection;
    this.canChange = canChange;
    /** @type {Map<string, {input: HTMLInputElement, output: HTMLElement, isScale: boolean}>} */
    this.sliders = new Map();
    this.names = '';
    /** @type {any} */
    this.timer = null;
    element('style-reset').addEventListener('click', () => this.#reset());
    connection.addEventListener('welcome', () => this.#welcome());
    connection.addEventListener('style', (event) => {
      if (!canChange) this.#show(/** @type {CustomEvent} */ (event).detail.style); // the speaker's own choice
    });
    this.#welcome();
  }

  /** What the sliders say, as the wire has it; empty for the server's default. */
  get weights() {
    /** @type {import('../wire-types.js').Weights} */
    const weights = {};
    for (const [name, { input, isScale }] of this.sliders) {
      const value = Number(input.value);
      if (isScale ? value !== 1 : value > 0) weights[name] = value;
    }
    return weights;
  }

  #welcome() {
    const { welcome } = this.connection;
    if (!welcome) return;
    const names = JSON.stringify([welcome.styles, welcome.style_scales]);
    if (names === this.names) return;
    this.names = names;
    this.standard = welcome.style;
    const one = (/** @type {string} */ name, /** @type {boolean} */ isScale) => this.#slider(name, isScale);
    this.sliders.clear();
    element('styles').replaceChildren(...welcome.styles.map((name) => one(name, false)));
    element('scales').replaceChildren(...welcome.style_scales.map((name) => one(name, true)));
    element('section-style').hidden = this.sliders.size < 2;
    element('style-reset').hidden = !this.canChange;
    this.#show(this.connection.wishes.style ?? welcome.style);
  }

  /** @param {string} name @param {boolean} isScale */
  #slider(name, isScale) {
    const label = document.createElement('label');
    label.className = 'slider';
    const words = document.createElement('span');
    words.textContent = name[0].toUpperCase() + name.slice(1);
    const input = document.createElement('input');
    Object.assign(input, { type: 'range', min: '0', max: String(isScale ? MAX_SCALE : 1), step: '0.05' });
    input.disabled = !this.canChange;
    const output = document.createElement('output');
    label.append(words, input, output);
    input.addEventListener('input', () => {
      this.#write();
      this.timer ??= setTimeout(() => this.#send(), EVERY_MS);
    });
    this.sliders.set(name, { input, output, isScale });
    return label;
  }

  #send() {
    this.timer = null;
    // The wire has no empty style: the default is named instead.
    const { weights } = this;
    this.connection.sendStyle(Object.keys(weights).length ? weights : (this.standard ?? {}));
  }

  #reset() {
    this.#show(this.standard ?? {});
    this.#send();
  }

  /** @param {import('../wire-types.js').Weights} style */
  #show(style) {
    for (const [name, { input, isScale }] of this.sliders)
      input.value = String(style[name] ?? (isScale ? 1 : 0));
    this.#write();
  }

  #write() {
    for (const { input, output } of this.sliders.values())
      output.textContent = Number(input.value).toFixed(2);
  }
}
