/**
 * What an avatar's morph can be moved by: the ARKit channels themselves, and what is derived from them. Pure.
 *
 * Names: a channel's own (`jawOpen`), `viseme_PP` … (Meta's fifteen), `vowel_aa` … (VRM's five), and what simple
 * avatars have as one morph: `blink` (the further closed lid), `mouthOpen` (the jaw, less what the lips close)
 * and the means of a few channels, such as `smile` and `browsUp`.
 */

import { ARKIT, regionOf } from './channels.js';
import { readMouth, SPOKEN, VISEMES, VOWELS } from './visemes.js';

/** @typedef {(c: ArrayLike<number>, slots: number[]) => number} Rule */

/** @type {Rule} */
function mean(c, slots) {
  let sum = 0;
  for (let i = 0; i < slots.length; i++) sum += c[slots[i]];
  return sum / slots.length;
}

/** @type {Rule} */
const most = (c, slots) => Math.max(c[slots[0]], c[slots[1]]);
/** @type {Rule} */
const difference = (c, slots) => Math.max(0, c[slots[0]] - c[slots[1]]);

/** @type {Record<string, [rule: Rule, ...channels: string[]]>} */
const SIMPLE = {
  mouthOpen: [difference, 'jawOpen', 'mouthClose'],
  smile: [mean, 'mouthSmileLeft', 'mouthSmileRight'],
  blink: [most, 'eyeBlinkLeft', 'eyeBlinkRight'],
  eyesLookUp: [mean, 'eyeLookUpLeft', 'eyeLookUpRight'],
  eyesLookDown: [mean, 'eyeLookDownLeft', 'eyeLookDownRight'],
  eyesLookLeft: [mean, 'eyeLookOutLeft', 'eyeLookInRight'],
  eyesLookRight: [mean, 'eyeLookInLeft', 'eyeLookOutRight'],
  browsUp: [mean, 'browInnerUp', 'browOuterUpLeft', 'browOuterUpRight'],
  browsDown: [mean, 'browDownLeft', 'browDownRight'],
};

/** Every signal's name, in the order of `readSignals`. @type {readonly string[]} */
export const SIGNALS = [
  ...ARKIT,
  ...VISEMES.map((name) => `viseme_${name}`),
  ...VOWELS.map((name) => `vowel_${name}`),
  ...Object.keys(SIMPLE),
];

const VISEMES_AT = ARKIT.length;
const VOWELS_AT = VISEMES_AT + VISEMES.length;
const SIMPLE_AT = VOWELS_AT + VOWELS.length;
const RULES = Object.values(SIMPLE).map(([rule, ...channels]) => ({
  rule,
  slots: channels.map((name) => ARKIT.indexOf(name)),
}));

/** The ARKit channels that a signal is read from. @param {string} signal @returns {readonly string[]} */
export function channelsIn(signal) {
  if (SIMPLE[signal]) return SIMPLE[signal].slice(1).map(String);
  return /^(viseme|vowel)_/.test(signal) ? SPOKEN : [signal];
}

/** @param {string} signal @returns {import('./channels.js').Region} */
export const regionOfSignal = (signal) => regionOf(channelsIn(signal)[0]);

/** Views of one array of signals, made once. @type {WeakMap<Float32Array, [Float32Array, Float32Array]>} */
const views = new WeakMap();

/**
 * @param {ArrayLike<number>} coefficients (52,) in ARKit's order, 0 to 1
 * @param {Float32Array} out (SIGNALS.length,) written in place, 0 to 1
 */
export function readSignals(coefficients, out) {
  let mouth = views.get(out);
  if (!mouth) {
    mouth = [out.subarray(VISEMES_AT, VOWELS_AT), out.subarray(VOWELS_AT, SIMPLE_AT)];
    views.set(out, mouth);
  }
  for (let i = 0; i < ARKIT.length; i++) out[i] = coefficients[i];
  readMouth(coefficients, mouth[0], mouth[1]);
  for (let i = 0; i < RULES.length; i++) out[SIMPLE_AT + i] = RULES[i].rule(coefficients, RULES[i].slots);
}
