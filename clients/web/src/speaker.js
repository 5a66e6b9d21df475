/**
 * A sound file as an audio node, and a loudspeaker that waits for the face.
 *
 * The sound goes to the server through the same capture as a microphone would. What the user hears is the same
 * sound, held back in a delay line until the face that belongs to it is on the screen. The delay line starts
 * out longer than any face delay, so nothing is audible until it has been told the true one; after that it
 * jumps in silence, and glides while there is something to hear, by so little that nobody hears it.
 */

import { PageError } from './page-error.js';

const LONGEST_S = 2;
const BREAK_S = 0.2; // a face this much later than the sound: a break in the sound is the smaller evil
const GLIDE = 0.015; // seconds per second: a pitch that is off by a quarter of a semitone
const ENOUGH_S = 0.003;
const QUIET_JUMP_S = 0.01;

/**
 * @param {AudioContext} context
 * @param {string} url
 * @returns {Promise<AudioBuffer>}
 * @throws {PageError}
 */
export async function loadSample(context, url) {
  try {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return await context.decodeAudioData(await response.arrayBuffer());
  } catch (cause) {
    throw new PageError(
      `The sample could not be loaded (${cause instanceof Error ? cause.message : cause}).`,
      'Check that the server is running, then press the button again.',
    );
  }
}

/**
 * @param {AudioContext} context
 * @param {AudioBuffer} sound
 * @param {() => void} onEnd called when the sound has been played into the capture
 */
export function openSample(context, sound, onEnd) {
  const node = context.createBufferSource();
  node.buffer = sound;
  node.onended = onEnd;
  return {
    node,
    /** Begins to play, a moment of silence from now. */
    start: () => node.start(context.currentTime + 0.15),
    close: () => {
      node.onended = null;
      node.disconnect();
      try {
        node.stop();
      } catch {} // never started
    },
  };
}

/** What holds a sound back on its way to the loudspeaker. */
export class DelayLine {
  /** @param {AudioContext} context @param {AudioNode} source */
  constructor(context, source) {
    this.context = context;
    this.node = context.createDelay(LONGEST_S);
    this.node.delayTime.value = LONGEST_S;
    source.connect(this.node).connect(context.destination);
    /** From the source to the loudspeaker, seconds; NaN until it has been set. */
    this.delayS = Number.NaN;
    this.setS = Number.NaN;
  }

  /**
   * Brings the delay nearer to what is wanted: the first time, in silence, and when it is far too short, at once;
   * else it glides.
   * @param {number} wantedS @param {number} nowS the caller's clock, for the glide's length
   * @param {boolean} [isQuiet] whether nothing is on its way through the line
   */
  approach(wantedS, nowS, isQuiet = false) {
    const boundedS = Math.min(Math.max(wantedS, 0), LONGEST_S);
    const { delayTime } = this.node;
    const sinceS = Math.min(nowS - this.setS, 0.5);
    const wrongS = boundedS - this.delayS;
    const isUnheard = isQuiet && Math.abs(wrongS) > QUIET_JUMP_S;
    if (Number.isNaN(this.delayS) || wrongS > BREAK_S || isUnheard) {
      delayTime.cancelScheduledValues(0);
      delayTime.value = this.delayS = boundedS;
    } else if (sinceS > 0.05) {
      if (Math.abs(wrongS) < ENOUGH_S) return;
      this.delayS += Math.min(Math.max(wrongS, -GLIDE * sinceS), GLIDE * sinceS);
      delayTime.setTargetAtTime(this.delayS, this.context.currentTime, 0.02);
    } else return;
    this.setS = nowS;
  }

  close() {
    this.node.disconnect();
  }
}

/**
 * The context time that is leaving the loudspeaker now.
 * @param {AudioContext} context
 * @param {number} nowS performance.now() in seconds
 */
export function audibleTimeS(context, nowS) {
  const { contextTime = 0, performanceTime = 0 } = context.getOutputTimestamp?.() ?? {};
  const audibleS = contextTime + nowS - performanceTime / 1000;
  // A device that doesn't say what it is playing answers with zeros, or with an old time.
  if (contextTime > 0 && Math.abs(context.currentTime - audibleS) < 0.5) return audibleS;
  return context.currentTime - (context.outputLatency || context.baseLatency || 0);
}
