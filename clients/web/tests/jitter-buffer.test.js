/** The jitter buffer against made-up networks: no clock, no sleeping, every instant is passed in. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { JitterBuffer } from '../src/jitter-buffer.js';

const RATE = 30;

/**
 * A frames message whose one channel says its own time: value = pts × 10.
 * @param {number} firstFrame @param {number} count @param {object} [fields]
 * @returns {any}
 */
function message(firstFrame, count, fields = {}) {
  const values = Float32Array.from({ length: count }, (_, i) => (10 * (firstFrame + i)) / RATE);
  const ptsS = firstFrame / RATE;
  return { values, width: 1, count, epoch: 0, seq: 0, firstFrame, ptsS, emitTimeS: 100 + ptsS, ...fields };
}

/** A repeatable chance in [0, 1). */
function chance(seed = 1) {
  let state = seed;
  return () => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return state / 2147483648;
  };
}

const near = (/** @type {number} */ a, /** @type {number} */ b, /** @type {number} */ within = 1e-5) =>
  assert.ok(Math.abs(a - b) <= within, `${a} is not within ${within} of ${b}`);

/** A buffer with frames 0 to 5, the first at the clock's 50 s. */
function filled() {
  const buffer = new JitterBuffer({ width: 1, frameRateHz: RATE });
  buffer.push(message(0, 6), 50);
  return buffer;
}

describe('values', () => {
  const out = new Float32Array(1);

  test('nothing is shown before the first frame', () => {
    const buffer = new JitterBuffer({ width: 1, frameRateHz: RATE });
    assert.ok(Number.isNaN(buffer.playout(1)));
    assert.equal(buffer.at(buffer.playout(2), out), false);
  });

  test('between two frames they are linear', () => {
    const buffer = filled();
    for (const ptsS of [0, 0.01, 1 / 30, 0.05, 0.1, 4.5 / 30]) {
      assert.ok(buffer.at(ptsS, out));
      near(out[0], 10 * ptsS);
    }
  });

  test('after the newest frame they are held, before the first they are the first', () => {
    const buffer = filled();
    buffer.at(9, out);
    near(out[0], 50 / RATE);
    buffer.at(-1, out);
    assert.equal(out[0], 0);
  });

  test('a gap is crossed in a straight line and counted as dropped', () => {
    const buffer = filled();
    buffer.push(message(10, 2), 50.33);
    assert.equal(buffer.dropped, 4);
    buffer.at(7.5 / RATE, out);
    near(out[0], 75 / RATE);
  });

  test('a watcher who comes in the middle has missed nothing', () => {
    const buffer = new JitterBuffer({ width: 1, frameRateHz: RATE });
    buffer.push(message(900, 2), 50);
    assert.equal(buffer.dropped, 0);
  });

  test('the ring is bounded: the oldest frames give way', () => {
    const buffer = new JitterBuffer({ width: 1, frameRateHz: RATE, capacityFrames: 8 });
    for (let i = 0; i < 100; i++) buffer.push(message(2 * i, 2), 50 + i / 15);
    assert.equal(buffer.values.length, 8);
    buffer.at(0, out);
    near(out[0], 1920 / RATE);
    buffer.at(199 / RATE, out);
    near(out[0], 1990 / RATE, 1e-4);
  });

  test('a message of another width, an older epoch or no frames changes nothing', () => {
    const buffer = filled();
    buffer.push(message(0, 3, { epoch: 1 }), 51);
    buffer.push(message(6, 3), 51.1);
    buffer.push(message(3, 0, { epoch: 1 }), 51.1);
    buffer.push(message(3, 1, { epoch: 1, width: 2, values: new Float32Array(2) }), 51.1);
    assert.deepEqual([buffer.epoch, buffer.newest], [1, 2]);
  });

  test('frames that come after their instant was shown are counted as late', () => {
    const buffer = filled();
    buffer.at(8 / RATE, out);
    buffer.push(message(6, 4), 51);
    assert.equal(buffer.late, 2);
  });

  test('the emit time is that of the frame being shown', () => {
    const buffer = filled();
    buffer.at(3.5 / RATE, out);
    assert.deepEqual([buffer.shownFrame, buffer.shownEmitS], [3, 100 + 0]);
    buffer.push(message(6, 2), 50.2);
    buffer.at(6.1 / RATE, out);
    assert.deepEqual([buffer.shownFrame, buffer.shownEmitS], [6, 100 + 6 / RATE]);
  });
});

/**
 * Plays a made-up network: two frames per message at 15 Hz, each message `delay(i)` late, drawn at `drawHz`.
 * @param {(i: number) => number} delay seconds
 * @param {{messages?: number, drawHz?: number}} [options]
 */
function play(delay, { messages = 450, drawHz = 60 } = {}) {
  const buffer = new JitterBuffer({ width: 1, frameRateHz: RATE });
  const out = new Float32Array(1);
  const arrivals = Array.from({ length: messages }, (_, i) => ({ i, atS: 1000 + i / 15 + delay(i) }));
  for (let k = 1; k < messages; k++) arrivals[k].atS = Math.max(arrivals[k].atS, arrivals[k - 1].atS); // TCP
  const drawn = [];
  for (let nowS = 1000; arrivals.length; nowS += 1 / drawHz) {
    while (arrivals.length && arrivals[0].atS <= nowS) {
      const { i, atS } = /** @type {any} */ (arrivals.shift());
      buffer.push(message(2 * i, 2), atS);
    }
    const ptsS = buffer.playout(nowS);
    if (buffer.at(ptsS, out)) drawn.push({ nowS, ptsS, behindS: nowS - 1000 - ptsS, value: out[0] });
  }
  return { buffer, drawn };
}

describe('playout', () => {
  test('on a perfect network every frame is in time and the delay stays under 80 ms', () => {
    const { buffer, drawn } = play(() => 0);
    assert.equal(buffer.late, 0);
    assert.ok(drawn.every(({ behindS }) => behindS < 0.08));
    for (const { ptsS, value } of drawn.slice(30)) near(value, 10 * Math.max(ptsS, 0), 1e-4);
  });

  test('it never runs backward, and never faster or slower than the rule', () => {
    const random = chance();
    const { drawn } = play((i) => random() * (i > 200 ? 0.15 : 0.02));
    for (let i = 1; i < drawn.length; i++) {
      const speed = (drawn[i].ptsS - drawn[i - 1].ptsS) / (drawn[i].nowS - drawn[i - 1].nowS);
      assert.ok(speed > 0.84 && speed < 1.06, `speed ${speed}`);
    }
  });

  test('it grows to cover jitter, then almost no frame is late', () => {
    const random = chance(7);
    const { buffer, drawn } = play(() => random() * 0.1, { messages: 900 });
    const { behindS } = /** @type {any} */ (drawn.at(-1));
    assert.ok(behindS > 0.11 && behindS < 0.16, `behind ${behindS}`);
    assert.ok(buffer.late < 0.03 * buffer.received, `${buffer.late} of ${buffer.received} late`);
  });

  test('it comes back when the network has calmed', () => {
    const random = chance(3);
    const { drawn } = play((i) => (i < 150 ? random() * 0.12 : 0), { messages: 450 });
    const { behindS } = /** @type {any} */ (drawn.at(-1));
    assert.ok(behindS < 0.06, `behind ${behindS}`);
  });

  test('it survives a page that draws five times a second', () => {
    const { buffer, drawn } = play(() => 0, { drawHz: 5 });
    assert.equal(buffer.late, 0);
    near(/** @type {any} */ (drawn.at(-1)).behindS, 0.04, 0.03);
  });

  test('a clock that drifts by 0.1 % is followed', () => {
    const { buffer, drawn } = play((i) => i * 6.7e-5, { messages: 3000 });
    assert.equal(buffer.late, 0);
    near(/** @type {any} */ (drawn.at(-1)).behindS, 0.2 + 0.037, 0.03);
  });

  test('after a stall of seconds it jumps to the present instead of creeping there', () => {
    const { drawn } = play((i) => (i >= 150 ? 3 : 0), { messages: 300 });
    near(/** @type {any} */ (drawn.at(-1)).behindS, 3.04, 0.03);
  });
});

describe('a tab that was frozen', () => {
  /** Live until 1010 s, then nothing is taken until `resumeS`, when all that queued up comes at once. */
  function freeze(/** @type {number} */ forS) {
    const buffer = new JitterBuffer({ width: 1, frameRateHz: RATE });
    const out = new Float32Array(1);
    const live = (/** @type {number} */ i) => 1000 + i / 15;
    let i = 0;
    const until = (/** @type {number} */ nowS) => {
      for (; live(i) <= nowS; i++) buffer.push(message(2 * i, 2), Math.max(live(i), nowS - 0.002));
    };
    const draw = (/** @type {number} */ nowS) => {
      const ptsS = buffer.playout(nowS);
      buffer.at(ptsS, out);
      return { nowS, value: out[0], behindS: nowS - 1000 - ptsS, shownS: buffer.shownPtsS };
    };
    for (let nowS = 1000.1; nowS < 1010; nowS += 1 / 60) {
      until(nowS);
      draw(nowS);
    }
    const resumeS = 1010 + forS;
    const before = out[0];
    until(resumeS);
    const after = [];
    for (let nowS = resumeS; nowS < resumeS + 2; nowS += 1 / 60) {
      until(nowS);
      after.push(draw(nowS));
    }
    return { buffer, before, after };
  }

  for (const [words, forS] of /** @type {const} */ ([
    ['a second', 1],
    ['ten seconds', 10],
    ['an hour', 3600],
  ])) {
    test(`for ${words} shows the present from its first picture on, and replays nothing`, () => {
      const { before, after } = freeze(forS);
      for (const { behindS, nowS, shownS } of after) {
        assert.ok(behindS < 0.1, `${behindS} s behind`);
        assert.ok(nowS - 1000 - shownS < 0.15, `shows ${nowS - 1000 - shownS} s ago`);
      }
      near(after[0].value, before, 1e-3); // and eases there
      const last = /** @type {any} */ (after.at(-1));
      near(last.value, 10 * last.shownS, Math.max(1e-4, 1e-6 * last.value));
    });
  }

  test('and whose stream’s clock was shifted meanwhile follows the new clock within a second', () => {
    const { drawn } = play((i) => (i >= 150 ? 3600 : 0), { messages: 400 });
    near(/** @type {any} */ (drawn.at(-1)).behindS, 3600.04, 0.03);
  });

  test('a stream that slept and comes back to its clock is not held behind', () => {
    // A burst that takes two seconds to be taken, then real time again.
    const { drawn } = play((i) => (i >= 150 && i < 270 ? 2 + 8 * (1 - (i - 150) / 120) : 0), {
      messages: 450,
    });
    assert.ok(/** @type {any} */ (drawn.at(-1)).behindS < 0.1);
  });
});

describe('epochs', () => {
  test('a new epoch anchors its own clock at once', () => {
    const buffer = filled();
    const out = new Float32Array(1);
    buffer.at(buffer.playout(50.05), out);
    buffer.push(message(0, 2, { epoch: 1 }), 60);
    const ptsS = buffer.playout(60);
    assert.ok(ptsS > -0.1 && ptsS <= 0, `pts ${ptsS}`);
    assert.equal(buffer.dropped, 0);
    assert.equal(buffer.late, 0);
  });

  test('it eases from what was shown, without a step', () => {
    const buffer = filled();
    const out = new Float32Array(1);
    buffer.at(buffer.playout(50.2), out);
    let last = out[0];
    assert.ok(last > 1);
    const rest = { epoch: 1, values: new Float32Array(30) };
    buffer.push(message(0, 30, rest), 50.25);
    for (let nowS = 50.25; nowS < 50.6; nowS += 0.01) {
      buffer.at(buffer.playout(nowS), out);
      assert.ok(last - out[0] < 0.2 && out[0] <= last);
      last = out[0];
    }
    assert.equal(last, 0);
  });
});
