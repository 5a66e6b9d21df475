/**
 * Opens an avatar's file: a GLB, a VRM 0.x or a VRM 1.0, from an address, a dropped file or bytes.
 *
 * What a plain avatar does not need (VRM's loader, the decoders of compressed meshes) is imported only when the
 * file asks for it. Every failure is a PageError: what is wrong, and what to do about it. What is odd but no
 * failure is noted, and the avatar is shown.
 */

import { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';
import { PageError } from '../page-error.js';
import { parseGlb } from './glb.js';

const BIGGEST_BYTES = 512 * 1024 * 1024;

/**
 * @typedef {object} Opened
 * @property {any} gltf what GLTFLoader made of it
 * @property {any} vrm three-vrm's VRM, null for a plain GLB
 * @property {any} json the file's glTF
 * @property {ArrayBuffer} bytes the file as it was
 * @property {string} name
 * @property {string[]} notes sentences about what is odd
 */

/**
 * @param {string | URL | Blob | ArrayBuffer} source an address, a file, or its bytes
 * @param {string} [name] for the sentences; the file's own where it has one
 * @returns {Promise<Opened>}
 * @throws {PageError}
 */
export async function openAvatar(source, name = nameOf(source)) {
  const bytes = await bytesOf(source, name);
  const { json } = parseGlb(bytes, name);
  const version = vrmVersion(json);
  /** @type {string[]} */
  const notes = [];
  let gltf = null;
  if (version) {
    try {
      gltf = await parse(bytes, json, true);
    } catch (error) {
      // Its humanoid is incomplete, say: the morphs can still be driven by name.
      notes.push(`“${name}” is not a complete VRM (${wordsOf(error)}), so it is shown as a plain GLB.`);
    }
  }
  try {
    gltf ??= await parse(bytes, json, false);
  } catch (error) {
    throw new PageError(
      `“${name}” cannot be shown: ${wordsOf(error)}`,
      'Export it anew, or try another avatar.',
    );
  }
  const vrm = gltf.userData.vrm ?? null;
  if (version && !vrm && notes.length === 0) {
    notes.push(`“${name}” says that it is a VRM and has no humanoid, so it is shown as a plain GLB.`);
  }
  return { gltf, vrm, json, bytes, name, notes };
}

/** @param {string | URL | Blob | ArrayBuffer} source */
function nameOf(source) {
  if (source instanceof Blob) return /** @type {File} */ (source).name || 'the file';
  if (source instanceof ArrayBuffer) return 'the file';
  return decodeURIComponent(String(source).split(/[?#]/)[0].split('/').at(-1) || String(source));
}

/** @param {string | URL | Blob | ArrayBuffer} source @param {string} name @returns {Promise<ArrayBuffer>} */
async function bytesOf(source, name) {
  try {
    if (source instanceof ArrayBuffer) return source;
    if (source instanceof Blob) {
      if (source.size > BIGGEST_BYTES) throw new Error('it has more than 512 MiB');
      return await source.arrayBuffer();
    }
    const response = await fetch(source);
    if (!response.ok) throw new Error(`the server answers ${response.status}`);
    return await response.arrayBuffer();
  } catch (error) {
    throw new PageError(
      `“${name}” could not be read: ${wordsOf(error)}`,
      'Check its name and place, and try again.',
    );
  }
}

/** @param {any} json @returns {'0' | '1' | null} */
function vrmVersion(json) {
  if (json.extensions?.VRMC_vrm) return '1';
  return json.extensions?.VRM ? '0' : null;
}

/** @param {ArrayBuffer} bytes @param {any} json @param {boolean} asVrm */
async function parse(bytes, json, asVrm) {
  const loader = new GLTFLoader();
  const used = new Set([...(json.extensionsUsed ?? []), ...(json.extensionsRequired ?? [])]);
  if (json.extensionsRequired?.includes('KHR_texture_basisu')) {
    throw new Error('its textures are KTX2; export them as PNG or JPEG.');
  }
  if (used.has('EXT_meshopt_compression') || used.has('KHR_meshopt_compression')) {
    const { MeshoptDecoder } = await import('three/addons/libs/meshopt_decoder.module.js');
    loader.setMeshoptDecoder(MeshoptDecoder);
  }
  let draco = null;
  if (used.has('KHR_draco_mesh_compression')) {
    const { DRACOLoader, DRACO_GLTF_CONFIG } = await import('three/addons/loaders/DRACOLoader.js');
    draco = new DRACOLoader();
    if (DRACO_GLTF_CONFIG) draco.setDecoderPath(DRACO_GLTF_CONFIG); // the smaller decoder, in newer releases
    loader.setDRACOLoader(draco);
  }
  if (asVrm) {
    const { VRMLoaderPlugin } = await import('@pixiv/three-vrm');
    loader.register((/** @type {any} */ parser) => new VRMLoaderPlugin(parser));
  }
  try {
    const gltf = await loader.parseAsync(bytes, '');
    await new Promise((resolve) => setTimeout(resolve)); // three-vrm binds its morphs a moment later
    return gltf;
  } finally {
    draco?.dispose();
  }
}

/** @param {unknown} error @returns {string} a clause that ends with a full stop */
function wordsOf(error) {
  const words = error instanceof Error ? error.message : String(error);
  return /[.!?]$/.test(words) ? words : `${words}.`;
}
