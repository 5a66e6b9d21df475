/**
 * One lasting connection to a stream: connects, greets, and comes back by itself when it is lost.
 *
 * States: `stopped` (nothing is wanted), `connecting` (no welcome yet), `open` (welcomed), `waiting` (lost;
 * tries again by itself), `failed` (the server refused what was asked: trying again would not help, `start`
 * does it anyway). Rules:
 *  1. A lost connection is retried after 0.25 s × 2^n, at most 5 s, each time a random half less, so that
 *     many pages don't come back in step. A welcome that lasts resets n.
 *     A speaker asks to go on in the session that it was lost from; the server keeps it for some seconds.
 *  2. After our own `end`, or `restart`, the next connection follows at once.
 *  3. Every two seconds the server's clock is asked; ten silent seconds mean that the connection is dead.
 *  4. Sockets, timers, time and chance come in through `io`, so that the tests can own them.
 *
 * Events (CustomEvent; the payload is `detail`): `state` {state, retryInS}, `welcome`, `frames`, `passthrough`,
 * `style`, `interrupted`, `ended`, `stats` (the decoded message), `fault` {code, message, hint, retrying}.
 */

import { ClockSync } from './clock-sync.js';
import * as wire from './wire.js';

const FIRST_RETRY_S = 0.25;
const LAST_RETRY_S = 5;
const CLOCK_EVERY_S = 2;
const SILENCE_S = 10;

/** Errors that asking again in the same words would not mend. */
const LASTING = new Set([
  ...['hello_expected', 'unsupported_version', 'bad_stream_name', 'unauthorized', 'bad_json', 'unknown_type'],
  ...['bad_message', 'bad_option', 'not_allowed', 'message_too_big', 'bad_audio_format', 'bad_audio_size'],
  ...['bad_audio_values', 'bad_bundle'],
]);

/**
 * @typedef {'stopped' | 'connecting' | 'open' | 'waiting' | 'failed'} State
 *
 * @typedef {object} Wishes
 * @property {import('./wire-types.js').Kind} kind
 * @property {import('./wire-types.js').Weights | null} style
 * @property {boolean} passthrough
 *
 * @typedef {object} Io
 * @property {(url: string, protocol: string) => WebSocket} open
 * @property {(callback: () => void, delayS: number) => any} later
 * @property {(timer: any) => void} cancel
 * @property {() => number} nowS a monotonic clock, seconds
 * @property {() => number} random in [0, 1)
 */

/** @type {Io} */
export const BROWSER_IO = {
  open: (url, protocol) => new WebSocket(url, protocol),
  later: (callback, delayS) => setTimeout(callback, 1000 * delayS),
  cancel: (timer) => clearTimeout(timer),
  nowS: () => performance.now() / 1000,
  random: Math.random,
};

export class Connection extends EventTarget {
  /**
   * @param {object} options
   * @param {() => string} options.url asked at each attempt: ws://host:port/v1/streams/<name>
   * @param {() => import('./wire-types.js').Hello} options.hello asked at each attempt
   * @param {Io} [options.io]
   */
  constructor({ url, hello, io = BROWSER_IO }) {
    super();
    this.url = url;
    this.hello = hello;
    this.io = io;
    /** @type {State} */
    this.state = 'stopped';
    /** @type {import('./wire-types.js').Welcome | null} */
    this.welcome = null;
    this.clock = new ClockSync();
    this.attempts = 0;
    /** The rate of the audio that will be sent, for a hello that asks. */
    this.audioRateHz = 0;
    /** What the next hello asks for, where it asks here. @type {Wishes} */
    this.wishes = { kind: 'coefficients', style: null, passthrough: false };
    this.bytesPerS = 0; // of the audio being sent, for the bound on what waits in the socket
    this.unsentChunks = 0;
    /** @type {WebSocket | null} */
    this.socket = null;
    this.atOnce = false;
    /** Of the connection that is open, or was lost, with its address. @type {string | undefined} */
    this.session = undefined;
    this.address = '';
    /** When it was lost, seconds; NaN where none was. How long it took to come back the last time. */
    this.lostS = Number.NaN;
    this.awayS = 0;
    /** @type {wire.WireError | null} */
    this.fault = null;
    this.heardS = 0;
    /** @type {any} */
    this.retryTimer = null;
    /** @type {any} */
    this.clockTimer = null;
  }

  /** Connects, now, unless it is connected already. */
  start() {
    if (this.socket) return;
    this.io.cancel(this.retryTimer);
    this.#connect();
  }

  /** Lets the connection go for good. */
  stop() {
    this.#release(this.socket);
    this.#forget();
    this.io.cancel(this.retryTimer);
    this.#become('stopped');
  }

  /** Connects anew with a fresh `url` and `hello`, at once. */
  restart() {
    this.#release(this.socket);
    this.#forget();
    this.attempts = 0;
    this.start();
  }

  /** Resolves when it is open, or will not be: read `state`. @returns {Promise<State>} */
  settled() {
    return new Promise((resolve) => {
      const look = () => {
        if (!['open', 'failed', 'stopped'].includes(this.state)) return;
        this.removeEventListener('state', look);
        resolve(this.state);
      };
      this.addEventListener('state', look);
      look();
    });
  }

  /**
   * Sends an audio message, unless the connection is not open or a second of audio is waiting in the socket.
   * @param {ArrayBuffer} message from `stampAudio` or `encodeAudio`
   * @returns {boolean} whether it was sent
   */
  sendAudio(message) {
    const socket = this.#openSocket();
    if (!socket || socket.bufferedAmount > Math.max(this.bytesPerS, 16384)) {
      this.unsentChunks++;
      return false;
    }
    socket.send(message);
    return true;
  }

  /** From the next window on, and of later connections. @param {import('./wire-types.js').Weights} style */
  sendStyle(style) {
    this.wishes.style = style;
    this.#openSocket()?.send(wire.encodeStyle(style));
  }

  /** Drops what is queued; the mouth closes. */
  interrupt() {
    this.#openSocket()?.send(wire.encodeInterrupt());
  }

  /** No more audio: the tail comes, then `ended`, then a fresh connection. */
  end() {
    const socket = this.#openSocket();
    if (!socket) return;
    this.atOnce = true;
    socket.send(wire.encodeEnd());
  }

  #openSocket() {
    return this.state === 'open' && this.socket?.readyState === 1 ? this.socket : null;
  }

  #connect() {
    this.fault = null;
    this.atOnce = false;
    this.#become('connecting');
    /** @type {WebSocket} */
    let socket;
    try {
      if (!this.session) this.address = this.url();
      socket = this.io.open(this.address, wire.SUBPROTOCOL);
    } catch (error) {
      this.#fail(new wire.WireError('bad_address', `The server's address is not valid: ${error}`));
      this.#become('failed');
      return;
    }
    this.socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => {
      const hello = this.hello();
      const { encoding, sample_rate_hz = 0, channels = 1 } = hello.audio ?? {};
      this.bytesPerS = sample_rate_hz * channels * (encoding === 'f32' ? 4 : 2);
      const resume = hello.role === 'watch' ? undefined : this.session;
      socket.send(wire.encodeHello({ ...hello, resume }));
      this.heardS = this.io.nowS();
      this.#watchOver(socket);
    };
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = () => this.#lost();
  }

  /** @param {string | ArrayBuffer} data */
  #receive(data) {
    this.heardS = this.io.nowS();
    try {
      if (typeof data === 'string') this.#receiveControl(wire.decodeServerMessage(data));
      else {
        const media = wire.decodeMedia(data);
        if (media.frames) this.#emit('frames', media.frames);
        else this.#emit('passthrough', media.passthrough);
      }
    } catch (error) {
      if (!(error instanceof wire.WireError)) throw error;
      error.hint ||= 'The page and the server may be of different versions: reload the page.';
      this.#fail(error);
      this.socket?.close(4000);
    }
  }

  /** @param {{type: string} & Record<string, any>} message */
  #receiveControl(message) {
    switch (message.type) {
      case 'welcome':
        if (message.version !== wire.VERSION) {
          throw new wire.WireError('unsupported_version', `The server speaks version ${message.version}.`);
        }
        this.welcome = /** @type {any} */ (message);
        this.session = message.session;
        this.awayS = this.io.nowS() - this.lostS || 0;
        this.lostS = Number.NaN;
        this.clock = new ClockSync();
        this.#become('open');
        this.#askClock();
        this.#emit('welcome', message);
        return;
      case 'clock':
        this.clock.observe(message.client_time_s, message.server_time_s, this.io.nowS());
        return;
      case 'error':
        this.#fail(new wire.WireError(message.code, message.message, message.hint));
        return;
      default:
        if (message.type !== 'ended') this.attempts = 0; // a welcome that lasted
        this.#emit(message.type, message);
    }
  }

  #askClock() {
    this.#openSocket()?.send(wire.encodeClock(this.io.nowS()));
  }

  /** Asks the clock now and then, and gives up a socket that has gone silent. @param {WebSocket} socket */
  #watchOver(socket) {
    this.clockTimer = this.io.later(() => {
      if (this.socket !== socket) return;
      if (this.io.nowS() - this.heardS > SILENCE_S) {
        this.#release(socket);
        this.#lost();
        return;
      }
      this.#askClock();
      this.#watchOver(socket);
    }, CLOCK_EVERY_S);
  }

  #lost() {
    this.#release(this.socket);
    if (this.fault || this.atOnce) this.#forget();
    else if (this.state === 'open') this.lostS = this.io.nowS();
    if (this.fault && LASTING.has(this.fault.code)) {
      this.#become('failed');
    } else if (this.atOnce && !this.fault) {
      this.#connect();
    } else {
      const longest = Math.min(FIRST_RETRY_S * 2 ** this.attempts, LAST_RETRY_S);
      const delayS = longest * (1 - 0.5 * this.io.random());
      this.attempts++;
      this.retryTimer = this.io.later(() => this.start(), delayS);
      this.#become('waiting', delayS);
    }
  }

  /** The next connection begins anew. */
  #forget() {
    this.session = undefined;
    this.lostS = Number.NaN;
  }

  /** Forgets a socket: whatever it still says is not heard. @param {WebSocket | null} socket */
  #release(socket) {
    this.io.cancel(this.clockTimer);
    this.socket = null;
    if (!socket) return;
    socket.onopen = null;
    socket.onmessage = null;
    socket.onclose = null;
    if (socket.readyState < 2) socket.close(1000);
  }

  /** @param {wire.WireError} fault */
  #fail(fault) {
    this.fault = fault;
    const { code, message, hint } = fault;
    this.#emit('fault', { code, message, hint, retrying: !LASTING.has(code) && code !== 'bad_address' });
  }

  /** @param {State} state @param {number} [retryInS] */
  #become(state, retryInS = 0) {
    this.state = state;
    if (state !== 'open') this.welcome = null;
    this.#emit('state', { state, retryInS });
  }

  /** @param {string} type @param {any} detail */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
