/**
 * The stage: a canvas, a studio's light, a camera that finds the head, and one body at a time to look at.
 *
 * A body is a Face (the bundle's own), an Avatar (somebody else's) or a Cloud (vertices without an avatar):
 * `apply(names, values)` drives it by coefficients, `setVertices(array)` by whole vertices where it has them.
 *
 * Rules: the stage invents no motion and owns no clock (the caller calls `render()` once per picture);
 * nothing is allocated in `apply`, `setVertices` or `render`.
 */
import * as THREE from 'three';
import { OrbitControls } from 'three/addons/controls/OrbitControls.js';
import { RoomEnvironment } from 'three/addons/environments/RoomEnvironment.js';

const FOV_DEGREES = 22;
/** What must be in the picture around the head, in metres: from below the chin to above the hair. */
export const FRAME = { low: -0.175, high: 0.155, width: 0.235 };
/** Where a head belongs: its chin, the top of its hair, its nearest point. Metres. */
export const HEAD_PLACE = { low: -0.125, high: 0.135, front: 0.1 };

/** @typedef {ReturnType<typeof createStage>} Stage */

/**
 * Lights an empty stage.
 *
 * @param {HTMLCanvasElement} canvas the picture; its CSS size is the stage's size
 * @param {object} [options]
 * @param {boolean} [options.transparent] leave the background out, for overlays
 * @param {boolean} [options.shadows] soft shadows; switch off on weak machines
 * @param {boolean} [options.orbit] let the pointer turn the head a little
 * @param {(error: Error) => void} [options.onError] called before it throws, and on a lost context
 */
export function createStage(
  canvas,
  { transparent = false, shadows = true, orbit = true, onError = () => {} } = {},
) {
  /** @type {THREE.WebGLRenderer} */
  let renderer;
  try {
    renderer = new THREE.WebGLRenderer({ canvas, antialias: true, alpha: transparent });
  } catch (cause) {
    const error = new Error('this browser offers no WebGL', { cause });
    onError(error);
    throw error;
  }
  const lost = () => onError(new Error('the graphics context was lost; reload the page'));
  canvas.addEventListener('webglcontextlost', lost);

  renderer.outputColorSpace = THREE.SRGBColorSpace;
  renderer.toneMapping = THREE.ACESFilmicToneMapping;
  renderer.toneMappingExposure = 1.0;
  renderer.shadowMap.enabled = shadows;
  renderer.shadowMap.type = THREE.PCFShadowMap;

  const scene = new THREE.Scene();
  const room = new RoomEnvironment();
  const prefilter = new THREE.PMREMGenerator(renderer);
  const environment = prefilter.fromScene(room, 0.04);
  prefilter.dispose();
  room.dispose();
  scene.environment = environment.texture;
  scene.environmentIntensity = 0.4;
  scene.environmentRotation.set(0, Math.PI * 0.25, 0);
  const backdrop = transparent ? null : paintBackdrop();
  scene.background = backdrop;
  lightStudio(scene, shadows);
  const camera = new THREE.PerspectiveCamera(FOV_DEGREES, 1, 0.05, 10);
  const controls = new OrbitControls(camera, canvas);

  /** @type {any} */
  let body = null;
  /** @type {THREE.Object3D | null} */
  let shown = null;
  let isFree = false;
  const stage = {
    /** Names of what the body can be moved by, in its own order. @returns {readonly string[]} */
    get channels() {
      return body?.channels ?? [];
    },
    /** How many rig vertices `setVertices` expects, or 0 if the body does not say. */
    get vertexCount() {
      return body?.vertexCount ?? 0;
    },
    /**
     * Puts a body on the stage in place of the one before, which is not disposed of.
     * @param {any} next @param {{object?: THREE.Object3D, isFree?: boolean}} [options] `object`: what holds it, where
     *   that is not its own; `isFree`: the camera may go around it and away from it
     */
    show(next, { object = next.object, ...options } = {}) {
      shown?.removeFromParent();
      body = next;
      shown = object;
      isFree = options.isFree ?? false;
      scene.add(object);
      limitOrbit(controls, orbit, isFree);
      camera.userData.framed = false; // from the front
      stage.resize();
    },
    apply: (/** @type {readonly string[]} */ names, /** @type {ArrayLike<number>} */ values) =>
      body?.apply(names, values),
    setVertices: (/** @type {Float32Array} */ vertices) => body?.setVertices?.(vertices),
    update: (/** @type {number} */ elapsedS) => body?.update?.(elapsedS),
    readLipGap: () => body?.readLipGap?.() ?? Number.NaN,
    render() {
      controls.update();
      renderer.render(scene, camera);
    },
    /** Pixels per CSS pixel, for a picture of this many CSS pixels. @param {number} _area */
    pixelRatioFor: (_area) => Math.min(globalThis.devicePixelRatio || 1, 2),
    resize() {
      const width = Math.max(1, canvas.clientWidth);
      const height = Math.max(1, canvas.clientHeight);
      renderer.setPixelRatio(stage.pixelRatioFor(width * height));
      renderer.setSize(width, height, false);
      frameHead(camera, controls, width / height, isFree);
    },
    dispose() {
      canvas.removeEventListener('webglcontextlost', lost);
      controls.dispose();
      scene.traverse(disposeMesh);
      backdrop?.dispose();
      environment.dispose();
      renderer.dispose();
    },
    scene,
    camera,
    controls,
    renderer,
  };
  limitOrbit(controls, orbit, false);
  stage.resize();
  return stage;
}

/** A warm key from the upper left, a cool fill, and a rim that lifts the head off the background. */
function lightStudio(scene, shadows) {
  const key = new THREE.DirectionalLight(0xfff1e0, 1.9);
  key.position.set(-0.7, 0.75, 1.2);
  key.castShadow = shadows;
  key.shadow.mapSize.set(1024, 1024);
  key.shadow.camera.left = key.shadow.camera.bottom = -0.22;
  key.shadow.camera.right = key.shadow.camera.top = 0.22;
  key.shadow.camera.near = 0.5;
  key.shadow.camera.far = 2.5;
  key.shadow.radius = 5;
  key.shadow.bias = -0.0005;
  key.shadow.normalBias = 0.002;
  key.shadow.intensity = 0.7;
  const fill = new THREE.DirectionalLight(0xdfe8ff, 0.4);
  fill.position.set(1.2, 0.1, 0.9);
  const rim = new THREE.DirectionalLight(0xffffff, 1.2);
  rim.position.set(0.7, 0.6, -1.1);
  const bounce = new THREE.HemisphereLight(0xffffff, 0xb98570, 0.4);
  scene.add(key, fill, rim, bounce);
}

/** A soft radial gradient, dithered so that it does not band. */
function paintBackdrop() {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 256;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  const gradient = context.createRadialGradient(128, 105, 10, 128, 128, 190);
  gradient.addColorStop(0, '#59636f');
  gradient.addColorStop(0.55, '#333b46');
  gradient.addColorStop(1, '#191d24');
  context.fillStyle = gradient;
  context.fillRect(0, 0, 256, 256);
  const texture = new THREE.CanvasTexture(canvas);
  texture.colorSpace = THREE.SRGBColorSpace;
  return texture;
}

/** The bundle's head has no back worth seeing; another avatar may be looked at from all sides. */
function limitOrbit(controls, enabled, isFree) {
  controls.enabled = enabled;
  controls.enablePan = isFree;
  controls.enableDamping = true;
  controls.dampingFactor = 0.08;
  controls.rotateSpeed = 0.5;
  controls.minAzimuthAngle = isFree ? -Infinity : -0.75;
  controls.maxAzimuthAngle = isFree ? Infinity : 0.75;
  controls.minPolarAngle = isFree ? 0.3 : Math.PI / 2 - 0.35;
  controls.maxPolarAngle = isFree ? Math.PI - 0.3 : Math.PI / 2 + 0.25;
}

/** Put the camera where the head fills the picture, whatever the picture's shape; keeps the orbit's angle. */
function frameHead(camera, controls, aspect, isFree) {
  const half = Math.tan(THREE.MathUtils.degToRad(FOV_DEGREES / 2));
  const tall = (FRAME.high - FRAME.low) / 2 / half;
  const wide = FRAME.width / 2 / (half * aspect);
  const distance = Math.max(tall, wide) + 0.07; // the face is nearer than the head's middle
  camera.aspect = aspect;
  camera.updateProjectionMatrix();
  // What a tall picture has to spare goes mostly below the head.
  const reach = (distance - 0.07) * half;
  const spare = 2 * reach - (FRAME.high - FRAME.low);
  controls.target.set(0, FRAME.high + 0.36 * spare - reach, 0);
  const direction = camera.position.clone().sub(controls.target);
  if (!camera.userData.framed) direction.set(0, 0.04, 1);
  camera.userData.framed = true;
  camera.position.copy(controls.target).addScaledVector(direction.normalize(), distance);
  controls.minDistance = distance * 0.6;
  controls.maxDistance = distance * (isFree ? 10 : 1.35);
  controls.update();
}

function disposeMesh(object) {
  if (!object.isMesh && !object.isPoints) return;
  object.geometry.dispose();
  object.material.map?.dispose();
  object.material.dispose();
}
