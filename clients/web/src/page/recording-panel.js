/**
 * Recording in the page: a button, the time that is kept, and two files: CSV, and the avatar with a clip.
 */

import { addAnimation, weightsByNode } from '../avatar/animation.js';
import { ARKIT } from '../avatar/channels.js';
import { element, say } from '../panel.js';
import { Recording } from '../recording.js';

export class RecordingPanel {
  /**
   * @param {import('../live-face.js').LiveFace} face
   * @param {import('./wardrobe.js').Wardrobe} wardrobe
   */
  constructor(face, wardrobe) {
    this.face = face;
    this.wardrobe = wardrobe;
    /** What is being recorded, or was. @type {Recording | null} */
    this.recording = null;
    this.isOn = false;
    element('record').addEventListener('click', () => this.#press());
    element('save-csv').addEventListener('click', () => this.#saveCsv());
    element('save-glb').addEventListener('click', () => this.#saveGlb());
    face.connection.addEventListener('frames', (event) => {
      const { welcome } = face.connection;
      if (!this.isOn || !welcome) return;
      this.recording?.push(/** @type {CustomEvent} */ (event).detail, welcome, face.mask);
    });
    this.show();
  }

  /** Once a second, and when something changed. */
  show() {
    const { recording, isOn } = this;
    element('record').setAttribute('aria-pressed', String(isOn));
    const hasFrames = (recording?.rows.length ?? 0) > 0;
    element('save-csv').disabled = element('save-glb').disabled = isOn || !hasFrames;
    element('save-glb').hidden = this.wardrobe.avatar === null;
    say(element('record-state'), this.#words());
  }

  #words() {
    const { recording, isOn, face } = this;
    const kept = recording ? `${recording.seconds.toFixed(1)} s, ${recording.rows.length} frames` : '';
    if (recording?.leftOut) return `${kept}: half an hour is kept, what came after is not.`;
    if (isOn && face.connection.welcome?.kind === 'vertices')
      return 'Vertices are not recorded: choose Coefficients.';
    if (isOn) return recording?.rows.length ? kept : 'Waiting for somebody to speak…';
    return recording?.rows.length ? kept : 'Every frame of the stream, at its own rate.';
  }

  #press() {
    this.isOn = !this.isOn;
    if (this.isOn) this.recording = new Recording();
    this.show();
  }

  #saveCsv() {
    if (this.recording) save(new Blob([this.recording.toCsv()], { type: 'text/csv' }), 'speech.csv');
  }

  #saveGlb() {
    const { avatar } = this.wardrobe;
    if (!avatar || !this.recording) return;
    const { times, rows } = this.recording;
    const clip = { name: 'speech', times, weights: weightsByNode(avatar, ARKIT, rows) };
    const stem = avatar.name.replace(/\.(glb|vrm)$/i, '');
    const bytes = addAnimation(avatar.bytes, clip);
    save(new Blob([bytes], { type: 'model/gltf-binary' }), `${stem}-speech.glb`);
  }
}

/** @param {Blob} blob @param {string} name */
function save(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
