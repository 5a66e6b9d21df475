/**
 * Turns frames that arrive in bursts into a face at any instant. Pure: time is passed in, nothing is called.
 *
 * A frame carries its time on the stream's audio clock (its pts). The buffer shows pts = now − offset. The
 * offset is the smallest one at which nearly every message (95 %) arrives before it is needed, which is one
 * frame period after its first frame, because a value between two frames needs both. Rules:
 *  1. Frames live in a ring by their index; it never grows. An old frame gives way to a new one.
 *  2. Between two frames values are linear; after the newest they are held; before the first they ease in.
 *  3. The offset follows the network gently: playout slows by at most 15 % to wait, hurries by at most 5 % to
 *     catch up, and jumps only when it is more than half a second wrong. Playout never runs backward.
 *  4. A new epoch has a new audio clock: the buffer forgets the old frames and anchors anew, easing from
 *     what was last shown. Messages of an older epoch are ignored.
 *  5. A message that is more than half a second late belongs to an outage, not to the jitter, and does not move
 *     the offset: after a tab was frozen for an hour, what had queued up rushes by and the present is shown. Only
 *     where such lateness lasts half a second without falling has the stream's clock itself been shifted, and
 *     is followed. A jump, or a return after half a second without a picture, eases from what was last shown.
 *  6. The ring is made once; `at` allocates nothing.
 */

const OBSERVATIONS = 64; // messages remembered: about four seconds
const FIRST_ALLOWANCE_S = 0.03; // jitter assumed before any was seen
const MARGIN_S = 0.004;
const SLOWER = 0.15;
const FASTER = 0.05;
const JUMP_S = 0.5;
const EASE_S = 0.12;
const PATIENCE_S = 0.5; // for lateness to end
const OVER_S = 0.05; // no later than this: the outage is over
const FALLING_S = 0.2; // lateness that shrinks by this much is what queued up in an outage

export class JitterBuffer {
  /**
   * @param {object} options
   * @param {number} options.width values per frame
   * @param {number} options.frameRateHz
   * @param {number} [options.capacityFrames] three seconds' worth where left out
   * @param {Float32Array | null} [options.shown] (width,), what is on the screen before the first frame
   */
  constructor({ width, frameRateHz, capacityFrames = Math.ceil(3 * frameRateHz), shown = null }) {
    this.width = width;
    this.frameRateHz = frameRateHz;
    this.capacityFrames = capacityFrames;
    /** Frames that never came, by gaps in their numbers. */
    this.dropped = 0;
    /** Frames that came after their instant had been shown. */
    this.late = 0;
    this.received = 0;
    /** The epoch being shown, -1 before the first frame. */
    this.epoch = -1;
    /** Index of the frame last shown (the earlier of the two that it lay between), -1 before the first. */
    this.shownFrame = -1;
    /** The server's clock when that frame was emitted. */
    this.shownEmitS = Number.NaN;

    this.values = new Float32Array(width * capacityFrames);
    this.indices = new Int32Array(capacityFrames).fill(-1);
    this.emits = new Float64Array(capacityFrames);
    this.oldest = -1;
    this.newest = -1;

    this.offsetS = Number.NaN;
    this.lastNowS = Number.NaN;
    this.lastPtsS = Number.NEGATIVE_INFINITY;
    this.jitterS = FIRST_ALLOWANCE_S;
    this.observed = new Float64Array(OBSERVATIONS);
    this.sorted = new Float64Array(OBSERVATIONS);
    this.observations = 0;
    this.usualOffsetS = Number.NaN;
    /** The outage's first message, or the first since lateness fell: when it came and its offset. */
    this.outageSinceS = Number.NaN;
    this.outageOffsetS = Number.NaN;

    this.shown = new Float32Array(width);
    this.hasShown = shown?.length === width;
    if (shown && this.hasShown) this.shown.set(shown);
    this.easeFrom = new Float32Array(width);
    this.easeUntilPtsS = Number.NEGATIVE_INFINITY;
  }

  /**
   * Takes one frames message.
   * @param {import('./wire-types.js').Frames} frames
   * @param {number} nowS when it arrived, on the caller's monotonic clock
   */
  push(frames, nowS) {
    if (frames.width !== this.width || frames.count === 0 || frames.epoch < this.epoch) return;
    const newEpoch = frames.epoch !== this.epoch;
    if (newEpoch) this.#beginEpoch(frames.epoch);
    if (this.#isUsual(nowS - frames.ptsS, nowS)) this.#observe(nowS - frames.ptsS);
    if (newEpoch) this.#anchor(frames.ptsS);
    for (let i = 0; i < frames.count; i++) this.#store(frames, i);
  }

  /**
   * The instant to show, on the stream's audio clock; advances with `nowS`.
   * @param {number} nowS the clock that `push` was given
   * @returns {number} seconds, NaN before the first frame
   */
  playout(nowS) {
    const sinceS = nowS - this.lastNowS || 0;
    const elapsedS = Math.min(Math.max(sinceS, 0), 0.25);
    this.lastNowS = nowS;
    const wrongS = this.#neededOffsetS() - this.offsetS;
    const jumps = Math.abs(wrongS) > JUMP_S;
    if (jumps) this.offsetS += wrongS;
    else this.offsetS += Math.min(Math.max(wrongS, -FASTER * elapsedS), SLOWER * elapsedS);
    if (jumps || sinceS > JUMP_S) this.#easeFrom(nowS - this.offsetS);
    return nowS - this.offsetS;
  }

  /**
   * The face at an instant of the stream's audio clock.
   * @param {number} ptsS from `playout`, or the instant that a loudspeaker is playing
   * @param {Float32Array} out (width,), written in place
   * @returns {boolean} whether there was anything to show
   */
  at(ptsS, out) {
    if (this.newest < 0 || Number.isNaN(ptsS)) return false;
    this.lastPtsS = ptsS;
    const position = ptsS * this.frameRateHz;
    let before = Math.min(Math.floor(position), this.newest);
    while (before >= this.oldest && !this.#has(before)) before--;
    if (before < this.oldest) before = this.oldest;
    let after = Math.min(before + 1, this.newest);
    while (after < this.newest && !this.#has(after)) after++;
    const share = after > before ? Math.min(Math.max((position - before) / (after - before), 0), 1) : 0;
    const a = (before % this.capacityFrames) * this.width;
    const b = (after % this.capacityFrames) * this.width;
    for (let i = 0; i < this.width; i++) {
      const value = this.values[a + i];
      out[i] = value + share * (this.values[b + i] - value);
    }
    if (ptsS < this.easeUntilPtsS) this.#ease(ptsS, out);
    this.shown.set(out);
    this.hasShown = true;
    this.shownFrame = before;
    this.shownEmitS = this.emits[before % this.capacityFrames];
    return true;
  }

  /** The instant that is really on the screen: `at`'s, but never past the newest frame. NaN before the first. */
  get shownPtsS() {
    return this.newest < 0 ? Number.NaN : Math.min(this.lastPtsS, this.newest / this.frameRateHz);
  }

  /** How long the newest frame's successor may take until playout runs dry, in seconds. */
  get marginS() {
    return this.newest / this.frameRateHz - this.lastPtsS;
  }

  /** @param {number} index */
  #has(index) {
    return this.indices[index % this.capacityFrames] === index;
  }

  /** @param {number} epoch */
  #beginEpoch(epoch) {
    this.epoch = epoch;
    this.indices.fill(-1);
    this.oldest = -1;
    this.newest = -1;
    this.observations = 0;
    this.outageSinceS = Number.NaN;
    this.lastPtsS = Number.NEGATIVE_INFINITY;
  }

  /** Starts an epoch's playout at its first frame. @param {number} firstPtsS */
  #anchor(firstPtsS) {
    this.offsetS = this.#neededOffsetS();
    this.#easeFrom(firstPtsS);
  }

  /** Lets the next values ease in from what is on the screen. @param {number} ptsS from when on */
  #easeFrom(ptsS) {
    this.easeUntilPtsS = Number.NEGATIVE_INFINITY;
    if (!this.hasShown || Number.isNaN(ptsS)) return;
    this.easeFrom.set(this.shown);
    this.easeUntilPtsS = ptsS + EASE_S;
  }

  /** @param {number} ptsS @param {Float32Array} out */
  #ease(ptsS, out) {
    const share = Math.min(Math.max(1 - (this.easeUntilPtsS - ptsS) / EASE_S, 0), 1);
    for (let i = 0; i < this.width; i++) {
      out[i] = this.easeFrom[i] + share * (out[i] - this.easeFrom[i]);
    }
  }

  /**
   * Whether a message says something about the network's jitter (rule 5); forgets what no longer holds.
   * @param {number} offsetS arrival minus pts of its first frame @param {number} nowS
   */
  #isUsual(offsetS, nowS) {
    if (this.observations === 0) return true;
    const lateS = offsetS - this.usualOffsetS;
    if (lateS <= (Number.isNaN(this.outageSinceS) ? JUMP_S : OVER_S)) {
      this.outageSinceS = Number.NaN;
      if (lateS < -JUMP_S) this.observations = 0; // far fresher than all before: those were the outage
      return true;
    }
    if (Number.isNaN(this.outageSinceS) || offsetS < this.outageOffsetS - FALLING_S) {
      this.outageSinceS = nowS;
      this.outageOffsetS = offsetS;
    }
    if (nowS - this.outageSinceS < PATIENCE_S) return false;
    this.outageSinceS = Number.NaN;
    this.observations = 0; // it lasts: the stream's clock is another one
    return true;
  }

  /** @param {number} offsetS arrival minus pts of a message's first frame */
  #observe(offsetS) {
    this.observed[this.observations % OBSERVATIONS] = offsetS;
    this.observations++;
    const count = Math.min(this.observations, OBSERVATIONS);
    const sorted = count === OBSERVATIONS ? this.sorted : this.sorted.subarray(0, count);
    for (let i = 0; i < count; i++) sorted[i] = this.observed[i];
    sorted.sort();
    this.usualOffsetS = sorted[Math.min(count - 1, Math.floor(0.95 * count))];
    // The guess for a new stream's jitter is what the last one showed.
    if (count >= 16) this.jitterS = this.usualOffsetS - sorted[0];
    else this.usualOffsetS = Math.max(this.usualOffsetS, sorted[0] + this.jitterS);
  }

  #neededOffsetS() {
    return this.usualOffsetS + 1 / this.frameRateHz + MARGIN_S;
  }

  /** @param {import('./wire-types.js').Frames} frames @param {number} i */
  #store(frames, i) {
    const index = frames.firstFrame + i;
    if (index <= this.newest) return; // frames are sent once, in order
    if (this.newest >= 0) this.dropped += index - this.newest - 1;
    this.received++;
    if (index / this.frameRateHz < this.lastPtsS) this.late++;
    const slot = index % this.capacityFrames;
    this.indices[slot] = index;
    this.emits[slot] = frames.emitTimeS;
    const start = slot * this.width;
    const source = i * this.width;
    for (let k = 0; k < this.width; k++) this.values[start + k] = frames.values[source + k];
    this.newest = index;
    if (this.oldest < 0) this.oldest = index;
    this.oldest = Math.max(this.oldest, index - this.capacityFrames + 1);
    while (!this.#has(this.oldest)) this.oldest++;
  }
}
