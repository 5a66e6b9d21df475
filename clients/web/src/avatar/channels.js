/**
 * The 52 ARKit channels, in Apple's order, and the four regions of the face that they move.
 *
 * A stream names its own channels in its welcome; this list is what avatars are matched against, and the order
 * of the columns of a recording.
 */

/** @param {string} stem */
const sides = (stem) => [`${stem}Left`, `${stem}Right`];
/** @param {'Left' | 'Right'} side */
const eye = (side) =>
  ['Blink', 'LookDown', 'LookIn', 'LookOut', 'LookUp', 'Squint', 'Wide'].map((name) => `eye${name}${side}`);

/** @type {readonly string[]} */
export const ARKIT = [
  ...eye('Left'),
  ...eye('Right'),
  ...['jawForward', 'jawLeft', 'jawRight', 'jawOpen'],
  ...['mouthClose', 'mouthFunnel', 'mouthPucker', 'mouthLeft', 'mouthRight'],
  ...['mouthSmile', 'mouthFrown', 'mouthDimple', 'mouthStretch'].flatMap(sides),
  ...['mouthRollLower', 'mouthRollUpper', 'mouthShrugLower', 'mouthShrugUpper'],
  ...['mouthPress', 'mouthLowerDown', 'mouthUpperUp'].flatMap(sides),
  ...sides('browDown'),
  'browInnerUp',
  ...sides('browOuterUp'),
  'cheekPuff',
  ...sides('cheekSquint'),
  ...sides('noseSneer'),
  'tongueOut',
];

/** @typedef {'mouth' | 'eyes' | 'brows' | 'cheeks'} Region `mouth` holds jaw and tongue, `cheeks` the nose */

/** @type {readonly Region[]} */
export const REGIONS = ['mouth', 'eyes', 'brows', 'cheeks'];

/** @param {string} channel an ARKit name @returns {Region} */
export function regionOf(channel) {
  if (channel.startsWith('eye')) return 'eyes';
  if (channel.startsWith('brow')) return 'brows';
  return /^(cheek|nose)/.test(channel) ? 'cheeks' : 'mouth';
}

/** The channels of a region. @param {Region} region @returns {string[]} */
export const channelsOf = (region) => ARKIT.filter((channel) => regionOf(channel) === region);

/** What speech moves: pass it where a camera drives the rest of the face. @type {readonly string[]} */
export const MOUTH = channelsOf('mouth');
