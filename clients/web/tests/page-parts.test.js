/** The page's smaller parts: its address, its figures, the face at rest. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { streamAddress } from '../src/connect.js';
import { Percentiles, Rate } from '../src/figures.js';
import { readOptions } from '../src/options.js';
import { RestFace } from '../src/rest.js';

describe('the address', () => {
  const address = (/** @type {string} */ page) => streamAddress(readOptions(page).server, 'a');

  test('names the server that the page came from', () => {
    assert.equal(address('http://h:8600/'), 'ws://h:8600/v1/streams/a');
    assert.equal(address('https://h/face/?x#y'), 'wss://h/face/v1/streams/a');
    assert.equal(address('https://h/face/index.html'), 'wss://h/face/v1/streams/a');
  });

  test('may name another server, a stream, and how to show it', () => {
    const page =
      'http://h/?server=wss://o:1/x&watch=anna%20b&kind=vertices&lookahead=120&transparent#token=s%2Bt';
    const options = readOptions(page);
    assert.equal(streamAddress(options.server, options.watch ?? ''), 'wss://o:1/x/v1/streams/anna%20b');
    const { kind, lookaheadMs, transparent, token } = options;
    assert.deepEqual([kind, lookaheadMs, transparent, token], ['vertices', 120, true, 's+t']);
  });

  test('may name an avatar: one that the server lends, or any address on it', () => {
    assert.equal(readOptions('http://h/?avatar=me.vrm').avatar, 'avatars/me.vrm');
    assert.equal(readOptions('http://h/?avatar=/x/me.glb').avatar, '/x/me.glb');
    assert.equal(readOptions('http://h/?avatar=').avatar, null);
  });

  test('says nothing where it says nothing', () => {
    const { server, ...options } = readOptions('http://h/?lookahead=soon&kind=meshes&watch=');
    assert.deepEqual(options, {
      watch: null,
      stream: null,
      kind: 'coefficients',
      lookaheadMs: undefined,
      quality: null,
      avatar: null,
      sound: false,
      transparent: false,
      token: undefined,
    });
  });
});

describe('figures', () => {
  test('percentiles are of the last values', () => {
    const ages = new Percentiles(100);
    assert.ok(Number.isNaN(ages.at(0.5)));
    for (let i = 0; i < 150; i++) ages.add(i);
    ages.add(Number.NaN);
    assert.deepEqual([ages.at(0), ages.at(0.5), ages.at(0.95), ages.at(1)], [50, 100, 145, 149]);
  });

  test('a rate is per second since it was last read', () => {
    const rate = new Rate();
    assert.ok(Number.isNaN(rate.read(10)));
    for (let i = 0; i < 30; i++) rate.add();
    assert.equal(rate.read(10.5), 60);
    assert.equal(rate.read(11), 0);
  });
});

describe('the face at rest', () => {
  const channels = ['jawOpen', 'eyeBlinkLeft', 'eyeBlinkRight'];

  test('eases to rest from where a stream left it', () => {
    const rest = new RestFace(channels, { blinks: false });
    rest.leave(['tongueOut', 'jawOpen'], Float32Array.of(1, 0.8));
    let last = 0.8;
    for (let i = 0; i < 30; i++) {
      const [jaw] = rest.step(1 / 60);
      assert.ok(jaw < last);
      last = jaw;
    }
    assert.ok(last < 0.01);
  });

  test('blinks now and then, both lids as one', () => {
    const rest = new RestFace(channels, { random: () => 0.5 });
    let shut = 0;
    let wasShut = false;
    for (let i = 0; i < 60 * 20; i++) {
      const [, left, right] = rest.step(1 / 60);
      assert.equal(left, right);
      if (left > 0.5 && !wasShut) shut++;
      wasShut = left > 0.5;
    }
    assert.ok(shut >= 3 && shut <= 8, `${shut} blinks in 20 s`);
  });

  test('is still for someone who asked for reduced motion', () => {
    const rest = new RestFace(channels, { blinks: false });
    for (let i = 0; i < 600; i++) assert.deepEqual([...rest.step(1 / 60)], [0, 0, 0]);
  });
});
