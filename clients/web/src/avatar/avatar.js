/**
 * An avatar: any GLB or VRM, moved by a stream's coefficients.
 *
 *     const avatar = await Avatar.load('me.vrm');
 *     scene.add(avatar.object);
 *     avatar.apply(names, values);   // at each picture, with the stream's channels
 *     avatar.update(elapsedS);       // then, for what swings
 *
 * Its targets (morphs by name, expressions of a VRM) are matched to signals by name (names.js) and may be linked
 * otherwise. Rules: `apply` changes the channels that it is given and no others, so a camera may drive the
 * brows beside a voice; a target that nothing drives is left to whoever else moves it; `apply` allocates
 * nothing.
 */

import * as THREE from 'three';
import { PageError } from '../page-error.js';
import { ARKIT } from './channels.js';
import { morphNames } from './glb.js';
import { findHead } from './head.js';
import { openAvatar } from './open.js';
import { Retarget } from './retarget.js';
import { regionOfSignal, SIGNALS } from './signals.js';
import { VrmFace } from './vrm.js';

const LOOKS = {
  left: SIGNALS.indexOf('eyesLookLeft'),
  right: SIGNALS.indexOf('eyesLookRight'),
  up: SIGNALS.indexOf('eyesLookUp'),
  down: SIGNALS.indexOf('eyesLookDown'),
};

/** @typedef {{mesh: THREE.Mesh, influences: number[], index: number}} Place of a morph */

export class Avatar {
  /**
   * @param {string | URL | Blob | ArrayBuffer} source an address, a dropped file, or a file's bytes
   * @param {{name?: string}} [options] `name`: for sentences
   * @throws {PageError} it cannot be read, is no GLB, or has nothing that could be moved
   */
  static async load(source, { name } = {}) {
    return new Avatar(await openAvatar(source, name));
  }

  /** @param {import('./open.js').Opened} opened */
  constructor({ gltf, vrm, json, bytes, name, notes }) {
    this.name = name;
    this.gltf = gltf;
    this.json = json;
    this.bytes = bytes;
    /** What is odd about it, in sentences. */
    this.notes = [...notes];
    /** Add this to a scene. @type {THREE.Object3D} */
    this.object = gltf.scene;
    /** What a stream may move: the ARKit channels, through whatever the avatar has. */
    this.channels = ARKIT;
    this.vrm = vrm ? new VrmFace(vrm) : null;
    /** @type {THREE.Mesh[]} */
    this.meshes = [];
    /** @type {Map<string, Place[]>} */
    this.places = new Map();
    this.object.traverse((one) => this.#take(/** @type {THREE.Mesh} */ (one)));

    const expressions = this.vrm?.targets ?? [];
    this.expressionCount = expressions.length;
    /** @type {import('./names.js').Target[]} */
    const morphs = [...this.places.keys()].map((morph) => ({ name: morph, kind: 'morph' }));
    if (expressions.length + morphs.length === 0) {
      throw new PageError(
        `“${name}” has no morphs and no expressions: nothing on it can be moved.`,
        'Export it with its shape keys (blend shapes).',
      );
    }
    this.retarget = new Retarget([...expressions, ...morphs]);
    /** By target; empty for an expression. @type {Place[][]} */
    this.placesOf = this.retarget.targets.map((target) =>
      target.kind === 'morph' ? (this.places.get(target.name) ?? []) : [],
    );
    this.#settle();
    this.#note();
  }

  /** Whether speech shows on it. */
  get speaks() {
    return this.retarget.speaks;
  }

  /**
   * Moves the face.
   * @param {readonly string[]} names ARKit channels, in any order; others are ignored; keep the array
   * @param {ArrayLike<number>} values by `names`, 0 to 1
   */
  apply(names, values) {
    this.retarget.weigh(names, values);
    if (this.vrm) {
      const { links, weights } = this.retarget;
      for (let i = 0; i < this.expressionCount; i++)
        if (links[i].source !== null) this.vrm.show(i, weights[i]);
      if (this.turnsEyes) this.vrm.look(this.retarget.signals, LOOKS);
      this.vrm.apply();
    }
    this.#writeMorphs();
  }

  /** Lets time pass for what swings and blinks by itself. @param {number} elapsedS since the last picture */
  update(elapsedS) {
    if (!this.vrm) return;
    this.vrm.update(elapsedS);
    this.#writeMorphs(); // what the expressions cleared
  }

  /**
   * Changes what moves a target; see Retarget.
   * @param {number} index @param {string | null} source @param {number} [gain]
   */
  link(index, source, gain) {
    this.#letGo(index);
    this.retarget.link(index, source, gain);
    this.#settle();
  }

  /** Back to what was matched by name. */
  resetLinks() {
    for (let i = 0; i < this.retarget.links.length; i++) this.#letGo(i);
    this.retarget.reset();
    this.#settle();
  }

  /** Links that were kept with `retarget.changes()`. @param {any} changes */
  restoreLinks(changes) {
    this.retarget.restore(changes);
    this.#settle();
  }

  /** Whether a VRM's driven expressions may hold back the mouth, as its file says. */
  get keepsOverrides() {
    return this.vrm?.keepsOverrides ?? false;
  }

  set keepsOverrides(keeps) {
    if (!this.vrm) return;
    this.vrm.keepsOverrides = keeps;
    this.#settle();
  }

  /** The expression that holds back the mouth now (a VRM's overrideMouth), null when none does. */
  get stilledBy() {
    return this.vrm?.stilledBy ?? null;
  }

  /** Where its head is. @returns {import('./head.js').Head | null} */
  findHead() {
    const bone = this.vrm?.vrm.humanoid?.getRawBoneNode('head') ?? null;
    const driven = this.retarget.links.flatMap(({ source }, i) =>
      source === null
        ? []
        : this.placesOf[i].map(({ mesh, index }) => ({
            mesh,
            index,
            isUpper: /eyes|brows/.test(regionOfSignal(source)),
          })),
    );
    return findHead(this.object, bone, driven);
  }

  dispose() {
    this.object.removeFromParent();
    this.object.traverse((one) => {
      const { geometry, material, skeleton } = /** @type {any} */ (one);
      geometry?.dispose();
      skeleton?.dispose();
      for (const each of [material ?? []].flat()) {
        for (const value of Object.values(each)) if (/** @type {any} */ (value)?.isTexture) value.dispose();
        each.dispose();
      }
    });
  }

  /** @param {THREE.Mesh} mesh */
  #take(mesh) {
    if (!mesh.isMesh) return;
    mesh.frustumCulled = false; // what moves leaves its resting bounds
    const influences = mesh.morphTargetInfluences;
    if (!influences) return;
    this.meshes.push(mesh);
    const index = this.gltf.parser?.associations?.get(mesh)?.meshes;
    const names =
      index === undefined ? Object.keys(mesh.morphTargetDictionary ?? {}) : morphNames(this.json, index);
    names.forEach((morph, i) => {
      const places = this.places.get(morph);
      const place = { mesh, influences, index: i };
      if (places) places.push(place);
      else this.places.set(morph, [place]);
    });
  }

  #writeMorphs() {
    const { links, weights } = this.retarget;
    for (let i = this.expressionCount; i < links.length; i++) {
      if (links[i].source === null) continue;
      const places = this.placesOf[i];
      for (let k = 0; k < places.length; k++) places[k].influences[places[k].index] = weights[i];
    }
  }

  /** A target that is about to be moved by something else, or by nothing, goes to rest. @param {number} index */
  #letGo(index) {
    if (this.retarget.links[index].source === null) return;
    if (index < this.expressionCount) this.vrm?.show(index, 0);
    for (const { influences, index: at } of this.placesOf[index]) influences[at] = 0;
  }

  #settle() {
    const { driven } = this.retarget;
    this.turnsEyes = !driven.some(({ source }) => /^eyes?Look/.test(source ?? ''));
    const expressions = driven.filter(({ kind }) => kind === 'expression');
    this.vrm?.settleOverrides(expressions.map(({ target }) => target));
  }

  /** Says what is odd about the avatar, once it is known what drives it. */
  #note() {
    if (!this.speaks) {
      this.notes.push(
        `Speech moves nothing on “${this.name}”: of its ${this.retarget.targets.length} morphs and expressions none` +
          ' has a known name and something to move. Choose in the mapping what each shall follow.',
      );
    }
    const driven = new Set(this.retarget.driven.map(({ target }) => target));
    const aside = (this.vrm?.overriding ?? []).filter(([name]) => driven.has(name));
    for (const [name, how] of aside) {
      this.notes.push(
        `Its expression “${name}” would hold the mouth still while it is shown (overrideMouth: ${how}).` +
          ' That is set aside, so that the lips move on.',
      );
    }
  }
}
