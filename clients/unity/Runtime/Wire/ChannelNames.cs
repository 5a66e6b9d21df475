// Which of a mesh's shapes each of a stream's channels moves. Pure: names in, indices out; no engine types.
//
// Shapes are named in many ways: jawOpen, JawOpen, jaw_open, blendShape1.jawOpen, Face_mouthSmile_L. A name is
// compared without case, separators and what stands before its last dot; _L and _R mean Left and Right. Where no
// shape is exactly a channel's name, one that ends with it after a separator is taken (Face_jawOpen).

using System.Collections.Generic;
using System.Text;

namespace DiffSpeaker.Wire
{
    public static class ChannelNames
    {
        /// <summary>For each channel the index of its shape, or -1.</summary>
        public static int[] Match(IList<string> channels, IList<string> shapes)
        {
            var whole = new Dictionary<string, int>();
            var endings = new Dictionary<string, int>();
            for (int i = 0; i < shapes.Count; i++)
            {
                var name = WithoutMesh(shapes[i]);
                AddFirst(whole, Plain(name), i);
                for (int at = name.IndexOf('_'); at >= 0; at = name.IndexOf('_', at + 1))
                    AddFirst(endings, Plain(name.Substring(at + 1)), i);
            }
            var matched = new int[channels.Count];
            for (int c = 0; c < matched.Length; c++)
            {
                var word = Plain(channels[c]);
                int index;
                matched[c] = whole.TryGetValue(word, out index) || endings.TryGetValue(word, out index) ? index : -1;
            }
            return matched;
        }

        /// <summary>A name without case and separators, its side spelt out: <c>mouthSmile_L</c> is mouthsmileleft.</summary>
        public static string Plain(string name)
        {
            var end = name.Length > 2 ? name.Substring(name.Length - 2) : "";
            if (end == "_L" || end == "_l" || end == ".L" || end == "-L") name = name.Substring(0, name.Length - 2) + "Left";
            if (end == "_R" || end == "_r" || end == ".R" || end == "-R") name = name.Substring(0, name.Length - 2) + "Right";
            var plain = new StringBuilder(name.Length);
            foreach (var c in name) if (char.IsLetterOrDigit(c)) plain.Append(char.ToLowerInvariant(c));
            return plain.ToString();
        }

        static string WithoutMesh(string name)
        {
            int dot = name.LastIndexOf('.');
            bool isSide = dot == name.Length - 2; // Blender's mouthSmile.L
            if (isSide) dot = dot > 0 ? name.LastIndexOf('.', dot - 1) : -1;
            return name.Substring(dot + 1);
        }

        static void AddFirst(Dictionary<string, int> words, string word, int index)
        {
            if (!words.ContainsKey(word)) words[word] = index;
        }
    }
}
