// The component: a stream of DiffSpeaker Live moves this avatar's face.
//
// It connects when enabled and lets go when disabled. What it was sent is shown after the Animator (LateUpdate), so
// an animation clip that also moves the mouth is overruled. A lost connection comes back by itself. Whatever is
// wrong is said once in the console, with what to do.

using System;
using System.Collections.Generic;
using System.Linq;
using DiffSpeaker.Wire;
using UnityEngine;

namespace DiffSpeaker.Unity
{
    public enum FaceRole
    {
        /// <summary>Shows a stream that somebody else speaks on.</summary>
        Watch,

        /// <summary>Speaks and shows: audio is sent with <see cref="FaceStream.SendAudio"/>, or by a microphone
        /// source.</summary>
        Converse,
    }

    /// <summary>How much a channel, or all of a region, moves the face.</summary>
    [Serializable]
    public sealed class Gain
    {
        [Tooltip("A channel such as jawOpen, or the beginning of several: mouth, eye, brow")]
        public string channel = "mouth";

        [Range(0, 3)]
        public float gain = 1;
    }

    [AddComponentMenu("DiffSpeaker/Face Stream")]
    public sealed class FaceStream : MonoBehaviour
    {
        [Tooltip("ws://HOST:PORT, or wss:// where the server has a certificate")]
        public string server = "ws://127.0.0.1:8600";

        [Tooltip("The stream's name: letters, digits, . _ and -")]
        public string stream = "me";
        public FaceRole role = FaceRole.Watch;

        [Tooltip("What is moved. Where it is empty: every renderer below this object that has blend shapes")]
        public SkinnedMeshRenderer[] faces = new SkinnedMeshRenderer[0];

        [Tooltip("For a model of vertices (VOCASET, BIWI): the mesh with the model's vertices")]
        public MeshFilter vertices;

        [Tooltip("Only the mouth, jaw and tongue; a camera or the Animator keeps the rest")]
        public bool mouthOnly;
        public Gain[] gains = new Gain[0];

        [Tooltip("Converse only. Milliseconds of speech heard before a face is shown; 0 or less: the server's choice")]
        public float lookaheadMs;

        [Tooltip("Converse only. Hertz of the audio that is sent, 8000 to 192000")]
        public int sampleRateHz = 16000;

        [Tooltip("Converse only. The audio comes in bursts, as a text-to-speech gives it: frames come when they are due")]
        public bool paced;

        StreamConnection connection;
        LiveFace face;
        string[] channels; // those that `shapes` were made for
        BlendShapes[] shapes = new BlendShapes[0];
        float[] channelGains = new float[0];
        MeshVertices mesh;
        string said;

        /// <summary>For servers with a token. Set it before the component is enabled; it is not saved in scenes.
        /// Where it is null, the environment's DIFFSPEAKER_TOKEN is taken.</summary>
        public string Token { get; set; }

        /// <summary>Weights of the styles and scales that the welcome names; null: the server's.</summary>
        public Dictionary<string, double> Style { get; private set; }

        /// <summary>The server agreed: its answer.</summary>
        public event Action<Welcome> Welcomed;

        /// <summary>Something is wrong: a sentence, and what to do.</summary>
        public event Action<WireException> Faulted;

        /// <summary>The speaker is done; the tail is still being shown.</summary>
        public event Action<Ended> Ended;

        /// <summary>The speech as the model hears it, for those who asked.</summary>
        public event Action<Passthrough> Heard;

        public ConnectionState State
        {
            get { return connection == null ? ConnectionState.Stopped : connection.State; }
        }

        /// <summary>How far the face lags the sound: delay the sound by it. 0 while not connected.</summary>
        public float FaceDelayMs
        {
            get
            {
                var welcome = connection == null ? null : connection.Welcome;
                return welcome == null ? 0 : (float)welcome.FaceDelayMs;
            }
        }

        /// <summary>Frames that never came or came too late to be shown.</summary>
        public long Missed
        {
            get { return face == null ? 0 : face.Dropped + face.Late; }
        }

        /// <summary>Sends mono speech of full scale 1 at <see cref="sampleRateHz"/>; from any thread.</summary>
        /// <returns>Whether it will be sent: false while nothing is open, or the network is a second behind.</returns>
        public bool SendAudio(float[] samples, int count)
        {
            var open = connection;
            return open != null && open.SendAudio(Media.EncodeAudioAsS16(samples, count));
        }

        /// <summary>From the next window on, and of later connections.</summary>
        public void SetStyle(Dictionary<string, double> style)
        {
            Style = style;
            if (connection != null) connection.SendStyle(style);
        }

        /// <summary>Drops what is queued; the mouth closes within 100 ms.</summary>
        public void Interrupt()
        {
            if (connection != null) connection.Interrupt();
        }

        /// <summary>No more audio: the tail is shown, and a fresh take begins.</summary>
        public void EndSpeech()
        {
            if (connection != null) connection.End();
        }

        void OnEnable()
        {
            face = new LiveFace();
            channels = null;
            said = null;
            if (vertices != null) mesh = new MeshVertices(vertices);
            try
            {
                connection = new StreamConnection(StreamConnection.AddressOf(server, stream), MakeHello());
                connection.Start();
            }
            catch (WireException error)
            {
                Say(error);
            }
        }

        void OnDisable()
        {
            if (connection != null) connection.Dispose();
            connection = null;
        }

        void LateUpdate()
        {
            if (connection == null) return;
            Arrival arrival;
            while (connection.TryTake(out arrival)) Take(arrival);
            if (!face.Draw(StreamConnection.NowS)) return;
            if (face.IsVertices) ShowVertices();
            else ShowCoefficients();
        }

        void Take(Arrival arrival)
        {
            face.Take(arrival);
            var welcome = arrival.Message as Welcome;
            var error = arrival.Message as WireException;
            var ended = arrival.Message as Ended;
            var heard = arrival.Message as Passthrough;
            if (welcome != null)
            {
                said = null;
                if (Welcomed != null) Welcomed(welcome);
            }
            else if (error != null) Say(error);
            else if (ended != null && Ended != null) Ended(ended);
            else if (heard != null && Heard != null) Heard(heard);
        }

        void ShowCoefficients()
        {
            if (channels != face.Channels) Match();
            foreach (var shape in shapes) shape.Apply(face.Values, channelGains);
        }

        void ShowVertices()
        {
            if (mesh == null)
            {
                Say(new WireException("no_mesh", "The stream moves vertices, and Vertices is not set.",
                    "Give it the MeshFilter with the model's mesh."));
            }
            else if (face.Values.Length != 3 * mesh.Count)
            {
                Say(new WireException("wrong_mesh", "The stream moves " + face.Values.Length / 3
                    + " vertices, the mesh has " + mesh.Count + ".",
                    "Import the model's own mesh with Read/Write on and Weld Vertices and Optimize Mesh off."));
            }
            else mesh.Apply(face.Values);
        }

        /// <summary>Finds each channel's shapes anew: call it after <see cref="faces"/> or <see cref="gains"/> changed.</summary>
        public void Match()
        {
            if (face == null || face.Channels.Length == 0) return; // the first frame does it
            channels = face.Channels;
            var renderers = faces.Length > 0 ? faces : GetComponentsInChildren<SkinnedMeshRenderer>();
            shapes = renderers.Select(one => new BlendShapes(one, channels)).Where(one => one.Matched > 0).ToArray();
            channelGains = new float[channels.Length];
            for (int c = 0; c < channels.Length; c++) channelGains[c] = GainOf(channels[c]);
            var unmatched = channels.Where((name, c) => shapes.All(shape => !shape.Has(c))).ToArray();
            if (unmatched.Length == channels.Length)
            {
                Say(new WireException("no_shapes", "None of the avatar's blend shapes has a channel's name.",
                    "It needs ARKit's 52 shapes (jawOpen, mouthSmileLeft ...); import it with Import BlendShapes on."));
            }
            else if (unmatched.Length > 0) Debug.Log("DiffSpeaker: no blend shape for " + string.Join(", ", unmatched), this);
        }

        float GainOf(string channel)
        {
            bool isMouth = channel.StartsWith("mouth") || channel.StartsWith("jaw") || channel.StartsWith("tongue");
            if (mouthOnly && !isMouth) return float.NaN;
            float gain = 1;
            foreach (var one in gains) if (channel.StartsWith(one.channel)) gain = one.gain; // the last one counts
            return gain;
        }

        /// <summary>What each connection begins with; read here, because the engine's objects are this thread's.</summary>
        Func<Hello> MakeHello()
        {
            var token = string.IsNullOrEmpty(Token) ? Environment.GetEnvironmentVariable("DIFFSPEAKER_TOKEN") : Token;
            var audio = new AudioFormat { SampleRateHz = sampleRateHz };
            bool speaks = role == FaceRole.Converse;
            double? lookahead = speaks && lookaheadMs > 0 ? lookaheadMs : (double?)null;
            var kind = vertices != null ? "vertices" : "coefficients";
            return () => new Hello
            {
                Role = speaks ? "converse" : "watch",
                Token = string.IsNullOrEmpty(token) ? null : token,
                Audio = speaks ? audio : null,
                Kind = kind,
                DType = "f16",
                LookaheadMs = lookahead,
                Style = speaks ? Style : null,
                Paced = speaks && paced,
                AudioPassthrough = !speaks && Heard != null,
            };
        }

        void Say(WireException error)
        {
            if (Faulted != null) Faulted(error);
            var sentence = error.Message + " " + error.Hint;
            if (sentence == said) return;
            said = sentence;
            Debug.LogWarning("DiffSpeaker: " + sentence, this);
        }
    }
}
