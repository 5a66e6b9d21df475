// Protocol v1's control messages: JSON text with a type. Pure; no engine types.
// Unknown types and unknown fields are errors, so that a typing mistake is found on the first try.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using Newtonsoft.Json;
using Newtonsoft.Json.Linq;

namespace DiffSpeaker.Wire
{
    public static class Messages
    {
        public const string Interrupt = "{\"type\":\"interrupt\"}";
        public const string End = "{\"type\":\"end\"}";

        /// <summary>The first message; fields at their default are left out.</summary>
        public static string Encode(Hello hello)
        {
            var message = new JObject();
            message["type"] = "hello";
            message["version"] = Protocol.Version;
            message["role"] = hello.Role;
            if (hello.Token != null) message["token"] = hello.Token;
            if (hello.Audio != null)
            {
                message["audio"] = new JObject(
                    new JProperty("encoding", hello.Audio.Encoding),
                    new JProperty("sample_rate_hz", hello.Audio.SampleRateHz),
                    new JProperty("channels", hello.Audio.Channels));
            }
            if (hello.Kind != "coefficients" || hello.DType != "f32")
            {
                message["output"] = new JObject(
                    new JProperty("kind", hello.Kind), new JProperty("dtype", hello.DType));
            }
            if (hello.LookaheadMs.HasValue) message["lookahead_ms"] = hello.LookaheadMs.Value;
            if (hello.HopMs.HasValue) message["hop_ms"] = hello.HopMs.Value;
            if (hello.Style != null) message["style"] = Weights(hello.Style);
            if (hello.Seed.HasValue) message["seed"] = hello.Seed.Value;
            if (hello.AudioPassthrough) message["audio_passthrough"] = true;
            if (hello.Paced) message["paced"] = true;
            if (hello.Resume != null) message["resume"] = hello.Resume;
            return message.ToString(Formatting.None);
        }

        /// <summary>A speaker's new style, from the next window on.</summary>
        public static string EncodeStyle(IDictionary<string, double> style)
        {
            var message = new JObject(new JProperty("type", "style"), new JProperty("style", Weights(style)));
            return message.ToString(Formatting.None);
        }

        /// <summary>A question for the server's clock; the time comes back unchanged.</summary>
        public static string EncodeClock(double clientTimeS)
        {
            var time = clientTimeS.ToString("R", CultureInfo.InvariantCulture);
            return "{\"type\":\"clock\",\"client_time_s\":" + time + "}";
        }

        /// <summary>A server's control message.</summary>
        /// <returns>A <see cref="Welcome"/>, <see cref="StyleChange"/>, <see cref="Interrupted"/>,
        /// <see cref="Ended"/>, <see cref="ClockReply"/>, <see cref="Stats"/> or <see cref="Fault"/>.</returns>
        /// <exception cref="WireException"><c>bad_json</c>, <c>bad_message</c> or <c>unknown_type</c>.</exception>
        public static object Decode(string text)
        {
            var fields = new Fields(Parse(text));
            switch (fields.Type)
            {
                case "welcome":
                    return fields.All(new Welcome
                    {
                        Version = fields.Integer("version"),
                        Session = fields.Text("session"),
                        Stream = fields.Text("stream"),
                        Role = fields.OneOf("role", Protocol.Roles),
                        Epoch = fields.Integer("epoch"),
                        Bundle = fields.Text("bundle"),
                        Kind = fields.OneOf("kind", Protocol.Kinds),
                        DType = fields.OneOf("dtype", Protocol.DTypes),
                        Width = fields.Integer("width"),
                        Scale = fields.Number("scale"),
                        Channels = fields.Texts("channels"),
                        Unit = fields.Text("unit"),
                        FrameRateHz = fields.Integer("frame_rate_hz"),
                        SampleRateHz = fields.Integer("sample_rate_hz"),
                        HopMs = fields.Number("hop_ms"),
                        LookaheadMs = fields.Number("lookahead_ms"),
                        FaceDelayMs = fields.Number("face_delay_ms"),
                        Styles = fields.Texts("styles"),
                        StyleScales = fields.Texts("style_scales"),
                        Style = fields.Weights("style"),
                        ReceivedSamples = fields.Integer("received_samples"),
                        ServerTimeS = fields.Number("server_time_s"),
                    });
                case "style":
                    return fields.All(new StyleChange
                    {
                        Style = fields.Weights("style"),
                        Epoch = fields.Integer("epoch"),
                        FromFrame = fields.Integer("from_frame"),
                    });
                case "interrupted":
                    return fields.All(new Interrupted
                    {
                        Epoch = fields.Integer("epoch"),
                        LastFrame = fields.Integer("last_frame"),
                    });
                case "ended":
                    return fields.All(new Ended
                    {
                        Epoch = fields.Integer("epoch"),
                        Frames = fields.Integer("frames"),
                        AudioS = fields.Number("audio_s"),
                    });
                case "clock":
                    return fields.All(new ClockReply
                    {
                        ClientTimeS = fields.Number("client_time_s"),
                        ServerTimeS = fields.Number("server_time_s"),
                    });
                case "stats":
                    return fields.All(new Stats
                    {
                        DroppedFrames = fields.Integer("dropped_frames"),
                        LateWindows = fields.Integer("late_windows"),
                        Frames = fields.Integer("frames"),
                        QueueMs = fields.Number("queue_ms"),
                    });
                case "error":
                    return fields.All(new Fault
                    {
                        Code = fields.Text("code"),
                        Message = fields.Text("message"),
                        Hint = fields.Text("hint"),
                    });
                default:
                    throw new WireException("unknown_type", "There is no message type '" + Short(fields.Type) + "'.");
            }
        }

        static JObject Weights(IDictionary<string, double> style)
        {
            return new JObject(style.Select(pair => new JProperty(pair.Key, pair.Value)));
        }

        static JObject Parse(string text)
        {
            JToken token;
            try
            {
                using (var reader = new JsonTextReader(new StringReader(text)))
                {
                    reader.DateParseHandling = DateParseHandling.None; // a name that looks like a date stays text
                    reader.MaxDepth = 16;
                    token = JToken.ReadFrom(reader);
                    if (reader.Read()) throw new WireException("bad_json", "Something follows the JSON message.");
                }
            }
            catch (Exception error) when (!(error is WireException))
            {
                throw new WireException("bad_json", "The message is not JSON.");
            }
            var message = token as JObject;
            if (message == null || message["type"] == null)
                throw new WireException("bad_message", "The message is not an object with a 'type'.");
            return message;
        }

        static string Short(string text)
        {
            return text.Length <= 40 ? text : text.Substring(0, 40);
        }

        /// <summary>A message's fields: each is asked for once, and none may be left over.</summary>
        sealed class Fields
        {
            readonly JObject message;
            readonly HashSet<string> asked = new HashSet<string> { "type" };

            public readonly string Type;

            public Fields(JObject message)
            {
                this.message = message;
                Type = message["type"].Type == JTokenType.String ? (string)message["type"] : message["type"].ToString();
            }

            /// <summary>The message read, when nothing in it was unknown.</summary>
            public T All<T>(T read)
            {
                foreach (var property in message.Properties())
                {
                    if (asked.Contains(property.Name)) continue;
                    throw Bad("has an unknown field '" + Short(property.Name) + "'");
                }
                return read;
            }

            public long Integer(string name)
            {
                var number = Number(name);
                if (number != Math.Floor(number) || Math.Abs(number) > 9007199254740991) throw Invalid(name);
                return (long)number;
            }

            public double Number(string name)
            {
                return Finite(name, Ask(name));
            }

            public string Text(string name)
            {
                var token = Ask(name);
                if (token.Type != JTokenType.String) throw Invalid(name);
                return (string)token;
            }

            public string OneOf(string name, string[] words)
            {
                var word = Text(name);
                if (Array.IndexOf(words, word) < 0) throw Invalid(name);
                return word;
            }

            public string[] Texts(string name)
            {
                var array = Ask(name) as JArray;
                if (array == null || array.Any(token => token.Type != JTokenType.String)) throw Invalid(name);
                return array.Select(token => (string)token).ToArray();
            }

            public Dictionary<string, double> Weights(string name)
            {
                var weights = Ask(name) as JObject;
                if (weights == null) throw Invalid(name);
                return weights.Properties().ToDictionary(pair => pair.Name, pair => Finite(name, pair.Value));
            }

            JToken Ask(string name)
            {
                asked.Add(name);
                var token = message[name];
                if (token == null) throw Invalid(name);
                return token;
            }

            double Finite(string name, JToken token)
            {
                if (token.Type != JTokenType.Integer && token.Type != JTokenType.Float) throw Invalid(name);
                double number;
                try
                {
                    number = token.Value<double>();
                }
                catch (OverflowException)
                {
                    throw Invalid(name);
                }
                if (double.IsNaN(number) || double.IsInfinity(number)) throw Invalid(name);
                return number;
            }

            WireException Invalid(string name)
            {
                return Bad("has no valid '" + name + "'");
            }

            WireException Bad(string what)
            {
                return new WireException("bad_message", "The '" + Short(Type) + "' message " + what + ".");
            }
        }
    }
}
