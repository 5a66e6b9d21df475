/**
 * Which signal moves which of an avatar's targets, by name. Pure.
 *
 * A target is a morph (of all meshes that have one of that name) or a VRM expression. Names are compared in
 * lower case without separators and without a prefix that ends in a dot or colon (`Face.jawOpen`), so that
 * `eyeBlinkLeft`, `EyeBlinkLeft`, `eyeBlink_L` and `Head:eye_blink_left` are one. Rules:
 *  1. A region of the face is moved by one family of names, or it would be moved twice. The mouth takes the
 *     first of: ARKit (jawOpen and four more), visemes, vowels, a mouthOpen, and else whatever there is. The
 *     eyes and brows take ARKit's, else single morphs. What gives way is left alone, and its reason says so.
 *  2. Of a family that exists both as expressions and as morphs, the kind with more of it is taken; with
 *     equally many, expressions, because they are what the avatar's maker meant.
 *  3. Both lids have their own target, or else one target shuts both.
 *
 * Known: ARKit; `viseme_*` (Meta, Ready Player Me) and `vrc.v_*` (VRChat); VRM's expressions of both versions
 * (three-vrm calls version 0's by version 1's names), and version 0's A I U E O; VRoid's `Fcl_MTH_A`; MMD's
 * あいうえお, まばたき, ウィンク; single morphs such as `mouthOpen` and `eyesClosed`.
 */

import { ARKIT } from './channels.js';
import { regionOfSignal } from './signals.js';
import { VISEMES } from './visemes.js';

/** @typedef {'arkit' | 'viseme' | 'vowel' | 'simple'} Family */
/** @typedef {{name: string, kind: 'morph' | 'expression', isEmpty?: boolean}} Target `isEmpty`: it moves nothing */
/**
 * @typedef {object} Match
 * @property {string | null} source the signal that moves the target, null for none
 * @property {string} reason why there is none, '' where there is one
 */

/** The families that may move a region, the first that is there wins. @type {Record<string, Family[]>} */
const ORDER = {
  mouth: ['arkit', 'viseme', 'vowel', 'simple'],
  eyes: ['arkit', 'simple'],
  brows: ['arkit', 'simple'],
  cheeks: ['arkit', 'simple'],
};
const MOUTH_AT_LEAST = { arkit: 5, viseme: 3, vowel: 2, simple: 1 };

/** @param {string} name */
const plain = (name) =>
  name
    .normalize('NFKC')
    .replace(/^.*(?=Fcl_)|^.*[.:|]/, '')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]/gu, '');

/** Plain names of morphs and expressions alike: signal and family. @type {Map<string, [string, Family]>} */
const KNOWN = new Map();
/** Names that only expressions have, or that mean something else on a mesh. @type {Map<string, [string, Family]>} */
const EXPRESSIONS = new Map();
/** Expressions that are known and that no signal moves by itself. */
const MOODS = /^(happy|angry|sad|relaxed|surprised|neutral)$/;
/** A lone letter counts only where all five are there. */
const LETTERS = { a: 'aa', i: 'ih', u: 'ou', e: 'ee', o: 'oh' };

for (const channel of ARKIT) {
  KNOWN.set(plain(channel), [channel, 'arkit']);
  const sided = /^(.*)(Left|Right)$/.exec(channel);
  if (sided) KNOWN.set(plain(sided[1] + sided[2][0]), [channel, 'arkit']);
}
for (const viseme of VISEMES) KNOWN.set(plain(`viseme_${viseme}`), [`viseme_${viseme}`, 'viseme']);
for (const [letter, viseme] of Object.entries({ i: 'ih', o: 'oh', u: 'ou' })) {
  KNOWN.set(`viseme${letter}`, [`viseme_${viseme}`, 'viseme']);
}
for (const [letter, vowel] of Object.entries(LETTERS)) {
  for (const prefix of ['fclmth', 'mth', 'mouth']) KNOWN.set(prefix + letter, [`vowel_${vowel}`, 'vowel']);
  EXPRESSIONS.set(vowel, [`vowel_${vowel}`, 'vowel']);
}
for (const [kana, vowel] of Object.entries({ あ: 'aa', い: 'ih', う: 'ou', え: 'ee', お: 'oh' })) {
  KNOWN.set(kana, [`vowel_${vowel}`, 'vowel']);
}
/** @type {[string, string[]][]} */
const SIMPLE = [
  ['blink', ['blink', 'eyesClosed', 'まばたき', 'Fcl_EYE_Close', 'eyeClose', 'vrc.blink']],
  ['eyesLookUp', ['eyesLookUp', 'lookUp']],
  ['eyesLookDown', ['eyesLookDown', 'lookDown']],
  ['eyesLookLeft', ['lookLeft']],
  ['eyesLookRight', ['lookRight']],
  ['smile', ['mouthSmile', 'にっこり']],
  ['mouthOpen', ['mouthOpen', 'Fcl_MTH_Open', 'jaw', 'jaw_drop']],
  ['browsUp', ['browsUp', '上']],
  ['browsDown', ['browsDown', '下']],
  ['eyeBlinkLeft', ['blinkLeft', 'ウィンク', 'Fcl_EYE_Close_L', 'wink_left']],
  ['eyeBlinkRight', ['blinkRight', 'ウィンク右', 'Fcl_EYE_Close_R', 'wink_right']],
];
for (const [signal, names] of SIMPLE) for (const name of names) KNOWN.set(plain(name), [signal, 'simple']);

/**
 * What a name means, without regard to what else the avatar has.
 * @param {Target} target
 * @returns {[string, Family] | undefined} a signal and its family
 */
export function meaningOf({ name, kind }) {
  const word = plain(name);
  const vrchat = /vrc\.v[_.](\w+)$/i.exec(name);
  if (vrchat) return KNOWN.get(`viseme${vrchat[1].toLowerCase()}`);
  return (kind === 'expression' && EXPRESSIONS.get(word)) || KNOWN.get(word);
}

/**
 * @param {readonly Target[]} targets
 * @returns {Match[]} one for each target, in their order
 */
export function matchByName(targets) {
  const meanings = targets.map((target) => (target.isEmpty ? undefined : meaningOf(target)));
  addLetters(targets, meanings);
  /** @type {Match[]} */
  const matches = targets.map((target) => ({ source: null, reason: reasonOf(target) }));
  for (const [region, families] of Object.entries(ORDER)) {
    const own = (/** @type {number} */ i) => meanings[i] && regionOfSignal(meanings[i][0]) === region;
    const here = targets.map((_, i) => i).filter(own);
    const meant = here.map((i) => /** @type {[string, Family]} */ (meanings[i]));
    const family =
      families.find((one) => isEnough(region, one, meant)) ??
      families.find((one) => meant.some(([, its]) => its === one));
    const kind = kindOf(here.filter((i) => meanings[i]?.[1] === family).map((i) => targets[i].kind));
    const both = hasBothLids(here.filter((i) => targets[i].kind === kind).map((i) => meanings[i]?.[0] ?? ''));
    for (const i of here) {
      const [signal, its] = /** @type {[string, Family]} */ (meanings[i]);
      if (its !== family)
        matches[i].reason =
          `the ${region} ${region === 'mouth' ? 'has' : 'have'} ${WORDS[family ?? 'simple']}`;
      else if (targets[i].kind !== kind) matches[i].reason = `the ${kind}s of that kind are used`;
      else if (signal === 'blink' && both) matches[i].reason = 'each lid has its own';
      else if (signal === 'viseme_sil') matches[i].reason = 'a mouth at rest needs none';
      else Object.assign(matches[i], { source: signal, reason: '' });
    }
  }
  return matches;
}

/** Why a target is left alone that no family claims. @param {Target} target */
function reasonOf({ name, isEmpty }) {
  if (isEmpty) return 'the file gives it nothing to move';
  return MOODS.test(name) ? 'a mood: speech does not tell it' : 'no known name';
}

const WORDS = { arkit: 'ARKit’s', viseme: 'visemes', vowel: 'vowels', simple: 'its own' };

/** A family is taken for the mouth only if there is enough of it to speak with. */
function isEnough(
  /** @type {string} */ region,
  /** @type {Family} */ family,
  /** @type {[string, Family][]} */ meanings,
) {
  const signals = new Set(meanings.filter(([, its]) => its === family).map(([signal]) => signal));
  if (region !== 'mouth') return signals.size > 0;
  const needed = { arkit: 'jawOpen', simple: 'mouthOpen' }[/** @type {string} */ (family)];
  if (needed && !signals.has(needed)) return false;
  return signals.size >= MOUTH_AT_LEAST[family];
}

/** @param {('morph' | 'expression')[]} kinds */
function kindOf(kinds) {
  const expressions = kinds.filter((kind) => kind === 'expression').length;
  return 2 * expressions >= kinds.length ? 'expression' : 'morph';
}

/** @param {string[]} signals */
const hasBothLids = (signals) => signals.includes('eyeBlinkLeft') && signals.includes('eyeBlinkRight');

/** Version 0's A I U E O as they stand: only together, a lone `O` may be anything. */
function addLetters(
  /** @type {readonly Target[]} */ targets,
  /** @type {([string, Family] | undefined)[]} */ meanings,
) {
  const words = targets.map(({ name }) => plain(name));
  if (!Object.keys(LETTERS).every((letter) => words.includes(letter))) return;
  words.forEach((word, i) => {
    const vowel = LETTERS[/** @type {keyof typeof LETTERS} */ (word)];
    if (vowel) meanings[i] ??= [`vowel_${vowel}`, 'vowel'];
  });
}
