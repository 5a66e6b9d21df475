// A stream's channels on a renderer's blend shapes. The names are matched once; Apply allocates nothing.

using System.Collections.Generic;
using DiffSpeaker.Wire;
using UnityEngine;

namespace DiffSpeaker.Unity
{
    public sealed class BlendShapes
    {
        readonly SkinnedMeshRenderer renderer;
        readonly int[] shapes; // by channel, -1 for none
        readonly float[] full; // by channel, the weight at which the shape is whole: 100, or 1 from some importers

        /// <summary>Channels that move a shape of this mesh.</summary>
        public int Matched { get; private set; }

        public BlendShapes(SkinnedMeshRenderer renderer, IList<string> channels)
        {
            this.renderer = renderer;
            var mesh = renderer.sharedMesh;
            var names = new string[mesh == null ? 0 : mesh.blendShapeCount];
            for (int i = 0; i < names.Length; i++) names[i] = mesh.GetBlendShapeName(i);
            shapes = ChannelNames.Match(channels, names);
            full = new float[shapes.Length];
            for (int c = 0; c < shapes.Length; c++)
            {
                if (shapes[c] < 0) continue;
                Matched++;
                full[c] = mesh.GetBlendShapeFrameWeight(shapes[c], mesh.GetBlendShapeFrameCount(shapes[c]) - 1);
            }
        }

        /// <summary>Whether a channel moves a shape of this mesh.</summary>
        public bool Has(int channel)
        {
            return shapes[channel] >= 0;
        }

        /// <summary>Moves the mesh.</summary>
        /// <param name="values">by channel, 0 to 1</param>
        /// <param name="gains">by channel; NaN leaves a shape to whoever else drives it</param>
        public void Apply(float[] values, float[] gains)
        {
            for (int c = 0; c < shapes.Length; c++)
            {
                if (shapes[c] < 0 || float.IsNaN(gains[c])) continue;
                renderer.SetBlendShapeWeight(shapes[c], full[c] * Mathf.Clamp01(values[c] * gains[c]));
            }
        }
    }
}
