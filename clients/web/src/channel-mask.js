/**
 * Which channels of a stream reach the face: all, or a chosen few. Pure.
 *
 * Where a camera drives the brows and a voice the mouth, the voice's stream is masked to the mouth. What is
 * masked is not set to zero but left out, so that it belongs to whoever else drives it. Nothing is allocated
 * per frame.
 */

export class ChannelMask {
  constructor() {
    /** The channels that pass, null for all. @type {ReadonlySet<string> | null} */
    this.only = null;
    /** @type {readonly string[] | null} */
    this.of = null;
    /** What passed, after `read`. @type {readonly string[]} */
    this.names = [];
    this.values = new Float32Array(0);
    this.slots = new Int16Array(0);
  }

  /** @param {Iterable<string> | null} only null lets everything pass */
  set(only) {
    this.only = only && new Set(only);
    this.of = null;
  }

  /** @param {string} channel */
  passes(channel) {
    return this.only === null || this.only.has(channel);
  }

  /**
   * Leaves `names` and `values` of what passes on this object.
   * @param {readonly string[]} names keep the array, not a copy per frame
   * @param {ArrayLike<number>} values by `names`
   */
  read(names, values) {
    if (names !== this.of) {
      this.of = names;
      this.names = names.filter((name) => this.passes(name));
      this.slots = Int16Array.from(this.names, (name) => names.indexOf(name));
      this.values = new Float32Array(this.slots.length);
    }
    for (let i = 0; i < this.slots.length; i++) this.values[i] = values[this.slots[i]];
  }
}
