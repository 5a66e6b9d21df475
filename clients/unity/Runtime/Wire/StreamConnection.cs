// One lasting connection to a stream: connects, greets, and comes back by itself when it is lost. No engine types.
//
// A task of its own reads the socket and stamps each message with its arrival, so that a frame drawn late does not
// make the network look jittery; whoever draws takes the messages from a bounded queue when it likes. Rules:
//  1. A lost connection is retried after 0.25 s × 2ⁿ, at most 5 s, each time a random half less, so that many
//     clients don't come back in step. Frames that arrive reset n. A speaker asks to go on in the session that it
//     was lost from; the server keeps it for some seconds.
//  2. After our own `End` the next connection follows at once.
//  3. Every two seconds the server's clock is asked; ten silent seconds mean that the connection is dead.
//  4. What nobody takes is bounded: the oldest frames give way, never a control message. What the socket does not
//     take is bounded: at most a second of audio waits, more is refused and counted.
//  5. An error that asking again in the same words would not mend ends it (`Failed`); `Start` tries once more.

using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Net.WebSockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace DiffSpeaker.Wire
{
    public enum ConnectionState
    {
        /// <summary>Nothing is wanted.</summary>
        Stopped,

        /// <summary>No welcome yet.</summary>
        Connecting,

        /// <summary>Welcomed.</summary>
        Open,

        /// <summary>Lost; tries again by itself.</summary>
        Waiting,

        /// <summary>The server refused what was asked; trying again would not help.</summary>
        Failed,
    }

    public sealed class StreamConnection : IDisposable
    {
        const double FirstRetryS = 0.25, LastRetryS = 5;
        const double ClockEveryS = 2, SilenceS = 10;

        static readonly HashSet<string> Lasting = new HashSet<string>
        {
            "hello_expected", "unsupported_version", "bad_stream_name", "unauthorized", "bad_json", "unknown_type",
            "bad_message", "bad_option", "not_allowed", "message_too_big", "bad_audio_format", "bad_audio_size",
            "bad_audio_values", "bad_bundle", "bad_address",
        };

        readonly Uri address;
        readonly Func<Hello> hello;
        readonly Random random = new Random();
        readonly object gate = new object();
        readonly Inbox inbox = new Inbox();
        Outbox outbox; // of the present connection
        CancellationTokenSource life;
        double heardS;
        bool ending;
        string session; // of the connection that is open, or was lost
        WireException fault;

        public ConnectionState State { get; private set; }

        /// <summary>The present connection's welcome; null unless <see cref="ConnectionState.Open"/>.</summary>
        public Welcome Welcome { get; private set; }
        public ClockSync Clock { get; private set; } = new ClockSync();

        /// <summary>Connections lost or refused in a row.</summary>
        public int Attempts { get; private set; }

        /// <summary>Audio messages not sent, because nothing was open or the socket was a second behind.</summary>
        public long Unsent { get; private set; }

        /// <summary>Messages that gave way because nobody took them.</summary>
        public long Untaken
        {
            get { return inbox.Untaken; }
        }

        /// <summary>A monotonic clock, seconds.</summary>
        public static double NowS
        {
            get { return Stopwatch.GetTimestamp() / (double)Stopwatch.Frequency; }
        }

        /// <param name="address">ws://host:port/v1/streams/name, or wss</param>
        /// <param name="hello">asked at each attempt, on a thread of the pool</param>
        public StreamConnection(Uri address, Func<Hello> hello)
        {
            this.address = address;
            this.hello = hello;
        }

        /// <summary>The address of a stream.</summary>
        /// <exception cref="WireException"><c>bad_address</c>: it does not begin with ws:// or wss://.</exception>
        public static Uri AddressOf(string server, string stream)
        {
            Uri address;
            if (!Uri.TryCreate(server.TrimEnd('/') + "/v1/streams/" + Uri.EscapeDataString(stream), UriKind.Absolute, out address)
                || (address.Scheme != "ws" && address.Scheme != "wss"))
            {
                throw new WireException("bad_address", "'" + server + "' is not a server's address.",
                    "Write it as ws://127.0.0.1:8600, or wss:// where the server has a certificate.");
            }
            return address;
        }

        /// <summary>Connects, unless it is at it already.</summary>
        public void Start()
        {
            lock (gate)
            {
                if (life != null && State != ConnectionState.Failed) return;
                if (life != null) life.Cancel();
                life = new CancellationTokenSource();
                Attempts = 0;
                State = ConnectionState.Connecting;
                var cancelled = life.Token;
                Task.Run(() => Live(cancelled));
            }
        }

        /// <summary>Lets the connection go for good.</summary>
        public void Dispose()
        {
            lock (gate)
            {
                if (life != null) life.Cancel();
                life = null;
                session = null;
                State = ConnectionState.Stopped;
                Welcome = null;
                inbox.Clear();
            }
        }

        /// <summary>The oldest message that nobody took yet.</summary>
        public bool TryTake(out Arrival arrival)
        {
            return inbox.TryTake(out arrival);
        }

        /// <summary>Sends an audio message of <see cref="Media"/>'s making.</summary>
        /// <returns>Whether it will be sent: false while nothing is open, or the socket is a second behind.</returns>
        public bool SendAudio(byte[] message)
        {
            lock (gate)
            {
                if (State == ConnectionState.Open && !ending && outbox.TryAdd(message)) return true;
                Unsent++;
                return false;
            }
        }

        /// <summary>From the next window on; later connections ask their hello.</summary>
        public void SendStyle(IDictionary<string, double> style)
        {
            SendText(Messages.EncodeStyle(style));
        }

        /// <summary>Drops what is queued; the mouth closes.</summary>
        public void Interrupt()
        {
            SendText(Messages.Interrupt);
        }

        /// <summary>No more audio: the tail comes, then <see cref="Ended"/>, then a fresh connection.</summary>
        public void End()
        {
            lock (gate)
            {
                if (State != ConnectionState.Open) return;
                ending = true;
                SendText(Messages.End);
            }
        }

        /// <summary>How long the next attempt waits, seconds (rule 1).</summary>
        /// <param name="attempts">lost or refused so far</param>
        /// <param name="chance">in [0, 1)</param>
        public static double DelayS(int attempts, double chance)
        {
            double longest = Math.Min(FirstRetryS * Math.Pow(2, Math.Min(attempts, 10)), LastRetryS);
            return longest * (1 - 0.5 * chance);
        }

        void SendText(string text)
        {
            lock (gate) if (State == ConnectionState.Open) outbox.Add(text);
        }

        // ---- on the pool's threads ----

        async Task Live(CancellationToken cancelled)
        {
            while (!cancelled.IsCancellationRequested)
            {
                bool atOnce = await LiveOnce(cancelled).ConfigureAwait(false);
                double delayS;
                lock (gate)
                {
                    if (cancelled.IsCancellationRequested) return;
                    Welcome = null;
                    bool lasting = fault != null && Lasting.Contains(fault.Code);
                    State = lasting ? ConnectionState.Failed : ConnectionState.Waiting;
                    if (lasting) return;
                    delayS = atOnce ? 0 : DelayS(Attempts, random.NextDouble());
                    if (!atOnce) Attempts++;
                }
                try
                {
                    await Task.Delay(TimeSpan.FromSeconds(delayS), cancelled).ConfigureAwait(false);
                }
                catch (OperationCanceledException)
                {
                    return;
                }
            }
        }

        /// <summary>One connection from its beginning to its end.</summary>
        /// <returns>Whether the next follows at once.</returns>
        async Task<bool> LiveOnce(CancellationToken cancelled)
        {
            lock (gate)
            {
                if (cancelled.IsCancellationRequested) return false;
                State = ConnectionState.Connecting;
                fault = null;
                ending = false;
                heardS = NowS;
            }
            using (var socket = new ClientWebSocket())
            using (var own = CancellationTokenSource.CreateLinkedTokenSource(cancelled))
            {
                socket.Options.AddSubProtocol(Protocol.Subprotocol);
                Task sending = null, watching = null;
                try
                {
                    watching = WatchOver(own);
                    await socket.ConnectAsync(address, own.Token).ConfigureAwait(false);
                    var wanted = hello();
                    if (wanted.Role != "watch") lock (gate) wanted.Resume = session;
                    var waiting = new Outbox(wanted.Audio);
                    waiting.Add(Messages.Encode(wanted));
                    lock (gate) outbox = waiting;
                    sending = SendAll(socket, waiting, own.Token);
                    await ReceiveAll(socket, own.Token).ConfigureAwait(false);
                }
                catch (WireException error)
                {
                    Fail(error);
                }
                catch (Exception error) when (IsLoss(error))
                {
                    if (!cancelled.IsCancellationRequested && State == ConnectionState.Connecting && fault == null)
                        Fail(new WireException("no_answer", "Nothing answers at " + address + ": " + Innermost(error),
                            "Start the server (diffspeaker serve), or check the address. Trying again."));
                }
                own.Cancel();
                await Quietly(sending).ConfigureAwait(false);
                await Quietly(watching).ConfigureAwait(false);
                lock (gate)
                {
                    if (ending || fault != null) session = null;
                    return ending && fault == null;
                }
            }
        }

        async Task ReceiveAll(ClientWebSocket socket, CancellationToken cancelled)
        {
            var buffer = new byte[16384];
            int length = 0;
            while (true)
            {
                if (length == buffer.Length) Array.Resize(ref buffer, 2 * buffer.Length);
                var room = new ArraySegment<byte>(buffer, length, buffer.Length - length);
                var part = await socket.ReceiveAsync(room, cancelled).ConfigureAwait(false);
                if (part.MessageType == WebSocketMessageType.Close) return;
                length += part.Count;
                if (length > Protocol.MaxMessageBytes)
                    throw new WireException("message_too_big", "The server sent a message of more than 1 MiB.");
                if (!part.EndOfMessage) continue;
                Receive(part.MessageType, buffer, length);
                length = 0;
            }
        }

        void Receive(WebSocketMessageType kind, byte[] buffer, int length)
        {
            double nowS = NowS;
            object message = kind == WebSocketMessageType.Binary
                ? Media.Decode(buffer, length)
                : Messages.Decode(Encoding.UTF8.GetString(buffer, 0, length));
            lock (gate)
            {
                if (life == null) return;
                heardS = nowS;
                var welcome = message as Welcome;
                var reply = message as ClockReply;
                var refused = message as Fault;
                if (welcome != null)
                {
                    if (welcome.Version != Protocol.Version)
                        throw new WireException("unsupported_version", "The server speaks version " + welcome.Version + ".");
                    Welcome = welcome;
                    session = welcome.Session;
                    Clock = new ClockSync();
                    State = ConnectionState.Open;
                    SendText(Messages.EncodeClock(NowS));
                }
                else if (message is Frames) Attempts = 0; // a welcome that lasted
                if (reply != null) Clock.Observe(reply.ClientTimeS, reply.ServerTimeS, nowS);
                else if (refused != null) throw new WireException(refused.Code, refused.Message, refused.Hint);
                else inbox.Keep(message, nowS);
            }
        }

        static async Task SendAll(ClientWebSocket socket, Outbox outbox, CancellationToken cancelled)
        {
            while (true)
            {
                var item = await outbox.Next(cancelled).ConfigureAwait(false);
                var kind = item.IsText ? WebSocketMessageType.Text : WebSocketMessageType.Binary;
                await socket.SendAsync(new ArraySegment<byte>(item.Bytes), kind, true, cancelled).ConfigureAwait(false);
                outbox.Sent(item);
            }
        }

        /// <summary>Asks the clock now and then, and gives up a socket that has gone silent (rule 3).</summary>
        async Task WatchOver(CancellationTokenSource own)
        {
            while (true)
            {
                await Task.Delay(TimeSpan.FromSeconds(ClockEveryS), own.Token).ConfigureAwait(false);
                bool isSilent;
                lock (gate) isSilent = NowS - heardS > SilenceS;
                if (isSilent)
                {
                    own.Cancel();
                    return;
                }
                SendText(Messages.EncodeClock(NowS));
            }
        }

        void Fail(WireException error)
        {
            lock (gate)
            {
                fault = error;
                if (life != null) inbox.Keep(error, NowS);
            }
        }

        static bool IsLoss(Exception error)
        {
            return error is WebSocketException || error is OperationCanceledException || error is IOException
                || error is ObjectDisposedException || error is System.Net.Sockets.SocketException
                || error is System.Net.WebException || error is InvalidOperationException;
        }

        static string Innermost(Exception error)
        {
            while (error.InnerException != null) error = error.InnerException;
            return error.Message;
        }

        static async Task Quietly(Task task)
        {
            try
            {
                if (task != null) await task.ConfigureAwait(false);
            }
            catch (Exception error) when (IsLoss(error))
            {
                // The connection is over, and why is known already.
            }
        }
    }
}
