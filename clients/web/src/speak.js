/**
 * Speaking, in one line: a microphone or a sound file into a connection.
 *
 *     const take = await microphone(connection);   // the user is asked
 *     take.stop();                                 // the last word is spoken out
 */

import { PageError } from './page-error.js';
import { Take } from './take.js';

/**
 * Sends the microphone. Call it from a press of a button: browsers let sound begin only there.
 * @param {import('./connection.js').Connection} connection
 * @param {{context?: AudioContext, hear?: boolean}} [options] `hear`: play it too, held back to match the face
 *   (then set `face.sound` to what comes back)
 * @returns {Promise<Take>}
 * @throws {import('./page-error.js').PageError} the user, the browser or the server refused
 */
export const microphone = (connection, { hear = false, ...options } = {}) =>
  speak(connection, 'microphone', '', hear, options);

/**
 * Sends a sound file and plays it, held back to match the face: set `face.sound` to what comes back.
 * @param {import('./connection.js').Connection} connection
 * @param {string} url
 * @param {{context?: AudioContext}} [options]
 */
export const playFile = (connection, url, options = {}) => speak(connection, 'sample', url, true, options);

/**
 * @param {import('./connection.js').Connection} connection @param {'microphone' | 'sample'} kind @param {string} url
 * @param {boolean} hear @param {{context?: AudioContext}} options
 */
async function speak(connection, kind, url, hear, { context = sharedContext() }) {
  if (connection.audioRateHz !== context.sampleRate) {
    connection.audioRateHz = context.sampleRate;
    connection.restart();
  }
  const take = new Take(context, connection, kind);
  take.hears = hear;
  take.onEnd = () => take.stop();
  const close = () => take.stopping && take.close();
  connection.addEventListener('ended', close);
  const [state] = await Promise.all([connection.settled(), take.open(url)]);
  if (state !== 'open') {
    take.close();
    throw new PageError('The server refused the connection.', connection.fault?.message ?? 'Is it running?');
  }
  take.start();
  return take;
}

/** @type {AudioContext | null} */
let shared = null;

/** One context for the page: browsers allow few. */
function sharedContext() {
  shared ??= new AudioContext({ latencyHint: 'interactive' });
  return shared;
}
