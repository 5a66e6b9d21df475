// Turns frames that arrive in bursts into a face at any instant. Pure: time is passed in, no engine types.
//
// A frame carries its time on the stream's audio clock (its pts). The buffer shows pts = now − offset. The offset
// is the smallest one at which nearly every message (95 %) arrives before it is needed, which is one frame period
// after its first frame, because a value between two frames needs both. Rules, the same as in every client here:
//  1. Frames live in a ring by their index; it never grows. An old frame gives way to a new one.
//  2. Between two frames values are linear; after the newest they are held; before the first they ease in.
//  3. The offset follows the network gently: playout slows by at most 15 % to wait, hurries by at most 5 % to catch
//     up, and jumps only when it is more than half a second wrong. Playout never runs backward.
//  4. A new epoch has a new audio clock: the buffer forgets the old frames and anchors anew, easing from what was
//     last shown. Messages of an older epoch are ignored.
//  5. A message more than half a second late belongs to an outage, not to the jitter, and does not move the
//     offset. Only where such lateness lasts half a second without falling has the stream's clock been shifted,
//     and is followed. A jump, or a return after half a second without a picture, eases from what was shown.
//  6. All memory is taken at the start: Push, Playout and At allocate nothing.

using System;

namespace DiffSpeaker.Wire
{
    public sealed class JitterBuffer
    {
        const int Remembered = 64; // messages: about four seconds
        const double FirstAllowanceS = 0.03; // jitter assumed before any was seen
        const int Enough = 16; // messages that tell the jitter
        const double Usual = 0.95;
        const double SpareS = 0.004;
        const double Slower = 0.15, Faster = 0.05;
        const double JumpS = 0.5;
        const double EaseS = 0.12;
        const double PatienceS = 0.5; // for lateness to end
        const double OverS = 0.05; // no later than this: the outage is over
        const double FallingS = 0.2; // lateness that shrinks by this much is what queued up in an outage
        const double LongestStepS = 0.25; // of time that the offset follows at once

        /// <summary>Values per frame.</summary>
        public readonly int Width;
        public readonly int FrameRateHz;
        readonly int capacity;
        readonly float[] values;
        readonly long[] indices;
        readonly double[] emits;
        long oldest = -1, newest = -1;

        double lastNowS = double.NaN, lastPtsS = double.NegativeInfinity;
        double jitterS = FirstAllowanceS;
        readonly double[] observed = new double[Remembered], sorted = new double[Remembered];
        long observations;
        double usualOffsetS = double.NaN;
        double outageSinceS = double.NaN, outageOffsetS = double.NaN;

        readonly float[] shown, easeFrom;
        bool hasShown;
        double easeUntilPtsS = double.NegativeInfinity;

        /// <summary>Frames that never came, by gaps in their numbers.</summary>
        public long Dropped { get; private set; }

        /// <summary>Frames that came after their instant had been shown.</summary>
        public long Late { get; private set; }
        public long Received { get; private set; }

        /// <summary>The epoch being shown, -1 before the first frame.</summary>
        public long Epoch { get; private set; } = -1;

        /// <summary>Index of the frame last shown (the earlier of the two that it lay between), -1 before any.</summary>
        public long ShownFrame { get; private set; } = -1;

        /// <summary>The server's clock when that frame was emitted, seconds.</summary>
        public double ShownEmitS { get; private set; } = double.NaN;

        /// <summary>The caller's clock minus the pts that it shows, seconds; NaN before the first frame.</summary>
        public double OffsetS { get; private set; } = double.NaN;

        /// <summary>How long the newest frame's successor may take until playout runs dry, seconds.</summary>
        public double MarginS
        {
            get { return newest / (double)FrameRateHz - lastPtsS; }
        }

        /// <param name="width">values per frame</param>
        /// <param name="frameRateHz">the welcome's</param>
        /// <param name="capacityFrames">three seconds' worth where 0</param>
        /// <param name="onScreen">(width,), the face shown before the first frame, or null</param>
        public JitterBuffer(int width, int frameRateHz, int capacityFrames = 0, float[] onScreen = null)
        {
            Width = width;
            FrameRateHz = frameRateHz;
            capacity = capacityFrames > 0 ? capacityFrames : 3 * frameRateHz;
            values = new float[width * capacity];
            indices = new long[capacity];
            emits = new double[capacity];
            for (int i = 0; i < capacity; i++) indices[i] = -1;
            shown = new float[width];
            easeFrom = new float[width];
            hasShown = onScreen != null && onScreen.Length == width;
            if (hasShown) Array.Copy(onScreen, shown, width);
        }

        /// <summary>Takes a message that arrived at <paramref name="nowS"/> of the caller's monotonic clock.</summary>
        public void Push(Frames frames, double nowS)
        {
            if (frames.Width != Width || frames.Count == 0 || frames.Epoch < Epoch) return;
            bool isNew = frames.Epoch != Epoch;
            if (isNew) BeginEpoch(frames.Epoch);
            if (IsUsual(nowS - frames.PtsS, nowS)) Observe(nowS - frames.PtsS);
            if (isNew)
            {
                OffsetS = NeededOffsetS();
                EaseFromShown(frames.PtsS);
            }
            for (int i = 0; i < frames.Count; i++) Store(frames, i);
        }

        /// <summary>The instant to show, on the stream's audio clock; advances with <paramref name="nowS"/>.</summary>
        /// <returns>Seconds, NaN before the first frame.</returns>
        public double Playout(double nowS)
        {
            double sinceS = double.IsNaN(lastNowS) ? 0 : nowS - lastNowS;
            double elapsedS = Math.Min(Math.Max(sinceS, 0), LongestStepS);
            lastNowS = nowS;
            double wrongS = NeededOffsetS() - OffsetS;
            bool jumps = Math.Abs(wrongS) > JumpS;
            if (jumps) OffsetS += wrongS;
            else OffsetS += Math.Min(Math.Max(wrongS, -Faster * elapsedS), Slower * elapsedS);
            if (jumps || sinceS > JumpS) EaseFromShown(nowS - OffsetS);
            return nowS - OffsetS;
        }

        /// <summary>The face at an instant of the stream's audio clock.</summary>
        /// <param name="ptsS">from <see cref="Playout"/>, or the instant that a loudspeaker is playing</param>
        /// <param name="face">(width,), written in place</param>
        /// <returns>Whether there was anything to show.</returns>
        public bool At(double ptsS, float[] face)
        {
            if (newest < 0 || double.IsNaN(ptsS)) return false;
            lastPtsS = ptsS;
            double position = ptsS * FrameRateHz;
            long before = Math.Min((long)Math.Floor(position), newest);
            while (before >= oldest && !Has(before)) before--;
            if (before < oldest) before = oldest;
            long after = Math.Min(before + 1, newest);
            while (after < newest && !Has(after)) after++;
            double share = after > before
                ? Math.Min(Math.Max((position - before) / (after - before), 0), 1)
                : 0;
            int a = (int)(before % capacity) * Width, b = (int)(after % capacity) * Width;
            for (int i = 0; i < Width; i++)
            {
                double value = values[a + i];
                face[i] = (float)(value + share * (values[b + i] - value));
            }
            if (ptsS < easeUntilPtsS) Ease(ptsS, face);
            Array.Copy(face, shown, Width);
            hasShown = true;
            ShownFrame = before;
            ShownEmitS = emits[before % capacity];
            return true;
        }

        bool Has(long index)
        {
            return indices[index % capacity] == index;
        }

        void BeginEpoch(long epoch)
        {
            Epoch = epoch;
            for (int i = 0; i < capacity; i++) indices[i] = -1;
            oldest = newest = -1;
            observations = 0;
            outageSinceS = double.NaN;
            lastPtsS = double.NegativeInfinity;
        }

        /// <summary>Lets the next values ease in from what is on the screen.</summary>
        void EaseFromShown(double ptsS)
        {
            easeUntilPtsS = double.NegativeInfinity;
            if (!hasShown || double.IsNaN(ptsS)) return;
            Array.Copy(shown, easeFrom, Width);
            easeUntilPtsS = ptsS + EaseS;
        }

        void Ease(double ptsS, float[] face)
        {
            double share = Math.Min(Math.Max(1 - (easeUntilPtsS - ptsS) / EaseS, 0), 1);
            for (int i = 0; i < Width; i++) face[i] = (float)(easeFrom[i] + share * (face[i] - easeFrom[i]));
        }

        /// <summary>Whether a message tells something about jitter (rule 5); forgets what no longer holds.</summary>
        bool IsUsual(double offsetS, double nowS)
        {
            if (observations == 0) return true;
            double lateS = offsetS - usualOffsetS;
            if (lateS <= (double.IsNaN(outageSinceS) ? JumpS : OverS))
            {
                outageSinceS = double.NaN;
                if (lateS < -JumpS) observations = 0; // far fresher than all before: those were the outage
                return true;
            }
            if (double.IsNaN(outageSinceS) || offsetS < outageOffsetS - FallingS)
            {
                outageSinceS = nowS;
                outageOffsetS = offsetS;
            }
            if (nowS - outageSinceS < PatienceS) return false;
            outageSinceS = double.NaN;
            observations = 0; // it lasts: the stream's clock is another one
            return true;
        }

        void Observe(double offsetS)
        {
            observed[observations % Remembered] = offsetS;
            observations++;
            int count = (int)Math.Min(observations, Remembered);
            Array.Copy(observed, sorted, count);
            Array.Sort(sorted, 0, count);
            usualOffsetS = sorted[Math.Min(count - 1, (int)Math.Floor(Usual * count))];
            // The guess for a new stream's jitter is what the last one showed.
            if (count >= Enough) jitterS = usualOffsetS - sorted[0];
            else usualOffsetS = Math.Max(usualOffsetS, sorted[0] + jitterS);
        }

        double NeededOffsetS()
        {
            return usualOffsetS + 1.0 / FrameRateHz + SpareS;
        }

        void Store(Frames frames, int i)
        {
            long index = (long)frames.FirstFrame + i;
            if (index <= newest) return; // frames are sent once, in order
            if (newest >= 0) Dropped += index - newest - 1;
            Received++;
            if (index / (double)FrameRateHz < lastPtsS) Late++;
            int slot = (int)(index % capacity);
            indices[slot] = index;
            emits[slot] = frames.EmitTimeS;
            Array.Copy(frames.Values, i * Width, values, slot * Width, Width);
            newest = index;
            if (oldest < 0) oldest = index;
            oldest = Math.Max(oldest, index - capacity + 1);
            while (!Has(oldest)) oldest++;
        }
    }
}
