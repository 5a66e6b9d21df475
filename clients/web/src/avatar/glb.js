/**
 * GLB, the one-file form of glTF 2.0: taken apart and put together. Pure: bytes in, bytes out.
 *
 * A GLB is a 12-byte header ('glTF', version, length) and chunks of (length, type, content), each padded to
 * four bytes: one of JSON, then at most one of binary. What is not a GLB is refused with a sentence for the
 * person who dropped it. Little-endian throughout; the specification is Khronos' glTF 2.0, section 4.4.
 */

import { PageError } from '../page-error.js';

const MAGIC = 0x46546c67; // 'glTF'
const JSON_CHUNK = 0x4e4f534a;
const BINARY_CHUNK = 0x004e4942;

/** What a file most likely is, by how it begins; only for the sentence. @type {[RegExp, string][]} */
const OTHERS = [
  [/^Kaydara FBX|^; FBX/, 'an FBX file'],
  [/^Pmx |^PMX |^Pmd/, 'an MMD model'],
  [/^PK/, 'a zip archive'],
  [/^\s*\{/, 'a text file of JSON (a .gltf needs its other files beside it)'],
  [/^\x89PNG|^\xff\xd8\xff|^GIF8|^RIFF....WEBP/s, 'a picture'],
  [/^version https:\/\/git-lfs/, 'a pointer of Git LFS, not the file itself'],
  [/^\s*<(!doctype|html)/i, 'a web page'],
];

/**
 * @typedef {{json: any, binary: Uint8Array | null}} Glb `binary`: the first buffer's bytes, a view
 */

/**
 * Takes a GLB apart.
 * @param {ArrayBuffer} bytes
 * @param {string} name the file's, for the sentence
 * @returns {Glb}
 * @throws {PageError} it is no GLB, an old one, or cut short
 */
export function parseGlb(bytes, name) {
  const view = new DataView(bytes);
  if (bytes.byteLength < 20 || view.getUint32(0, true) !== MAGIC) {
    throw new PageError(
      `“${name}” is not a GLB or VRM${likeness(bytes)}.`,
      'Export the avatar as .glb or .vrm.',
    );
  }
  if (view.getUint32(4, true) !== 2) {
    throw new PageError(
      `“${name}” is glTF ${view.getUint32(4, true)}.`,
      'Export it as glTF 2.0 binary (.glb).',
    );
  }
  const length = view.getUint32(8, true);
  if (length > bytes.byteLength) {
    const share = Math.floor((100 * bytes.byteLength) / length);
    throw new PageError(`“${name}” is cut short: ${share} % of it is there.`, 'Copy or download it again.');
  }
  let json = null;
  let binary = null;
  for (let at = 12; at + 8 <= length; ) {
    const size = view.getUint32(at, true);
    if (at + 8 + size > length) throw damaged(name);
    const content = new Uint8Array(bytes, at + 8, size);
    const type = view.getUint32(at + 4, true);
    if (type === JSON_CHUNK && json === null) json = parseJson(content, name);
    else if (type === BINARY_CHUNK && binary === null) binary = content;
    at += 8 + size;
  }
  if (json === null) throw damaged(name);
  return { json, binary };
}

/**
 * Puts a GLB together.
 * @param {any} json @param {Uint8Array | null} binary
 * @returns {ArrayBuffer}
 */
export function writeGlb(json, binary) {
  const text = new TextEncoder().encode(JSON.stringify(json));
  /** @type {{type: number, content: Uint8Array, pad: number}[]} */
  const chunks = [{ type: JSON_CHUNK, content: text, pad: 0x20 }];
  if (binary) chunks.push({ type: BINARY_CHUNK, content: binary, pad: 0 });
  const length = chunks.reduce((sum, { content }) => sum + 8 + padded(content.length), 12);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, 2, true);
  view.setUint32(8, length, true);
  let at = 12;
  for (const { type, content, pad } of chunks) {
    const size = padded(content.length);
    view.setUint32(at, size, true);
    view.setUint32(at + 4, type, true);
    bytes.fill(pad, at + 8, at + 8 + size);
    bytes.set(content, at + 8);
    at += 8 + size;
  }
  return bytes.buffer;
}

/** @param {number} length in bytes @returns {number} the next multiple of four */
export const padded = (length) => 4 * Math.ceil(length / 4);

/**
 * The names of a mesh's morph targets. glTF keeps them in `mesh.extras.targetNames` by convention; older VRM
 * exporters in the first primitive's extras, some in the names of accessors. A morph without a name is
 * called by its number.
 * @param {any} json @param {number} index of the mesh
 * @returns {string[]} as many as there are targets
 */
export function morphNames(json, index) {
  const mesh = json.meshes?.[index];
  const primitive = mesh?.primitives?.[0];
  const targets = primitive?.targets ?? [];
  for (const names of [mesh?.extras?.targetNames, primitive?.extras?.targetNames]) {
    if (Array.isArray(names) && names.length === targets.length) return names.map(String);
  }
  return targets.map((/** @type {any} */ target, /** @type {number} */ i) => {
    const accessor = json.accessors?.[target.POSITION ?? target.NORMAL];
    return typeof accessor?.name === 'string' && accessor.name ? accessor.name : `morph ${i}`;
  });
}

/** @param {Uint8Array} content @param {string} name */
function parseJson(content, name) {
  try {
    return JSON.parse(new TextDecoder().decode(content));
  } catch {
    throw damaged(name);
  }
}

/** @param {string} name */
const damaged = (name) =>
  new PageError(`“${name}” is damaged.`, 'Copy or download it again, or export it anew.');

/** @param {ArrayBuffer} bytes @returns {string} ': it seems to be …', or nothing */
function likeness(bytes) {
  if (bytes.byteLength === 0) return ': it is empty';
  const start = String.fromCharCode(...new Uint8Array(bytes, 0, Math.min(64, bytes.byteLength)));
  const found = OTHERS.find(([pattern]) => pattern.test(start));
  return found ? `: it seems to be ${found[1]}` : '';
}
