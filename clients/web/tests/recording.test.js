/** Recordings: rows as they came, the CSV, and a clip in the avatar's own file. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as THREE from 'three';
import { addAnimation, weightsByNode } from '../src/avatar/animation.js';
import { Avatar } from '../src/avatar/avatar.js';
import { ARKIT } from '../src/avatar/channels.js';
import { parseGlb, writeGlb } from '../src/avatar/glb.js';
import { ChannelMask } from '../src/channel-mask.js';
import { Recording } from '../src/recording.js';
import { EXPRESSIONS, plate, vrm1 } from './avatars.js';

const WELCOME = /** @type {any} */ ({
  session: 'a',
  frame_rate_hz: 30,
  channels: ['jawOpen', 'browInnerUp', 'x'],
});

/** Frames whose jaw is their index over 100, and whose brow is 0.5. @returns {any} */
function frames(/** @type {number} */ firstFrame, /** @type {number} */ count, epoch = 0) {
  const values = Float32Array.from({ length: 3 * count }, (_, i) =>
    i % 3 === 0 ? (firstFrame + i / 3) / 100 : i % 3 === 1 ? 0.5 : 9,
  );
  return { kind: 'coefficients', values, width: 3, count, epoch, firstFrame, ptsS: firstFrame / 30 };
}

describe('a recording', () => {
  test('keeps every frame under its ARKit name, from 0 s on', () => {
    const recording = new Recording();
    recording.push(frames(60, 2), WELCOME);
    recording.push(frames(62, 1), WELCOME);
    const [header, ...rows] = recording.toCsv().trimEnd().split('\n');
    assert.deepEqual(header.split(','), ['time_s', ...ARKIT]);
    assert.deepEqual(
      rows.map((row) => row.split(',')[0]),
      ['0.000000', '0.033333', '0.066667'],
    );
    const jaw = 1 + ARKIT.indexOf('jawOpen');
    assert.deepEqual(
      rows.map((row) => row.split(',')[jaw]),
      ['0.600000', '0.610000', '0.620000'],
    );
  });

  test('runs on over an interrupt, a new connection and lost frames', () => {
    const recording = new Recording();
    recording.push(frames(0, 3), WELCOME);
    recording.push(frames(0, 1, 1), WELCOME); // an interrupt
    recording.push(frames(0, 1), { ...WELCOME, session: 'b' });
    recording.push(frames(4, 1), { ...WELCOME, session: 'b' }); // three were lost
    assert.deepEqual(
      recording.times.map((time) => Math.round(30 * time)),
      [0, 1, 2, 3, 4, 8],
    );
    assert.ok(Math.abs(recording.seconds - 9 / 30) < 1e-9);
  });

  test('writes what the mask holds back as 0, and vertices not at all', () => {
    const recording = new Recording();
    const mask = new ChannelMask();
    mask.set(['jawOpen']);
    recording.push(frames(10, 1), WELCOME, mask);
    recording.push({ ...frames(11, 1), kind: 'vertices' }, WELCOME, mask);
    assert.equal(recording.rows.length, 1);
    assert.equal(recording.rows[0][ARKIT.indexOf('browInnerUp')], 0);
    assert.ok(recording.rows[0][ARKIT.indexOf('jawOpen')] > 0);
  });

  test('keeps half an hour, and counts what comes after', () => {
    const recording = new Recording();
    recording.push(frames(0, 1), WELCOME);
    recording.push(frames(30 * 60 * 30 + 1, 2), WELCOME);
    assert.deepEqual([recording.rows.length, recording.leftOut], [1, 2]);
  });
});

describe('the mask', () => {
  test('lets through what it names, in any order, and follows another stream', () => {
    const mask = new ChannelMask();
    mask.set(['jawOpen', 'tongueOut']);
    mask.read(['browInnerUp', 'jawOpen'], [0.1, 0.2]);
    assert.deepEqual([mask.names, [...mask.values]], [['jawOpen'], [Math.fround(0.2)]]);
    mask.read(['tongueOut', 'jawOpen', 'cheekPuff'], [0.5, 0.25, 1]);
    assert.deepEqual(
      [mask.names, [...mask.values]],
      [
        ['tongueOut', 'jawOpen'],
        [0.5, 0.25],
      ],
    );
    mask.set(null);
    assert.ok(mask.passes('cheekPuff'));
  });
});

describe('a clip in the avatar’s own file', () => {
  const rows = [0, 0.5, 1].map((jaw) => {
    const row = new Float32Array(ARKIT.length);
    row[ARKIT.indexOf('jawOpen')] = 0.85 * jaw;
    return row;
  });

  /** @param {ArrayBuffer} bytes */
  async function animated(bytes) {
    const avatar = await Avatar.load(bytes);
    const weights = weightsByNode(avatar, ARKIT, rows);
    return addAnimation(bytes, { name: 'speech', times: [0, 0.1, 0.2], weights });
  }

  test('plays in three.js as the face moved', async () => {
    const { gltf } = await Avatar.load(await animated(plate(['tongueOut', 'jawOpen'])));
    const [clip] = gltf.animations;
    assert.equal(clip.name, 'speech');
    assert.ok(Math.abs(clip.duration - 0.2) < 1e-6);
    const mixer = new THREE.AnimationMixer(gltf.scene);
    mixer.clipAction(clip).play();
    mixer.setTime(0.05);
    const [tongue, jaw] = gltf.scene.getObjectByName('plate').morphTargetInfluences;
    assert.equal(tongue, 0);
    assert.ok(Math.abs(jaw - 0.85 / 4) < 1e-5, `${jaw}`);
  });

  test('holds what a VRM’s expressions moved, and leaves the VRM as it was', async () => {
    const before = vrm1(plate(ARKIT));
    const after = await animated(before);
    const { json } = parseGlb(after, 'test');
    assert.deepEqual(json.extensions, parseGlb(before, 'test').json.extensions);
    const avatar = await Avatar.load(after);
    assert.ok(avatar.vrm);
    const values = avatar.gltf.animations[0].tracks[0].values.slice(-52);
    for (const [morph, weight] of Object.entries(EXPRESSIONS.aa)) {
      assert.ok(Math.abs(values[ARKIT.indexOf(morph)] - weight) < 1e-5, morph);
    }
  });

  test('is one more where there were some, and needs no binary part', async () => {
    const twice = await animated(await animated(plate(['jawOpen'])));
    assert.equal((await Avatar.load(twice)).gltf.animations.length, 2);
    const { json } = parseGlb(plate(['jawOpen']), 'test');
    json.buffers[0].uri = 'data:application/octet-stream;base64,';
    const weights = new Map([[0, Float32Array.of(0, 1)]]);
    const clip = { name: 'speech', times: [0, 1], weights };
    const after = parseGlb(addAnimation(writeGlb(json, null), clip), 'test');
    assert.deepEqual([after.json.buffers.length, after.json.bufferViews[0].buffer], [2, 1]);
    const view = after.json.bufferViews[after.json.accessors.at(-1).bufferView];
    assert.equal(view.buffer, 0);
    const bytes = after.binary?.slice(view.byteOffset, view.byteOffset + view.byteLength).buffer;
    assert.deepEqual([...new Float32Array(bytes ?? new ArrayBuffer(0))], [0, 1]);
  });

  test('leaves the avatar at rest', async () => {
    const avatar = await Avatar.load(plate(['jawOpen']));
    weightsByNode(avatar, ARKIT, rows);
    assert.equal(avatar.meshes[0].morphTargetInfluences?.[0], 0);
  });
});
