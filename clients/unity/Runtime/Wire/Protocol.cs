// Protocol v1's words: its messages as plain objects, its error. No engine types.
// Field names are the wire's in C#'s spelling (frame_rate_hz is FrameRateHz); every value is as it travels.

using System;
using System.Collections.Generic;

namespace DiffSpeaker.Wire
{
    public static class Protocol
    {
        public const int Version = 1;
        public const string Subprotocol = "diffspeaker.v1";

        /// <summary>The longest message either side may send, bytes.</summary>
        public const int MaxMessageBytes = 1 << 20;

        /// <summary>What <c>dtype</c> may be; a frames message holds the index.</summary>
        public static readonly string[] DTypes = { "f32", "f16", "i16" };

        /// <summary>What <c>kind</c> may be; a frames message holds the index.</summary>
        public static readonly string[] Kinds = { "coefficients", "vertices" };

        public static readonly string[] Roles = { "publish", "watch", "converse" };
    }

    /// <summary>A message that breaks the protocol, or an error that the server named.</summary>
    public sealed class WireException : Exception
    {
        /// <summary>A code of the protocol's error table.</summary>
        public string Code { get; private set; }

        /// <summary>What to do about it; may be empty.</summary>
        public string Hint { get; private set; }

        public WireException(string code, string message, string hint = "") : base(message)
        {
            Code = code;
            Hint = hint;
        }
    }

    /// <summary>What the audio messages of a speaker hold.</summary>
    public sealed class AudioFormat
    {
        /// <summary><c>s16</c> or <c>f32</c>.</summary>
        public string Encoding = "s16";

        /// <summary>8000 to 192000.</summary>
        public int SampleRateHz = 16000;

        /// <summary>1 or 2, interleaved.</summary>
        public int Channels = 1;
    }

    /// <summary>A connection's first message. Null means that the server chooses.</summary>
    public sealed class Hello
    {
        /// <summary>One of <see cref="Protocol.Roles"/>.</summary>
        public string Role = "watch";
        public string Token;

        /// <summary>Required unless the role is <c>watch</c>.</summary>
        public AudioFormat Audio;
        public string Kind = "coefficients";
        public string DType = "f32";
        public double? LookaheadMs;
        public double? HopMs;
        public Dictionary<string, double> Style;
        public long? Seed;
        public bool AudioPassthrough;

        /// <summary>Frames come when they are due, however early their audio came.</summary>
        public bool Paced;

        /// <summary>The session of a connection that was lost, to speak on in it.</summary>
        public string Resume;
    }

    /// <summary>The server's answer to a hello: what the frames will be.</summary>
    public sealed class Welcome
    {
        public long Version, Epoch, Width, FrameRateHz, SampleRateHz;
        public string Session, Stream, Role, Bundle, Kind, DType, Unit;
        public double Scale, HopMs, LookaheadMs, ServerTimeS;

        /// <summary>How far the face lags its audio when that arrives in real time; the network comes on top.</summary>
        public double FaceDelayMs;

        /// <summary>Of the epoch's audio, per channel: a speaker that resumes goes on behind it.</summary>
        public long ReceivedSamples;

        /// <summary>Names of a coefficient frame's columns, in order.</summary>
        public string[] Channels;
        public string[] Styles, StyleScales;
        public Dictionary<string, double> Style;
    }

    /// <summary>A new style, from a frame on.</summary>
    public sealed class StyleChange
    {
        public Dictionary<string, double> Style;
        public long Epoch, FromFrame;
    }

    /// <summary>An epoch was cut short; <see cref="Epoch"/> is the new one.</summary>
    public sealed class Interrupted
    {
        public long Epoch, LastFrame;
    }

    /// <summary>The speaker is done; the server then closes.</summary>
    public sealed class Ended
    {
        public long Epoch, Frames;
        public double AudioS;
    }

    /// <summary>The answer to <c>clock</c>.</summary>
    public sealed class ClockReply
    {
        public double ClientTimeS, ServerTimeS;
    }

    /// <summary>Once a second: how the connection and the stream are doing.</summary>
    public sealed class Stats
    {
        public long DroppedFrames, LateWindows, Frames;
        public double QueueMs;
    }

    /// <summary>What the server says before it closes because of an error.</summary>
    public sealed class Fault
    {
        public string Code, Message, Hint;
    }

    /// <summary>Some consecutive frames of a stream.</summary>
    public sealed class Frames
    {
        /// <summary>Frame by frame, <see cref="Count"/> × <see cref="Width"/>: coefficients, or x y z in metres.</summary>
        public float[] Values;

        public string Kind, DType;

        /// <summary>1: eased after an interrupt. 2: the last of the epoch.</summary>
        public int Flags;
        public uint Epoch;

        /// <summary>One more with each frames message of the stream.</summary>
        public uint Seq;

        /// <summary>Index, within the epoch, of the first frame.</summary>
        public uint FirstFrame;
        public int Count, Width;

        /// <summary>The first frame's time on the epoch's audio clock, seconds.</summary>
        public double PtsS;

        /// <summary>The server's monotonic clock when the frames left it, seconds.</summary>
        public double EmitTimeS;
    }

    /// <summary>The speech as the model hears it, s16 mono.</summary>
    public sealed class Passthrough
    {
        public short[] Samples;
        public uint Epoch, Seq;
        public double PtsS;
        public int SampleRateHz;
    }
}
