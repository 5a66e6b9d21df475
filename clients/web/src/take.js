/**
 * A take: sound, from pressing a button until the server has said `ended`, on its way through the socket.
 *
 * Microphone and sample differ in their source node alone; both go through the capture worklet, as 20 ms
 * chunks, into the connection. A chunk that cannot leave (no connection, a full socket) is dropped and
 * counted there: nothing queues up here. `originS` is the context time of the first sample of the stream's
 * present epoch, so that a pts can be turned into a time on this machine's clock.
 */

import { openMicrophone } from './microphone.js';
import { audibleTimeS, loadSample, openSample } from './speaker.js';
import { AUDIO_HEADER_BYTES, stampAudio } from './wire.js';

const CHUNK_S = 0.02;
const FAR_BEHIND_S = 0.2;
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
    /** How much the loudspeaker is held back, seconds; NaN until it has been aligned, or with a microphone. */
    this.delayS = Number.NaN;
    /** RMS of the last chunk sent, in [0, 1], and its time on the epoch's audio clock. */
    this.level = 0;
    this.levelPtsS = Number.NaN;
    this.stopping = false;
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
   * @throws {import('./microphone.js').PageError}
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

  /** A new epoch, or a new connection: its clock starts with the next sample sent. */
  newEpoch() {
    this.originS = Number.NaN;
  }

  /**
   * Holds the loudspeaker back so that a sample is heard when its face is shown: once, and again only when
   * the face has fallen so far behind that a break in the sound is the smaller evil.
   * @param {number} offsetS local time at which the epoch's pts 0 is shown
   * @param {number} nowS
   */
  align(offsetS, nowS) {
    if (!this.sample || Number.isNaN(this.originS)) return;
    const undelayedS = nowS + this.originS - audibleTimeS(this.context, nowS);
    const wantedS = offsetS - undelayedS;
    if (wantedS - this.delayS < FAR_BEHIND_S) return;
    this.delayS = this.sample.delayBy(wantedS);
  }

  /**
   * The instant of the epoch's audio clock that is being heard.
   * @param {number} nowS
   * @returns {number} seconds; NaN with a microphone, and before `align`
   */
  audiblePtsS(nowS) {
    return this.sample ? audibleTimeS(this.context, nowS) - this.delayS - this.originS : Number.NaN;
  }

  /** @param {{buffer: ArrayBuffer, timeS: number, level: number, stopped?: undefined} | {stopped: true}} data */
  #send(data) {
    if (data.stopped) {
      this.connection.end();
      return;
    }
    const sent = this.connection.sendAudio(stampAudio(data.buffer));
    if (sent && Number.isNaN(this.originS)) this.originS = data.timeS;
    this.level = data.level;
    this.levelPtsS = data.timeS - this.originS;
  }

  #closeCapture() {
    this.capture?.port.postMessage('stop');
    this.capture?.port.close();
    this.capture?.disconnect();
    this.capture = null;
  }

  #closeSource() {
    this.source?.close();
    this.source = null;
  }
}
