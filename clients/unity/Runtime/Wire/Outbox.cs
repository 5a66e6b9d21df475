// What waits for one connection's socket: bounded in audio, from any thread to the one that sends.
// At most a second of audio waits, or 16 KiB where that is more; control messages are few and always taken.

using System;
using System.Collections.Generic;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace DiffSpeaker.Wire
{
    public sealed class Outbox
    {
        const int LeastBound = 16384; // bytes

        readonly Queue<Item> items = new Queue<Item>();
        readonly SemaphoreSlim signal = new SemaphoreSlim(0);
        readonly int bound;
        int audioBytes; // that wait

        /// <summary>A message, and whether it is text.</summary>
        public struct Item
        {
            public byte[] Bytes;
            public bool IsText;
        }

        /// <param name="audio">what the connection's speaker sends; null for a watcher</param>
        public Outbox(AudioFormat audio)
        {
            int bytesPerS = audio == null ? 0 : audio.SampleRateHz * audio.Channels * (audio.Encoding == "f32" ? 4 : 2);
            bound = Math.Max(LeastBound, bytesPerS);
        }

        /// <summary>Takes an audio message, unless a second of audio waits already.</summary>
        public bool TryAdd(byte[] audio)
        {
            lock (items)
            {
                if (audioBytes >= bound) return false;
                audioBytes += audio.Length;
                items.Enqueue(new Item { Bytes = audio });
            }
            signal.Release();
            return true;
        }

        public void Add(string text)
        {
            lock (items) items.Enqueue(new Item { Bytes = Encoding.UTF8.GetBytes(text), IsText = true });
            signal.Release();
        }

        /// <summary>Waits for the oldest message; say <see cref="Sent"/> when it is out.</summary>
        public async Task<Item> Next(CancellationToken cancelled)
        {
            await signal.WaitAsync(cancelled).ConfigureAwait(false);
            lock (items) return items.Dequeue();
        }

        public void Sent(Item item)
        {
            if (!item.IsText) lock (items) audioBytes -= item.Bytes.Length;
        }
    }
}
