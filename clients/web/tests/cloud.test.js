/** Vertices without an avatar: points, shown at the size of a head whatever their unit. */

import assert from 'node:assert/strict';
import test from 'node:test';
import * as THREE from 'three';
import { Cloud } from '../src/cloud.js';

const FRAME = { low: -0.2, high: 0.1 };

for (const unit of [1, 1000]) {
  test(`a cloud whose unit is ${unit} in a metre fills the picture's frame`, () => {
    const scene = new THREE.Scene();
    const cloud = new Cloud(FRAME);
    scene.add(cloud.object);
    cloud.setVertices(new Float32Array([0, 1, 2, 4, 3, 2]).map((value) => value * unit));
    scene.updateMatrixWorld(true);
    const box = new THREE.Box3().setFromObject(scene);
    const near = (/** @type {number} */ got, /** @type {number} */ wanted) =>
      assert.ok(Math.abs(got - wanted) < 1e-5, `${got} is not ${wanted}`);
    near(box.min.y, FRAME.low);
    near(box.max.y, FRAME.high);
    near(box.min.x, -box.max.x);
  });
}

test('frames move the points, and the first one alone says where the head is', () => {
  const cloud = new Cloud(FRAME);
  cloud.setVertices(new Float32Array([0, 0, 0, 0, 1, 0]));
  const { points } = cloud;
  const scale = points?.scale.x;
  cloud.setVertices(new Float32Array([0, -1, 0, 0, 1, 0]));
  assert.equal(cloud.points, points);
  assert.equal(points?.scale.x, scale);
  assert.deepEqual(Array.from(points?.geometry.attributes.position.array ?? []), [0, -1, 0, 0, 1, 0]);
  cloud.setVertices(new Float32Array(9)); // another bundle, after the server was restarted
  assert.equal(cloud.object.children.length, 1);
});
