/**
 * Writes an animation into an avatar's own file: the same GLB or VRM, with one clip more.
 *
 * Nothing else in the file is touched (materials, textures, compression and a VRM's own extensions stay as their
 * maker wrote them), which a scene that is exported anew cannot promise. The clip moves `weights`, the only
 * way in which glTF animates morphs: every node with a morphed mesh gets all weights of its mesh at every
 * keyframe. What an expression does to colours and textures has no place in glTF and is left out.
 */

import { padded, parseGlb, writeGlb } from './glb.js';

const FLOAT = 5126;

/**
 * The weights of an avatar's meshes for rows of coefficients, by node of its file.
 * @param {import('./avatar.js').Avatar} avatar moved on the way, and put to rest
 * @param {readonly string[]} names @param {Float32Array[]} rows by `names`
 * @returns {Map<number, Float32Array>} node → rows × morphs
 */
export function weightsByNode(avatar, names, rows) {
  /** @type {Map<number, {mesh: import('three').Mesh, weights: Float32Array}>} */
  const nodes = new Map();
  for (const mesh of avatar.meshes) {
    const node = nodeOf(avatar, mesh);
    const count = mesh.morphTargetInfluences?.length ?? 0;
    if (node !== null && !nodes.has(node)) {
      nodes.set(node, { mesh, weights: new Float32Array(rows.length * count) });
    }
  }
  for (let i = 0; i < rows.length; i++) {
    avatar.apply(names, rows[i]);
    for (const { mesh, weights } of nodes.values()) {
      const influences = mesh.morphTargetInfluences ?? [];
      weights.set(influences, i * influences.length);
    }
  }
  avatar.apply(names, new Float32Array(names.length));
  return new Map([...nodes].map(([node, { weights }]) => [node, weights]));
}

/** The file's node that a mesh hangs on. @param {import('./avatar.js').Avatar} avatar @param {import('three').Object3D} mesh */
function nodeOf(avatar, mesh) {
  const { associations } = avatar.gltf.parser;
  for (const object of [mesh, mesh.parent]) {
    const node = object && associations.get(object)?.nodes;
    if (node !== undefined && node !== null && avatar.json.nodes[node].mesh !== undefined) return node;
  }
  return null;
}

/**
 * @param {ArrayBuffer} bytes the avatar's file
 * @param {{name: string, times: number[], weights: Map<number, Float32Array>}} clip `times`: seconds, rising;
 *   `weights`: of each node, times × morphs
 * @returns {ArrayBuffer} the file with the clip
 */
export function addAnimation(bytes, { name, times, weights }) {
  const { json, binary } = parseGlb(bytes, name);
  const arrays = [Float32Array.from(times), ...weights.values()];
  const start = padded(binary?.length ?? 0);
  const length = arrays.reduce((sum, array) => sum + array.byteLength, 0);
  const grown = new Uint8Array(start + length);
  if (binary) grown.set(binary);

  json.buffers ??= [];
  json.bufferViews ??= [];
  json.accessors ??= [];
  const isOwn = binary !== null && json.buffers[0]?.uri === undefined; // the binary chunk is the first buffer
  if (isOwn) json.buffers[0].byteLength = grown.length;
  else {
    json.buffers.unshift({ byteLength: grown.length });
    for (const view of json.bufferViews) {
      for (const one of [view, ...Object.values(view.extensions ?? {})])
        if (one.buffer !== undefined) one.buffer++;
    }
  }

  let at = start;
  const accessors = arrays.map((array) => {
    grown.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), at);
    json.bufferViews.push({ buffer: 0, byteOffset: at, byteLength: array.byteLength });
    at += array.byteLength;
    const view = json.bufferViews.length - 1;
    json.accessors.push({ bufferView: view, componentType: FLOAT, count: array.length, type: 'SCALAR' });
    return json.accessors.length - 1;
  });
  Object.assign(json.accessors[accessors[0]], { min: [times[0]], max: [times[times.length - 1]] });

  const nodes = [...weights.keys()];
  json.animations = [
    ...(json.animations ?? []),
    {
      name,
      samplers: nodes.map((_, i) => ({
        input: accessors[0],
        output: accessors[i + 1],
        interpolation: 'LINEAR',
      })),
      channels: nodes.map((node, i) => ({ sampler: i, target: { node, path: 'weights' } })),
    },
  ];
  return writeGlb(json, grown);
}
