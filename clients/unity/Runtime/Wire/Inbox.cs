// What the socket's task received and the drawing thread did not take yet: bounded, from any thread to any other.
// When it is full the oldest media give way, never a control message while there is anything else.

using System.Collections.Generic;

namespace DiffSpeaker.Wire
{
    /// <summary>A message and when it came.</summary>
    public struct Arrival
    {
        /// <summary>A <see cref="Frames"/>, a <see cref="Passthrough"/>, a control message, or a
        /// <see cref="WireException"/>.</summary>
        public object Message;

        /// <summary>Seconds of <see cref="StreamConnection.NowS"/>'s clock.</summary>
        public double AtS;
    }

    public sealed class Inbox
    {
        readonly LinkedList<Arrival> arrivals = new LinkedList<Arrival>();
        readonly int most;

        /// <summary>Messages that gave way.</summary>
        public long Untaken { get; private set; }

        /// <param name="most">messages kept; 256 are a quarter of a minute of frames</param>
        public Inbox(int most = 256)
        {
            this.most = most;
        }

        public void Keep(object message, double atS)
        {
            lock (arrivals)
            {
                arrivals.AddLast(new Arrival { Message = message, AtS = atS });
                if (arrivals.Count <= most) return;
                Untaken++;
                var node = arrivals.First;
                while (node != null && !MayGiveWay(node.Value.Message)) node = node.Next;
                arrivals.Remove(node ?? arrivals.First);
            }
        }

        /// <summary>The oldest message.</summary>
        /// <returns>Whether there was one.</returns>
        public bool TryTake(out Arrival arrival)
        {
            lock (arrivals)
            {
                arrival = default(Arrival);
                if (arrivals.Count == 0) return false;
                arrival = arrivals.First.Value;
                arrivals.RemoveFirst();
                return true;
            }
        }

        public void Clear()
        {
            lock (arrivals) arrivals.Clear();
        }

        static bool MayGiveWay(object message)
        {
            return message is Frames || message is Passthrough || message is Stats;
        }
    }
}
