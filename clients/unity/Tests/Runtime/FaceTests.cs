// From messages to a face: the jitter buffer, the live face, names of shapes, the inbox, the clock.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using DiffSpeaker.Wire;
using Newtonsoft.Json.Linq;
using NUnit.Framework;

namespace DiffSpeaker.Tests
{
    [TestFixture]
    public sealed class FaceTests
    {
        const int Rate = 30;

        /// <summary>A message whose one channel says its own time: value = pts × 10.</summary>
        static Frames Message(int first, int count, uint epoch = 0)
        {
            return new Frames
            {
                Values = Enumerable.Range(first, count).Select(i => 10f * i / Rate).ToArray(),
                Kind = "coefficients",
                DType = "f32",
                Epoch = epoch,
                FirstFrame = (uint)first,
                Count = count,
                Width = 1,
                PtsS = first / (double)Rate,
                EmitTimeS = 100 + first / (double)Rate,
            };
        }

        static Arrival At(double atS, object message)
        {
            return new Arrival { Message = message, AtS = atS };
        }

        static Welcome Welcomed()
        {
            return new Welcome { Kind = "coefficients", Channels = new[] { "jawOpen" }, Width = 1, FrameRateHz = Rate };
        }

        static IEnumerable<TestCaseData> Traces
        {
            get
            {
                var file = Environment.GetEnvironmentVariable("DIFFSPEAKER_TRACES");
                if (string.IsNullOrEmpty(file))
                    return new[] { new TestCaseData(new JObject()).Ignore("DIFFSPEAKER_TRACES is not set") };
                var traces = JArray.Parse(File.ReadAllText(file));
                return traces.Cast<JObject>().Select(one => new TestCaseData(one).SetName("trace: " + one["name"])).ToArray();
            }
        }

        /// <summary>The same messages at the same instants give the face that the Python client shows.</summary>
        [TestCaseSource("Traces")]
        public void TheBufferShowsWhatThePythonClientShows(JObject trace)
        {
            var buffer = new JitterBuffer(1, Rate);
            var face = new float[1];
            int step = 0;
            foreach (var happening in trace["happenings"])
            {
                double nowS = (double)happening["now_s"];
                if (happening["first"] != null)
                {
                    buffer.Push(Message((int)happening["first"], (int)happening["count"], (uint)happening["epoch"]), nowS);
                    continue;
                }
                double ptsS = buffer.Playout(nowS);
                bool isShown = buffer.At(ptsS, face);
                Assert.AreEqual((bool)happening["is_shown"], isShown, "step " + step);
                if (isShown)
                {
                    Assert.That(ptsS, Is.EqualTo((double)happening["pts_s"]).Within(1e-9), "step " + step);
                    Assert.That(face[0], Is.EqualTo((float)happening["value"]).Within(1e-5), "step " + step);
                }
                step++;
            }
            Assert.AreEqual((long)trace["dropped"], buffer.Dropped);
            Assert.AreEqual((long)trace["late"], buffer.Late);
            Assert.AreEqual((long)trace["received"], buffer.Received);
            Assert.Greater(step, 100);
        }

        [Test]
        public void NothingIsShownBeforeTheFirstFrame()
        {
            var buffer = new JitterBuffer(1, Rate);
            Assert.IsNaN(buffer.Playout(1));
            Assert.IsFalse(buffer.At(buffer.Playout(2), new float[1]));
        }

        [Test]
        public void BetweenTwoFramesValuesAreLinearAndAfterTheNewestHeld()
        {
            var buffer = new JitterBuffer(1, Rate);
            var face = new float[1];
            buffer.Push(Message(0, 6), 50);
            foreach (var ptsS in new[] { 0, 0.01, 1.0 / Rate, 0.05, 0.1, 9 })
            {
                Assert.IsTrue(buffer.At(ptsS, face));
                Assert.That(face[0], Is.EqualTo(10 * Math.Min(ptsS, 5.0 / Rate)).Within(1e-5));
            }
        }

        [Test]
        public void TheRingIsBoundedAndALateComerMissedNothing()
        {
            var buffer = new JitterBuffer(1, Rate, 8);
            var face = new float[1];
            for (int i = 0; i < 100; i++) buffer.Push(Message(900 + 2 * i, 2), 50 + i / 15.0);
            Assert.AreEqual(0, buffer.Dropped);
            buffer.At(0, face);
            Assert.That(face[0], Is.EqualTo(10f * (900 + 192) / Rate).Within(1e-3));
        }

        [Test]
        public void AFaceWhoseFramesStopEasesToRestAndIsThenLeftAlone()
        {
            var face = new LiveFace();
            face.Take(At(10, Welcomed()));
            for (int i = 0; i < 15; i++) face.Take(At(10 + i / 15.0, Message(2 * i, 2)));
            Assert.IsTrue(face.Draw(11));
            Assert.Greater(face.Values[0], 8);
            for (double nowS = 11; nowS < 11.4; nowS += 0.02) face.Draw(nowS);
            Assert.IsTrue(face.IsLive);
            bool moved = true;
            for (double nowS = 11.4; nowS < 14; nowS += 0.02) moved = face.Draw(nowS);
            Assert.IsFalse(face.IsLive);
            Assert.AreEqual(0, face.Values[0]);
            Assert.IsFalse(moved);
        }

        [Test]
        public void TheTailOfATakeIsShownThoughTheNextConnectionIsThere()
        {
            var face = new LiveFace();
            face.Take(At(10, Welcomed()));
            for (int i = 0; i < 15; i++) face.Take(At(10 + i / 15.0, Message(2 * i, 2)));
            face.Take(At(11, new Ended()));
            face.Take(At(11, Welcomed()));
            for (double nowS = 10.9; nowS < 11.05; nowS += 0.01) face.Draw(nowS);
            Assert.That(face.Values[0], Is.EqualTo(10f * 29 / Rate).Within(0.2));
        }

        [Test]
        public void ANewTakeBeginsFromTheFaceOnTheScreen()
        {
            var face = new LiveFace();
            face.Take(At(10, Welcomed()));
            for (int i = 0; i < 15; i++) face.Take(At(10 + i / 15.0, Message(2 * i, 2)));
            for (double nowS = 10.9; nowS < 11; nowS += 0.01) face.Draw(nowS);
            float before = face.Values[0];
            face.Take(At(11, Welcomed()));
            face.Take(At(11, Message(0, 4)));
            face.Draw(11);
            Assert.That(face.Values[0], Is.EqualTo(before).Within(0.6), "it eased, it did not jump");
            for (double nowS = 11; nowS < 11.3; nowS += 0.01) face.Draw(nowS);
            Assert.That(face.Values[0], Is.EqualTo(1).Within(1e-3));
        }

        [Test]
        public void FramesOfNobodysWelcomeAreIgnored()
        {
            var face = new LiveFace();
            face.Take(At(10, Message(0, 6)));
            Assert.IsFalse(face.Draw(10));
            Assert.IsFalse(face.IsLive);
        }

        [TestCase("jawOpen", 0)]
        [TestCase("mouthSmileLeft", 1)]
        [TestCase("mouthSmileRight", 2)]
        [TestCase("eyeBlinkLeft", 3)]
        [TestCase("eyeBlinkRight", 4)]
        [TestCase("tongueOut", 5)]
        [TestCase("cheekPuff", 6)]
        [TestCase("browInnerUp", -1)]
        public void ShapesAreFoundByTheNamesOfManyTools(string channel, int index)
        {
            var shapes = new[]
            {
                "JawOpen", "mouthSmile_L", "blendShape1.mouth_smile_R", "Head.eyeBlink.L", "eyeBlink.R", "Face_tongueOut",
                "cheek-puff", "Body.Other",
            };
            Assert.AreEqual(index, ChannelNames.Match(new[] { channel }, shapes)[0]);
        }

        [Test]
        public void AnExactNameIsPreferredToAnEnding()
        {
            Assert.AreEqual(1, ChannelNames.Match(new[] { "jawOpen" }, new[] { "Beard_jawOpen", "jawOpen" })[0]);
        }

        [Test]
        public void AnInboxThatNobodyEmptiesLosesItsOldestFramesOnly()
        {
            var inbox = new Inbox(4);
            inbox.Keep(Welcomed(), 0);
            for (int i = 0; i < 10; i++) inbox.Keep(Message(i, 1), i);
            inbox.Keep(new Ended(), 10);
            var kept = new List<Arrival>();
            Arrival arrival;
            while (inbox.TryTake(out arrival)) kept.Add(arrival);
            Assert.IsInstanceOf<Welcome>(kept[0].Message);
            Assert.IsInstanceOf<Ended>(kept[3].Message);
            Assert.AreEqual(new[] { 8.0, 9.0 }, new[] { kept[1].AtS, kept[2].AtS });
            Assert.AreEqual(8, inbox.Untaken);
        }

        [Test]
        public void AnOutboxThatTheSocketDoesNotEmptyRefusesMoreThanASecondOfAudio()
        {
            var outbox = new Outbox(new AudioFormat { SampleRateHz = 16000 });
            var tenth = new byte[3200];
            for (int i = 0; i < 10; i++) Assert.IsTrue(outbox.TryAdd(tenth));
            Assert.IsFalse(outbox.TryAdd(tenth));
            outbox.Add(Messages.Interrupt);
            outbox.Sent(outbox.Next(System.Threading.CancellationToken.None).Result);
            Assert.IsTrue(outbox.TryAdd(tenth));
            for (int i = 0; i < 9; i++) outbox.Next(System.Threading.CancellationToken.None).Wait();
            Assert.IsTrue(outbox.Next(System.Threading.CancellationToken.None).Result.IsText);
        }

        [Test]
        public void TheQuickestAnswerTellsTheClock()
        {
            var clock = new ClockSync();
            Assert.IsNaN(clock.DifferenceS);
            clock.Observe(10, 1010.2, 10.4);
            clock.Observe(12, 1012.02, 12.02);
            clock.Observe(14, 1015, 14.9);
            Assert.That(clock.DifferenceS, Is.EqualTo(1000.01).Within(1e-9));
            Assert.That(clock.RttS, Is.EqualTo(0.02).Within(1e-9));
        }

        [Test]
        public void AttemptsComeAtGrowingIntervalsOfAtMostFiveSeconds()
        {
            Assert.AreEqual(0.25, StreamConnection.DelayS(0, 0));
            Assert.AreEqual(0.5, StreamConnection.DelayS(2, 1));
            Assert.AreEqual(5, StreamConnection.DelayS(1000, 0));
        }

        [TestCase("http://127.0.0.1:8600")]
        [TestCase("127.0.0.1")]
        [TestCase("")]
        public void AnAddressThatIsNoneIsRefusedWithAHint(string server)
        {
            var error = Assert.Throws<WireException>(() => StreamConnection.AddressOf(server, "me"));
            Assert.AreEqual("bad_address", error.Code);
            StringAssert.Contains("ws://", error.Hint);
        }
    }
}
