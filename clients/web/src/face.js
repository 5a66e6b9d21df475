/**
 * The bundle's own face: an avatar that also takes whole vertices, and whose lips can be measured.
 *
 * Corners of the meshes know their rig vertex (`_RIG_VERTEX`, which the loader lower-cases), so seams of the
 * texture move as one. Nothing is allocated per frame.
 */

import { Avatar } from './avatar/avatar.js';

export class Face extends Avatar {
  /** @param {import('./avatar/open.js').Opened} opened */
  constructor(opened) {
    super(opened);
    this.object.traverse((/** @type {any} */ object) => {
      if (!object.isMesh) return;
      object.castShadow = !object.material.transparent;
      if (object.material.name === 'mouth wall') {
        // Software renderers let triangles seen edge-on shine through the cheek in single samples.
        object.material.polygonOffset = true;
        object.material.polygonOffsetFactor = object.material.polygonOffsetUnits = 2;
      }
      if (object.material.name === 'eye') object.material.envMapIntensity = 2; // wet
      if (object.material.name === 'mouth') {
        object.material.emissiveMap = object.material.map; // light scatters inside a tooth
        object.material.emissive.setScalar(0.3);
      }
      // A lid's shadow would put out the eyes' highlight, a lip's would grey the teeth; both are painted.
      object.receiveShadow = !/^(eye|mouth)$/.test(object.material.name);
    });
    /** The meshes' parts of the rig. @type {any[]} */
    this.rig = [];
    this.#readRig();
    const extras = this.gltf.asset.extras ?? {};
    this.upperLip = this.#corner(extras.upperLipMid);
    this.lowerLip = this.#corner(extras.lowerLipMid);
    this.free = false; // whether whole vertices were written last
  }

  /** Collect the rig vertex of every corner, the rest pose and the triangles over rig vertices. */
  #readRig() {
    this.vertexCount = 0;
    const triangles = [];
    for (const mesh of this.meshes) {
      const vertexOf = mesh.geometry.getAttribute('_rig_vertex');
      if (!vertexOf) continue;
      const rows = Uint32Array.from(vertexOf.array, Math.round);
      const { position, normal } = mesh.geometry.attributes;
      this.rig.push({
        rows,
        position,
        normal,
        restPosition: position.array.slice(),
        restNormal: normal.array.slice(),
      });
      const index = mesh.geometry.index.array;
      for (let i = 0; i < index.length; i++) triangles.push(rows[index[i]]);
      for (let i = 0; i < rows.length; i++) this.vertexCount = Math.max(this.vertexCount, rows[i] + 1);
    }
    this.triangles = Uint32Array.from(triangles);
    this.normals = new Float32Array(this.vertexCount * 3);
  }

  /** Where the rig vertex `row` first appears: its mesh and corner. */
  #corner(row) {
    for (const mesh of this.meshes) {
      const vertexOf = mesh.geometry.getAttribute('_rig_vertex');
      if (row === undefined || !vertexOf) continue;
      const corner = vertexOf.array.indexOf(row);
      if (corner >= 0) return { mesh, corner };
    }
    return null;
  }

  /**
   * Moves the face by morph targets.
   * @param {readonly string[]} names @param {ArrayLike<number>} values in [0, 1], by `names`
   */
  apply(names, values) {
    if (this.free) this.#rest();
    super.apply(names, values);
  }

  /** Move the face by whole vertices: float32, 3 per rig vertex, metres. */
  setVertices(vertices) {
    if (!this.vertexCount || vertices.length !== this.vertexCount * 3) {
      throw new RangeError(`expected ${this.vertexCount * 3} numbers, got ${vertices.length}`);
    }
    if (!this.free) for (const mesh of this.meshes) mesh.morphTargetInfluences?.fill(0);
    this.free = true;
    weldedNormals(vertices, this.triangles, this.normals);
    for (const part of this.rig) {
      scatter(vertices, part.rows, part.position);
      if (part.normal) scatter(this.normals, part.rows, part.normal);
    }
  }

  /** Back from whole vertices to the rest pose. */
  #rest() {
    this.free = false;
    for (const part of this.rig) {
      part.position.array.set(part.restPosition);
      part.position.needsUpdate = true;
      if (!part.normal) continue;
      part.normal.array.set(part.restNormal);
      part.normal.needsUpdate = true;
    }
  }

  /** Height of the gap between the inner lips in millimetres, read from the mesh as it is posed now. */
  readLipGap() {
    if (!this.upperLip || !this.lowerLip) return NaN;
    return (this.#height(this.upperLip) - this.#height(this.lowerLip)) * 1000;
  }

  #height({ mesh, corner }) {
    const { attributes, morphAttributes } = mesh.geometry;
    const influences = mesh.morphTargetInfluences;
    let y = attributes.position.getY(corner);
    for (let k = 0; k < influences.length; k++) {
      if (influences[k]) y += influences[k] * morphAttributes.position[k].getY(corner);
    }
    return y;
  }
}

/** Copy rows of a packed xyz array into a buffer attribute. */
function scatter(source, rows, attribute) {
  const { array } = attribute;
  for (let i = 0, to = 0; i < rows.length; i++) {
    const from = rows[i] * 3;
    array[to++] = source[from];
    array[to++] = source[from + 1];
    array[to++] = source[from + 2];
  }
  attribute.needsUpdate = true;
}

/** Area-weighted unit normals of an indexed mesh, written into `out`. */
function weldedNormals(p, triangles, out) {
  out.fill(0);
  for (let t = 0; t < triangles.length; t += 3) {
    const a = triangles[t] * 3;
    const b = triangles[t + 1] * 3;
    const c = triangles[t + 2] * 3;
    const ux = p[b] - p[a],
      uy = p[b + 1] - p[a + 1],
      uz = p[b + 2] - p[a + 2];
    const vx = p[c] - p[a],
      vy = p[c + 1] - p[a + 1],
      vz = p[c + 2] - p[a + 2];
    const x = uy * vz - uz * vy,
      y = uz * vx - ux * vz,
      z = ux * vy - uy * vx;
    out[a] += x;
    out[a + 1] += y;
    out[a + 2] += z;
    out[b] += x;
    out[b + 1] += y;
    out[b + 2] += z;
    out[c] += x;
    out[c + 1] += y;
    out[c + 2] += z;
  }
  for (let i = 0; i < out.length; i += 3) {
    const scale = 1 / (Math.sqrt(out[i] * out[i] + out[i + 1] * out[i + 1] + out[i + 2] * out[i + 2]) || 1);
    out[i] *= scale;
    out[i + 1] *= scale;
    out[i + 2] *= scale;
  }
}
