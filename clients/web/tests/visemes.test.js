/** Visemes and vowels from coefficients: pure shapes, and the phones that this project's model learns. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ARKIT } from '../src/avatar/channels.js';
import { readMouth, VISEMES, VOWELS } from '../src/avatar/visemes.js';

/** @param {Record<string, number>} shape a name without a side sets both */
function mouth(shape) {
  const coefficients = new Float32Array(52);
  for (const [name, value] of Object.entries(shape)) {
    const slots = [name, `${name}Left`, `${name}Right`]
      .map((one) => ARKIT.indexOf(one))
      .filter((i) => i >= 0);
    assert.ok(slots.length > 0, name);
    for (const slot of slots) coefficients[slot] = value;
  }
  const [visemes, vowels] = [new Float32Array(15), new Float32Array(5)];
  readMouth(coefficients, visemes, vowels);
  /** @type {Record<string, number>} */
  const viseme = Object.fromEntries(VISEMES.map((name, i) => [name, visemes[i]]));
  /** @type {Record<string, number>} */
  const vowel = Object.fromEntries(VOWELS.map((name, i) => [name, vowels[i]]));
  return { viseme, vowel };
}

/** The strongest and how much of it. @param {Record<string, number>} weights @returns {[string, number]} */
const strongest = (weights) => Object.entries(weights).reduce((a, b) => (b[1] > a[1] ? b : a));

/** Lips as a phone leaves them: jaw, drawn back, pucker, funnel, lower lip down, upper lip up. */
const lips = (/** @type {number[]} */ [jaw, spread, pucker, funnel, lower, upper]) => ({
  ...{ jawOpen: jaw, mouthPucker: pucker, mouthFunnel: funnel, mouthLowerDown: lower, mouthUpperUp: upper },
  ...{ mouthStretch: 0.55 * spread, mouthSmile: 0.35 * spread, mouthDimple: 0.25 * spread },
});

const PRESSED = { mouthPress: 0.38, mouthRollLower: 0.24, mouthRollUpper: 0.14 };
const TUCKED = { mouthRollLower: 0.66, mouthUpperUp: 0.5, mouthShrugLower: 0.08, jawOpen: 0.06 };

describe('pure shapes', () => {
  /** @type {[string, Record<string, number>, string, string | null][]} viseme, shape, and the vowel of VRM */
  const shapes = [
    ['an open jaw is aa', { jawOpen: 0.85 }, 'aa', 'aa'],
    ['puckered lips are ou', { mouthPucker: 1 }, 'ou', 'ou'],
    ['puckered lips over a small gap are ou', { mouthPucker: 1, jawOpen: 0.15 }, 'ou', 'ou'],
    ['a funnel over an open jaw is oh', { mouthFunnel: 1, jawOpen: 0.5 }, 'oh', 'oh'],
    ['drawn-back lips over a small gap are ih', { mouthStretch: 0.5, jawOpen: 0.36 }, 'ih', 'ih'],
    ['half-drawn lips over an open jaw are E', { mouthStretch: 0.25, jawOpen: 0.72 }, 'E', 'ee'],
    ['lips closed over an open jaw are PP', { mouthClose: 0.5, jawOpen: 0.5 }, 'PP', null],
    ['pressed lips are PP', { mouthPress: 1 }, 'PP', null],
    ['two lips rolled in are PP', { mouthRollLower: 1, mouthRollUpper: 1 }, 'PP', null],
    ['a pressed pucker is PP', { mouthPress: 0.4, mouthPucker: 0.6 }, 'PP', null],
    ['the lower lip rolled in alone is FF', { mouthRollLower: 1 }, 'FF', null],
    ['the lower lip under the teeth is FF', TUCKED, 'FF', null],
    ['the tongue between the teeth is TH', { tongueOut: 1, jawOpen: 0.15 }, 'TH', 'aa'],
    ['bared teeth that are together are SS', { mouthLowerDown: 0.6, mouthUpperUp: 0.4 }, 'SS', 'aa'],
    [
      'bared teeth in round lips are CH',
      { mouthLowerDown: 0.4, mouthUpperUp: 0.3, mouthFunnel: 0.8 },
      'CH',
      'oh',
    ],
  ];
  for (const [words, shape, viseme, vowel] of shapes) {
    test(words, () => {
      const got = mouth(shape);
      const [name, weight] = strongest(got.viseme);
      assert.equal(name, viseme);
      assert.ok(weight > 0.75, `${weight} of ${name}`);
      const [loudest, share] = strongest(got.vowel);
      if (vowel) assert.equal(loudest, vowel);
      else assert.ok(share < 0.2, `a contact is no vowel: ${share} of ${loudest}`);
    });
  }

  test('a closed mouth is silence, also one that smiles or is drawn back', () => {
    for (const shape of [{}, { mouthSmile: 1 }, { mouthStretch: 1 }, { browInnerUp: 1, eyeBlink: 1 }]) {
      const { viseme, vowel } = mouth(shape);
      assert.equal(viseme.sil, 1);
      assert.ok(Object.values(vowel).every((weight) => weight === 0));
    }
  });
});

describe('the phones that the model learns', () => {
  /** @type {[string, Record<string, number>, string][]} */
  const phones = [
    ['/ɑ/ of father', lips([0.6, 0.06, 0, 0.05, 0.34, 0.16]), 'aa'],
    ['/ɛ/ of bed', lips([0.42, 0.28, 0, 0, 0.36, 0.22]), 'E'],
    ['/i/ of see', lips([0.15, 0.55, 0, 0, 0.32, 0.2]), 'ih'],
    ['/u/ of food', lips([0.11, 0, 0.82, 0.1, 0.06, 0.02]), 'ou'],
    ['/w/ of we', lips([0.08, 0, 0.92, 0.05, 0.02, 0]), 'ou'],
    ['/o/ of go', lips([0.3, 0, 0.6, 0.2, 0.14, 0.06]), 'oh'],
    ['/ɔ/ of law', lips([0.42, 0, 0.4, 0.2, 0.18, 0.1]), 'oh'],
    ['/p b m/', { ...PRESSED, jawOpen: 0.03, mouthClose: 0.045 }, 'PP'],
    ['/f v/', TUCKED, 'FF'],
    ['/s z/', lips([0.05, 0.28, 0, 0, 0.26, 0.16]), 'SS'],
    ['/ʃ tʃ/', lips([0.05, 0, 0.52, 0.22, 0.2, 0.14]), 'CH'],
    ['/θ ð/', { ...lips([0.15, 0.14, 0, 0, 0.22, 0.14]), tongueOut: 0.3 }, 'TH'],
  ];
  for (const [phone, shape, viseme] of phones) {
    test(`${phone} is ${viseme}`, () => {
      const [name, weight] = strongest(mouth(shape).viseme);
      assert.equal(name, viseme);
      assert.ok(weight > 0.5, `${weight} of ${name}`);
    });
  }

  test('a rounded vowel is no open one, and a contact leaves no vowel', () => {
    assert.ok(mouth(lips([0.11, 0, 0.82, 0.1, 0.06, 0.02])).vowel.ou > 0.9);
    assert.ok(mouth(lips([0.11, 0, 0.82, 0.1, 0.06, 0.02])).vowel.aa === 0);
    const { vowel } = mouth({ ...PRESSED, mouthPucker: 0.5, jawOpen: 0.1, mouthClose: 0.1 });
    assert.ok(Object.values(vowel).every((weight) => weight < 1e-6));
  });
});

describe('any mouth', () => {
  test('gives weights from 0 to 1: visemes that sum to 1, vowels to at most 1', () => {
    let state = 7;
    const chance = () => {
      state = (state * 1103515245 + 12345) % 2147483648;
      return state / 2147483648;
    };
    for (let n = 0; n < 2000; n++) {
      const sparse = n % 2 ? 1 : 0.1;
      const shape = Object.fromEntries(ARKIT.map((name) => [name, chance() < sparse ? chance() : 0]));
      const { viseme, vowel } = mouth(shape);
      const sum = (/** @type {Record<string, number>} */ weights) =>
        Object.values(weights).reduce((a, b) => a + b);
      assert.ok(Math.abs(sum(viseme) - 1) < 1e-5);
      assert.ok(sum(vowel) < 1 + 1e-5);
      for (const weight of [...Object.values(viseme), ...Object.values(vowel)]) {
        assert.ok(weight >= 0 && weight <= 1 + 1e-6);
      }
    }
  });

  test('moves smoothly: a small change of the lips is a small change of the weights', () => {
    const path = (/** @type {number} */ t) =>
      lips([0.1 + 0.5 * t, 0.4 * Math.abs(2 * t - 1), Math.max(0, 1 - 2 * t), 0.2 * t, 0.3 * t, 0.2 * t]);
    let last = mouth(path(0));
    for (let t = 0.005; t <= 1; t += 0.005) {
      const next = mouth(path(t));
      for (const name of VISEMES)
        assert.ok(Math.abs(next.viseme[name] - last.viseme[name]) < 0.08, `${name} at ${t}`);
      for (const name of VOWELS)
        assert.ok(Math.abs(next.vowel[name] - last.vowel[name]) < 0.08, `${name} at ${t}`);
      last = next;
    }
  });

  test('a vowel weighs what its opening and its width say', () => {
    const half = mouth({ jawOpen: 0.425 });
    assert.ok(Math.abs(half.vowel.aa - 0.5) < 1e-6, 'half as open, half as much');
    const { vowel } = mouth({ jawOpen: 0.3, mouthStretch: 0.22 });
    const open = vowel.aa + 0.84 * vowel.ee + 0.48 * vowel.ih + 0.57 * vowel.oh + 0.18 * vowel.ou;
    const width = 0.51 * vowel.ee + vowel.ih - 0.75 * vowel.oh - vowel.ou;
    assert.ok(Math.abs(open - 0.3 / 0.85) < 1e-6 && Math.abs(width - 0.5) < 1e-6, `${open} ${width}`);
  });
});
