/**
 * The sample as an audio node, and a loudspeaker that waits for the face.
 *
 * The sample goes to the server through the same capture as a microphone would. What the user hears is the
 * same sound, held back in a delay line until the face that belongs to it is on the screen. The delay line
 * starts out longer than any face delay, so nothing is audible until `delayBy` has been told the true one.
 */

import { PageError } from './microphone.js';

const LONGEST_S = 2;

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
 * @param {() => void} onEnd called when the sample has been played into the capture
 */
export function openSample(context, sound, onEnd) {
  const node = context.createBufferSource();
  node.buffer = sound;
  node.onended = onEnd;
  const line = context.createDelay(LONGEST_S);
  line.delayTime.value = LONGEST_S;
  node.connect(line).connect(context.destination);
  return {
    node,
    /** Begins to play, a moment of silence from now. */
    start: () => node.start(context.currentTime + 0.15),
    /** @param {number} delayS from a sample's way to the server to the loudspeaker; returns what it is now */
    delayBy: (delayS) => {
      const boundedS = Math.min(Math.max(delayS, 0), LONGEST_S);
      line.delayTime.value = boundedS;
      return boundedS;
    },
    close: () => {
      node.onended = null;
      node.disconnect();
      line.disconnect();
      try {
        node.stop();
      } catch {} // never started
    },
  };
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
