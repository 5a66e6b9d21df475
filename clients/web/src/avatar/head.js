/**
 * Where an avatar's head is, so that a camera can look at it, whatever the avatar's size and place.
 *
 * A humanoid says so by its head bone; a plain GLB often has a bone called "head"; else the head is found from
 * what its morphs move: lips, lids and brows lie in the face, and a head is a known multiple of that. All in
 * the avatar's own space, metres or not.
 */

import * as THREE from 'three';

const MOVED = 0.2; // of a morph's largest move: vertices that move less are its fringe
const MOST_SAMPLES = 6000; // per mesh: every vertex of a small one

/**
 * @typedef {object} Head
 * @property {number} low the chin @property {number} high the top of the hair
 * @property {number} x its middle @property {number} front the face's nearest point, z
 */

/**
 * @param {THREE.Object3D} object the avatar, at rest
 * @param {THREE.Object3D | null} bone the head's, where it is known
 * @param {{mesh: THREE.Mesh, index: number, isUpper: boolean}[]} morphs that speech moves; `isUpper`: lids and brows
 * @returns {Head | null} null where there is nothing to see
 */
export function findHead(object, bone, morphs) {
  object.updateWorldMatrix(true, true);
  const points = samples(object);
  if (points.length === 0) return null;
  const whole = new THREE.Box3().setFromPoints(points);
  bone ??=
    object.getObjectsByProperty('isBone', true).find(({ name }) => /^(.*[_:. ])?head$/i.test(name)) ?? null;
  const face = bone ? null : movedBox(morphs);
  let low = whole.min.y;
  let high = whole.max.y;
  let x = (whole.min.x + whole.max.x) / 2;
  if (bone) {
    const at = bone.getWorldPosition(new THREE.Vector3());
    x = at.x;
    low = at.y - 0.1 * (whole.max.y - at.y);
  } else if (face && !face.isEmpty()) {
    const tall = face.max.y - face.min.y;
    const hasUpper = morphs.some(({ isUpper }) => isUpper);
    x = (face.min.x + face.max.x) / 2;
    low = face.min.y - 0.05 * tall;
    high = Math.min(whole.max.y, face.max.y + (hasUpper ? 0.6 : 1.8) * tall);
  }
  if (!(high - low > 1e-6)) [low, high] = [whole.min.y, whole.max.y];
  const near = points.filter(({ x: px, y }) => y >= low && y <= high && Math.abs(px - x) < high - low);
  const front = near.reduce((most, { z }) => Math.max(most, z), Number.NEGATIVE_INFINITY);
  return { low, high, x, front: Number.isFinite(front) ? front : whole.max.z };
}

/**
 * A group that holds the avatar with its head where the stage expects one.
 * @param {THREE.Object3D} object @param {Head} head
 * @param {{low: number, high: number, front: number}} place of the head, metres
 */
export function placeHead(object, head, place) {
  const scale = (place.high - place.low) / (head.high - head.low);
  const holder = new THREE.Group();
  holder.add(object);
  holder.scale.setScalar(scale);
  holder.position.set(-scale * head.x, place.low - scale * head.low, place.front - scale * head.front);
  holder.updateWorldMatrix(true, true);
  return holder;
}

/** Vertices as they are drawn, in world space. @param {THREE.Object3D} object */
function samples(object) {
  /** @type {THREE.Vector3[]} */
  const points = [];
  object.traverseVisible((one) => {
    const mesh = /** @type {THREE.Mesh} */ (one);
    const count = mesh.isMesh ? (mesh.geometry.getAttribute('position')?.count ?? 0) : 0;
    const step = Math.ceil(count / MOST_SAMPLES) || 1;
    for (let i = 0; i < count; i += step) points.push(drawn(mesh, i));
  });
  return points.filter(({ x, y, z }) => Number.isFinite(x + y + z));
}

/** @param {THREE.Mesh} mesh @param {number} i */
const drawn = (mesh, i) => mesh.getVertexPosition(i, new THREE.Vector3()).applyMatrix4(mesh.matrixWorld);

/** The box of what the morphs move, in world space. @param {{mesh: THREE.Mesh, index: number}[]} morphs */
function movedBox(morphs) {
  const box = new THREE.Box3();
  for (const { mesh, index } of morphs) {
    const moves = mesh.geometry.morphAttributes.position?.[index];
    if (!moves) continue;
    let most = 0;
    const length = (/** @type {number} */ i) => Math.hypot(moves.getX(i), moves.getY(i), moves.getZ(i));
    for (let i = 0; i < moves.count; i++) most = Math.max(most, length(i));
    for (let i = 0; i < moves.count; i++) {
      if (most > 0 && length(i) > MOVED * most) box.expandByPoint(drawn(mesh, i));
    }
  }
  return box;
}
