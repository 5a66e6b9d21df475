/**
 * The face while nobody speaks and no stream is shown: it eases to rest from wherever it was left, and blinks.
 *
 * This is the only motion that the page invents, and it stops with the first frame of a stream. Someone who
 * asked for reduced motion gets a still face.
 */

const EASE_S = 0.09; // time constant
const BLINK_S = 0.22;
const CLOSING = 0.35; // the share of a blink that the lid takes to fall

export class RestFace {
  /**
   * @param {readonly string[]} channels the avatar's names
   * @param {{blinks?: boolean, random?: () => number}} [options]
   */
  constructor(channels, { blinks = true, random = Math.random } = {}) {
    this.channels = channels;
    this.values = new Float32Array(channels.length);
    this.eased = new Float32Array(channels.length);
    this.lids = ['eyeBlinkLeft', 'eyeBlinkRight'].map((name) => channels.indexOf(name)).filter((i) => i >= 0);
    this.blinks = blinks;
    this.random = random;
    this.blinkS = 1.2; // the next blink begins when this much time has passed
  }

  /**
   * Begins where a stream left off.
   * @param {readonly string[]} names @param {Float32Array} values
   */
  leave(names, values) {
    this.eased.fill(0);
    for (let i = 0; i < names.length; i++) {
      const slot = this.channels.indexOf(names[i]);
      if (slot >= 0) this.eased[slot] = values[i];
    }
    this.blinkS = 1 + 2 * this.random();
  }

  /** @param {number} elapsedS since the last step @returns {Float32Array} by `channels`, reused */
  step(elapsedS) {
    const keep = Math.exp(-elapsedS / EASE_S);
    for (let i = 0; i < this.eased.length; i++) {
      this.eased[i] *= keep;
      this.values[i] = this.eased[i];
    }
    if (!this.blinks) return this.values;
    this.blinkS -= elapsedS;
    const share = -this.blinkS / BLINK_S;
    if (share >= 1) this.blinkS = 2 + 4 * this.random();
    else if (share > 0) {
      const shut = share < CLOSING ? share / CLOSING : (1 - share) / (1 - CLOSING);
      for (const lid of this.lids)
        this.values[lid] = Math.max(this.values[lid], shut * shut * (3 - 2 * shut));
    }
    return this.values;
  }
}
