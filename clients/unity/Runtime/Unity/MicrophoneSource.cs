// The component: a microphone speaks on a FaceStream whose role is Converse.
//
// The engine records into a ring of a second; each frame what is new in it is sent. Where the device does not know
// the stream's rate, the engine converts.

using DiffSpeaker.Wire;
using UnityEngine;

namespace DiffSpeaker.Unity
{
    [AddComponentMenu("DiffSpeaker/Microphone Source")]
    [RequireComponent(typeof(FaceStream))]
    public sealed class MicrophoneSource : MonoBehaviour
    {
        const int RingS = 1;

        [Tooltip("As in Microphone.devices; empty: the system's own choice")]
        public string device = "";

        FaceStream face;
        AudioClip ring;
        float[] samples;
        int read; // the ring's first sample that was not sent

        /// <summary>Root of the mean square of what was last sent, 0 to 1: for a level meter.</summary>
        public float Level { get; private set; }

        void OnEnable()
        {
            face = GetComponent<FaceStream>();
            read = 0;
            if (face.role != FaceRole.Converse)
            {
                Debug.LogWarning("DiffSpeaker: the Face Stream's role is Watch; set it to Converse to speak on it.", this);
                return;
            }
            if (Microphone.devices.Length == 0)
            {
                Debug.LogWarning("DiffSpeaker: there is no microphone, or the system does not allow it. On phones ask "
                    + "with Application.RequestUserAuthorization first.", this);
                return;
            }
            ring = Microphone.Start(Device, true, RingS, face.sampleRateHz);
            if (ring == null) Debug.LogWarning("DiffSpeaker: the microphone '" + device + "' does not open.", this);
            else if (ring.frequency != face.sampleRateHz)
            {
                Debug.LogWarning("DiffSpeaker: the microphone records at " + ring.frequency + " Hz: set the Face Stream's "
                    + "Sample Rate Hz to it.", this);
                OnDisable();
            }
            else samples = new float[ring.samples];
        }

        void OnDisable()
        {
            if (ring != null) Microphone.End(Device);
            ring = null;
        }

        void Update()
        {
            if (ring == null) return;
            int written = Microphone.GetPosition(Device);
            int count = (written - read + ring.samples) % ring.samples;
            if (count == 0) return;
            // GetData fills the whole array, and wraps; what is behind `count` is old and stays unsent.
            ring.GetData(samples, read);
            read = written;
            Level = Loudness(samples, count);
            face.SendAudio(samples, count);
        }

        string Device
        {
            get { return string.IsNullOrEmpty(device) ? null : device; }
        }

        static float Loudness(float[] samples, int count)
        {
            double sum = 0;
            for (int i = 0; i < count; i++) sum += samples[i] * (double)samples[i];
            return Mathf.Sqrt((float)(sum / count));
        }
    }
}
