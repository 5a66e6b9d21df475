/**
 * Protocol v1's control messages, as a client writes and reads them: JSON text with a `type`.
 * Unknown types and unknown fields are errors, so that a typing mistake is found on the first try.
 */

import { DTYPES, KINDS, ROLES, VERSION, WireError } from './wire-types.js';

/**
 * @typedef {import('./wire-types.js').Hello} Hello
 * @typedef {import('./wire-types.js').Weights} Weights
 */

/**
 * The first message of every connection; fields at their default are left out.
 * @param {Hello} hello
 * @returns {string}
 */
export function encodeHello(hello) {
  const { output } = hello;
  const kind = output?.kind ?? 'coefficients';
  const dtype = output?.dtype ?? 'f32';
  return JSON.stringify({
    type: 'hello',
    version: VERSION,
    role: hello.role,
    token: hello.token ?? undefined,
    audio: hello.audio ?? undefined,
    output: kind === 'coefficients' && dtype === 'f32' ? undefined : { kind, dtype },
    lookahead_ms: hello.lookahead_ms ?? undefined,
    hop_ms: hello.hop_ms ?? undefined,
    style: hello.style ?? undefined,
    seed: hello.seed ?? undefined,
    audio_passthrough: hello.audio_passthrough || undefined,
    paced: hello.paced || undefined,
    resume: hello.resume ?? undefined,
  });
}

/** @param {Weights} style @returns {string} a speaker's new style, from the next window on */
export const encodeStyle = (style) => JSON.stringify({ type: 'style', style });

/** @returns {string} drop what was received and not yet emitted, and close the mouth */
export const encodeInterrupt = () => '{"type":"interrupt"}';

/** @returns {string} no more audio: flush the tail */
export const encodeEnd = () => '{"type":"end"}';

/** @param {number} clientTimeS comes back unchanged @returns {string} */
export const encodeClock = (clientTimeS) => JSON.stringify({ type: 'clock', client_time_s: clientTimeS });

const isInteger = (/** @type {unknown} */ value) => Number.isInteger(value);
const isNumber = (/** @type {unknown} */ value) => typeof value === 'number' && Number.isFinite(value);
const isString = (/** @type {unknown} */ value) => typeof value === 'string';
const isStrings = (/** @type {unknown} */ value) => Array.isArray(value) && value.every(isString);
const isObject = (/** @type {unknown} */ value) =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isWeights = (/** @type {unknown} */ value) =>
  isObject(value) && Object.values(/** @type {object} */ (value)).every(isNumber);
const oneOf = (/** @type {readonly string[]} */ names) => (/** @type {unknown} */ value) =>
  names.includes(/** @type {string} */ (value));

/** Each server message's fields and what they must be. @type {Record<string, Record<string, (value: unknown) => boolean>>} */
const SERVER_MESSAGES = {
  welcome: {
    version: isInteger,
    session: isString,
    stream: isString,
    role: oneOf(ROLES),
    epoch: isInteger,
    bundle: isString,
    kind: oneOf(KINDS),
    dtype: oneOf(DTYPES),
    width: isInteger,
    scale: isNumber,
    channels: isStrings,
    unit: isString,
    frame_rate_hz: isInteger,
    sample_rate_hz: isInteger,
    hop_ms: isNumber,
    lookahead_ms: isNumber,
    face_delay_ms: isNumber,
    styles: isStrings,
    style_scales: isStrings,
    style: isWeights,
    received_samples: isInteger,
    server_time_s: isNumber,
  },
  style: { style: isWeights, epoch: isInteger, from_frame: isInteger },
  interrupted: { epoch: isInteger, last_frame: isInteger },
  ended: { epoch: isInteger, frames: isInteger, audio_s: isNumber },
  clock: { client_time_s: isNumber, server_time_s: isNumber },
  stats: { dropped_frames: isInteger, late_windows: isInteger, frames: isInteger, queue_ms: isNumber },
  error: { code: isString, message: isString, hint: isString },
};

/**
 * A server's control message: the object as sent, with its `type`.
 * @param {string} text
 * @returns {{type: string} & Record<string, any>}
 * @throws {WireError} bad_json, bad_message or unknown_type
 */
export function decodeServerMessage(text) {
  /** @type {any} */
  let message;
  try {
    message = JSON.parse(text);
  } catch {
    throw new WireError('bad_json', 'The message is not JSON.');
  }
  if (!isObject(message) || !Object.hasOwn(message, 'type')) {
    throw new WireError('bad_message', "The message is not an object with a 'type'.");
  }
  const type = message.type;
  if (typeof type !== 'string' || !Object.hasOwn(SERVER_MESSAGES, type)) {
    throw new WireError('unknown_type', `There is no message type '${String(type).slice(0, 40)}'.`);
  }
  const fields = SERVER_MESSAGES[type];
  for (const name of Object.keys(message)) {
    if (name !== 'type' && !Object.hasOwn(fields, name)) {
      throw new WireError(
        'bad_message',
        `The '${type}' message has an unknown field '${name.slice(0, 40)}'.`,
      );
    }
  }
  for (const [name, isValid] of Object.entries(fields)) {
    if (!Object.hasOwn(message, name) || !isValid(message[name])) {
      throw new WireError('bad_message', `The '${type}' message's '${name}' is missing or not valid.`);
    }
  }
  return message;
}
