// The face that a stream shows at an instant: messages in, values out. Pure: time is passed in, no engine types.
//
// The buffer lives from a connection's first frame until its last has been shown, so that the tail of one take is
// not cut off by the next connection's welcome. When frames stop for half a second, coefficients ease to rest
// (vertices stay). `Draw` allocates nothing.

using System;

namespace DiffSpeaker.Wire
{
    public sealed class LiveFace
    {
        const double StalledS = 0.5, DryS = 0.1;
        const double RestS = 0.09; // time constant of the ease to rest
        const float Rested = 1e-4f;
        static readonly string[] None = new string[0];

        Welcome welcome; // the newest
        Welcome shown; // the one whose frames the buffer holds
        JitterBuffer buffer;
        bool isOver; // no more frames will come for this buffer
        double lastArrivalS = double.NaN, lastDrawS = double.NaN;

        /// <summary>Names of <see cref="Values"/>; empty for vertices. The same array while they are the same.</summary>
        public string[] Channels { get; private set; } = None;

        /// <summary>Whether <see cref="Values"/> are x y z of vertices, in metres, +y up, +z where the face looks.</summary>
        public bool IsVertices { get; private set; }

        /// <summary>The face last drawn; reused.</summary>
        public float[] Values { get; private set; } = new float[0];

        /// <summary>Whether a stream is being shown.</summary>
        public bool IsLive
        {
            get { return buffer != null; }
        }

        public long Dropped { get; private set; }
        public long Late { get; private set; }

        /// <summary>How long ago the server emitted the frame being shown, by the server's clock less ours.</summary>
        public double AgeS(double nowS, ClockSync clock)
        {
            return buffer == null ? double.NaN : nowS + clock.DifferenceS - buffer.ShownEmitS;
        }

        /// <summary>Takes a message of the connection, in order.</summary>
        public void Take(Arrival arrival)
        {
            var frames = arrival.Message as Frames;
            if (arrival.Message is Welcome) welcome = (Welcome)arrival.Message;
            else if (arrival.Message is Ended) isOver = true;
            else if (frames != null && welcome != null) Receive(frames, arrival.AtS);
        }

        /// <summary>Moves <see cref="Values"/> to this instant.</summary>
        /// <returns>Whether they changed, so that the avatar is to be moved.</returns>
        public bool Draw(double nowS)
        {
            double elapsedS = double.IsNaN(lastDrawS) ? 0 : Math.Min(Math.Max(nowS - lastDrawS, 0), 0.5);
            lastDrawS = nowS;
            if (buffer == null) return Ease(elapsedS);
            double ptsS = buffer.Playout(nowS);
            bool isShown = buffer.At(ptsS, Values);
            // Too late is not stalled: what comes late is still shown.
            bool isDry = buffer.MarginS < -DryS;
            if (isDry && (isOver || nowS - lastArrivalS > StalledS)) Leave();
            return isShown;
        }

        void Receive(Frames frames, double atS)
        {
            if (buffer == null || shown != welcome) Begin(frames);
            lastArrivalS = atS;
            buffer.Push(frames, atS);
        }

        void Begin(Frames frames)
        {
            Leave();
            shown = welcome;
            isOver = false;
            IsVertices = frames.Kind == "vertices";
            var channels = IsVertices ? None : welcome.Channels;
            bool isSame = Values.Length == frames.Width && channels.Length == Channels.Length;
            for (int i = 0; isSame && i < channels.Length; i++) isSame = channels[i] == Channels[i];
            if (!isSame)
            {
                Channels = channels;
                Values = new float[frames.Width];
            }
            buffer = new JitterBuffer(frames.Width, (int)welcome.FrameRateHz, 0, isSame ? Values : null);
        }

        void Leave()
        {
            if (buffer != null)
            {
                Dropped += buffer.Dropped;
                Late += buffer.Late;
            }
            buffer = null;
        }

        bool Ease(double elapsedS)
        {
            if (IsVertices) return false;
            var keep = (float)Math.Exp(-elapsedS / RestS);
            bool moved = false;
            for (int i = 0; i < Values.Length; i++)
            {
                if (Values[i] == 0) continue;
                Values[i] = Math.Abs(Values[i]) < Rested ? 0 : Values[i] * keep;
                moved = true;
            }
            return moved;
        }
    }
}
