// Protocol v1's binary media: little-endian, payloads at multiples of 8. Pure; no engine types.
// Every platform that Unity builds for is little-endian, so payloads are copied as they are.

using System;

namespace DiffSpeaker.Wire
{
    public static class Media
    {
        public const int AudioHeaderBytes = 8;
        public const int FramesHeaderBytes = 40;
        public const int PassthroughHeaderBytes = 32;
        const byte Audio = 1, FramesTag = 2, PassthroughTag = 3;

        static readonly int[] DTypeBytes = { 4, 2, 2 };
        static float[] halves;

        /// <summary>A value is raw × scale: 1 except for i16, whose full scale is 1, or half a metre for vertices.</summary>
        public static double ScaleOf(string kind, string dtype)
        {
            if (dtype != "i16") return 1;
            return (kind == "vertices" ? 0.5 : 1.0) / 32767;
        }

        /// <summary>An audio message from interleaved PCM.</summary>
        public static byte[] EncodeAudio(short[] pcm, int count)
        {
            var message = NewAudio(2 * count);
            Buffer.BlockCopy(pcm, 0, message, AudioHeaderBytes, 2 * count);
            return message;
        }

        /// <summary>An audio message from interleaved PCM of full scale 1.</summary>
        public static byte[] EncodeAudio(float[] pcm, int count)
        {
            var message = NewAudio(4 * count);
            Buffer.BlockCopy(pcm, 0, message, AudioHeaderBytes, 4 * count);
            return message;
        }

        /// <summary>An s16 audio message from samples of full scale 1; what is beyond full scale is clipped.</summary>
        public static byte[] EncodeAudioAsS16(float[] samples, int count)
        {
            var message = NewAudio(2 * count);
            for (int i = 0; i < count; i++)
            {
                double raw = Math.Round(Math.Max(-1.0, Math.Min(1.0, samples[i])) * 32767);
                var value = (short)raw;
                message[AudioHeaderBytes + 2 * i] = (byte)value;
                message[AudioHeaderBytes + 2 * i + 1] = (byte)(value >> 8);
            }
            return message;
        }

        /// <summary>A server's binary message.</summary>
        /// <returns><see cref="Frames"/> or <see cref="Passthrough"/>.</returns>
        /// <exception cref="WireException"><c>bad_message</c>: cut short, too long, or of an unknown kind.</exception>
        public static object Decode(byte[] message, int length)
        {
            int tag = length > 0 ? message[0] : 0;
            if (tag == FramesTag) return DecodeFrames(message, length);
            if (tag == PassthroughTag) return DecodePassthrough(message, length);
            throw Bad("The binary message is of an unknown kind.");
        }

        /// <exception cref="WireException"><c>bad_message</c></exception>
        public static Frames DecodeFrames(byte[] message, int length)
        {
            Require(message, length, FramesHeaderBytes, FramesTag, "a frames");
            int dtype = message[1], kind = message[2];
            if (dtype >= Protocol.DTypes.Length || kind >= Protocol.Kinds.Length)
                throw Bad("The frames message has an unknown dtype or kind.");
            uint count = BitConverter.ToUInt32(message, 16), width = BitConverter.ToUInt32(message, 20);
            // Both below 2³², times 4: the product could pass 2⁶³, so it is bounded before it is compared.
            ulong most = (ulong)(length - FramesHeaderBytes);
            ulong values = (ulong)count * width;
            if (values > most || values * (ulong)DTypeBytes[dtype] != most)
                throw Bad("The frames message's length contradicts its count and width.");
            return new Frames
            {
                Values = ReadValues(message, (int)values, Protocol.Kinds[kind], Protocol.DTypes[dtype]),
                Kind = Protocol.Kinds[kind],
                DType = Protocol.DTypes[dtype],
                Flags = message[3],
                Epoch = BitConverter.ToUInt32(message, 4),
                Seq = BitConverter.ToUInt32(message, 8),
                FirstFrame = BitConverter.ToUInt32(message, 12),
                Count = (int)count,
                Width = (int)width,
                PtsS = BitConverter.ToDouble(message, 24),
                EmitTimeS = BitConverter.ToDouble(message, 32),
            };
        }

        /// <exception cref="WireException"><c>bad_message</c></exception>
        public static Passthrough DecodePassthrough(byte[] message, int length)
        {
            Require(message, length, PassthroughHeaderBytes, PassthroughTag, "a passthrough");
            uint count = BitConverter.ToUInt32(message, 12);
            if (length - PassthroughHeaderBytes != 2L * count)
                throw Bad("The passthrough message's length contradicts its count.");
            var samples = new short[count];
            Buffer.BlockCopy(message, PassthroughHeaderBytes, samples, 0, 2 * samples.Length);
            return new Passthrough
            {
                Samples = samples,
                Epoch = BitConverter.ToUInt32(message, 4),
                Seq = BitConverter.ToUInt32(message, 8),
                PtsS = BitConverter.ToDouble(message, 16),
                SampleRateHz = (int)BitConverter.ToUInt32(message, 24),
            };
        }

        /// <summary>The value of an IEEE 754 half, by its bits.</summary>
        public static float Half(ushort bits)
        {
            int exponent = (bits >> 10) & 0x1f, fraction = bits & 0x3ff;
            double sign = (bits & 0x8000) != 0 ? -1 : 1;
            if (exponent == 0) return (float)(sign * fraction * Math.Pow(2, -24));
            if (exponent == 31) return fraction != 0 ? float.NaN : (float)(sign * double.PositiveInfinity);
            return (float)(sign * (1 + fraction / 1024.0) * Math.Pow(2, exponent - 15));
        }

        static float[] ReadValues(byte[] message, int count, string kind, string dtype)
        {
            var values = new float[count];
            if (dtype == "f32")
            {
                Buffer.BlockCopy(message, FramesHeaderBytes, values, 0, 4 * count);
                return values;
            }
            if (dtype == "f16")
            {
                var table = HalfTable();
                for (int i = 0; i < count; i++)
                    values[i] = table[BitConverter.ToUInt16(message, FramesHeaderBytes + 2 * i)];
                return values;
            }
            double scale = ScaleOf(kind, dtype); // multiplied in double and rounded once, as every codec does
            for (int i = 0; i < count; i++)
                values[i] = (float)(BitConverter.ToInt16(message, FramesHeaderBytes + 2 * i) * scale);
            return values;
        }

        static float[] HalfTable()
        {
            if (halves != null) return halves;
            var table = new float[65536];
            for (int bits = 0; bits < table.Length; bits++) table[bits] = Half((ushort)bits);
            return halves = table;
        }

        static byte[] NewAudio(int payloadBytes)
        {
            var message = new byte[AudioHeaderBytes + payloadBytes];
            message[0] = Audio;
            return message;
        }

        static void Require(byte[] message, int length, int headerBytes, byte tag, string name)
        {
            if (length < headerBytes || message[0] != tag)
                throw Bad("The binary message does not begin with " + name + " header.");
        }

        static WireException Bad(string message)
        {
            return new WireException("bad_message", message);
        }
    }
}
