// How the server's clock relates to ours, from questions and answers. Pure: time is passed in.
// An answer that took rtt seconds bounds the difference to ± rtt / 2, so the quickest recent answer is the
// truest one (the min-RTT filter). The last 16 are remembered, so that two drifting clocks are followed.

namespace DiffSpeaker.Wire
{
    public sealed class ClockSync
    {
        const int Remembered = 16;
        readonly double[] rtts = new double[Remembered];
        readonly double[] differences = new double[Remembered];
        int count;

        /// <summary>The quickest recent round trip, seconds; NaN before the first answer.</summary>
        public double RttS { get; private set; } = double.NaN;

        /// <summary>Server's clock minus ours, seconds; NaN before the first answer.</summary>
        public double DifferenceS { get; private set; } = double.NaN;

        public void Observe(double askedS, double serverS, double answeredS)
        {
            double rtt = answeredS - askedS;
            if (!(rtt >= 0)) return;
            rtts[count % Remembered] = rtt;
            differences[count % Remembered] = serverS - (askedS + answeredS) / 2;
            count++;
            int best = 0;
            for (int i = 1; i < System.Math.Min(count, Remembered); i++) if (rtts[i] < rtts[best]) best = i;
            RttS = rtts[best];
            DifferenceS = differences[best];
        }
    }
}
