/**
 * A take: sound, from pressing a button until the server has said `ended`, on its way through the socket.
 *
 * Microphone and sample differ in their source node alone; both go through the capture worklet, as 20 ms
 * chunks, into the connection. Both can be heard, held back to match the face: a sample always, a microphone
 * where `hear` is set (with headphones, or it hears itself). A chunk that cannot leave (no connection, a full socket) is dropped and
 * counted there: nothing queues up here. `originS` is the context time of the first sample of the stream's
 * present epoch, so that a pts can be turned into a time on this machine's clock.
 */

import { openMicrophone } from './microphone.js';
import { audibleTimeS, DelayLine, loadSample, openSample } from './speaker.js';
import { AUDIO_HEADER_BYTES, stampAudio } from './wire.js';

const CHUNK_S = 0.02;
const QUIET_LEVEL = 0.005; // RMS
const QUIET_S = 0.6; // more than a delay line usually holds
const AFTER_SAMPLE_S = 0.5; // silence that follows the sample, for the mouth to close

/** Contexts that have loaded the worklet. @type {WeakMap<AudioContext, Promise<void>>} */
const prepared = new WeakMap();

export class Take {
  /**
   * @param {AudioContext} context
   * @param {import('./connection.js').Connection} connection
   * @param {'microphone' | 'sample'} kind
   */
  constructor(context, connection, kind) {
    this.context = context;
    this.connection = connection;
    this.kind = kind;
    /** Context time of the epoch's first sample, seconds; NaN before one was sent. */
    this.originS = Number.NaN;
    this.beginS = 0; // the next sample's time on the epoch's audio clock, before one was sent
    /** What holds the loudspeaker back; null where nothing is heard. @type {DelayLine | null} */
    this.line = null;
    /** RMS of the last chunk sent, in [0, 1], and its time on the epoch's audio clock. */
    this.level = 0;
    this.levelPtsS = Number.NaN;
    /** Context time of the last chunk that had something to hear. */
    this.loudS = Number.NEGATIVE_INFINITY;
    this.stopping = false;
    this.hears = kind === 'sample';
    /** Called when the sample has come to its end. @type {() => void} */
    this.onEnd = () => {};
    /** @type {{node: AudioNode, close: () => void} | null} */
    this.source = null;
    /** @type {ReturnType<typeof openSample> | null} */
    this.sample = null;
    /** @type {AudioWorkletNode | null} */
    this.capture = null;
  }

  /**
   * Opens the source: asks for the microphone, or fetches the sample.
   * @param {string} sampleUrl
   * @throws {import('./page-error.js').PageError}
   */
  async open(sampleUrl) {
    const { context } = this;
    if (!prepared.has(context)) {
      prepared.set(context, context.audioWorklet.addModule(new URL('./capture-worklet.js', import.meta.url)));
    }
    await Promise.all([prepared.get(context), context.resume()]);
    if (this.kind === 'microphone') this.source = await openMicrophone(context);
    else {
      const sound = await loadSample(context, sampleUrl);
      this.sample = openSample(context, sound, () => setTimeout(() => this.onEnd(), 1000 * AFTER_SAMPLE_S));
      this.source = this.sample;
    }
    this.hear(this.hears);
    if (this.stopping) this.#closeSource(); // stopped while the user was being asked
  }

  /** Begins to send. */
  start() {
    if (this.stopping || !this.source) return;
    const { context } = this;
    this.capture = new AudioWorkletNode(context, 'capture', {
      numberOfInputs: 1,
      numberOfOutputs: 1,
      processorOptions: {
        chunkSamples: Math.round(CHUNK_S * context.sampleRate),
        headerBytes: AUDIO_HEADER_BYTES,
      },
    });
    this.capture.port.onmessage = ({ data }) => this.#send(data);
    this.source.node.connect(this.capture).connect(context.destination); // its output is silence
    this.sample?.start();
  }

  /**
   * Ends the take.
   * @param {{abrupt?: boolean}} [options] `abrupt`: what was not yet animated is dropped and the mouth closes;
   *   else the last word is spoken out
   */
  stop({ abrupt = false } = {}) {
    if (this.stopping) return;
    this.stopping = true;
    if (abrupt || !this.sample) this.#closeSource();
    if (abrupt) {
      this.#closeCapture();
      this.connection.interrupt();
    }
    if (this.capture) this.capture.port.postMessage('stop');
    else this.connection.end();
  }

  /** Lets go of everything, when the face has come to rest. */
  close() {
    this.stopping = true;
    this.#closeSource();
    this.#closeCapture();
  }

  /**
   * A new epoch, or a new connection: its clock goes on with the next sample sent.
   * @param {number} [beginS] of which that sample is the instant
   */
  newEpoch(beginS = 0) {
    this.originS = Number.NaN;
    this.beginS = beginS;
  }

  /** How much the loudspeaker is held back, seconds; NaN where nothing is heard, and until it was aligned. */
  get delayS() {
    return this.line?.delayS ?? Number.NaN;
  }

  /** Whether what is sent is also heard, late enough to match the face. @param {boolean} hears */
  hear(hears) {
    this.hears = hears;
    if (!this.source) return;
    if (hears) this.line ??= new DelayLine(this.context, this.source.node);
    else this.#closeLine();
  }

  /**
   * Holds the loudspeaker back so that sound is heard when its face is shown.
   * @param {number} offsetS local time at which the epoch's pts 0 is shown
   * @param {number} nowS
   */
  align(offsetS, nowS) {
    if (!this.line || Number.isNaN(this.originS)) return;
    const undelayedS = nowS + this.originS - audibleTimeS(this.context, nowS);
    const isQuiet = this.context.currentTime - this.loudS > QUIET_S;
    this.line.approach(offsetS - undelayedS, nowS, isQuiet);
  }

  /**
   * The instant of the epoch's audio clock that is being heard.
   * @param {number} nowS
   * @returns {number} seconds; NaN where nothing is heard, and before `align`
   */
  audiblePtsS(nowS) {
    return this.line ? audibleTimeS(this.context, nowS) - this.delayS - this.originS : Number.NaN;
  }

  /** @param {{buffer: ArrayBuffer, timeS: number, level: number, stopped?: undefined} | {stopped: true}} data */
  #send(data) {
    if (data.stopped) {
      this.connection.end();
      return;
    }
    const sent = this.connection.sendAudio(stampAudio(data.buffer));
    if (sent && Number.isNaN(this.originS)) this.originS = data.timeS - this.beginS;
    this.level = data.level;
    if (data.level > QUIET_LEVEL) this.loudS = data.timeS;
    this.levelPtsS = data.timeS - this.originS;
  }

  #closeCapture() {
    this.capture?.port.postMessage('stop');
    this.capture?.port.close();
    this.capture?.disconnect();
    this.capture = null;
  }

  #closeSource() {
    this.#closeLine();
    this.source?.close();
    this.source = null;
  }

  #closeLine() {
    if (this.line) this.source?.node.disconnect(this.line.node);
    this.line?.close();
    this.line = null;
  }
}
