/**
 * Which face is worn: the bundle's own, or an avatar that somebody dropped on the page.
 *
 * Rules: an avatar that cannot be worn changes nothing, and says why (PageError). One that is worn stands with
 * its head where the bundle's head stands, whatever its size. What its user changed in the mapping is kept in
 * this browser, by the names of its targets, and applied again the next time.
 */

import { Avatar } from '../avatar/avatar.js';
import { placeHead } from '../avatar/head.js';
import { PageError } from '../page-error.js';
import { morphOnProcessor } from '../software.js';
import { HEAD_PLACE } from '../stage.js';

const KEPT = 'diffspeaker mapping ';

export class Wardrobe {
  /**
   * @param {import('../stage.js').Stage} stage
   * @param {import('../live-face.js').LiveFace} face
   * @param {any} own the bundle's own face or cloud, on the stage already
   * @param {{inSoftware: boolean, hasCoefficients: boolean}} options
   */
  constructor(stage, face, own, { inSoftware, hasCoefficients }) {
    this.stage = stage;
    this.face = face;
    this.own = own;
    this.inSoftware = inSoftware;
    this.hasCoefficients = hasCoefficients;
    /** The avatar that is worn, null while it is the bundle's own face. @type {Avatar | null} */
    this.worn = null;
    this.attempt = 0;
  }

  /** What is on the stage and can be mapped, null for a cloud. @returns {Avatar | null} */
  get avatar() {
    return this.worn ?? (this.own instanceof Avatar ? this.own : null);
  }

  /**
   * Wears an avatar.
   * @param {string | Blob} source @param {string} [name]
   * @returns {Promise<Avatar | null>} null where another one was chosen meanwhile
   * @throws {PageError}
   */
  async wear(source, name) {
    if (!this.hasCoefficients) {
      throw new PageError(
        'This server’s model moves the vertices of its own head, so it cannot move another avatar.',
        'Serve a bundle of coefficients: the default one is.',
      );
    }
    const attempt = ++this.attempt;
    const avatar = await Avatar.load(source, { name });
    const head = avatar.findHead();
    if (!head) {
      avatar.dispose();
      throw new PageError(
        `“${avatar.name}” shows nothing: no mesh of it is visible.`,
        'Export it with its meshes.',
      );
    }
    if (attempt !== this.attempt) {
      avatar.dispose();
      return null;
    }
    avatar.restoreLinks(readKept(avatar));
    this.#dress(avatar);
    const object = placeHead(avatar.object, head, HEAD_PLACE);
    avatar.vrm?.settle();
    if (this.inSoftware) morphOnProcessor(avatar);
    this.#change(avatar, object);
    return avatar;
  }

  /** Back to the bundle's own face. */
  takeOff() {
    this.attempt++;
    if (this.worn) this.#change(null, this.own.object);
  }

  /** Keeps what was changed in the mapping. @param {Avatar} avatar */
  keep(avatar) {
    const changes = avatar.retarget.changes();
    try {
      if (Object.keys(changes).length) localStorage.setItem(keyOf(avatar), JSON.stringify(changes));
      else localStorage.removeItem(keyOf(avatar));
    } catch {} // a browser that keeps nothing
  }

  /** @param {Avatar | null} avatar @param {any} object */
  #change(avatar, object) {
    const before = this.worn;
    this.worn = avatar;
    this.stage.show(avatar ?? this.own, { object, isFree: avatar !== null });
    before?.dispose();
    this.face.moveTo(this.stage);
  }

  /** Light and shadow as the stage has them. @param {Avatar} avatar */
  #dress(avatar) {
    avatar.object.traverse((one) => {
      const mesh = /** @type {any} */ (one);
      if (!mesh.isMesh) return;
      const materials = [mesh.material].flat();
      mesh.castShadow = materials.every((material) => !material.transparent);
      mesh.receiveShadow = true;
      for (const material of materials) if (material.isMToonMaterial) material.toneMapped = false; // its own look
    });
  }
}

/** @param {Avatar} avatar */
function readKept(avatar) {
  try {
    return JSON.parse(localStorage.getItem(keyOf(avatar)) ?? '{}');
  } catch {
    return {};
  }
}

/** By the targets' names (FNV-1a, 32 bits), so that a new export of an avatar finds them again. @param {Avatar} avatar */
function keyOf(avatar) {
  let hash = 0x811c9dc5;
  for (const { kind, name } of avatar.retarget.targets) {
    for (const letter of `${kind}:${name}\n`)
      hash = Math.imul(hash ^ (letter.codePointAt(0) ?? 0), 0x01000193);
  }
  return KEPT + (hash >>> 0).toString(16);
}
