/**
 * The face: frames from a connection, through the jitter buffer, onto the stage.
 *
 * Rules: the buffer lives from a connection's first frame until its last has been shown, so that the tail of
 * one take is not cut off by the next connection's welcome. While a sample is heard, the face follows the
 * loudspeaker (at most 40 ms behind it when frames are late); else it follows the buffer's own playout. When
 * frames stop for half a second the face eases to rest. `draw` allocates nothing.
 */

import { Percentiles, Rate } from './figures.js';
import { JitterBuffer } from './jitter-buffer.js';
import { RestFace } from './rest.js';

const BEHIND_S = 0.04; // a face 45 ms behind its sound begins to be noticed (ITU-R BT.1359)
const STALLED_S = 0.5;
const DRY_S = 0.1;

/** What the page needs of the stage. @typedef {Awaited<ReturnType<typeof import('./stage.js').createStage>>} Stage */

export class LiveFace {
  /**
   * @param {Stage} stage
   * @param {import('./connection.js').Connection} connection
   * @param {{still?: boolean}} [options] `still`: no motion of the page's own
   */
  constructor(stage, connection, { still = false } = {}) {
    this.stage = stage;
    this.connection = connection;
    this.rest = new RestFace(stage.channels, { blinks: !still });
    /** @type {JitterBuffer | null} */
    this.buffer = null;
    /** @type {import('./take.js').Take | null} */
    this.take = null;
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
    this.framesShown = new Rate();
    this.draws = new Rate();
    this.dropped = 0; // by buffers of the past
    this.late = 0;

    connection.addEventListener('welcome', () => this.take?.newEpoch());
    connection.addEventListener('interrupted', () => this.take?.newEpoch());
    connection.addEventListener('frames', (event) =>
      this.#receive(/** @type {CustomEvent} */ (event).detail),
    );
    connection.addEventListener('ended', () => {
      this.over = true;
    });
  }

  /** Whether a stream is on the stage. */
  get isLive() {
    return this.buffer !== null;
  }

  get droppedFrames() {
    return this.dropped + (this.buffer?.dropped ?? 0);
  }

  get lateFrames() {
    return this.late + (this.buffer?.late ?? 0);
  }

  /** Moves the face to where it is at this instant; the caller renders. @param {number} nowS */
  draw(nowS) {
    const elapsedS = Math.min(nowS - this.lastDrawS || 0, 0.5);
    this.lastDrawS = nowS;
    this.draws.add();
    const { buffer } = this;
    if (!buffer) {
      this.stage.setCoefficients(this.stage.channels, this.rest.step(elapsedS));
      return;
    }
    buffer.at(this.#playout(buffer, nowS), this.out);
    if (this.vertices) this.stage.setVertices(this.out);
    else this.stage.setCoefficients(this.channels, this.out);
    if (buffer.shownFrame !== this.lastFrame) {
      this.framesShown.add(Math.max(buffer.shownFrame - this.lastFrame, 1));
      this.lastFrame = buffer.shownFrame;
      this.ageS.add(this.connection.clock.serverTimeS(nowS) - buffer.shownEmitS);
    }
    // Too late is not stalled: what comes late is still shown.
    const isDry = buffer.marginS < -DRY_S;
    if (isDry && (this.over || nowS - this.lastArrivalS > STALLED_S)) this.#leave();
  }

  /** @param {JitterBuffer} buffer @param {number} nowS */
  #playout(buffer, nowS) {
    const playoutS = buffer.playout(nowS);
    const audibleS = this.take?.audiblePtsS(nowS) ?? Number.NaN;
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
    if (buffer.epoch !== epoch) this.lastFrame = frames.firstFrame - 1;
    this.take?.align(buffer.offsetS, nowS);
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
  }

  #leave() {
    if (!this.buffer) return;
    if (!this.vertices) this.rest.leave(this.channels, this.out);
    this.dropped += this.buffer.dropped;
    this.late += this.buffer.late;
    this.buffer = null;
  }
}
