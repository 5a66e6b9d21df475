/**
 * For machines that draw without a graphics card (virtual machines, remote desktops, test browsers).
 *
 * 52 morph targets in a vertex shader are nothing to a graphics card and far too much for a processor that
 * plays one: 0.4 pictures a second. So here the morphing is done in plain numbers, only for weights that are
 * not zero, and handed to the meshes as whole vertices; shadows are left out, and there are as many pixels as
 * the machine can keep up with. The bundle's face is the same, vertex for vertex; another avatar keeps the
 * normals that it has at rest.
 */

import { BufferAttribute } from 'three';

const FIRST_PIXELS = 200_000;
const FEWEST_PIXELS = 90_000;
const MOST_PIXELS = 1_000_000;
const SLOW_HZ = 12;
const QUICK_HZ = 28;

/**
 * Whether WebGL is drawn by the processor.
 * @returns {boolean}
 */
export function drawsInSoftware() {
  const gl = document.createElement('canvas').getContext('webgl2');
  if (!gl) return false;
  const names = gl.getExtension('WEBGL_debug_renderer_info');
  const renderer = String(gl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
  gl.getExtension('WEBGL_lose_context')?.loseContext();
  return /swiftshader|llvmpipe|softpipe|software|basic render/i.test(renderer);
}

/** As many pixels as a slow machine can keep up with. */
export class Pace {
  /** @param {import('./stage.js').Stage} stage */
  constructor(stage) {
    this.stage = stage;
    this.pixels = FIRST_PIXELS;
    stage.pixelRatioFor = (/** @type {number} */ area) =>
      Math.min(1, Math.sqrt(this.pixels / Math.max(1, area)));
    stage.resize();
  }

  /** @param {number} drawsPerS how many pictures the last second had */
  keepUp(drawsPerS) {
    const change = drawsPerS < SLOW_HZ ? 0.7 : drawsPerS > QUICK_HZ ? 1.3 : 1;
    const wanted = Math.min(Math.max(change * this.pixels, FEWEST_PIXELS), MOST_PIXELS);
    if (wanted === this.pixels) return;
    this.pixels = wanted;
    this.stage.resize();
  }
}

/**
 * Takes an avatar's morph targets off the graphics card: from now on they are added up here.
 * @param {import('./avatar/avatar.js').Avatar} avatar
 */
export function morphOnProcessor(avatar) {
  if (/** @type {any} */ (avatar).vertexCount) morphRig(/** @type {any} */ (avatar));
  else morphMeshes(avatar);
}

/**
 * The bundle's face, whose corners know their rig vertex: vertices and normals.
 * @param {import('./face.js').Face} face
 */
function morphRig(face) {
  const template = new Float32Array(3 * face.vertexCount);
  const moves = face.retarget.targets.map(() => /** @type {Map<number, number>} */ (new Map()));
  for (const mesh of face.meshes) {
    const rows = mesh.geometry.getAttribute('_rig_vertex');
    const targets = mesh.geometry.morphAttributes.position;
    if (!rows || !targets) continue;
    const { position } = mesh.geometry.attributes;
    for (let corner = 0; corner < rows.count; corner++) {
      const row = 3 * Math.round(rows.getX(corner));
      for (let axis = 0; axis < 3; axis++) {
        template[row + axis] = position.getComponent(corner, axis);
        for (let k = 0; k < targets.length; k++) {
          const move = targets[k].getComponent(corner, axis);
          if (move !== 0) moves[k].set(row + axis, move);
        }
      }
    }
    dropMorphs(mesh);
  }
  const basis = moves.map(sparse);
  const vertices = template.slice();
  face.apply = (names, values) => {
    const weights = face.retarget.weigh(names, values);
    vertices.set(template);
    add(basis, weights, vertices);
    face.setVertices(vertices);
  };
}

/**
 * Any avatar, mesh by mesh, by the influences that it sets itself (so a VRM's expressions count too).
 * @param {import('./avatar/avatar.js').Avatar} avatar
 */
function morphMeshes(avatar) {
  const parts = avatar.meshes.flatMap((mesh) => {
    const targets = mesh.geometry.morphAttributes.position;
    if (!targets) return [];
    const basis = targets.map((target) => {
      const move = new Map();
      for (let i = 0; i < target.count; i++) {
        for (let axis = 0; axis < 3; axis++) {
          const by = target.getComponent(i, axis);
          if (by !== 0) move.set(3 * i + axis, by);
        }
      }
      return sparse(move);
    });
    // Plain numbers, whatever the file has: quantized, interleaved.
    const { position } = mesh.geometry.attributes;
    const rest = new Float32Array(3 * position.count);
    for (let i = 0; i < rest.length; i++) rest[i] = position.getComponent(Math.floor(i / 3), i % 3);
    const moved = new BufferAttribute(rest.slice(), 3);
    mesh.geometry.setAttribute('position', moved);
    const influences = mesh.morphTargetInfluences ?? [];
    return [{ mesh, basis, rest, moved, influences, shown: new Float32Array(influences.length) }];
  });
  for (const { mesh } of parts) dropMorphs(mesh);
  const update = avatar.update.bind(avatar);
  avatar.update = (elapsedS) => {
    update(elapsedS);
    for (const { basis, rest, moved, influences, shown } of parts) {
      if (influences.every((weight, k) => Math.abs(weight - shown[k]) < 1e-4)) continue;
      shown.set(influences);
      moved.array.set(rest);
      add(basis, influences, moved.array);
      moved.needsUpdate = true;
    }
  };
}

/** @param {import('three').Mesh} mesh */
function dropMorphs(mesh) {
  mesh.geometry.morphAttributes = {};
  for (const material of [mesh.material].flat()) material.needsUpdate = true;
}

/** @param {Map<number, number>} move */
const sparse = (move) => ({ at: Uint32Array.from(move.keys()), by: Float32Array.from(move.values()) });

/**
 * @param {{at: Uint32Array, by: Float32Array}[]} basis @param {ArrayLike<number>} weights
 * @param {{[index: number]: number}} out numbers, x y z of each vertex
 */
function add(basis, weights, out) {
  for (let k = 0; k < basis.length; k++) {
    const weight = weights[k];
    if (weight === 0) continue;
    const { at, by } = basis[k];
    for (let i = 0; i < at.length; i++) out[at[i]] += weight * by[i];
  }
}
