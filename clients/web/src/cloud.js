/**
 * The face of a bundle that moves vertices and has no avatar: every vertex as a point.
 *
 * It takes what `Face` takes of vertices. The first frame tells how many vertices there are and how large the head is; it is
 * shown at the size of a head, in the middle of the picture, whatever unit and origin its data set chose.
 * Nothing is allocated after that.
 */

import * as THREE from 'three';

export class Cloud {
  /** @param {{low: number, high: number}} frame what of the picture's height a head fills, in metres */
  constructor(frame) {
    this.frame = frame;
    /** Add this to a scene. */
    this.object = new THREE.Group();
    /** @type {string[]} */
    this.channels = [];
    this.vertexCount = 0;
    /** @type {THREE.Points | null} */
    this.points = null;
  }

  /** A bundle without an avatar has no coefficients; at rest the last frame stays. */
  apply() {}

  /** @param {Float32Array} vertices 3 per vertex, metres */
  setVertices(vertices) {
    if (this.points?.geometry.attributes.position.array.length !== vertices.length) this.#begin(vertices);
    const { position } = /** @type {THREE.Points} */ (this.points).geometry.attributes;
    /** @type {THREE.BufferAttribute} */ (position).copyArray(vertices);
    position.needsUpdate = true;
  }

  readLipGap() {
    return Number.NaN;
  }

  dispose() {
    if (!this.points) return;
    this.object.remove(this.points);
    this.points.geometry.dispose();
    /** @type {THREE.Material} */ (this.points.material).dispose();
    this.points = null;
  }

  /** @param {Float32Array} vertices */
  #begin(vertices) {
    this.dispose();
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute('position', new THREE.BufferAttribute(vertices.slice(), 3));
    const box = new THREE.Box3().setFromBufferAttribute(
      /** @type {THREE.BufferAttribute} */ (geometry.attributes.position),
    );
    const middle = box.getCenter(new THREE.Vector3());
    const { low, high } = this.frame;
    const scale = (high - low) / Math.max(box.max.y - box.min.y, 1e-6);
    const material = new THREE.PointsMaterial({ color: 0xf0d2bd, size: 0.0024 });
    this.points = new THREE.Points(geometry, material);
    this.points.frustumCulled = false;
    this.points.scale.setScalar(scale);
    this.points.position.copy(middle).multiplyScalar(-scale);
    this.points.position.y += (low + high) / 2;
    this.object.add(this.points);
  }
}
