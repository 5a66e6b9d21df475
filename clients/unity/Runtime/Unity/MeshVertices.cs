// A stream of vertices on a mesh. The wire has metres in a right-handed space, +y up, +z where the face looks;
// Unity's is left-handed, so x changes its sign, as glTF importers do it. The mesh must have the model's vertices in
// the model's order.

using UnityEngine;

namespace DiffSpeaker.Unity
{
    public sealed class MeshVertices
    {
        readonly Mesh mesh;
        readonly Vector3[] vertices;

        /// <param name="filter">its mesh is copied, so that the asset stays as it is</param>
        public MeshVertices(MeshFilter filter)
        {
            mesh = filter.mesh;
            mesh.MarkDynamic();
            vertices = new Vector3[mesh.vertexCount];
        }

        /// <summary>Vertices that a frame must have.</summary>
        public int Count
        {
            get { return vertices.Length; }
        }

        /// <param name="values">x y z of each vertex, metres</param>
        public void Apply(float[] values)
        {
            for (int i = 0; i < vertices.Length; i++)
                vertices[i] = new Vector3(-values[3 * i], values[3 * i + 1], values[3 * i + 2]);
            mesh.SetVertices(vertices);
            mesh.RecalculateNormals();
            mesh.RecalculateBounds();
        }
    }
}
