/**
 * Protocol v1's words: the shapes of its messages, the names that both halves of the codec share, its error.
 * Field names of JSON messages are the wire's own (snake_case); those of binary media are JavaScript's.
 */

export const VERSION = 1;
export const SUBPROTOCOL = 'diffspeaker.v1';
export const DTYPES = /** @type {const} */ (['f32', 'f16', 'i16']);
export const KINDS = /** @type {const} */ (['coefficients', 'vertices']);
export const ROLES = /** @type {const} */ (['publish', 'watch', 'converse']);

/**
 * @typedef {'coefficients' | 'vertices'} Kind
 * @typedef {'f32' | 'f16' | 'i16'} DType
 * @typedef {Record<string, number>} Weights style names and their weights
 *
 * @typedef {object} Hello
 * @property {'publish' | 'watch' | 'converse'} role
 * @property {string} [token]
 * @property {{encoding: 's16' | 'f32', sample_rate_hz: number, channels: 1 | 2}} [audio] unless role is watch
 * @property {{kind?: Kind, dtype?: DType}} [output] coefficients in f32 where it is left out
 * @property {number} [lookahead_ms]
 * @property {number} [hop_ms]
 * @property {Weights} [style]
 * @property {number} [seed]
 * @property {boolean} [audio_passthrough]
 * @property {boolean} [paced] frames come when they are due, however early their audio came
 * @property {string} [resume] the session of a connection that was lost, to speak on in it
 *
 * @typedef {object} Welcome
 * @property {'welcome'} type
 * @property {number} version
 * @property {string} session
 * @property {string} stream
 * @property {string} role
 * @property {number} epoch
 * @property {string} bundle
 * @property {Kind} kind
 * @property {DType} dtype
 * @property {number} width values per frame
 * @property {number} scale value = raw × scale
 * @property {string[]} channels names of a coefficient frame's columns, in order
 * @property {string} unit
 * @property {number} frame_rate_hz
 * @property {number} sample_rate_hz
 * @property {number} hop_ms
 * @property {number} lookahead_ms
 * @property {number} face_delay_ms how far the face lags its audio when that arrives in real time
 * @property {string[]} styles
 * @property {string[]} style_scales
 * @property {Weights} style
 * @property {number} received_samples of the epoch's audio, which a speaker that resumes goes on behind
 * @property {number} server_time_s
 *
 * @typedef {object} Frames
 * @property {Float32Array} values (count × width), frame by frame: coefficients, or x y z in metres
 * @property {Kind} kind
 * @property {DType} dtype
 * @property {number} flags
 * @property {number} epoch
 * @property {number} seq one more with each frames message of the stream
 * @property {number} firstFrame index, within the epoch, of the first frame
 * @property {number} count
 * @property {number} width
 * @property {number} ptsS the first frame's time on the epoch's audio clock
 * @property {number} emitTimeS the server's monotonic clock when the frames left it
 *
 * @typedef {object} Passthrough
 * @property {Int16Array} samples mono
 * @property {number} epoch
 * @property {number} seq
 * @property {number} ptsS
 * @property {number} sampleRateHz
 */

/** A message that breaks the protocol, or an error that the server named. */
export class WireError extends Error {
  /**
   * @param {string} code a code of the protocol's error table
   * @param {string} message one sentence that says what is wrong
   * @param {string} [hint] what to do about it
   */
  constructor(code, message, hint = '') {
    super(message);
    this.name = 'WireError';
    this.code = code;
    this.hint = hint;
  }
}
