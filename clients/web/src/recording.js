/**
 * A recording: a stream's frames as they came, to be kept as a file.
 *
 * It takes every frame once, in order, also those that a busy page never drew; a channel that the mask held back
 * is written as 0. Time runs on: a new epoch, or a new connection, begins where the one before ended. At most
 * half an hour is kept; what comes after is counted and left out.
 *
 * The CSV is that of `diffspeaker animate`: a header `time_s,<52 ARKit names>`, one row per frame, six decimals.
 */

import { ARKIT } from './avatar/channels.js';

const LONGEST_S = 30 * 60;

export class Recording {
  constructor() {
    /** Seconds from the recording's first frame. @type {number[]} */
    this.times = [];
    /** (52,) each, in ARKit's order. @type {Float32Array[]} */
    this.rows = [];
    /** Frames that no longer fitted. */
    this.leftOut = 0;
    this.session = '';
    this.epoch = -1;
    this.startS = 0; // the recording's time at the epoch's pts 0
    this.frameS = 0;
  }

  get seconds() {
    return this.rows.length ? this.times[this.times.length - 1] + this.frameS : 0;
  }

  /**
   * @param {import('./wire-types.js').Frames} frames of coefficients; vertices are ignored
   * @param {import('./wire-types.js').Welcome} welcome of their connection
   * @param {import('./channel-mask.js').ChannelMask} [mask]
   */
  push(frames, welcome, mask) {
    if (frames.kind !== 'coefficients') return;
    if (welcome.session !== this.session || frames.epoch !== this.epoch) {
      this.startS = this.seconds - frames.ptsS;
      this.session = welcome.session;
      this.epoch = frames.epoch;
    }
    this.frameS = 1 / welcome.frame_rate_hz;
    const slots = welcome.channels.map((name) => (mask && !mask.passes(name) ? -1 : ARKIT.indexOf(name)));
    for (let i = 0; i < frames.count; i++) {
      const timeS = this.startS + frames.ptsS + i * this.frameS;
      if (timeS > LONGEST_S) {
        this.leftOut++;
        continue;
      }
      const row = new Float32Array(ARKIT.length);
      for (let k = 0; k < slots.length; k++)
        if (slots[k] >= 0) row[slots[k]] = frames.values[i * frames.width + k];
      this.times.push(timeS);
      this.rows.push(row);
    }
  }

  /** @returns {string} */
  toCsv() {
    const lines = [['time_s', ...ARKIT].join(',')];
    for (const [i, row] of this.rows.entries()) {
      lines.push([this.times[i], ...row].map((value) => value.toFixed(6)).join(','));
    }
    return `${lines.join('\n')}\n`;
  }
}
