/**
 * Protocol v1's binary media, as a client writes and reads them: little-endian, payloads 8-byte aligned.
 * A payload is viewed in place where its type and alignment allow it, and copied or converted elsewhere.
 */

import { DTYPES, KINDS, WireError } from './wire-types.js';

/**
 * @typedef {import('./wire-types.js').Kind} Kind
 * @typedef {import('./wire-types.js').DType} DType
 * @typedef {import('./wire-types.js').Frames} Frames
 * @typedef {import('./wire-types.js').Passthrough} Passthrough
 */

export const AUDIO = 1;
export const FRAMES = 2;
export const PASSTHROUGH = 3;
export const AUDIO_HEADER_BYTES = 8;
export const FRAMES_HEADER_BYTES = 40;
export const PASSTHROUGH_HEADER_BYTES = 32;

/** These frames were eased toward rest after an interrupt, not denoised. */
export const FLAG_EASED = 1;
/** The last frames of their epoch. */
export const FLAG_LAST = 2;

const DTYPE_BYTES = [4, 2, 2];
const I16_FULL_SCALE = { coefficients: 1, vertices: 0.5 };

const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/**
 * What one unit of a frame's raw values means: the value itself is raw × scale.
 * @param {Kind} kind @param {DType} dtype @returns {number}
 */
export const scaleOf = (kind, dtype) => (dtype === 'i16' ? I16_FULL_SCALE[kind] / 32767 : 1);

/**
 * Makes an audio message in place: `buffer` holds PCM after AUDIO_HEADER_BYTES free bytes.
 * @param {ArrayBuffer} buffer
 * @returns {ArrayBuffer} the same buffer
 */
export function stampAudio(buffer) {
  const header = new Uint8Array(buffer, 0, AUDIO_HEADER_BYTES);
  header.fill(0);
  header[0] = AUDIO;
  return buffer;
}

/**
 * An audio message from interleaved PCM (a copy; `stampAudio` needs none).
 * @param {Int16Array | Float32Array} pcm already of the encoding named in the hello
 * @returns {ArrayBuffer}
 */
export function encodeAudio(pcm) {
  const buffer = new ArrayBuffer(AUDIO_HEADER_BYTES + pcm.byteLength);
  const view = new DataView(buffer);
  view.setUint8(0, AUDIO);
  for (let i = 0; i < pcm.length; i++) {
    if (pcm instanceof Int16Array) view.setInt16(AUDIO_HEADER_BYTES + 2 * i, pcm[i], true);
    else view.setFloat32(AUDIO_HEADER_BYTES + 4 * i, pcm[i], true);
  }
  return buffer;
}

/**
 * @param {ArrayBuffer | ArrayBufferView} message
 * @param {number} tag
 * @param {number} headerBytes
 * @param {string} name
 * @returns {DataView}
 */
function mediaView(message, tag, headerBytes, name) {
  const view = ArrayBuffer.isView(message)
    ? new DataView(message.buffer, message.byteOffset, message.byteLength)
    : new DataView(message);
  if (view.byteLength < headerBytes || view.getUint8(0) !== tag) {
    throw new WireError('bad_message', `The binary message does not begin with ${name} header.`);
  }
  return view;
}

/**
 * The payload as whole little-endian elements: a view where alignment and byte order allow, else a copy.
 * @template {Float32Array | Int16Array | Uint16Array} T
 * @param {DataView} view
 * @param {number} offset
 * @param {{new (buffer: ArrayBufferLike, offset?: number, length?: number): T, BYTES_PER_ELEMENT: number}} Type
 * @returns {T}
 */
function payloadOf(view, offset, Type) {
  const size = Type.BYTES_PER_ELEMENT;
  const start = view.byteOffset + offset;
  const length = (view.byteLength - offset) / size;
  if (LITTLE_ENDIAN && start % size === 0) return new Type(view.buffer, start, length);
  const copy = new Uint8Array(view.buffer, start, length * size).slice();
  if (!LITTLE_ENDIAN) {
    for (let i = 0; i < copy.length; i += size) copy.subarray(i, i + size).reverse();
  }
  return new Type(copy.buffer, 0, length);
}

/**
 * @param {ArrayBuffer | ArrayBufferView} message
 * @returns {Frames}
 * @throws {WireError} bad_message where it is cut short or its fields are unknown
 */
export function decodeFrames(message) {
  const view = mediaView(message, FRAMES, FRAMES_HEADER_BYTES, 'a frames');
  const dtype = DTYPES[view.getUint8(1)];
  const kind = KINDS[view.getUint8(2)];
  if (!dtype || !kind) throw new WireError('bad_message', 'The frames message has an unknown dtype or kind.');
  const count = view.getUint32(16, true);
  const width = view.getUint32(20, true);
  const bytes = count * width * DTYPE_BYTES[view.getUint8(1)];
  if (view.byteLength - FRAMES_HEADER_BYTES !== bytes) {
    throw new WireError('bad_message', "The frames message's length contradicts its count and width.");
  }
  return {
    values: frameValues(view, dtype, kind),
    kind,
    dtype,
    flags: view.getUint8(3),
    epoch: view.getUint32(4, true),
    seq: view.getUint32(8, true),
    firstFrame: view.getUint32(12, true),
    count,
    width,
    ptsS: view.getFloat64(24, true),
    emitTimeS: view.getFloat64(32, true),
  };
}

/** @param {DataView} view @param {DType} dtype @param {Kind} kind @returns {Float32Array} */
function frameValues(view, dtype, kind) {
  if (dtype === 'f32') return payloadOf(view, FRAMES_HEADER_BYTES, Float32Array);
  if (dtype === 'f16') {
    const table = halfTable();
    const raw = payloadOf(view, FRAMES_HEADER_BYTES, Uint16Array);
    const values = new Float32Array(raw.length);
    for (let i = 0; i < raw.length; i++) values[i] = table[raw[i]];
    return values;
  }
  const scale = scaleOf(kind, dtype); // multiplied in double and rounded once, as every codec does
  const raw = payloadOf(view, FRAMES_HEADER_BYTES, Int16Array);
  const values = new Float32Array(raw.length);
  for (let i = 0; i < raw.length; i++) values[i] = raw[i] * scale;
  return values;
}

/** @type {Float32Array | undefined} */
let halves;

/** @returns {Float32Array} (65536,): every IEEE half's value, by its bits; made on first use */
function halfTable() {
  if (halves) return halves;
  halves = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 0x1f;
    const fraction = bits & 0x3ff;
    if (exponent === 0) halves[bits] = sign * fraction * 2 ** -24;
    else if (exponent === 31) halves[bits] = fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
    else halves[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return halves;
}

/**
 * @param {ArrayBuffer | ArrayBufferView} message
 * @returns {Passthrough}
 * @throws {WireError} bad_message where it is cut short
 */
export function decodePassthrough(message) {
  const view = mediaView(message, PASSTHROUGH, PASSTHROUGH_HEADER_BYTES, 'a passthrough');
  if (view.byteLength - PASSTHROUGH_HEADER_BYTES !== 2 * view.getUint32(12, true)) {
    throw new WireError('bad_message', "The passthrough message's length contradicts its count.");
  }
  return {
    samples: payloadOf(view, PASSTHROUGH_HEADER_BYTES, Int16Array),
    epoch: view.getUint32(4, true),
    seq: view.getUint32(8, true),
    ptsS: view.getFloat64(16, true),
    sampleRateHz: view.getUint32(24, true),
  };
}

/**
 * Any binary message of a server.
 * @param {ArrayBuffer | ArrayBufferView} message
 * @returns {{frames: Frames, passthrough?: undefined} | {frames?: undefined, passthrough: Passthrough}}
 * @throws {WireError} bad_message
 */
export function decodeMedia(message) {
  const first = ArrayBuffer.isView(message)
    ? new Uint8Array(message.buffer, message.byteOffset, message.byteLength)[0]
    : new Uint8Array(message)[0];
  if (first === FRAMES) return { frames: decodeFrames(message) };
  if (first === PASSTHROUGH) return { passthrough: decodePassthrough(message) };
  throw new WireError('bad_message', 'The binary message is of an unknown kind.');
}
