/**
 * The microphone as an audio node. Opening it asks the user; every refusal becomes a sentence with a hint.
 */

import { PageError } from './page-error.js';

/** What a browser's refusal means. @type {Record<string, [string, string]>} */
const REFUSALS = {
  NotAllowedError: [
    'The microphone may not be used.',
    'Allow the microphone for this page in the browser’s address bar, then press the button again.',
  ],
  NotFoundError: ['No microphone was found.', 'Plug one in, or play the sample.'],
  NotReadableError: ['The microphone is taken.', 'Close the other program that uses it, then press again.'],
};

/**
 * @param {AudioContext} context
 * @returns {Promise<{node: AudioNode, close: () => void}>} a source at the context's own rate
 * @throws {PageError}
 */
export async function openMicrophone(context) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new PageError(
      'This page may not ask for a microphone.',
      'Browsers allow it only on localhost or over https: open the page there.',
    );
  }
  try {
    const media = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: true, autoGainControl: true },
    });
    const node = context.createMediaStreamSource(media);
    return {
      node,
      close: () => {
        node.disconnect();
        for (const track of media.getTracks()) track.stop();
      },
    };
  } catch (error) {
    const name = error instanceof Error ? error.name : '';
    const [message, hint] = REFUSALS[name] ?? [
      'The microphone could not be opened.',
      'Check it in the system’s sound settings, then press the button again.',
    ];
    throw new PageError(message, hint);
  }
}
