/** Which signal moves which target: names as the field's tools write them. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ARKIT, channelsOf, MOUTH, REGIONS } from '../src/avatar/channels.js';
import { matchByName } from '../src/avatar/names.js';
import { Retarget } from '../src/avatar/retarget.js';
import { SIGNALS } from '../src/avatar/signals.js';
import { VISEMES } from '../src/avatar/visemes.js';

const morphs = (/** @type {readonly string[]} */ names) =>
  names.map((name) => ({ name, kind: /** @type {const} */ ('morph') }));
const expressions = (/** @type {readonly string[]} */ names) =>
  names.map((name) => ({ name, kind: /** @type {const} */ ('expression') }));

/** Target and source of what is driven. @param {readonly import('../src/avatar/names.js').Target[]} targets */
function driven(targets) {
  const pairs = matchByName(targets).map(({ source }, i) => [targets[i].name, source]);
  return Object.fromEntries(pairs.filter(([, source]) => source !== null));
}

/** @param {string} name */
const upper = (name) => name[0].toUpperCase() + name.slice(1);
const SPELLINGS = {
  camelCase: (/** @type {string} */ name) => name,
  PascalCase: upper,
  '_L and _R': (/** @type {string} */ name) => name.replace(/Left$/, '_L').replace(/Right$/, '_R'),
  'Pascal with _L and _R': (/** @type {string} */ name) =>
    upper(name)
      .replace(/Left$/, '_L')
      .replace(/Right$/, '_R'),
  snake_case: (/** @type {string} */ name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
  'a prefix': (/** @type {string} */ name) => `Head_blendShapes.${name}`,
};

describe('ARKit names', () => {
  test('are 52, each in one region', () => {
    assert.equal(ARKIT.length, 52);
    assert.equal(new Set(ARKIT).size, 52);
    assert.deepEqual(REGIONS.flatMap(channelsOf).toSorted(), ARKIT.toSorted());
    assert.equal(MOUTH.length, 28);
  });

  for (const [spelling, spell] of Object.entries(SPELLINGS)) {
    test(`are known in ${spelling}`, () => {
      const targets = morphs(ARKIT.map(spell));
      assert.deepEqual(
        matchByName(targets).map(({ source }) => source),
        ARKIT,
      );
    });
  }
});

test('visemes move a mouth that has no ARKit shapes, and lids have their own', () => {
  const names = [...VISEMES.map((name) => `viseme_${name}`), 'eyeBlink_L', 'eyeBlink_R', 'tail'];
  const got = driven(
    morphs(names.map((name) => name.replace('_ih', '_I').replace('_oh', '_O').replace('_ou', '_U'))),
  );
  assert.equal(got.viseme_PP, 'viseme_PP');
  assert.deepEqual([got.viseme_I, got.viseme_O, got.viseme_U], ['viseme_ih', 'viseme_oh', 'viseme_ou']);
  assert.equal(got.eyeBlink_L, 'eyeBlinkLeft');
  assert.equal(got.viseme_sil, undefined);
  assert.equal(got.tail, undefined);
});

test('a mouth is moved once: visemes beside ARKit shapes stay still, and the reason is told', () => {
  const names = [...ARKIT, 'viseme_PP', 'viseme_aa', 'viseme_O', 'mouthOpen', 'mouthSmile', 'eyesClosed'];
  const matches = matchByName(morphs(names));
  for (let i = 52; i < names.length; i++) {
    assert.equal(matches[i].source, null);
    assert.match(matches[i].reason, /ARKit/);
  }
});

test('VRChat, VRoid and MMD spellings are known', () => {
  assert.equal(driven(morphs(['vrc.v_pp', 'vrc.v_aa', 'vrc.v_ou']))['vrc.v_ou'], 'viseme_ou');
  const vroid = ['A', 'I', 'U', 'E', 'O'].map((vowel) => `Face.M_F00_000_00_Fcl_MTH_${vowel}`);
  assert.deepEqual(Object.values(driven(morphs([...vroid, 'Face.M_F00_000_00_Fcl_EYE_Close']))), [
    ...['vowel_aa', 'vowel_ih', 'vowel_ou', 'vowel_ee', 'vowel_oh', 'blink'],
  ]);
  assert.deepEqual(driven(morphs(['あ', 'い', 'う', 'え', 'お', 'まばたき', '笑い'])), {
    ...{ あ: 'vowel_aa', い: 'vowel_ih', う: 'vowel_ou', え: 'vowel_ee', お: 'vowel_oh', まばたき: 'blink' },
  });
  assert.deepEqual(Object.keys(driven(morphs(['ｳｨﾝｸ', 'ｳｨﾝｸ右', 'まばたき']))), ['ｳｨﾝｸ', 'ｳｨﾝｸ右']);
});

describe('VRM', () => {
  const presets = ['happy', 'aa', 'ih', 'ou', 'ee', 'oh', 'blink', 'blinkLeft', 'blinkRight', 'lookUp'];

  test('expressions are driven by vowels, and moods are left to people', () => {
    const got = driven(expressions(presets));
    assert.deepEqual([got.aa, got.ih, got.ee], ['vowel_aa', 'vowel_ih', 'vowel_ee']);
    assert.equal(got.blinkLeft, 'eyeBlinkLeft');
    assert.equal(got.blink, undefined, 'each lid has its own');
    assert.equal(got.happy, undefined);
  });

  test('with ARKit morphs on its mesh is moved by those', () => {
    const matches = matchByName([...expressions(presets), ...morphs(ARKIT)]);
    assert.ok(matches.slice(0, presets.length - 1).every(({ source }) => source === null));
    assert.deepEqual(
      matches.slice(presets.length).map(({ source }) => source),
      ARKIT,
    );
  });

  test('with ARKit expressions (“perfect sync”) is moved by those, not twice by its morphs too', () => {
    const matches = matchByName([...expressions(ARKIT.map(upper)), ...morphs(ARKIT)]);
    assert.deepEqual(
      matches.map(({ source }) => source),
      [...ARKIT, ...ARKIT.map(() => null)],
    );
  });

  test("0's letters count only together, on a mesh", () => {
    assert.equal(driven(morphs(['A', 'I', 'U', 'E', 'O'])).U, 'vowel_ou');
    assert.deepEqual(driven(morphs(['A', 'O'])), {});
  });
});

test('one jaw is better than none', () => {
  assert.deepEqual(driven(morphs(['jawOpen', 'mouthSmile'])), { jawOpen: 'jawOpen' });
  assert.deepEqual(driven(morphs(['MouthOpen', 'hat'])), { MouthOpen: 'mouthOpen' });
});

test('an avatar without a known name speaks with nothing', () => {
  const face = new Retarget(morphs(['Shape 1', 'toString', '', 'constructor']));
  assert.equal(face.speaks, false);
  assert.equal(face.driven.length, 0);
  assert.equal(face.unheard.length, 52);
});

describe('retargeting', () => {
  test('two sources drive one face: each changes its own channels only', () => {
    const face = new Retarget(morphs(['jawOpen', 'browInnerUp']));
    face.weigh(['jawOpen'], [0.5]);
    face.weigh(['browInnerUp'], [0.25]);
    assert.deepEqual([...face.weights], [0.5, 0.25]);
  });

  test('names come in any order and unknown ones are ignored', () => {
    const face = new Retarget(morphs(['jawOpen', 'eyeBlink_R']));
    const names = ['constructor', 'eyeBlinkRight', 'jawOpen'];
    assert.deepEqual([...face.weigh(names, Float32Array.of(1, 0.5, 0.25))], [0.25, 0.5]);
  });

  test('a link can be changed, weighted, taken away, and kept as JSON', () => {
    const face = new Retarget(morphs(['jawOpen', 'Shape 1']));
    face.link(1, 'smile', 2);
    face.link(0, 'jawOpen', 0.5);
    const smiling = ['mouthSmileLeft', 'mouthSmileRight', 'jawOpen'];
    assert.deepEqual([...face.weigh(smiling, [0.25, 0.25, 1])], [0.5, 0.5]);
    assert.deepEqual([...face.weigh(smiling, [1, 1, 1])], [0.5, 1], 'a weight is at most 1');
    const kept = JSON.parse(JSON.stringify(face.changes()));
    const other = new Retarget(morphs(['Shape 1', 'jawOpen', 'hat']));
    other.restore(kept);
    other.restore({ 'morph:hat': { source: 'nonsense', gain: 1 }, 'morph:jawOpen': 'nonsense' });
    assert.deepEqual(
      other.links.map(({ source, gain }) => [source, gain]),
      [
        ['smile', 2],
        ['jawOpen', 0.5],
        [null, 1],
      ],
    );
    face.link(0, null);
    assert.equal(face.links[0].reason, 'chosen by you');
    face.reset();
    assert.deepEqual(face.changes(), {});
    assert.throws(() => face.link(0, 'nonsense'), RangeError);
  });

  test('what moves nothing is listed', () => {
    const face = new Retarget(
      morphs(['jawOpen', 'mouthSmile_L', 'mouthSmile_R', 'mouthClose', 'mouthPucker', 'x']),
    );
    assert.deepEqual(
      face.idle.map(({ target }) => target),
      ['x'],
    );
    assert.equal(face.unheard.length, 52 - 5);
    assert.ok(face.unheard.includes('browInnerUp'));
  });

  test('every signal can be chosen', () => {
    const face = new Retarget(morphs(['x']));
    for (const signal of SIGNALS) {
      face.link(0, signal);
      const [weight] = face.weigh(ARKIT, new Float32Array(52).fill(0.5));
      assert.ok(weight >= 0 && weight <= 1, signal);
    }
  });
});
