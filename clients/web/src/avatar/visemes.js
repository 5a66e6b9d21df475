/**
 * Visemes and vowels from ARKit coefficients, for avatars whose mouth is made of whole shapes. Pure.
 *
 * What lips show of speech is little: how far they are parted, how wide or round they are, and whether they
 * or the teeth touch. Five measures are read from the coefficients, each 0 to 1:
 *
 *   open    jawOpen and half of the lips' own parting, over 0.85: an open /ɑ/ counts 1
 *   width   mouthStretch and mouthDimple over 0.44, less mouthPucker and 0.8 mouthFunnel over 0.9: −1 is the
 *           /u/ of "food", +1 the /i/ of "see"; a smile alone is no vowel
 *   seal    the lips meet: mouthClose as a share of jawOpen, or lips pressed or both rolled in
 *   tuck    the lower lip is rolled in further than the upper: it lies under the teeth
 *   hiss    lips parted by more than the jaw: the teeth show, and are together
 *   tongue  tongueOut over 0.3
 *
 * Vowels stand on a fan around the closed mouth, (open, width): u (0.18, −1), o (0.57, −0.75), a (1, 0),
 * e (0.84, 0.51), i (0.48, 1). Any mouth lies between two neighbouring rays of the fan and is the one mixture
 * of those two that reproduces its opening and its width; beyond the last ray it is that vowel alone. A
 * mixture of more than 1 is scaled to 1.
 *
 * Contacts come first, then what is left is shared out: seal → PP, tuck → FF, tongue → TH, hiss → CH as far
 * as the lips are round and SS as far as they are not, the rest → aa E ih oh ou, and `sil` is what is still
 * missing to 1. DD, kk, nn and RR differ from their neighbours by the tongue alone, which no ARKit channel
 * shows: they stay 0, and their small opening is shown by the vowels. The five vowels of VRM and MMD are the
 * same fan, less seal and tuck only, because those avatars have no shapes for hisses.
 *
 * Sources: which sounds a viseme holds, Meta's viseme reference (15 visemes); VRM 1.0's `aa ih ou ee oh` are
 * the Japanese あいうえお (its specification, "expressions"); the vowels' places are those of the phones that
 * this project's model learns (model/articulation.py, after the IPA's chart and JALI's closures).
 */

import { ARKIT } from './channels.js';

/** Meta's fifteen, in their order. */
export const VISEMES = /** @type {const} */ ([
  ...['sil', 'PP', 'FF', 'TH', 'DD', 'kk', 'CH', 'SS', 'nn', 'RR', 'aa', 'E', 'ih', 'oh', 'ou'],
]);
/** The channels that are read. @type {readonly string[]} */
export const SPOKEN = ARKIT.filter((name) =>
  /^(jawOpen|tongueOut|mouth(Close|Funnel|Pucker|Roll|Stretch|Dimple|Press|LowerDown|UpperUp).*)$/.test(name),
);
/** VRM's five, in MMD's order あいうえお. */
export const VOWELS = /** @type {const} */ (['aa', 'ih', 'ou', 'ee', 'oh']);

const OPEN_FULL = 0.85;
const SPREAD_FULL = 0.44;
const ROUND_FULL = 0.9;
const FUNNEL_SHARE = 0.8;

/** The fan, from round to wide: [open, width]. */
const FAN = [
  [0.18, -1],
  [0.57, -0.75],
  [1, 0],
  [0.84, 0.51],
  [0.48, 1],
];
const [U, O, A, E, I] = [0, 1, 2, 3, 4];

const at = (/** @type {string} */ name) => ARKIT.indexOf(name);
const pair = (/** @type {string} */ name) => [at(`${name}Left`), at(`${name}Right`)];
const [JAW, CLOSE, FUNNEL, PUCKER, TONGUE] = [
  'jawOpen',
  'mouthClose',
  'mouthFunnel',
  'mouthPucker',
  'tongueOut',
].map(at);
const [ROLL_LOWER, ROLL_UPPER] = ['mouthRollLower', 'mouthRollUpper'].map(at);
const [STRETCH, DIMPLE, PRESS, LOWER, UPPER] = [
  'mouthStretch',
  'mouthDimple',
  'mouthPress',
  'mouthLowerDown',
  'mouthUpperUp',
].map(pair);

const clamp = (/** @type {number} */ x, low = 0, high = 1) => Math.min(Math.max(x, low), high);
const mean = (/** @type {ArrayLike<number>} */ c, /** @type {number[]} */ [left, right]) =>
  (c[left] + c[right]) / 2;

/** How much of each of the fan's five a mouth is; reused. */
const mixture = new Float32Array(5);

/**
 * @param {ArrayLike<number>} c (52,) coefficients in ARKit's order, 0 to 1
 * @param {Float32Array} visemes (15,) written in place, in the order of VISEMES; they sum to 1
 * @param {Float32Array} vowels (5,) written in place, in the order of VOWELS; their sum is at most 1
 */
export function readMouth(c, visemes, vowels) {
  const jaw = c[JAW];
  const parting = (mean(c, LOWER) + mean(c, UPPER)) / 2;
  const round = clamp((c[PUCKER] + FUNNEL_SHARE * c[FUNNEL]) / ROUND_FULL);
  const spread = clamp((mean(c, STRETCH) + mean(c, DIMPLE)) / SPREAD_FULL);
  mix(clamp((jaw + parting) / OPEN_FULL), spread - round);

  const pressed = 2.5 * (mean(c, PRESS) + Math.min(c[ROLL_LOWER], c[ROLL_UPPER]));
  const seal = clamp(Math.max(c[CLOSE] / Math.max(jaw, 0.1), pressed));
  const tuck = (1 - seal) * clamp(1.8 * (c[ROLL_LOWER] - c[ROLL_UPPER]) - 0.2);
  const free = 1 - seal - tuck;
  vowels[0] = free * mixture[A];
  vowels[1] = free * mixture[I];
  vowels[2] = free * mixture[U];
  vowels[3] = free * mixture[E];
  vowels[4] = free * mixture[O];

  const tongue = free * clamp(c[TONGUE] / 0.3);
  const hiss = (free - tongue) * clamp((parting - 1.5 * jaw) / 0.1);
  const rounding = clamp(round / 0.6);
  const left = free - tongue - hiss;
  visemes.fill(0);
  visemes[1] = seal;
  visemes[2] = tuck;
  visemes[3] = tongue;
  visemes[6] = hiss * rounding;
  visemes[7] = hiss * (1 - rounding);
  visemes[10] = left * mixture[A];
  visemes[11] = left * mixture[E];
  visemes[12] = left * mixture[I];
  visemes[13] = left * mixture[O];
  visemes[14] = left * mixture[U];
  let sum = 0;
  for (let i = 1; i < visemes.length; i++) sum += visemes[i];
  visemes[0] = Math.max(0, 1 - sum);
}

/**
 * Writes the mixture of the fan's two neighbours that makes this opening and this width.
 * @param {number} open in [0, 1] @param {number} width in [−1, 1]
 */
function mix(open, width) {
  mixture.fill(0);
  const last = width < 0 ? U : I;
  const [lastOpen, lastWidth] = FAN[last];
  if (width !== 0 && open * Math.abs(lastWidth) <= lastOpen * Math.abs(width)) {
    // Beyond the last ray. Puckered lips are round even when they barely part; drawn back, closed ones are closed.
    mixture[last] = Math.min(1, last === U ? -width : open / lastOpen);
    return;
  }
  for (let k = U; k < I; k++) {
    const [ax, ay] = FAN[k];
    const [bx, by] = FAN[k + 1];
    const area = ax * by - ay * bx;
    const a = (open * by - width * bx) / area;
    const b = (ax * width - ay * open) / area;
    if (a < -1e-9 || b < -1e-9) continue;
    const scale = 1 / Math.max(1, a + b);
    mixture[k] = Math.max(0, scale * a);
    mixture[k + 1] = Math.max(0, scale * b);
    return;
  }
}
