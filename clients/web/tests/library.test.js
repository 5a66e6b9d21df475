/** The library as a program meets it: its front door, a connection in one line, a face of its own. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import * as library from 'diffspeaker-live-web';
import { DelayLine } from '../src/speaker.js';

const WEB = path.resolve(import.meta.dirname, '..');

test('is imported by its name, in any program, and has what its documentation says', () => {
  const { connect, microphone, JitterBuffer, LiveFace, Avatar, Hearing, Recording } = library;
  for (const one of [connect, microphone, JitterBuffer, LiveFace, Avatar, Hearing, Recording]) {
    assert.equal(typeof one, 'function');
  }
});

test('packs into a package with every file that it imports', () => {
  const [{ files }] = JSON.parse(
    execFileSync('npm', ['pack', '--dry-run', '--json'], { cwd: WEB, encoding: 'utf8' }),
  );
  const packed = files.map((/** @type {any} */ file) => file.path);
  for (const file of [
    'src/index.js',
    'src/capture-worklet.js',
    'src/avatar/avatar.js',
    'examples/own-page.html',
  ]) {
    assert.ok(packed.includes(file), file);
  }
  assert.ok(packed.every((/** @type {string} */ file) => !/^tests|node_modules/.test(file)));
});

test('imports nothing that the wheel leaves out', () => {
  const page = readFileSync(path.join(WEB, 'index.html'), 'utf8');
  const { imports } = JSON.parse(/importmap">(.*?)<\/script>/s.exec(page)?.[1] ?? '');
  const build = readFileSync(path.resolve(WEB, '../../hatch_build.py'), 'utf8');
  /** @param {string} name @param {string} from */
  const resolve = (name, from) => {
    if (name.startsWith('.')) return path.resolve(path.dirname(from), name);
    const prefix = Object.keys(imports).findLast(
      (key) => name === key || (key.endsWith('/') && name.startsWith(key)),
    );
    assert.ok(prefix, `${name} is in the import map`);
    return path.resolve(WEB, imports[prefix] + name.slice(prefix.length));
  };
  const seen = new Set();
  const wanted = [path.join(WEB, 'src/main.js'), path.join(WEB, 'src/index.js')];
  for (let file = wanted.pop(); file; file = wanted.pop()) {
    if (seen.has(file)) continue;
    seen.add(file);
    const text = readFileSync(file, 'utf8').replaceAll(/\/\*.*?\*\//gs, '');
    const names = text.matchAll(/(?:^|[;}\s])(?:from|import)\s*\(?\s*["']([\w@./-]+)["']/g);
    // In a bundle of thousands of lines a sentence may look like an import: only paths count there.
    const isOurs = !file.includes('node_modules');
    for (const [, name] of names) if (isOurs || name.startsWith('.')) wanted.push(resolve(name, file));
  }
  const packages = [...seen]
    .map((file) => path.relative(WEB, file))
    .filter((file) => file.startsWith('node_modules'));
  assert.ok(packages.length > 6 && packages.some((file) => file.includes('DRACOLoader')));
  for (const file of packages) {
    const [, name] = /node_modules\/(?:@pixiv\/three-vrm|three)\/(.*)/.exec(file) ?? [];
    assert.ok(build.includes(`"${name}"`), `hatch_build.py names ${file}`);
  }
});

describe('connect', () => {
  test('turns the server’s address into a stream’s', () => {
    assert.equal(library.streamAddress('http://h:8600', 'anna b'), 'ws://h:8600/v1/streams/anna%20b');
    assert.equal(library.streamAddress('wss://h/face?x#y', 'a'), 'wss://h/face/v1/streams/a');
  });

  test('says hello with what is wished for at that moment', () => {
    const connection = library.connect('http://127.0.0.1:9', { stream: 'a', lookaheadMs: 80 });
    connection.stop();
    assert.equal(connection.url(), 'ws://127.0.0.1:9/v1/streams/a');
    connection.audioRateHz = 44100;
    connection.wishes.style = { cheerful: 1 };
    const { role, audio, style, lookahead_ms } = connection.hello();
    assert.deepEqual(
      [role, audio?.sample_rate_hz, style, lookahead_ms],
      ['converse', 44100, { cheerful: 1 }, 80],
    );
  });

  test('a watcher sends no audio and no style, and may ask for the sound', () => {
    const options = /** @type {const} */ ({
      role: 'watch',
      stream: 'a',
      passthrough: true,
      style: { soft: 1 },
    });
    const connection = library.connect('http://127.0.0.1:9', options);
    connection.stop();
    const { audio, style, audio_passthrough } = connection.hello();
    assert.deepEqual([audio, style, audio_passthrough], [undefined, undefined, true]);
  });
});

/** A body that remembers, and a connection that the test speaks for. */
function place() {
  const shown = /** @type {Record<string, number>} */ ({});
  const body = {
    channels: ['jawOpen', 'browInnerUp', 'eyeBlinkLeft'],
    apply: (/** @type {readonly string[]} */ names, /** @type {ArrayLike<number>} */ values) => {
      for (const [i, name] of names.entries()) shown[name] = values[i];
    },
  };
  const welcome = { kind: 'coefficients', width: 2, channels: ['jawOpen', 'browInnerUp'], frame_rate_hz: 30 };
  const connection = /** @type {any} */ (
    Object.assign(new EventTarget(), { welcome, clock: { serverTimeS: () => 0 } })
  );
  const face = new library.LiveFace(body, connection, { still: true });
  let firstFrame = 0;
  const send = (/** @type {number} */ jaw, /** @type {number} */ brow) => {
    const values = Float32Array.of(jaw, brow, jaw, brow);
    const ptsS = firstFrame / 30;
    const detail = {
      kind: 'coefficients',
      width: 2,
      count: 2,
      epoch: 0,
      firstFrame,
      ptsS,
      emitTimeS: 0,
      values,
    };
    firstFrame += 2;
    connection.dispatchEvent(new CustomEvent('frames', { detail }));
  };
  return { face, shown, send };
}

describe('a live face', () => {
  test('moves a body, and leaves to others what is masked', () => {
    const { face, shown, send } = place();
    for (let i = 0; i < 10; i++) send(0.5, 0.8);
    face.draw(performance.now() / 1000 + 0.2);
    assert.deepEqual([shown.jawOpen, shown.browInnerUp], [0.5, Math.fround(0.8)]);
    face.only(library.MOUTH);
    assert.equal(shown.browInnerUp, 0, 'it goes to rest once');
    shown.browInnerUp = 0.3; // a camera
    face.draw(performance.now() / 1000 + 0.22);
    assert.deepEqual([shown.jawOpen, shown.browInnerUp], [0.5, 0.3]);
    face.only(null);
    face.draw(performance.now() / 1000 + 0.24);
    assert.equal(shown.browInnerUp, Math.fround(0.8));
  });

  test('follows the sound that is heard, and measures how far it is from it', () => {
    const { face, send } = place();
    const beganS = performance.now() / 1000;
    face.sound = { align: () => {}, newEpoch: () => {}, audiblePtsS: (nowS) => nowS - beganS - 0.1 };
    for (let i = 0; i < 30; i++) send(0.5, 0.5);
    for (let nowS = beganS; nowS < beganS + 1.5; nowS += 1 / 60) face.draw(nowS);
    assert.ok(face.skewS.count > 60);
    for (const share of [0, 0.5, 1])
      assert.ok(Math.abs(face.skewS.at(share)) <= 0.02, `${face.skewS.at(share)}`);
  });

  test('says so where frames come too late for the sound', () => {
    const { face, send } = place();
    const beganS = performance.now() / 1000;
    face.sound = { align: () => {}, newEpoch: () => {}, audiblePtsS: (nowS) => nowS - beganS };
    send(0.5, 0.5);
    for (let nowS = beganS; nowS < beganS + 0.3; nowS += 1 / 60) face.draw(nowS);
    assert.ok(face.skewS.at(1) <= 0 && face.skewS.at(0) < -0.1, 'the newest frame is long past');
  });
});

describe('the loudspeaker’s delay', () => {
  /** An audio context with one delay node, whose time the test moves. */
  function line() {
    const delayTime = {
      value: 0,
      cancelScheduledValues: () => {},
      setTargetAtTime: (/** @type {number} */ value) => {
        delayTime.value = value;
      },
    };
    const node = { delayTime, connect: (/** @type {any} */ next) => next, disconnect: () => {} };
    const context = { currentTime: 0, destination: {}, createDelay: () => node };
    return { line: new DelayLine(/** @type {any} */ (context), /** @type {any} */ (node)), delayTime };
  }

  test('is longer than any face’s until it is told', () => {
    assert.equal(line().delayTime.value, 2);
  });

  test('is set at once, then glides by too little to be heard, and breaks only where the face is far behind', () => {
    const { line: delay, delayTime } = line();
    delay.approach(0.2, 10);
    assert.equal(delayTime.value, 0.2);
    for (let i = 1; i <= 10; i++) delay.approach(0.23, 10 + i / 10);
    assert.ok(delayTime.value > 0.213 && delayTime.value <= 0.216, `${delayTime.value} after a second`);
    for (let i = 1; i <= 30; i++) delay.approach(0.1, 11 + i / 10);
    assert.ok(delayTime.value > 0.16, 'it is in no hurry to be early');
    delay.approach(0.3, 14.5, true);
    assert.equal(delayTime.value, 0.3, 'in silence it jumps');
    delay.approach(0.6, 15);
    assert.equal(delayTime.value, 0.6);
    delay.approach(9, 16);
    assert.equal(delayTime.value, 2, 'the line is two seconds long');
  });
});
