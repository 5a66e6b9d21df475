/**
 * The way in for a program: a connection to a stream, in one line.
 *
 *     const connection = connect('http://127.0.0.1:8600', { stream: 'me' });
 *
 * It is started at once and comes back by itself when it is lost (connection.js). The server's address may be
 * the page's (http) or the socket's (ws); streams live under it.
 */

import { Connection } from './connection.js';

/** Guessed until a sound card has been asked, which needs a press of a button. */
const USUAL_RATE_HZ = 48000;

/**
 * A stream's address.
 * @param {string | URL} server `http://host:8600/`, `wss://host/face/` … @param {string} name the stream's
 * @returns {string} ws://…/v1/streams/<name>
 */
export function streamAddress(server, name) {
  const base = new URL(server, globalThis.location?.href);
  if (base.protocol === 'http:') base.protocol = 'ws:';
  if (base.protocol === 'https:') base.protocol = 'wss:';
  base.hash = '';
  base.search = '';
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  return new URL(`v1/streams/${encodeURIComponent(name)}`, base).href;
}

/** A name that nobody else has taken. @returns {string} */
export const freshName = () => `page-${crypto.getRandomValues(new Uint32Array(1))[0].toString(16)}`;

/**
 * Connects, and stays connected until `stop()`.
 * @param {string | URL} server
 * @param {object} [options]
 * @param {string | (() => string)} [options.stream] its name; a fresh one for each connection where left out
 * @param {'converse' | 'watch' | 'publish'} [options.role] speak and see (the default), only see, only speak
 * @param {string} [options.token] the server's, where it asks for one
 * @param {'coefficients' | 'vertices'} [options.kind] avatars want coefficients
 * @param {import('./wire-types.js').Weights} [options.style] weights of the server's styles, factors of its scales
 * @param {number} [options.lookaheadMs]
 * @param {boolean} [options.passthrough] whether a watcher is sent the speaker's sound too
 * @returns {Connection}
 */
export function connect(server, options = {}) {
  const { stream = freshName, role = 'converse', token, lookaheadMs } = options;
  const speaks = role !== 'watch';
  const connection = new Connection({
    url: () => streamAddress(server, typeof stream === 'function' ? stream() : stream),
    // Asked at each attempt, so that what was changed meanwhile (a style, the sound card's rate) holds.
    hello: () => {
      const { kind, style, passthrough } = connection.wishes;
      return {
        role,
        token,
        audio: speaks ? { encoding: 's16', sample_rate_hz: connection.audioRateHz, channels: 1 } : undefined,
        // A vertex in i16 is true to 15 micrometres, at half the size.
        output: { kind, dtype: kind === 'vertices' ? 'i16' : 'f32' },
        lookahead_ms: speaks ? lookaheadMs : undefined,
        style: speaks && style && Object.keys(style).length ? style : undefined,
        audio_passthrough: !speaks && passthrough,
      };
    },
  });
  connection.audioRateHz = USUAL_RATE_HZ;
  const { kind = 'coefficients', style = null, passthrough = false } = options;
  Object.assign(connection.wishes, { kind, style, passthrough });
  connection.start();
  return connection;
}
