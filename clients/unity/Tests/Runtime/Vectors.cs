// The golden vectors of the protocol and what else a test run brings along, as the tests read them.
// DIFFSPEAKER_VECTORS names the folder tests/vectors/wire of the repository; without it those tests are ignored.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using Newtonsoft.Json.Linq;
using NUnit.Framework;

namespace DiffSpeaker.Tests
{
    static class Vectors
    {
        /// <summary>A file's vectors, each a case of a test.</summary>
        public static IEnumerable<TestCaseData> Of(string file)
        {
            var folder = Environment.GetEnvironmentVariable("DIFFSPEAKER_VECTORS");
            if (string.IsNullOrEmpty(folder))
                return new[] { new TestCaseData(new JObject()).Ignore("DIFFSPEAKER_VECTORS is not set") };
            var vectors = JArray.Parse(File.ReadAllText(Path.Combine(folder, file + ".json")));
            return vectors.Cast<JObject>().Select(one => new TestCaseData(one).SetName(file + ": " + one["name"])).ToArray();
        }

        public static byte[] Bytes(JToken hex)
        {
            var text = (string)hex;
            var bytes = new byte[text.Length / 2];
            for (int i = 0; i < bytes.Length; i++) bytes[i] = Convert.ToByte(text.Substring(2 * i, 2), 16);
            return bytes;
        }

        public static string Hex(byte[] bytes)
        {
            return string.Concat(bytes.Select(one => one.ToString("x2")).ToArray());
        }

        /// <summary>Whether two pieces of JSON mean the same: key order and 1 against 1.0 are free.</summary>
        public static bool Same(JToken a, JToken b)
        {
            var left = a as JObject;
            if (left != null)
            {
                var right = b as JObject;
                return right != null && left.Count == right.Count
                    && left.Properties().All(pair => right[pair.Name] != null && Same(pair.Value, right[pair.Name]));
            }
            if (a is JArray) return b is JArray && a.Count() == b.Count() && a.Zip(b, Same).All(one => one);
            if (IsNumber(a)) return IsNumber(b) && a.Value<double>() == b.Value<double>();
            return JToken.DeepEquals(a, b);
        }

        static bool IsNumber(JToken token)
        {
            return token.Type == JTokenType.Integer || token.Type == JTokenType.Float;
        }
    }
}
