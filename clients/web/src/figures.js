/** The page's own measurements: a ring for percentiles, a counter for rates. Nothing is allocated to record. */

export class Percentiles {
  /** @param {number} [size] how many of the last values count */
  constructor(size = 256) {
    this.ring = new Float64Array(size);
    this.sorted = new Float64Array(size);
    this.count = 0;
  }

  /** @param {number} value */
  add(value) {
    if (Number.isNaN(value)) return;
    this.ring[this.count % this.ring.length] = value;
    this.count++;
  }

  clear() {
    this.count = 0;
  }

  /** @param {number} share in [0, 1] @returns {number} NaN while empty */
  at(share) {
    const count = Math.min(this.count, this.ring.length);
    if (count === 0) return Number.NaN;
    this.sorted.set(this.ring);
    const sorted = this.sorted.subarray(0, count).sort();
    return sorted[Math.min(count - 1, Math.floor(share * count))];
  }
}

/** How often something happens, per second, between two readings. */
export class Rate {
  constructor() {
    this.count = 0;
    this.sinceS = Number.NaN;
  }

  add(count = 1) {
    this.count += count;
  }

  /** @param {number} nowS @returns {number} per second since the last reading; NaN at the first */
  read(nowS) {
    const rate = this.count / (nowS - this.sinceS);
    this.count = 0;
    this.sinceS = nowS;
    return rate;
  }
}
