/**
 * The face: frames from a connection, through the jitter buffer, onto a body (an Avatar, or the page's stage).
 *
 * Rules: the buffer lives from a connection's first frame until its last has been shown, so that the tail of
 * one take is not cut off by the next connection's welcome. While a sound is heard, the face follows the
 * loudspeaker (at most 15 ms behind it when frames are late); else it follows the buffer's own playout. When
 * frames stop for half a second the face eases to rest. `draw` allocates nothing.
 */

import { ChannelMask } from './channel-mask.js';
import { Percentiles, Rate } from './figures.js';
import { JitterBuffer } from './jitter-buffer.js';
import { RestFace } from './rest.js';

const BEHIND_S = 0.015; // a face 45 ms behind its sound begins to be noticed (ITU-R BT.1359)
const STALLED_S = 0.5;
const DRY_S = 0.1;

/**
 * What is moved.
 * @typedef {object} Body
 * @property {readonly string[]} channels what it can be moved by
 * @property {(names: readonly string[], values: ArrayLike<number>) => void} apply
 * @property {(vertices: Float32Array) => void} [setVertices] metres, for streams of vertices
 * @property {(elapsedS: number) => void} [update] lets time pass for what swings
 *
 * A sound that is heard while its face is shown: a Take, or a watcher's Hearing.
 * @typedef {object} Sound
 * @property {(offsetS: number, nowS: number) => void} align local time at which the epoch's pts 0 is shown
 * @property {(nowS: number) => number} audiblePtsS NaN while nothing is heard
 * @property {(beginS?: number) => void} newEpoch
 * @property {number} [delayS] how much a loudspeaker is held back, NaN while it is not known
 */

export class LiveFace {
  /**
   * @param {Body} body
   * @param {import('./connection.js').Connection} connection
   * @param {{still?: boolean}} [options] `still`: no motion of the page's own
   */
  constructor(body, connection, { still = false } = {}) {
    this.body = body;
    this.connection = connection;
    this.still = still;
    this.rest = new RestFace(body.channels, { blinks: !still });
    this.mask = new ChannelMask();
    /** @type {JitterBuffer | null} */
    this.buffer = null;
    /** The sound to follow, null for none. @type {Sound | null} */
    this.sound = null;
    /** @type {import('./wire-types.js').Welcome | null} */
    this.welcome = null;
    /** @type {string[]} */
    this.channels = [];
    this.vertices = false;
    this.out = new Float32Array(0);
    this.over = false; // no more frames will come for this buffer
    this.lastFrame = -1;
    this.lastDrawS = Number.NaN;
    this.lastArrivalS = Number.NaN;

    this.ageS = new Percentiles();
    /** The instant shown minus the instant heard, seconds: above 0 the face is early. */
    this.skewS = new Percentiles(128);
    this.framesShown = new Rate();
    this.draws = new Rate();
    this.dropped = 0; // by buffers of the past
    this.late = 0;

    // A speaker that was lost and goes on does so behind what the server had heard of it.
    connection.addEventListener('welcome', (event) => {
      const { received_samples } = /** @type {CustomEvent} */ (event).detail;
      this.sound?.newEpoch(received_samples / connection.audioRateHz || 0);
    });
    connection.addEventListener('interrupted', () => this.sound?.newEpoch());
    connection.addEventListener('frames', (event) =>
      this.#receive(/** @type {CustomEvent} */ (event).detail),
    );
    connection.addEventListener('ended', () => {
      this.over = true;
    });
  }

  /** Whether a stream is being shown. */
  get isLive() {
    return this.buffer !== null;
  }

  get droppedFrames() {
    return this.dropped + (this.buffer?.dropped ?? 0);
  }

  get lateFrames() {
    return this.late + (this.buffer?.late ?? 0);
  }

  /** Another body takes over, from where the face is. @param {Body} body */
  moveTo(body) {
    this.body = body;
    this.rest = new RestFace(body.channels, { blinks: !this.still });
  }

  /**
   * Lets only some channels of the stream move the face; the others go to rest once and are then left alone.
   * @param {Iterable<string> | null} channels null for all
   */
  only(channels) {
    this.mask.set(channels);
    const left = this.body.channels.filter((name) => !this.mask.passes(name));
    if (left.length) this.body.apply(left, new Float32Array(left.length));
  }

  /** Moves the face to where it is at this instant; the caller renders. @param {number} nowS */
  draw(nowS = performance.now() / 1000) {
    const elapsedS = Math.min(nowS - this.lastDrawS || 0, 0.5);
    this.lastDrawS = nowS;
    this.draws.add();
    const { buffer } = this;
    if (buffer) this.#showStream(buffer, nowS);
    else this.#show(this.body.channels, this.rest.step(elapsedS));
    this.body.update?.(elapsedS);
  }

  /** @param {JitterBuffer} buffer @param {number} nowS */
  #showStream(buffer, nowS) {
    const audibleS = this.sound?.audiblePtsS(nowS) ?? Number.NaN;
    buffer.at(this.#playout(buffer, audibleS, nowS), this.out);
    if (!this.vertices) this.#show(this.channels, this.out);
    else this.body.setVertices?.(this.out);
    if (audibleS >= 0 && !this.over) this.skewS.add(buffer.shownPtsS - audibleS);
    if (buffer.shownFrame !== this.lastFrame) {
      this.framesShown.add(Math.max(buffer.shownFrame - this.lastFrame, 1));
      this.lastFrame = buffer.shownFrame;
      this.ageS.add(this.connection.clock.serverTimeS(nowS) - buffer.shownEmitS);
    }
    // Too late is not stalled: what comes late is still shown.
    const isDry = buffer.marginS < -DRY_S;
    if (isDry && (this.over || nowS - this.lastArrivalS > STALLED_S)) this.#leave();
  }

  /** @param {readonly string[]} names @param {Float32Array} values */
  #show(names, values) {
    if (this.mask.only === null) {
      this.body.apply(names, values);
      return;
    }
    this.mask.read(names, values);
    this.body.apply(this.mask.names, this.mask.values);
  }

  /** @param {JitterBuffer} buffer @param {number} audibleS @param {number} nowS */
  #playout(buffer, audibleS, nowS) {
    const playoutS = buffer.playout(nowS);
    if (Number.isNaN(audibleS)) return playoutS;
    return Math.min(audibleS, Math.max(playoutS, audibleS - BEHIND_S));
  }

  /** @param {import('./wire-types.js').Frames} frames */
  #receive(frames) {
    const nowS = performance.now() / 1000;
    const { welcome } = this.connection;
    if (!welcome) return;
    if (!this.buffer || this.welcome !== welcome) this.#enter(welcome);
    const buffer = /** @type {JitterBuffer} */ (this.buffer);
    const { epoch } = buffer;
    buffer.push(frames, nowS);
    this.lastArrivalS = nowS;
    if (buffer.epoch !== epoch) {
      this.lastFrame = frames.firstFrame - 1;
      this.skewS.clear();
    }
    this.sound?.align(buffer.offsetS, nowS);
  }

  /** @param {import('./wire-types.js').Welcome} welcome */
  #enter(welcome) {
    const isSame = this.buffer !== null && this.welcome?.kind === welcome.kind;
    const shown = isSame ? this.out : null; // the new stream eases from it
    this.#leave();
    this.over = false;
    this.welcome = welcome;
    this.vertices = welcome.kind === 'vertices';
    this.channels = welcome.channels;
    this.buffer = new JitterBuffer({ width: welcome.width, frameRateHz: welcome.frame_rate_hz, shown });
    this.out = new Float32Array(welcome.width);
    this.lastFrame = -1;
    this.ageS.clear();
    this.skewS.clear();
  }

  #leave() {
    if (!this.buffer) return;
    if (!this.vertices) this.rest.leave(this.channels, this.out);
    this.dropped += this.buffer.dropped;
    this.late += this.buffer.late;
    this.buffer = null;
  }
}
