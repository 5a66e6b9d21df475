// The package's components against stand-ins of the engine, and its connection against a real server.
//
// tests/test_unity.py brings the server: DIFFSPEAKER_SERVER is its address, DIFFSPEAKER_AUDIO float32 mono speech at
// 16 kHz, DIFFSPEAKER_EXPECTED the frames that it must give (float32), DIFFSPEAKER_LATER the address of a server that
// is started only when the file DIFFSPEAKER_ALONE has appeared.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Threading;
using DiffSpeaker.Unity;
using DiffSpeaker.Wire;
using NUnit.Framework;
using UnityEngine;

namespace DiffSpeaker.ComponentTests
{
    [TestFixture]
    public sealed class ComponentTests
    {
        const double GuardS = 60;

        [SetUp]
        public void Clear()
        {
            Debug.lines.Clear();
        }

        static string Of(string variable)
        {
            var value = Environment.GetEnvironmentVariable("DIFFSPEAKER_" + variable);
            Assert.That(value, Is.Not.Null.And.Not.Empty, variable);
            return value;
        }

        static float[] Floats(string variable)
        {
            var bytes = File.ReadAllBytes(Of(variable));
            var values = new float[bytes.Length / 4];
            Buffer.BlockCopy(bytes, 0, values, 0, bytes.Length);
            return values;
        }

        /// <summary>Calls a component's message as the engine does.</summary>
        static void Engine(object component, string message)
        {
            component.GetType().GetMethod(message, BindingFlags.Instance | BindingFlags.NonPublic).Invoke(component, null);
        }

        static SkinnedMeshRenderer Renderer(GameObject avatar, float fullWeight, params string[] shapes)
        {
            var renderer = avatar.AddComponent<SkinnedMeshRenderer>();
            renderer.sharedMesh = new Mesh { shapes = shapes, fullWeight = fullWeight };
            return renderer;
        }

        /// <summary>Waits for the first message of a type, at most a minute; what came before it is returned too.</summary>
        static T Until<T>(StreamConnection connection, List<object> before) where T : class
        {
            for (double endS = StreamConnection.NowS + GuardS; StreamConnection.NowS < endS; Thread.Sleep(2))
            {
                Arrival arrival;
                while (connection.TryTake(out arrival))
                {
                    before.Add(arrival.Message);
                    if (arrival.Message is T) return (T)arrival.Message;
                }
            }
            Assert.Fail("No " + typeof(T).Name + " came; " + connection.State);
            return null;
        }

        [Test]
        public void SpeechGivesExactlyTheFramesOfTheServerAndTheNextTakeFollows()
        {
            var audio = Floats("AUDIO");
            var address = StreamConnection.AddressOf(Of("SERVER"), "unity-wire");
            var format = new AudioFormat { Encoding = "f32" };
            using (var connection = new StreamConnection(address, () => new Hello { Role = "converse", Audio = format }))
            {
                connection.Start();
                var messages = new List<object>();
                var first = Until<Welcome>(connection, messages);
                for (int at = 0; at < audio.Length; at += 1600)
                {
                    var chunk = audio.Skip(at).Take(1600).ToArray();
                    while (!connection.SendAudio(Media.EncodeAudio(chunk, chunk.Length))) Thread.Sleep(5);
                }
                connection.End();
                Assert.IsFalse(connection.SendAudio(Media.EncodeAudio(audio, 16)), "the take is over");
                var ended = Until<Ended>(connection, messages);
                var frames = messages.OfType<Frames>().ToArray();
                CollectionAssert.AreEqual(Floats("EXPECTED"), frames.SelectMany(one => one.Values).ToArray());
                CollectionAssert.AreEqual(
                    Enumerable.Range(0, (int)ended.Frames),
                    frames.SelectMany(one => Enumerable.Range((int)one.FirstFrame, one.Count)));
                var second = Until<Welcome>(connection, messages);
                Assert.AreNotEqual(first.Session, second.Session);
                Assert.AreEqual(0, connection.Untaken);
                while (double.IsNaN(connection.Clock.RttS)) Thread.Sleep(2);
            }
        }

        [Test]
        public void AnErrorThatLastsEndsTheConnection()
        {
            var address = StreamConnection.AddressOf(Of("SERVER"), "not a name!");
            using (var connection = new StreamConnection(address, () => new Hello()))
            {
                connection.Start();
                var error = Until<WireException>(connection, new List<object>());
                Assert.AreEqual("bad_stream_name", error.Code);
                for (int i = 0; i < 3000 && connection.State != ConnectionState.Failed; i++) Thread.Sleep(10);
                Assert.AreEqual(ConnectionState.Failed, connection.State);
            }
        }

        [Test]
        public void AServerThatComesLaterIsFound()
        {
            var address = StreamConnection.AddressOf(Of("LATER"), "later");
            using (var connection = new StreamConnection(address, () => new Hello { Role = "converse", Audio = new AudioFormat() }))
            {
                connection.Start();
                var error = Until<WireException>(connection, new List<object>());
                Assert.AreEqual("no_answer", error.Code);
                File.WriteAllText(Of("ALONE"), "");
                Until<Welcome>(connection, new List<object>());
                Assert.AreEqual(ConnectionState.Open, connection.State);
            }
        }

        [Test]
        public void TheComponentMovesEveryMeshOfTheAvatarAndLetsItRest()
        {
            var avatar = new GameObject("Avatar");
            var head = Renderer(avatar, 100, "JawOpen", "unknown");
            var teeth = Renderer(avatar, 1, "blendShape1.jawOpen");
            var hair = Renderer(avatar, 100);
            var stream = avatar.AddComponent<FaceStream>();
            stream.server = Of("SERVER");
            stream.stream = "unity-component";
            stream.role = FaceRole.Converse;
            stream.paced = true; // all of the audio is sent at once
            stream.gains = new[] { new Gain { channel = "jaw", gain = 0.5f } };
            long ended = -1;
            float delay = 0;
            stream.Ended += message => ended = message.Frames;
            stream.Welcomed += welcome => delay = stream.FaceDelayMs;
            var most = new Dictionary<SkinnedMeshRenderer, float> { { head, 0 }, { teeth, 0 } };
            var audio = Floats("AUDIO");
            int sent = 0;
            Engine(stream, "OnEnable");
            double endS = StreamConnection.NowS + GuardS;
            for (bool isResting = false; !isResting && StreamConnection.NowS < endS; Thread.Sleep(8))
            {
                Engine(stream, "LateUpdate");
                var chunk = audio.Skip(sent).Take(1600).ToArray();
                if (chunk.Length > 0 && stream.SendAudio(chunk, chunk.Length) && (sent += chunk.Length) == audio.Length)
                    stream.EndSpeech();
                foreach (var one in new[] { head, teeth })
                    if (one.weights.ContainsKey(0)) most[one] = Math.Max(most[one], one.weights[0]);
                isResting = ended > 0 && head.weights.ContainsKey(0) && head.weights[0] == 0;
            }
            Engine(stream, "OnDisable");
            var expected = Floats("EXPECTED");
            int width = expected.Length / (int)ended;
            int jaw = int.Parse(Of("JAW"));
            float open = Enumerable.Range(0, (int)ended).Max(i => expected[i * width + jaw]);
            Assert.Greater(delay, 0);
            Assert.That(most[head], Is.EqualTo(50 * open).Within(5 * open), "half of the widest opening");
            Assert.That(most[teeth], Is.EqualTo(most[head] / 100).Within(1e-4));
            Assert.AreEqual(0, head.weights[0], "it rests");
            Assert.IsEmpty(hair.weights);
            Assert.IsFalse(head.weights.ContainsKey(1));
            Assert.That(Debug.lines.Single(), Is.StringStarting("log: DiffSpeaker: no blend shape for "));
            Assert.AreEqual(ConnectionState.Stopped, stream.State);
        }

        [Test]
        public void AnAvatarWithoutShapesIsToldOnce()
        {
            var stream = new GameObject("Avatar").AddComponent<FaceStream>();
            stream.Match();
            Engine(stream, "OnEnable");
            stream.Match();
            Assert.IsEmpty(Debug.lines, "nothing is known of the stream yet");
            Live(stream).Take(new Arrival
            {
                Message = new Welcome { Kind = "coefficients", Channels = new[] { "jawOpen" }, Width = 1, FrameRateHz = 30 },
            });
            Live(stream).Take(new Arrival { Message = Frame(1, "coefficients") });
            Live(stream).Draw(0);
            stream.Match();
            stream.Match();
            Engine(stream, "OnDisable");
            Assert.AreEqual(1, Debug.lines.Count(line => line.Contains("Import BlendShapes")));
        }

        [Test]
        public void VerticesMoveTheMeshInUnitysSpace()
        {
            var stream = new GameObject("Head").AddComponent<FaceStream>();
            stream.vertices = new MeshFilter { mesh = new Mesh { vertices = new Vector3[2] } };
            Engine(stream, "OnEnable");
            var live = Live(stream);
            live.Take(new Arrival { Message = new Welcome { Kind = "vertices", Channels = new string[0], Width = 6, FrameRateHz = 30 } });
            live.Take(new Arrival { Message = Frame(6, "vertices"), AtS = StreamConnection.NowS });
            Engine(stream, "LateUpdate");
            var moved = stream.vertices.mesh.vertices;
            Assert.AreEqual(new[] { -1f, 2f, 3f, -4f, 5f, 6f },
                moved.SelectMany(one => new[] { one.x, one.y, one.z }).ToArray());
            stream.vertices.mesh.vertices = new Vector3[2];
            live.Take(new Arrival { Message = new Welcome { Kind = "vertices", Channels = new string[0], Width = 9, FrameRateHz = 30 } });
            live.Take(new Arrival { Message = Frame(9, "vertices"), AtS = StreamConnection.NowS });
            Engine(stream, "LateUpdate");
            Engine(stream, "OnDisable");
            Assert.That(Debug.lines.Last(), Is.StringContaining("moves 3 vertices, the mesh has 2"));
        }

        [Test]
        public void MouthOnlyLeavesTheBrowsAlone()
        {
            var avatar = new GameObject("Avatar");
            var head = Renderer(avatar, 100, "browInnerUp", "jawOpen");
            var stream = avatar.AddComponent<FaceStream>();
            stream.mouthOnly = true;
            Engine(stream, "OnEnable");
            var live = Live(stream);
            live.Take(new Arrival
            {
                Message = new Welcome { Kind = "coefficients", Channels = new[] { "browInnerUp", "jawOpen" }, Width = 2, FrameRateHz = 30 },
            });
            live.Take(new Arrival { Message = Frame(2, "coefficients"), AtS = StreamConnection.NowS });
            Engine(stream, "LateUpdate");
            Engine(stream, "OnDisable");
            CollectionAssert.AreEqual(new[] { 1 }, head.weights.Keys);
            Assert.AreEqual(100, head.weights[1], "clamped to the whole shape");
        }

        [Test]
        public void AMistypedAddressIsSaidAndNothingElseHappens()
        {
            var stream = new GameObject("Avatar").AddComponent<FaceStream>();
            stream.server = "http://127.0.0.1:8600";
            Engine(stream, "OnEnable");
            Engine(stream, "LateUpdate");
            Engine(stream, "OnDisable");
            Assert.That(Debug.lines.Single(), Is.StringContaining("ws://127.0.0.1:8600"));
        }

        [Test]
        public void TheMicrophoneSendsWhatIsNewAcrossTheEndOfItsRing()
        {
            var avatar = new GameObject("Avatar");
            Renderer(avatar, 100, "jawOpen");
            var stream = avatar.AddComponent<FaceStream>();
            stream.server = Of("SERVER");
            stream.stream = "unity-microphone";
            stream.role = FaceRole.Converse;
            long ended = -1;
            double audioS = 0;
            stream.Ended += message =>
            {
                ended = message.Frames;
                audioS = message.AudioS;
            };
            Engine(stream, "OnEnable");
            double endS = StreamConnection.NowS + GuardS;
            while (stream.State != ConnectionState.Open && StreamConnection.NowS < endS) Thread.Sleep(2);
            var microphone = avatar.AddComponent<MicrophoneSource>();
            Microphone.position = 0;
            Engine(microphone, "OnEnable");
            for (int i = 0; i < Microphone.clip.data.Length; i++) Microphone.clip.data[i] = i % 2 == 0 ? 0.25f : -0.25f;
            foreach (int position in new[] { 8000, 8000, 15900, 300 }) // half a second, and on past the end
            {
                Microphone.position = position;
                Engine(microphone, "Update");
            }
            Assert.That(microphone.Level, Is.EqualTo(0.25f).Within(1e-6));
            stream.EndSpeech();
            while (ended < 0 && StreamConnection.NowS < endS)
            {
                Engine(stream, "LateUpdate");
                Thread.Sleep(5);
            }
            Engine(microphone, "OnDisable");
            Engine(stream, "OnDisable");
            Assert.That(audioS, Is.EqualTo((16000 + 300) / 16000.0).Within(1e-6));
            Assert.IsEmpty(Debug.lines.Where(line => line.StartsWith("warning")));
        }

        [Test]
        public void AMicrophoneOnAWatcherOrWithoutADeviceIsExplained()
        {
            var avatar = new GameObject("Avatar");
            var stream = avatar.AddComponent<FaceStream>();
            var microphone = avatar.AddComponent<MicrophoneSource>();
            Engine(microphone, "OnEnable");
            Assert.That(Debug.lines.Single(), Is.StringContaining("set it to Converse"));
            stream.role = FaceRole.Converse;
            Microphone.devices = new string[0];
            Engine(microphone, "OnEnable");
            Engine(microphone, "Update");
            Engine(microphone, "OnDisable");
            Microphone.devices = new[] { "a microphone" };
            Assert.That(Debug.lines.Last(), Is.StringContaining("no microphone"));
        }

        static LiveFace Live(FaceStream stream)
        {
            var field = typeof(FaceStream).GetField("face", BindingFlags.Instance | BindingFlags.NonPublic);
            return (LiveFace)field.GetValue(stream);
        }

        static Frames Frame(int width, string kind)
        {
            var values = Enumerable.Range(1, width).Select(i => (float)i).ToArray();
            return new Frames { Values = values, Kind = kind, DType = "f32", Count = 1, Width = width };
        }
    }
}
