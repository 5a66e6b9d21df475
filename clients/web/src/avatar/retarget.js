/**
 * From a stream's coefficients to an avatar's weights: who moves what, and how much. Pure.
 *
 * The state is the whole face, 52 coefficients in ARKit's order: `weigh` changes the channels that it is given
 * and leaves the others as they were, so that two sources (a voice for the mouth, a camera for the brows) can
 * drive one face. Each target then has weight = gain × signal, kept within 0 and 1. Nothing is allocated per
 * frame.
 */

import { ARKIT } from './channels.js';
import { matchByName } from './names.js';
import { channelsIn, readSignals, regionOfSignal, SIGNALS } from './signals.js';

export const MAX_GAIN = 2;

/**
 * @typedef {object} Link what moves a target
 * @property {string} target
 * @property {'morph' | 'expression'} kind
 * @property {string | null} source a signal, null for none
 * @property {number} gain 0 to 2
 * @property {string} reason why there is no source, in a few words; '' where there is one
 */

export class Retarget {
  /** @param {readonly import('./names.js').Target[]} targets */
  constructor(targets) {
    this.targets = targets;
    /** @type {Link[]} */
    this.links = matchByName(targets).map((match, i) => ({
      target: targets[i].name,
      kind: targets[i].kind,
      gain: 1,
      ...match,
    }));
    /** (targets.length,), 0 to 1, by `targets`; what `weigh` wrote last. */
    this.weights = new Float32Array(targets.length);
    this.coefficients = new Float32Array(ARKIT.length);
    this.signals = new Float32Array(SIGNALS.length);
    this.sources = new Int16Array(targets.length);
    /** @type {{names: readonly string[] | null, slots: Int16Array}} */
    this.order = { names: null, slots: new Int16Array(0) };
    this.#settle();
  }

  /**
   * Changes what moves a target.
   * @param {number} index of the target @param {string | null} source a name of SIGNALS, null for none
   * @param {number} [gain] 0 to 2; as it was where it is left out
   */
  link(index, source, gain = this.links[index].gain) {
    if (source !== null && !SIGNALS.includes(source)) throw new RangeError(`there is no signal ${source}`);
    this.links[index].source = source;
    this.links[index].reason = source === null ? 'chosen by you' : '';
    this.links[index].gain = Math.min(Math.max(gain, 0), MAX_GAIN);
    this.#settle();
  }

  /** As matched by name, every gain 1. */
  reset() {
    for (const [i, match] of matchByName(this.targets).entries())
      Object.assign(this.links[i], match, { gain: 1 });
    this.#settle();
  }

  /**
   * The changes against what was matched by name, to be kept as JSON.
   * @returns {Record<string, {source: string | null, gain: number}>} by `kind:target`
   */
  changes() {
    const matches = matchByName(this.targets);
    const changed = this.links.filter(({ source, gain }, i) => source !== matches[i].source || gain !== 1);
    return Object.fromEntries(
      changed.map(({ kind, target, source, gain }) => [`${kind}:${target}`, { source, gain }]),
    );
  }

  /** Applies what `changes` gave; what no longer fits is left out. @param {any} changes */
  restore(changes) {
    for (const [i, { kind, target }] of this.links.entries()) {
      const { source, gain } = changes?.[`${kind}:${target}`] ?? {};
      if (typeof gain !== 'number' || !(source === null || SIGNALS.includes(source))) continue;
      this.link(i, source, gain);
    }
  }

  /**
   * Takes coefficients and works out every weight.
   * @param {readonly string[]} names ARKit names, others are ignored; keep the array, not a copy per frame
   * @param {ArrayLike<number>} values by `names`, 0 to 1
   * @returns {Float32Array} `weights`
   */
  weigh(names, values) {
    if (names !== this.order.names) {
      this.order = { names, slots: Int16Array.from(names, (name) => ARKIT.indexOf(name)) };
    }
    const { slots } = this.order;
    for (let i = 0; i < slots.length; i++) if (slots[i] >= 0) this.coefficients[slots[i]] = values[i];
    readSignals(this.coefficients, this.signals);
    for (let i = 0; i < this.weights.length; i++) {
      const signal = this.sources[i] < 0 ? 0 : this.signals[this.sources[i]] * this.links[i].gain;
      this.weights[i] = Math.min(Math.max(signal, 0), 1);
    }
    return this.weights;
  }

  /** Targets that something moves. */
  get driven() {
    return this.links.filter(({ source }) => source !== null);
  }

  /** Targets that nothing moves. */
  get idle() {
    return this.links.filter(({ source }) => source === null);
  }

  /** Whether speech can be seen on this avatar at all. */
  get speaks() {
    return this.driven.some(({ source }) => source !== null && regionOfSignal(source) === 'mouth');
  }

  /** ARKit channels that move no target, neither by themselves nor through a viseme or the like. */
  get unheard() {
    const moved = new Set(this.driven.flatMap(({ source }) => channelsIn(source ?? '')));
    return ARKIT.filter((channel) => !moved.has(channel));
  }

  #settle() {
    for (let i = 0; i < this.links.length; i++) this.sources[i] = SIGNALS.indexOf(this.links[i].source ?? '');
  }
}
