/** The golden vectors of tests/vectors/wire, read and written by the page's codec. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import * as wire from '../src/wire.js';

const VECTORS = new URL('../../../tests/vectors/wire/', import.meta.url);

/** @param {string} name @returns {any[]} */
const vectors = (name) => JSON.parse(readFileSync(new URL(`${name}.json`, VECTORS), 'utf8'));

/** @param {string} hex @returns {ArrayBuffer} */
function fromHex(hex) {
  const bytes = new Uint8Array(hex.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  return bytes.buffer;
}

/** @param {ArrayBuffer} buffer */
const toHex = (buffer) => Buffer.from(buffer).toString('hex');

/** A hello's fields with their defaults, as the vectors state them. @param {string} text */
function withDefaults(text) {
  const fields = JSON.parse(text);
  const absent = { token: null, audio: null, lookahead_ms: null, hop_ms: null, style: null, seed: null };
  const output = { kind: 'coefficients', dtype: 'f32' };
  return fields.type === 'hello'
    ? { ...absent, output, audio_passthrough: false, paced: false, resume: null, ...fields }
    : fields;
}

describe('a client writes the messages of the vectors', () => {
  const encoders = {
    hello: wire.encodeHello,
    style: (/** @type {any} */ fields) => wire.encodeStyle(fields.style),
    interrupt: wire.encodeInterrupt,
    end: wire.encodeEnd,
    clock: (/** @type {any} */ fields) => wire.encodeClock(fields.client_time_s),
  };
  for (const { name, text, fields } of vectors('client')) {
    test(name, () => {
      const written = encoders[/** @type {keyof typeof encoders} */ (fields.type)](fields);
      assert.deepEqual(JSON.parse(written), JSON.parse(text));
      assert.deepEqual(withDefaults(written), fields);
    });
  }
  for (const { name, audio, pcm, bytes } of vectors('audio')) {
    test(`audio: ${name}`, () => {
      const typed = audio.encoding === 's16' ? Int16Array.from(pcm) : Float32Array.from(pcm);
      assert.equal(toHex(wire.encodeAudio(typed)), bytes);
      const room = new Uint8Array(wire.AUDIO_HEADER_BYTES + typed.byteLength).fill(255);
      room.set(new Uint8Array(typed.buffer), wire.AUDIO_HEADER_BYTES);
      assert.equal(toHex(wire.stampAudio(room.buffer)), bytes);
    });
  }
});

describe('a client reads the messages of the vectors', () => {
  for (const { name, text, fields } of vectors('server')) {
    test(name, () => assert.deepEqual(wire.decodeServerMessage(text), fields));
  }
  for (const vector of vectors('frames')) {
    for (const shift of [0, 1, 4]) {
      test(`frames: ${vector.name}, ${shift} bytes into its buffer`, () => {
        const bytes = new Uint8Array(fromHex(vector.bytes));
        const shifted = new Uint8Array(shift + bytes.length);
        shifted.set(bytes, shift);
        const frames = wire.decodeFrames(shifted.subarray(shift));
        const { values, emitTimeS, firstFrame, ptsS, ...rest } = frames;
        assert.deepEqual([...values], vector.values.flat());
        assert.deepEqual(
          [firstFrame, ptsS, emitTimeS],
          [vector.first_frame, vector.pts_s, vector.emit_time_s],
        );
        for (const [key, value] of Object.entries(rest)) assert.equal(value, vector[key], key);
        assert.equal(wire.scaleOf(frames.kind, frames.dtype), vector.scale);
      });
    }
  }
  for (const vector of vectors('passthrough')) {
    test(`passthrough: ${vector.name}`, () => {
      const { samples, ...rest } = wire.decodePassthrough(fromHex(vector.bytes));
      assert.deepEqual([...samples], vector.samples);
      const { epoch, seq, pts_s: ptsS, sample_rate_hz: sampleRateHz } = vector;
      assert.deepEqual(rest, { epoch, seq, ptsS, sampleRateHz });
    });
  }
});

describe('a client refuses the messages of the vectors', () => {
  const forClient = vectors('refused').filter(({ reader }) => reader === 'client');
  assert.ok(forClient.length > 5);
  for (const { name, text, bytes, code } of forClient) {
    test(name, () => {
      const decode = () =>
        text === undefined ? wire.decodeMedia(fromHex(bytes)) : wire.decodeServerMessage(text);
      assert.throws(decode, (error) => error instanceof wire.WireError && error.code === code);
    });
  }
  test('an unknown field of a known message', () => {
    const decode = () => wire.decodeServerMessage('{"type":"interrupted","epoch":1,"last_frame":2,"x":0}');
    assert.throws(decode, { code: 'bad_message' });
  });
});

describe('payloads', () => {
  test('f32 frames are viewed where they lie, not copied', () => {
    const vector = vectors('frames').find(({ dtype, count }) => dtype === 'f32' && count > 0);
    const buffer = fromHex(vector.bytes);
    assert.equal(wire.decodeFrames(buffer).values.buffer, buffer);
  });

  test('every half is the value that IEEE 754 says', () => {
    const cases = [
      [0x0000, 0],
      [0x8000, -0],
      [0x0001, 2 ** -24],
      [0x03ff, 1023 * 2 ** -24],
      [0x0400, 2 ** -14],
      [0x3c00, 1],
      [0xc000, -2],
      [0x7bff, 65504],
      [0x7c00, Number.POSITIVE_INFINITY],
      [0xfc00, Number.NEGATIVE_INFINITY],
      [0x7e00, Number.NaN],
    ];
    const message = new ArrayBuffer(wire.FRAMES_HEADER_BYTES + 2 * cases.length);
    const view = new DataView(message);
    view.setUint8(0, wire.FRAMES);
    view.setUint8(1, 1);
    view.setUint32(16, 1, true);
    view.setUint32(20, cases.length, true);
    for (const [i, [bits]] of cases.entries()) view.setUint16(wire.FRAMES_HEADER_BYTES + 2 * i, bits, true);
    assert.deepEqual(
      [...wire.decodeFrames(message).values],
      cases.map(([, value]) => value),
    );
  });
});
