/**
 * What is particular to a VRM: its expressions as targets, overrides that would still the mouth, its gaze, its
 * springs, and arms that hang down instead of standing out. three-vrm shows versions 0.x and 1.0 alike.
 *
 * Overrides: VRM 1.0 lets an expression hold back others while it is shown; `overrideMouth: block` on a blink
 * would freeze the lips at every blink. So an expression that this page drives does not hold back the mouth
 * (its override is set aside, and that is noted); one that somebody else shows, such as `happy`, keeps its
 * right, and `stilledBy` names it while the mouth stands still.
 */

const GAZE_DEGREES = { across: 30, along: 25 };
const ARM_RAD = 1.25;

export class VrmFace {
  /** @param {any} vrm three-vrm's VRM */
  constructor(vrm) {
    this.vrm = vrm;
    this.manager = vrm.expressionManager ?? null;
    /** @type {any[]} */
    this.expressions = this.manager?.expressions ?? [];
    /** What the file says of each expression's overrideMouth. @type {Map<any, 'none' | 'block' | 'blend'>} */
    this.overrides = new Map(this.expressions.map((one) => [one, one.overrideMouth]));
    this.keepsOverrides = false;
    if (vrm.meta?.metaVersion === '0') vrm.scene.rotation.y = Math.PI; // version 0 looks the other way
    this.#lowerArms();
  }

  /** @returns {(import('./names.js').Target & {isEmpty: boolean})[]} */
  get targets() {
    return this.expressions.map(({ expressionName, binds }) => ({
      name: expressionName,
      kind: 'expression',
      isEmpty: binds.length === 0,
    }));
  }

  /** Expressions that hold back the mouth by the file's own word, and how. @returns {[string, string][]} */
  get overriding() {
    return this.expressions
      .filter((one) => this.overrides.get(one) !== 'none')
      .map((one) => [one.expressionName, String(this.overrides.get(one))]);
  }

  /**
   * Sets the overrides of what is driven aside, or back.
   * @param {readonly string[]} driven names of expressions
   */
  settleOverrides(driven) {
    for (const [expression, override] of this.overrides) {
      const isAside = !this.keepsOverrides && driven.includes(expression.expressionName);
      expression.overrideMouth = isAside ? 'none' : override;
    }
  }

  /** The expression that holds back the mouth now, null when none does. @returns {string | null} */
  get stilledBy() {
    for (const one of this.expressions) if (one.overrideMouthAmount > 0) return one.expressionName;
    return null;
  }

  /** @param {number} index of the target @param {number} weight 0 to 1 */
  show(index, weight) {
    this.expressions[index].weight = weight;
  }

  /** Moves the morphs by the expressions' weights. */
  apply() {
    this.manager?.update();
  }

  /**
   * Turns the eyes, where they are bones (expressions are targets like any other).
   * @param {ArrayLike<number>} signals by SIGNALS @param {{left: number, right: number, up: number, down: number}} at
   */
  look(signals, at) {
    const { lookAt } = this.vrm;
    if (lookAt?.applier?.constructor.type !== 'bone') return;
    lookAt.autoUpdate = false;
    lookAt.yaw = GAZE_DEGREES.across * (signals[at.left] - signals[at.right]);
    lookAt.pitch = GAZE_DEGREES.along * (signals[at.down] - signals[at.up]);
  }

  /** Hair and clothes swing on. @param {number} elapsedS */
  update(elapsedS) {
    this.vrm.update(elapsedS);
  }

  /** Hair comes to rest, after the avatar was put somewhere else. */
  settle() {
    this.vrm.scene.updateWorldMatrix(true, true);
    this.vrm.springBoneManager?.reset();
  }

  /** A VRM rests with its arms out. */
  #lowerArms() {
    const { humanoid } = this.vrm;
    for (const side of ['left', 'right']) {
      const upper = humanoid?.getNormalizedBoneNode(`${side}UpperArm`);
      const lower = humanoid?.getNormalizedBoneNode(`${side}LowerArm`);
      if (!upper || !lower) continue;
      upper.rotation.z = -Math.sign(lower.position.x) * ARM_RAD;
    }
    humanoid?.update();
  }
}
