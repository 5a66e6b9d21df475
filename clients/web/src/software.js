/**
 * For machines that draw without a graphics card (virtual machines, remote desktops, test browsers).
 *
 * 52 morph targets in a vertex shader are nothing to a graphics card and far too much for a processor that
 * plays one: 0.4 pictures a second. So here the morphing is done in plain numbers, only for coefficients that
 * are not zero, and handed to the stage as whole vertices; shadows are left out, and there are as many pixels
 * as the machine can keep up with. The face is the same, vertex for vertex.
 */

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

/**
 * Takes the morph targets off the graphics card.
 * @param {import('./live-face.js').Stage} stage one with `vertexCount`, or nothing changes
 * @returns {{stage: import('./live-face.js').Stage, keepUp: (drawsPerS: number) => void}} the same stage, moved
 *   by the processor; once a second `keepUp` is told how many pictures it drew
 */
export function morphOnProcessor(stage) {
  if (!stage.vertexCount) return { stage, keepUp: () => {} };
  const { template, basis } = takeMorphs(stage);
  const vertices = template.slice();

  /** @type {string[] | null} */
  let known = null;
  let slots = new Int16Array(0);

  function setCoefficients(/** @type {string[]} */ names, /** @type {ArrayLike<number>} */ values) {
    if (names !== known) {
      known = names;
      slots = Int16Array.from(names, (name) => stage.channels.indexOf(name));
    }
    vertices.set(template);
    for (let k = 0; k < slots.length; k++) {
      const weight = values[k];
      if (slots[k] < 0 || weight === 0) continue;
      const { at, by } = basis[slots[k]];
      for (let i = 0; i < at.length; i++) vertices[at[i]] += weight * by[i];
    }
    stage.setVertices(vertices);
  }

  let pixels = FIRST_PIXELS;

  function resize() {
    stage.resize();
    const { clientWidth, clientHeight } = stage.renderer.domElement;
    stage.renderer.setPixelRatio(Math.min(1, Math.sqrt(pixels / Math.max(1, clientWidth * clientHeight))));
  }

  function keepUp(/** @type {number} */ drawsPerS) {
    const change = drawsPerS < SLOW_HZ ? 0.7 : drawsPerS > QUICK_HZ ? 1.3 : 1;
    const wanted = Math.min(Math.max(change * pixels, FEWEST_PIXELS), MOST_PIXELS);
    if (wanted === pixels) return;
    pixels = wanted;
    resize();
  }

  resize();
  return { stage: { ...stage, setCoefficients, resize }, keepUp };
}

/**
 * Reads the morph targets out of the stage's meshes, as sparse moves of rig vertices, and drops them there.
 * @param {import('./live-face.js').Stage} stage
 */
function takeMorphs(stage) {
  const template = new Float32Array(3 * stage.vertexCount);
  /** @type {Map<number, number>[]} */
  const moves = stage.channels.map(() => new Map());
  stage.scene.traverse((/** @type {any} */ mesh) => {
    const rows = mesh.geometry?.getAttribute('_rig_vertex');
    const targets = mesh.geometry?.morphAttributes.position;
    if (!rows || !targets) return;
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
    mesh.geometry.morphAttributes = {};
    mesh.material.needsUpdate = true;
  });
  const basis = moves.map((move) => ({
    at: Uint32Array.from(move.keys()),
    by: Float32Array.from(move.values()),
  }));
  return { template, basis };
}
