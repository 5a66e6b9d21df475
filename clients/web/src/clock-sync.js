/**
 * How the server's clock relates to ours, from questions and answers. Pure: time is passed in.
 *
 * An answer that took `rtt` seconds bounds the difference to ± rtt / 2, so the quickest recent answer is the
 * truest one (the min-RTT filter). The last 16 are remembered, so that two drifting clocks are followed.
 */

const REMEMBERED = 16;

export class ClockSync {
  constructor() {
    this.rtts = new Float64Array(REMEMBERED);
    this.differences = new Float64Array(REMEMBERED);
    this.count = 0;
    /** The quickest recent round trip, seconds; NaN before the first answer. */
    this.rttS = Number.NaN;
    /** Server's clock minus ours, seconds; NaN before the first answer. */
    this.differenceS = Number.NaN;
  }

  /**
   * @param {number} askedS our clock when the question was sent
   * @param {number} serverS the server's clock as it answered
   * @param {number} answeredS our clock when the answer came
   */
  observe(askedS, serverS, answeredS) {
    const rtt = answeredS - askedS;
    if (!(rtt >= 0)) return;
    const slot = this.count % REMEMBERED;
    this.rtts[slot] = rtt;
    this.differences[slot] = serverS - (askedS + answeredS) / 2;
    this.count++;
    let best = 0;
    for (let i = 1; i < Math.min(this.count, REMEMBERED); i++) if (this.rtts[i] < this.rtts[best]) best = i;
    this.rttS = this.rtts[best];
    this.differenceS = this.differences[best];
  }

  /** @param {number} nowS our clock @returns {number} the server's clock then, NaN before the first answer */
  serverTimeS(nowS) {
    return nowS + this.differenceS;
  }
}
