/** Avatars of every kind, built here, loaded by three.js and moved: what reaches the meshes. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Avatar } from '../src/avatar/avatar.js';
import { ARKIT } from '../src/avatar/channels.js';
import { placeHead } from '../src/avatar/head.js';
import { EXPRESSIONS, plate, vrm0, vrm1 } from './avatars.js';

/** Every morph's weight on the avatar's first mesh. @param {Avatar} avatar */
const weights = (avatar) => Array.from(avatar.meshes[0].morphTargetInfluences ?? []);
const isNear = (/** @type {number} */ a, /** @type {number} */ b) => Math.abs(a - b) < 1e-5;
const near = (/** @type {number} */ a, /** @type {number} */ b) =>
  assert.ok(isNear(a, b), `${a} is not ${b}`);

const OPEN = ['jawOpen', 'eyeBlinkLeft', 'eyeBlinkRight'];
/** jawOpen 0.85 is a whole aa. */
const SAYS_A = [0.85, 0, 0];
const SAYS_A_BLINKING = [0.85, 1, 1];

describe('a GLB', () => {
  test('with ARKit morphs is moved morph by morph, whatever their order and spelling', async () => {
    const names = ARKIT.toReversed().map((name) => name[0].toUpperCase() + name.slice(1));
    const avatar = await Avatar.load(plate(names));
    avatar.apply(['jawOpen', 'tongueOut'], [0.25, 0.5]);
    const moved = weights(avatar);
    near(moved[51 - ARKIT.indexOf('jawOpen')], 0.25);
    near(moved[51 - ARKIT.indexOf('tongueOut')], 0.5);
    assert.deepEqual(avatar.notes, []);
    assert.equal(avatar.retarget.driven.length, 52);
  });

  test('with visemes or MMD vowels is moved by those', async () => {
    const visemes = await Avatar.load(plate(['viseme_aa', 'viseme_PP', 'viseme_O']));
    visemes.apply(OPEN, SAYS_A);
    assert.deepEqual(
      weights(visemes).map((w) => Math.round(w)),
      [1, 0, 0],
    );
    const mmd = await Avatar.load(plate(['まばたき', 'あ', 'お']));
    mmd.apply(OPEN, SAYS_A_BLINKING);
    assert.deepEqual(
      weights(mmd).map((w) => Math.round(w)),
      [1, 1, 0],
    );
  });

  test('without names calls its morphs by number and waits for a mapping', async () => {
    const avatar = await Avatar.load(plate(['a', 'b'], { extras: false }), { name: 'plate.glb' });
    assert.equal(avatar.speaks, false);
    assert.match(avatar.notes[0], /Speech moves nothing on “plate\.glb”.*2 morphs/);
    assert.deepEqual(
      avatar.retarget.links.map(({ target }) => target),
      ['morph 0', 'morph 1'],
    );
    avatar.link(1, 'jawOpen', 2);
    avatar.apply(['jawOpen'], [0.25]);
    assert.deepEqual(weights(avatar), [0, 0.5]);
    assert.equal(avatar.speaks, true);
  });

  test('lets go of a morph that is linked to nothing', async () => {
    const avatar = await Avatar.load(plate(['jawOpen', 'mouthSmile_L']));
    avatar.apply(['jawOpen'], [0.5]);
    avatar.link(0, null);
    assert.equal(weights(avatar)[0], 0);
    (avatar.meshes[0].morphTargetInfluences ?? [])[0] = 0.7; // whoever else moves it
    avatar.apply(['jawOpen'], [0.5]);
    near(weights(avatar)[0], 0.7);
    avatar.resetLinks();
    avatar.apply(['jawOpen'], [0.5]);
    near(weights(avatar)[0], 0.5);
  });

  test('without any morph is refused with what to do', async () => {
    await assert.rejects(Avatar.load(plate([]), { name: 'stone.glb' }), {
      name: 'PageError',
      message: /“stone\.glb” has no morphs and no expressions/,
      hint: /shape keys/,
    });
  });
});

for (const [version, build] of /** @type {const} */ ([
  ['1.0', vrm1],
  ['0.x', vrm0],
])) {
  describe(`a VRM ${version}`, () => {
    test('is moved by its expressions', async () => {
      const avatar = await Avatar.load(build(plate(ARKIT)));
      assert.deepEqual(avatar.notes, []);
      avatar.apply(OPEN, SAYS_A_BLINKING);
      const moved = weights(avatar);
      for (const [morph, weight] of Object.entries({ ...EXPRESSIONS.aa, ...EXPRESSIONS.blink })) {
        near(moved[ARKIT.indexOf(morph)], weight);
      }
      near(moved[ARKIT.indexOf('mouthPucker')], 0);
      avatar.update(1 / 60);
      assert.deepEqual(weights(avatar), moved, 'time alone changes nothing');
      avatar.apply(OPEN, [0, 0, 0]);
      assert.ok(weights(avatar).every((weight) => weight === 0));
    });

    test('that has ARKit morphs besides is moved by those alone', async () => {
      const avatar = await Avatar.load(build(plate(ARKIT), { keepNames: true }));
      avatar.apply(OPEN, SAYS_A);
      avatar.update(1 / 60);
      near(weights(avatar)[ARKIT.indexOf('jawOpen')], 0.85);
      near(weights(avatar)[ARKIT.indexOf('mouthLowerDownLeft')], 0);
    });

    test('faces us, and its head is found by its bone', async () => {
      const avatar = await Avatar.load(build(plate(ARKIT)));
      const head = avatar.findHead();
      assert.ok(head && head.low > 1.3 && isNear(head.high, 1.67), JSON.stringify(head));
      const holder = placeHead(avatar.object, head, { low: -0.1, high: 0.1, front: 0.05 });
      assert.equal(avatar.object.parent, holder);
      const placed = /** @type {import('../src/avatar/head.js').Head} */ (avatar.findHead());
      near(placed.high, 0.1);
      near(placed.front, 0.05);
      near(placed.x, 0);
    });

    test('lets its arms hang', async () => {
      const avatar = await Avatar.load(build(plate(ARKIT)));
      const { humanoid, scene } = avatar.vrm?.vrm ?? {};
      humanoid.update();
      scene.updateMatrixWorld(true);
      for (const side of ['left', 'right']) {
        const [arm, hand] = ['UpperArm', 'Hand'].map(
          (bone) => humanoid.getRawBoneNode(side + bone).matrixWorld.elements[13],
        );
        assert.ok(hand < arm - 0.3, `${side}: ${hand} ${arm}`);
      }
    });

    test('without vowels that move anything says that speech moves nothing', async () => {
      const avatar = await Avatar.load(
        build(plate(ARKIT), { expressions: { aa: {}, blink: EXPRESSIONS.blink } }),
      );
      assert.equal(avatar.speaks, false);
      assert.match(avatar.notes[0], /Speech moves nothing/);
      assert.match(avatar.retarget.links[0].reason, /nothing to move/);
    });
  });
}

describe('overrides that still the mouth', () => {
  for (const how of /** @type {const} */ (['block', 'blend'])) {
    test(`of a blink (${how}) are set aside and told; the avatar's own word can be kept`, async () => {
      const avatar = await Avatar.load(vrm1(plate(ARKIT), { fields: { blink: { overrideMouth: how } } }));
      assert.match(
        avatar.notes.join(),
        new RegExp(`“blink” would hold the mouth still.*overrideMouth: ${how}`),
      );
      avatar.apply(OPEN, SAYS_A_BLINKING);
      near(weights(avatar)[ARKIT.indexOf('jawOpen')], 0.7);
      assert.equal(avatar.stilledBy, null);
      avatar.keepsOverrides = true;
      avatar.apply(OPEN, SAYS_A_BLINKING);
      near(weights(avatar)[ARKIT.indexOf('jawOpen')], 0);
      assert.equal(avatar.stilledBy, 'blink');
      avatar.apply(OPEN, SAYS_A);
      assert.equal(avatar.stilledBy, null);
      near(weights(avatar)[ARKIT.indexOf('jawOpen')], 0.7);
    });
  }

  test('of a mood that somebody else shows hold, and are named while they do', async () => {
    const avatar = await Avatar.load(vrm1(plate(ARKIT), { fields: { happy: { overrideMouth: 'block' } } }));
    assert.deepEqual(avatar.notes, []);
    const { expressionManager } = avatar.vrm?.vrm ?? {};
    expressionManager.setValue('happy', 0.5);
    avatar.apply(OPEN, SAYS_A);
    near(weights(avatar)[ARKIT.indexOf('jawOpen')], 0);
    assert.equal(avatar.stilledBy, 'happy');
    expressionManager.setValue('happy', 0);
    avatar.apply(OPEN, SAYS_A);
    near(weights(avatar)[ARKIT.indexOf('jawOpen')], 0.7);
  });

  test('of a mood that is linked to a smile are set aside', async () => {
    const avatar = await Avatar.load(vrm1(plate(ARKIT), { fields: { happy: { overrideMouth: 'block' } } }));
    avatar.link(
      avatar.retarget.links.findIndex(({ target }) => target === 'happy'),
      'smile',
    );
    avatar.apply([...OPEN, 'mouthSmileLeft', 'mouthSmileRight'], [...SAYS_A, 1, 1]);
    near(weights(avatar)[ARKIT.indexOf('jawOpen')], 0.7);
    near(weights(avatar)[ARKIT.indexOf('mouthSmileLeft')], 0.8);
  });
});

test('a VRM whose humanoid is incomplete is shown as a plain GLB, and says so', async () => {
  const avatar = await Avatar.load(vrm1(plate(ARKIT), { bones: false, keepNames: true }), {
    name: 'half.vrm',
  });
  assert.match(
    avatar.notes[0],
    /“half\.vrm” is not a complete VRM \(.*hips.*\), so it is shown as a plain GLB/,
  );
  assert.equal(avatar.vrm, null);
  avatar.apply(OPEN, SAYS_A);
  near(weights(avatar)[ARKIT.indexOf('jawOpen')], 0.85);
});

describe('what is no avatar', () => {
  /** @type {[string, ArrayBuffer, RegExp][]} */
  const files = [
    ['an empty file', new ArrayBuffer(0), /it is empty/],
    [
      'a picture',
      Uint8Array.from(Buffer.from('\x89PNG\r\n\x1a\n0123456789abcdef', 'latin1')).buffer,
      /a picture/,
    ],
    ['an FBX', Uint8Array.from(Buffer.from('Kaydara FBX Binary  \0\x1a\0')).buffer, /an FBX file/],
    [
      'a .gltf',
      Uint8Array.from(Buffer.from('{"asset": {"version": "2.0"}, "x": 1}')).buffer,
      /\.gltf needs its other/,
    ],
    ['a cut file', plate(['jawOpen']).slice(0, 300), /is cut short: \d+ %/],
    [
      'an old glTF',
      new Uint8Array([...Buffer.from('glTF'), 1, ...new Array(30).fill(0)]).buffer,
      /is glTF 1/,
    ],
    ['noise', new Uint8Array(1000).map((_, i) => (i * 73) % 251).buffer, /is not a GLB or VRM\./],
  ];
  for (const [words, bytes, sentence] of files) {
    test(`${words} is refused in a sentence`, async () => {
      await assert.rejects(Avatar.load(bytes, { name: 'x' }), (/** @type {any} */ error) => {
        assert.equal(error.name, 'PageError');
        assert.match(error.message, sentence);
        assert.match(error.hint, /\.$/);
        return true;
      });
    });
  }

  test('a GLB whose insides are damaged is refused in a sentence', async () => {
    const bytes = plate(['jawOpen']);
    const text = new Uint8Array(bytes);
    text.fill(0x21, 30, 40);
    await assert.rejects(Avatar.load(bytes, { name: 'x' }), /“x” is damaged/);
  });
});
