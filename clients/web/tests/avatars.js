/**
 * Avatars for the tests, built here and nowhere stored: from a plate with any morphs, or from the default face,
 * GLBs in other spellings, a VRM 1.0 and a VRM 0.x with a humanoid of fifteen bones.
 */

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parseGlb, writeGlb } from '../src/avatar/glb.js';

const BUNDLE = path.resolve(import.meta.dirname, '../../../streamer/bundles/default');

/** The default face's file. @returns {ArrayBuffer} */
export function defaultFace() {
  const { buffer, byteOffset, byteLength } = readFileSync(path.join(BUNDLE, 'avatar.glb'));
  return /** @type {ArrayBuffer} */ (buffer.slice(byteOffset, byteOffset + byteLength));
}

/**
 * A square plate of 20 cm, whose k-th morph moves all of it by k + 1 millimetres towards +z.
 * @param {readonly string[]} names of its morphs @param {{extras?: boolean}} [options] `extras`: names in the file
 * @returns {ArrayBuffer}
 */
export function plate(names, { extras = true } = {}) {
  const corners = [-0.1, -0.1, 0, 0.1, -0.1, 0, 0.1, 0.1, 0, -0.1, 0.1, 0];
  const moves = names.flatMap((_, k) => [0, 1, 2, 3].flatMap(() => [0, 0, 0.001 * (k + 1)]));
  const floats = Float32Array.from([...corners, ...moves]);
  const binary = new Uint8Array(floats.byteLength + 12);
  binary.set(new Uint8Array(floats.buffer));
  binary.set(new Uint8Array(Uint16Array.of(0, 1, 2, 0, 2, 3).buffer), floats.byteLength);
  const vectors = (/** @type {number} */ k) => ({
    ...{ bufferView: 0, byteOffset: 48 * k, componentType: 5126, count: 4, type: 'VEC3' },
    ...{ min: k ? [0, 0, 0.001 * k] : [-0.1, -0.1, 0], max: k ? [0, 0, 0.001 * k] : [0.1, 0.1, 0] },
  });
  const json = {
    asset: { version: '2.0' },
    scene: 0,
    scenes: [{ nodes: [0] }],
    nodes: [{ name: 'plate', mesh: 0 }],
    meshes: [
      {
        primitives: [
          {
            attributes: { POSITION: 0 },
            indices: names.length + 1,
            targets: names.map((_, k) => ({ POSITION: k + 1 })),
          },
        ],
        ...(extras && names.length ? { extras: { targetNames: names } } : {}),
      },
    ],
    accessors: [
      ...Array.from({ length: names.length + 1 }, (_, k) => vectors(k)),
      { bufferView: 1, componentType: 5123, count: 6, type: 'SCALAR' },
    ],
    bufferViews: [
      { buffer: 0, byteOffset: 0, byteLength: floats.byteLength, byteStride: 12 },
      { buffer: 0, byteOffset: floats.byteLength, byteLength: 12 },
    ],
    buffers: [{ byteLength: binary.byteLength }],
  };
  if (names.length === 0) delete (/** @type {any} */ (json.meshes[0].primitives[0]).targets);
  return writeGlb(json, binary);
}

/** The same file with other names for its morphs. @param {ArrayBuffer} bytes @param {(name: string) => string} rename */
export function renamed(bytes, rename) {
  const { json, binary } = parseGlb(bytes, 'test');
  for (const mesh of json.meshes) {
    if (mesh.extras?.targetNames) mesh.extras.targetNames = mesh.extras.targetNames.map(rename);
  }
  return writeGlb(json, binary);
}

/** VRM's expressions as mixtures of ARKit's shapes. @type {Record<string, Record<string, number>>} */
export const EXPRESSIONS = {
  aa: { jawOpen: 0.7, mouthLowerDownLeft: 0.35, mouthLowerDownRight: 0.35 },
  ih: {
    jawOpen: 0.15,
    mouthStretchLeft: 0.5,
    mouthStretchRight: 0.5,
    mouthUpperUpLeft: 0.3,
    mouthUpperUpRight: 0.3,
  },
  ou: { mouthPucker: 0.85, jawOpen: 0.15 },
  ee: { jawOpen: 0.4, mouthStretchLeft: 0.3, mouthStretchRight: 0.3 },
  oh: { mouthPucker: 0.5, mouthFunnel: 0.4, jawOpen: 0.4 },
  blink: { eyeBlinkLeft: 1, eyeBlinkRight: 1 },
  happy: { mouthSmileLeft: 0.8, mouthSmileRight: 0.8 },
};

/** @type {[string, number, [number, number, number]][]} bone, its parent's place in this list, where it is from there */
const BONES = [
  ['hips', -1, [0, 0.9, 0]],
  ['spine', 0, [0, 0.2, 0]],
  ['head', 1, [0, 0.35, 0]],
  ...['left', 'right'].flatMap((side, i) => {
    const x = i === 0 ? 1 : -1;
    const at = 3 + 6 * i;
    return /** @type {[string, number, [number, number, number]][]} */ ([
      [`${side}UpperLeg`, 0, [0.1 * x, -0.05, 0]],
      [`${side}LowerLeg`, at, [0, -0.4, 0]],
      [`${side}Foot`, at + 1, [0, -0.4, 0]],
      [`${side}UpperArm`, 1, [0.15 * x, 0.25, 0]],
      [`${side}LowerArm`, at + 3, [0.25 * x, 0, 0]],
      [`${side}Hand`, at + 4, [0.25 * x, 0, 0]],
    ]);
  }),
];

/**
 * Gives a GLB a body's bones, with what it shows under the head; returns the bones' nodes by name.
 * @param {any} json changed in place @param {boolean} facesBack as version 0 does
 */
function addBones(json, facesBack) {
  const first = json.nodes.length;
  const shown = json.scenes[0].nodes;
  const turn = facesBack ? -1 : 1; // version 0's left is at −x
  for (const [name, parent, [x, y, z]] of BONES) {
    json.nodes.push({ name, translation: [turn * x, y, z] });
    if (parent < 0) continue;
    const above = json.nodes[first + parent];
    above.children = [...(above.children ?? []), json.nodes.length - 1];
  }
  const neck = { name: 'shown', translation: [0, 0.12, 0], children: shown };
  if (facesBack) Object.assign(neck, { rotation: [0, 1, 0, 0] });
  json.nodes.push(neck);
  json.nodes[first + 2].children = [json.nodes.length - 1];
  json.scenes[0].nodes = [first];
  return Object.fromEntries(BONES.map(([name], i) => [name, first + i]));
}

/** Where each mesh has a morph: [mesh, index]. @param {any} json @param {string} name @returns {[number, number][]} */
const morphsOf = (json, name) =>
  json.meshes.flatMap((/** @type {any} */ mesh, /** @type {number} */ at) => {
    const index = mesh.extras?.targetNames?.indexOf(name) ?? -1;
    return index < 0 ? [] : [[at, index]];
  });

/**
 * A VRM 1.0 of a GLB whose morphs are ARKit's; in the VRM they are nameless, so that only expressions move it.
 * @param {ArrayBuffer} bytes
 * @param {{fields?: Record<string, any>, expressions?: typeof EXPRESSIONS, keepNames?: boolean, bones?: boolean}} [options]
 *   `fields`: what else an expression says, such as {blink: {overrideMouth: 'block'}}; `bones`: false leaves them out
 */
export function vrm1(
  bytes,
  { fields = {}, expressions = EXPRESSIONS, keepNames = false, bones = true } = {},
) {
  const { json, binary } = parseGlb(bytes, 'test');
  const nodes = addBones(json, false);
  const nodeOf = (/** @type {number} */ mesh) =>
    json.nodes.findIndex((/** @type {any} */ node) => node.mesh === mesh);
  const preset = Object.fromEntries(
    Object.entries(expressions).map(([name, mixture]) => [
      name,
      {
        morphTargetBinds: Object.entries(mixture).flatMap(([morph, weight]) =>
          morphsOf(json, morph).map(([mesh, index]) => ({ node: nodeOf(mesh), index, weight })),
        ),
        ...fields[name],
      },
    ]),
  );
  json.extensionsUsed = [...(json.extensionsUsed ?? []), 'VRMC_vrm'];
  json.extensions = {
    VRMC_vrm: {
      specVersion: '1.0',
      meta: { name: 'Test', version: '1', authors: ['tests'], licenseUrl: 'https://vrm.dev/licenses/1.0/' },
      humanoid: {
        humanBones: bones
          ? Object.fromEntries(Object.entries(nodes).map(([name, node]) => [name, { node }]))
          : {},
      },
      expressions: { preset },
    },
  };
  return finish(json, binary, keepNames);
}

/** A VRM 0.x, likewise. @param {ArrayBuffer} bytes @param {{expressions?: typeof EXPRESSIONS, keepNames?: boolean}} [options] */
export function vrm0(bytes, { expressions = EXPRESSIONS, keepNames = false } = {}) {
  const { json, binary } = parseGlb(bytes, 'test');
  const nodes = addBones(json, true);
  const old = { aa: 'a', ih: 'i', ou: 'u', ee: 'e', oh: 'o', blink: 'blink', happy: 'joy' };
  json.extensionsUsed = [...(json.extensionsUsed ?? []), 'VRM'];
  json.extensions = {
    VRM: {
      exporterVersion: 'tests',
      specVersion: '0.0',
      meta: { title: 'Test', author: 'tests', version: '1', texture: -1 },
      humanoid: { humanBones: Object.entries(nodes).map(([bone, node]) => ({ bone, node })) },
      firstPerson: {
        ...{ firstPersonBone: nodes.head, meshAnnotations: [], lookAtTypeName: 'Bone' },
        ...Object.fromEntries(
          ['HorizontalInner', 'HorizontalOuter', 'VerticalDown', 'VerticalUp'].map((way) => [
            `lookAt${way}`,
            { curve: [0, 0, 0, 1, 1, 1, 1, 0], xRange: 90, yRange: 10 },
          ]),
        ),
      },
      blendShapeMaster: {
        blendShapeGroups: Object.entries(expressions).map(([name, mixture]) => {
          const presetName = old[/** @type {keyof typeof old} */ (name)];
          const binds = Object.entries(mixture).flatMap(([morph, weight]) =>
            morphsOf(json, morph).map(([mesh, index]) => ({ mesh, index, weight: 100 * weight })),
          );
          return { name: presetName.toUpperCase(), presetName, binds, materialValues: [] };
        }),
      },
      secondaryAnimation: { boneGroups: [], colliderGroups: [] },
      materialProperties: [],
    },
  };
  return finish(json, binary, keepNames);
}

/** @param {any} json @param {Uint8Array | null} binary @param {boolean} keepNames */
function finish(json, binary, keepNames) {
  if (!keepNames) {
    for (const mesh of json.meshes) {
      if (mesh.extras?.targetNames)
        mesh.extras.targetNames = mesh.extras.targetNames.map((_, i) => `shape ${i}`);
    }
  }
  return writeGlb(json, binary);
}
