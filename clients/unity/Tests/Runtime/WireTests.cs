// Protocol v1 against its golden vectors: everything is read, written and refused as every other codec does it.

using System.Collections.Generic;
using System.Linq;
using System.Reflection;
using DiffSpeaker.Wire;
using Newtonsoft.Json.Linq;
using NUnit.Framework;

namespace DiffSpeaker.Tests
{
    [TestFixture]
    public sealed class WireTests
    {
        static IEnumerable<TestCaseData> Audio { get { return Vectors.Of("audio"); } }
        static IEnumerable<TestCaseData> Client { get { return Vectors.Of("client"); } }
        static IEnumerable<TestCaseData> FramesOf { get { return Vectors.Of("frames"); } }
        static IEnumerable<TestCaseData> Heard { get { return Vectors.Of("passthrough"); } }
        static IEnumerable<TestCaseData> Server { get { return Vectors.Of("server"); } }
        static IEnumerable<TestCaseData> Refused { get { return Vectors.Of("refused"); } }

        [TestCaseSource("Client")]
        public void WritesControl(JObject vector)
        {
            var written = JToken.Parse(Written((JObject)vector["fields"]));
            Assert.That(Vectors.Same(written, JToken.Parse((string)vector["text"])), written.ToString());
        }

        [TestCaseSource("Audio")]
        public void WritesAudio(JObject vector)
        {
            var pcm = vector["pcm"];
            var message = (string)vector["audio"]["encoding"] == "s16"
                ? Media.EncodeAudio(pcm.Select(one => one.Value<short>()).ToArray(), pcm.Count())
                : Media.EncodeAudio(pcm.Select(one => one.Value<float>()).ToArray(), pcm.Count());
            Assert.AreEqual((string)vector["bytes"], Vectors.Hex(message));
        }

        [TestCaseSource("Server")]
        public void ReadsControl(JObject vector)
        {
            var message = Messages.Decode((string)vector["text"]);
            foreach (var property in ((JObject)vector["fields"]).Properties().Where(one => one.Name != "type"))
            {
                var field = message.GetType().GetField(property.Name.Replace("_", ""),
                    BindingFlags.IgnoreCase | BindingFlags.Instance | BindingFlags.Public);
                Assert.IsNotNull(field, property.Name);
                var value = JToken.FromObject(field.GetValue(message));
                Assert.That(Vectors.Same(value, property.Value), property.Name + " is " + value);
            }
        }

        [TestCaseSource("FramesOf")]
        public void ReadsFrames(JObject vector)
        {
            var bytes = Vectors.Bytes(vector["bytes"]);
            var frames = Media.DecodeFrames(bytes, bytes.Length);
            CollectionAssert.AreEqual(vector["values"].SelectMany(row => row).Select(one => one.Value<float>()), frames.Values);
            Assert.AreEqual(
                new object[] { (string)vector["kind"], (string)vector["dtype"], (int)vector["flags"], (int)vector["count"], (int)vector["width"] },
                new object[] { frames.Kind, frames.DType, frames.Flags, frames.Count, frames.Width });
            Assert.AreEqual(
                new[] { (uint)vector["epoch"], (uint)vector["seq"], (uint)vector["first_frame"] },
                new[] { frames.Epoch, frames.Seq, frames.FirstFrame });
            Assert.AreEqual(new[] { (double)vector["pts_s"], (double)vector["emit_time_s"] }, new[] { frames.PtsS, frames.EmitTimeS });
            Assert.AreEqual((double)vector["scale"], Media.ScaleOf(frames.Kind, frames.DType));
        }

        [TestCaseSource("Heard")]
        public void ReadsPassthrough(JObject vector)
        {
            var bytes = Vectors.Bytes(vector["bytes"]);
            var heard = (Passthrough)Media.Decode(bytes, bytes.Length);
            CollectionAssert.AreEqual(vector["samples"].Select(one => one.Value<short>()), heard.Samples);
            Assert.AreEqual(new[] { (uint)vector["epoch"], (uint)vector["seq"] }, new[] { heard.Epoch, heard.Seq });
            Assert.AreEqual((double)vector["pts_s"], heard.PtsS);
            Assert.AreEqual((int)vector["sample_rate_hz"], heard.SampleRateHz);
        }

        [TestCaseSource("Refused")]
        public void Refuses(JObject vector)
        {
            if ((string)vector["reader"] != "client") return;
            var error = Assert.Throws<WireException>(() =>
            {
                if (vector["text"] != null) Messages.Decode((string)vector["text"]);
                else Media.Decode(Vectors.Bytes(vector["bytes"]), Vectors.Bytes(vector["bytes"]).Length);
            });
            Assert.AreEqual((string)vector["code"], error.Code);
        }

        [TestCase("{\"type\":\"interrupted\",\"epoch\":1,\"last_frame\":2,\"x\":0}", "bad_message")]
        [TestCase("{\"type\":\"interrupted\",\"epoch\":1.5,\"last_frame\":2}", "bad_message")]
        [TestCase("{\"type\":\"interrupted\",\"epoch\":NaN,\"last_frame\":2}", "bad_message")]
        [TestCase("{\"type\":\"interrupted\",\"epoch\":1,\"last_frame\":2} 3", "bad_json")]
        [TestCase("{\"type\":\"style\",\"style\":{\"happy\":\"very\"},\"epoch\":1,\"from_frame\":2}", "bad_message")]
        [TestCase("[[[[[[[[[[[[[[[[[[[[[[[[", "bad_json")]
        [TestCase("", "bad_json")]
        public void RefusesText(string text, string code)
        {
            Assert.AreEqual(code, Assert.Throws<WireException>(() => Messages.Decode(text)).Code);
        }

        [Test]
        public void RefusesFramesWhoseCountsMultiplyBeyondTheirBytes()
        {
            var message = new byte[Media.FramesHeaderBytes];
            message[0] = 2;
            for (int i = 16; i < 24; i++) message[i] = 0xff;
            Assert.Throws<WireException>(() => Media.DecodeFrames(message, message.Length));
        }

        [TestCase(0x0000, 0f)]
        [TestCase(0x0001, 5.9604644775390625e-8f)]
        [TestCase(0x3c00, 1f)]
        [TestCase(0x3555, 0.333251953125f)]
        [TestCase(0xfbff, -65504f)]
        [TestCase(0x7c00, float.PositiveInfinity)]
        [TestCase(0x7e00, float.NaN)]
        public void ReadsHalves(int bits, float value)
        {
            Assert.AreEqual(value, Media.Half((ushort)bits));
        }

        [Test]
        public void ClipsWhatIsBeyondFullScale()
        {
            var message = Media.EncodeAudioAsS16(new[] { 0f, 0.5f, 1f, 2f, -1f, -3f, 9f }, 6);
            Assert.AreEqual("01000000000000000000" + "0040" + "ff7f" + "ff7f" + "0180" + "0180", Vectors.Hex(message));
        }

        static string Written(JObject fields)
        {
            switch ((string)fields["type"])
            {
                case "hello": return Messages.Encode(HelloOf(fields));
                case "style": return Messages.EncodeStyle(fields["style"].ToObject<Dictionary<string, double>>());
                case "clock": return Messages.EncodeClock((double)fields["client_time_s"]);
                case "interrupt": return Messages.Interrupt;
                default: return Messages.End;
            }
        }

        static Hello HelloOf(JObject fields)
        {
            var hello = new Hello
            {
                Role = (string)fields["role"],
                Token = (string)fields["token"],
                Kind = (string)fields["output"]["kind"],
                DType = (string)fields["output"]["dtype"],
                LookaheadMs = (double?)fields["lookahead_ms"],
                HopMs = (double?)fields["hop_ms"],
                Style = fields["style"].ToObject<Dictionary<string, double>>(),
                Seed = (long?)fields["seed"],
                AudioPassthrough = (bool)fields["audio_passthrough"],
                Paced = (bool)fields["paced"],
                Resume = (string)fields["resume"],
            };
            if (fields["audio"] is JObject)
            {
                hello.Audio = new AudioFormat
                {
                    Encoding = (string)fields["audio"]["encoding"],
                    SampleRateHz = (int)fields["audio"]["sample_rate_hz"],
                    Channels = (int)fields["audio"]["channels"],
                };
            }
            return hello;
        }
    }
}
