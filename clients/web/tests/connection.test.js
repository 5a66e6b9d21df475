/** The connection against a socket and a clock that the test owns: no network, no sleeping. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ClockSync } from '../src/clock-sync.js';
import { Connection } from '../src/connection.js';

const WELCOME = JSON.stringify({
  ...{ type: 'welcome', version: 1, session: 's', stream: 'a', role: 'converse', epoch: 0, bundle: 'b' },
  ...{ kind: 'coefficients', dtype: 'f32', width: 1, scale: 1, channels: ['jawOpen'], unit: 'coefficient' },
  ...{ frame_rate_hz: 30, sample_rate_hz: 16000, hop_ms: 66, lookahead_ms: 80, face_delay_ms: 160 },
  ...{ styles: [], style_scales: [], style: {}, received_samples: 0, server_time_s: 500 },
});

/** A socket whose other end is the test. */
class FakeSocket {
  constructor(/** @type {string} */ url, /** @type {string} */ protocol) {
    Object.assign(this, { url, protocol, readyState: 0, bufferedAmount: 0, binaryType: 'blob' });
    /** @type {any[]} */
    this.sent = [];
    /** @type {any} */
    this.onopen = this.onmessage = this.onclose = null;
  }
  send(/** @type {any} */ message) {
    this.sent.push(message);
  }
  close(/** @type {number} */ code) {
    this.closedWith = code;
    this.drop();
  }
  accept() {
    this.readyState = 1;
    this.onopen?.();
  }
  say(/** @type {any} */ message) {
    this.onmessage?.({ data: message });
  }
  drop() {
    this.readyState = 3;
    this.onclose?.();
  }
  types() {
    return this.sent.map((message) => (typeof message === 'string' ? JSON.parse(message).type : 'audio'));
  }
}

/** A connection, its sockets, and a hand on its clock. */
function world(hello = {}) {
  const sockets = /** @type {any[]} */ ([]);
  const events = /** @type {any[]} */ ([]);
  let timers = /** @type {any[]} */ ([]);
  const state = { nowS: 0, random: 0 };
  const io = {
    open: (/** @type {string} */ url, /** @type {string} */ protocol) => {
      sockets.push(new FakeSocket(url, protocol));
      return sockets.at(-1);
    },
    later: (/** @type {() => void} */ callback, /** @type {number} */ delayS) => {
      const timer = { callback, atS: state.nowS + delayS };
      timers.push(timer);
      return timer;
    },
    cancel: (/** @type {any} */ timer) => {
      timers = timers.filter((other) => other !== timer);
    },
    nowS: () => state.nowS,
    random: () => state.random,
  };
  const audio = { encoding: 's16', sample_rate_hz: 16000, channels: 1 };
  const connection = new Connection({
    url: () => `ws://h/v1/streams/page-${sockets.length}`,
    hello: () => /** @type {any} */ ({ role: 'converse', audio, ...hello }),
    io: /** @type {any} */ (io),
  });
  for (const type of ['state', 'welcome', 'frames', 'ended', 'interrupted', 'fault', 'stats']) {
    connection.addEventListener(type, (event) => {
      const { detail } = /** @type {any} */ (event);
      events.push(type === 'state' ? `state ${detail.state}` : type);
    });
  }
  const pass = (/** @type {number} */ seconds) => {
    const untilS = state.nowS + seconds;
    for (;;) {
      timers.sort((a, b) => a.atS - b.atS);
      if (!timers.length || timers[0].atS > untilS) break;
      const timer = timers.shift();
      state.nowS = timer.atS;
      timer.callback();
    }
    state.nowS = untilS;
  };
  const open = () => {
    connection.start();
    sockets.at(-1).accept();
    sockets.at(-1).say(WELCOME);
    return sockets.at(-1);
  };
  return { connection, sockets, events, state, pass, open };
}

const error = (/** @type {string} */ code) =>
  JSON.stringify({ type: 'error', code, message: 'No.', hint: 'Do.' });

describe('greeting', () => {
  test('it offers the subprotocol, says hello first, and is open once welcomed', () => {
    const { connection, sockets, events, open } = world();
    open();
    assert.equal(sockets[0].protocol, 'diffspeaker.v1');
    assert.equal(sockets[0].binaryType, 'arraybuffer');
    assert.deepEqual(sockets[0].types(), ['hello', 'clock']);
    assert.deepEqual(events, ['state connecting', 'state open', 'welcome']);
    assert.equal(connection.welcome?.face_delay_ms, 160);
  });

  test('no audio leaves before the welcome', () => {
    const { connection, sockets } = world();
    connection.start();
    sockets[0].accept();
    assert.equal(connection.sendAudio(new ArrayBuffer(8)), false);
    sockets[0].say(WELCOME);
    assert.equal(connection.sendAudio(new ArrayBuffer(8)), true);
    assert.deepEqual(sockets[0].types(), ['hello', 'clock', 'audio']);
  });

  test('audio is not piled up in a socket that does not drain', () => {
    const { connection, open } = world();
    const socket = open();
    socket.bufferedAmount = 32001; // a second of s16 at 16 kHz
    assert.equal(connection.sendAudio(new ArrayBuffer(8)), false);
    assert.equal(connection.unsentChunks, 1);
  });
});

describe('coming back', () => {
  test('a lost connection is retried ever more slowly, up to five seconds', () => {
    const { connection, sockets, pass } = world();
    connection.start();
    const waits = /** @type {number[]} */ ([]);
    connection.addEventListener('state', (event) => {
      const { state, retryInS } = /** @type {any} */ (event).detail;
      if (state === 'waiting') waits.push(retryInS);
    });
    for (let i = 0; i < 8; i++) {
      sockets.at(-1).drop();
      pass(waits[i] - 0.001);
      assert.equal(sockets.length, i + 1);
      pass(0.002);
      assert.equal(sockets.length, i + 2);
    }
    assert.deepEqual(waits, [0.25, 0.5, 1, 2, 4, 5, 5, 5]);
  });

  test('chance halves the wait at most', () => {
    const { connection, sockets, pass, state } = world();
    state.random = 0.999;
    connection.start();
    sockets[0].drop();
    pass(0.12);
    assert.equal(sockets.length, 1);
    pass(0.02);
    assert.equal(sockets.length, 2);
  });

  test('a connection that worked starts the count anew', () => {
    const { sockets, pass, open } = world();
    open();
    for (let i = 0; i < 4; i++) {
      sockets.at(-1).drop();
      pass(5);
    }
    sockets.at(-1).accept();
    sockets.at(-1).say(WELCOME);
    sockets.at(-1).say('{"type":"stats","dropped_frames":0,"late_windows":0,"frames":1,"queue_ms":0}');
    sockets.at(-1).drop();
    const before = sockets.length;
    pass(0.26);
    assert.equal(sockets.length, before + 1);
  });

  test('a speaker asks to go on where it was lost, under the same name, and learns how long it took', () => {
    const { connection, sockets, state, pass, open } = world();
    const socket = open();
    assert.equal(JSON.parse(socket.sent[0]).resume, undefined);
    socket.drop();
    pass(0.3);
    sockets.at(-1).drop(); // nothing answers yet
    pass(1.2);
    sockets.at(-1).accept();
    assert.equal(sockets.at(-1).url, socket.url);
    assert.equal(JSON.parse(sockets.at(-1).sent[0]).resume, 's');
    state.nowS = 2;
    sockets.at(-1).say(WELCOME);
    assert.equal(connection.awayS, 2);
    assert.equal(connection.session, 's');
  });

  test('a watcher, and a speaker who ended or was refused, begin anew', () => {
    for (const [role, last] of [
      ['watch', ''],
      ['converse', '{"type":"ended","epoch":0,"frames":3,"audio_s":0.1}'],
      ['converse', error('at_capacity')],
    ]) {
      const { connection, sockets, pass, open } = world({ role });
      const socket = open();
      if (last.includes('ended')) connection.end();
      if (last) socket.say(last);
      socket.drop();
      pass(5);
      sockets.at(-1).accept();
      assert.equal(JSON.parse(sockets.at(-1).sent[0]).resume, undefined);
    }
  });

  test('after its own end it comes back at once, under the next name', () => {
    const { connection, sockets, events, open } = world();
    const socket = open();
    connection.end();
    assert.equal(socket.types().at(-1), 'end');
    socket.say('{"type":"ended","epoch":0,"frames":3,"audio_s":0.1}');
    socket.drop();
    assert.equal(sockets.length, 2);
    assert.notEqual(sockets[1].url, socket.url);
    assert.deepEqual(events.slice(-2), ['ended', 'state connecting']);
  });

  test('a stream that somebody else ended is waited for, not hammered', () => {
    const { connection, sockets, open } = world({ role: 'watch', audio: undefined });
    const socket = open();
    socket.say('{"type":"ended","epoch":0,"frames":3,"audio_s":0.1}');
    socket.drop();
    assert.deepEqual([sockets.length, connection.state], [1, 'waiting']);
  });

  test('restart leaves the old socket and greets on a new one', () => {
    const { connection, sockets, open } = world();
    const socket = open();
    connection.restart();
    assert.equal(socket.closedWith, 1000);
    assert.equal(sockets.length, 2);
    assert.equal(connection.state, 'connecting');
  });

  test('ten silent seconds mean that the connection is dead', () => {
    const { connection, sockets, pass, open } = world();
    open();
    pass(9);
    assert.equal(connection.state, 'open');
    pass(4);
    assert.notEqual(connection.state, 'open');
    assert.equal(sockets[0].closedWith, 1000);
  });

  test('after stop nothing happens any more', () => {
    const { connection, sockets, pass, open } = world();
    open();
    connection.stop();
    pass(60);
    assert.deepEqual([sockets.length, connection.state], [1, 'stopped']);
  });
});

describe('errors', () => {
  test('one that asking again would not mend ends the tries, until start', () => {
    const { connection, sockets, events, pass } = world();
    connection.start();
    sockets[0].accept();
    sockets[0].say(error('unauthorized'));
    sockets[0].drop();
    pass(60);
    assert.deepEqual([sockets.length, connection.state], [1, 'failed']);
    assert.ok(events.includes('fault'));
    connection.start();
    assert.equal(sockets.length, 2);
  });

  test('one that passes is waited out', () => {
    const { connection, sockets, pass } = world();
    connection.start();
    for (const code of ['unknown_stream', 'stream_taken', 'at_capacity', 'shutting_down', 'internal']) {
      const socket = sockets.at(-1);
      socket.accept();
      socket.say(error(code));
      socket.drop();
      assert.equal(connection.state, 'waiting');
      pass(5);
    }
    assert.equal(sockets.length, 6);
  });

  test('a message that breaks the protocol is a fault with a hint', () => {
    const { connection, open } = world();
    /** @type {any} */
    let fault;
    connection.addEventListener('fault', (event) => {
      fault = /** @type {any} */ (event).detail;
    });
    open().say('{"type":"wave"}');
    assert.equal(fault.code, 'unknown_type');
    assert.match(fault.hint, /reload/);
  });
});

describe('the clock', () => {
  test('it is asked every two seconds', () => {
    const { sockets, pass, open } = world();
    const socket = open();
    for (let i = 0; i < 5; i++) {
      pass(2);
      const asked = JSON.parse(socket.sent.at(-1));
      socket.say(JSON.stringify({ ...asked, server_time_s: 500 + asked.client_time_s }));
    }
    assert.equal(sockets[0].types().filter((/** @type {string} */ type) => type === 'clock').length, 6);
  });

  test('the quickest answer is believed', () => {
    const clock = new ClockSync();
    assert.ok(Number.isNaN(clock.serverTimeS(1)));
    clock.observe(10, 110.4, 10.5); // the answer came back slowly
    clock.observe(20, 120.005, 20.01);
    clock.observe(30, 130.02, 30.2); // the question went slowly
    assert.ok(Math.abs(clock.serverTimeS(40) - 140) < 1e-9);
    assert.ok(Math.abs(clock.rttS - 0.01) < 1e-9);
  });
});
