/**
 * A watcher's loudspeaker: the speaker's sound, passed on by the server, played when its face is shown.
 *
 *     const connection = connect(server, { role: 'watch', stream: 'anna', passthrough: true });
 *     face.sound = new Hearing(connection);   // from a press of a button
 *
 * The server sends the sound as the model hears it, ahead of its frames. Each piece is played right after the one
 * before it; where that drifts from the time at which its face is shown, quiet pieces are moved, and others
 * played a little slower or faster, by so little that nobody hears it; only where they are a fifth of a second
 * wrong is there a break. The context runs at the sound's own rate, so that pieces join without a seam.
 */

import { audibleTimeS } from './speaker.js';

const BREAK_S = 0.2;
const GLIDE = 0.015; // of the pitch
const QUIET = 330; // of 32768, the loudest sample of a piece that may be moved
const QUIET_JUMP_S = 0.01;
const AHEAD_S = 0.02; // a piece that is due sooner is too late to be played in time
const REMEMBERED = 64;

export class Hearing {
  /** @param {import('./connection.js').Connection} connection one that asks for `passthrough` */
  constructor(connection) {
    this.connection = connection;
    /** @type {AudioContext | null} */
    this.context = null;
    /** Local time at which pts 0 is shown, seconds; NaN until the first frame. */
    this.offsetS = Number.NaN;
    /** Context time at which what is scheduled ends. */
    this.endS = Number.NaN;
    this.epoch = -1;
    /** What was scheduled: from context time, from pts, how fast. @type {{atS: number, ptsS: number, rate: number}[]} */
    this.pieces = [];
    /** @type {AudioBufferSourceNode | null} */
    this.last = null;
    /** Pieces that came before the first frame told when they are due. @type {import('./wire-types.js').Passthrough[]} */
    this.waiting = [];
    this.receive = (/** @type {Event} */ event) => this.#receive(/** @type {CustomEvent} */ (event).detail);
    connection.addEventListener('passthrough', this.receive);
  }

  /** @param {number} offsetS @param {number} _nowS */
  align(offsetS, _nowS) {
    this.offsetS = offsetS;
    for (const piece of this.waiting.splice(0)) this.#play(piece);
  }

  newEpoch() {
    this.offsetS = Number.NaN;
    this.endS = Number.NaN;
    this.epoch = -1;
    this.pieces = [];
    this.waiting = [];
  }

  /** @param {number} nowS @returns {number} NaN while nothing is heard */
  audiblePtsS(nowS) {
    if (this.context?.state !== 'running') return Number.NaN;
    const heardS = audibleTimeS(this.context, nowS);
    if (!(heardS < this.endS)) return Number.NaN;
    for (let i = this.pieces.length - 1; i >= 0; i--) {
      const { atS, ptsS, rate } = this.pieces[i];
      if (heardS >= atS) return ptsS + rate * (heardS - atS);
    }
    return Number.NaN;
  }

  close() {
    this.connection.removeEventListener('passthrough', this.receive);
    this.context?.close();
    this.context = null;
  }

  /** @param {import('./wire-types.js').Passthrough} piece */
  #receive(piece) {
    if (piece.epoch !== this.epoch) this.newEpoch();
    this.epoch = piece.epoch;
    this.context ??= new AudioContext({ sampleRate: piece.sampleRateHz, latencyHint: 'interactive' });
    if (!Number.isNaN(this.offsetS)) this.#play(piece);
    else if (this.waiting.length < REMEMBERED) this.waiting.push(piece);
  }

  /** @param {import('./wire-types.js').Passthrough} piece */
  #play({ samples, ptsS, sampleRateHz }) {
    const { context } = this;
    if (!context || samples.length === 0) return;
    if (context.state !== 'running') {
      context.resume(); // and until then there is nothing to hear
      return;
    }
    const nowS = performance.now() / 1000;
    const lengthS = samples.length / sampleRateHz;
    // When the loudspeaker should say it, on the context's clock: heard at this machine's ptsS + offsetS.
    const dueS = audibleTimeS(context, nowS) + ptsS + this.offsetS - nowS;
    let atS = this.endS;
    const longestS = samples.every((sample) => Math.abs(sample) < QUIET) ? QUIET_JUMP_S : BREAK_S;
    if (!(Math.abs(dueS - atS) < longestS)) {
      atS = dueS;
      this.last?.stop(Math.max(atS, context.currentTime));
    }
    if (atS < context.currentTime + AHEAD_S / 2) {
      this.endS = Number.NaN; // too late: the next one begins anew
      return;
    }
    const rate = 1 + Math.min(Math.max((atS - dueS) / Math.max(lengthS, 0.05), -GLIDE), GLIDE);
    const sound = context.createBuffer(1, samples.length, sampleRateHz);
    const channel = sound.getChannelData(0);
    for (let i = 0; i < samples.length; i++) channel[i] = samples[i] / 32768;
    const node = context.createBufferSource();
    node.buffer = sound;
    node.playbackRate.value = rate;
    node.connect(context.destination);
    node.start(atS);
    this.last = node;
    this.endS = atS + lengthS / rate;
    this.pieces.push({ atS, ptsS, rate });
    if (this.pieces.length > REMEMBERED) this.pieces.shift();
  }
}
