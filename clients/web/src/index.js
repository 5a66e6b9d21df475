/**
 * The library: live speech into a face of your own three.js scene. `docs/web.md` shows it in twenty lines.
 *
 *     connect, Connection        a stream of a DiffSpeaker server, over WebSockets
 *     microphone, playFile       sound into it, heard late enough to match the face
 *     JitterBuffer               frames that arrive in bursts, at any instant
 *     LiveFace                   the three together: call `draw` at each picture
 *     Avatar                     any GLB or VRM, moved by `apply(names, values)`
 *     Hearing                    a watcher's loudspeaker
 *     Recording, addAnimation    frames into a CSV, or into the avatar's own file
 *     readMouth, readSignals     visemes and vowels from ARKit coefficients
 *
 * Needs `three`; `@pixiv/three-vrm` only where a VRM is loaded. All times are seconds on `performance.now()`'s
 * clock; all weights are 0 to 1.
 */

export { addAnimation, weightsByNode } from './avatar/animation.js';
export { Avatar } from './avatar/avatar.js';
export { ARKIT, channelsOf, MOUTH, REGIONS } from './avatar/channels.js';
export { findHead, placeHead } from './avatar/head.js';
export { matchByName } from './avatar/names.js';
export { Retarget } from './avatar/retarget.js';
export { readSignals, SIGNALS } from './avatar/signals.js';
export { readMouth, VISEMES, VOWELS } from './avatar/visemes.js';
export { connect, streamAddress } from './connect.js';
export { Connection } from './connection.js';
export { Hearing } from './hearing.js';
export { JitterBuffer } from './jitter-buffer.js';
export { LiveFace } from './live-face.js';
export { PageError } from './page-error.js';
export { Recording } from './recording.js';
export { microphone, playFile } from './speak.js';
