// The sample: loads the avatar that the server itself serves, puts a camera and a light before it, and lets your
// microphone move it. The scene holds this one object, so that it is the same in every version of Unity.

using System;
using DiffSpeaker.Unity;
using GLTFast;
using UnityEngine;

namespace DiffSpeaker.Samples
{
    public sealed class TalkingFace : MonoBehaviour
    {
        [Tooltip("ws://HOST:PORT, or wss:// where the server has a certificate")]
        public string server = "ws://127.0.0.1:8600";
        public string stream = "unity";
        public FaceRole role = FaceRole.Converse;

        string line = "Loading the avatar ...";
        FaceStream face;

        async void Start()
        {
            PlaceCameraAndLight();
            var head = new GameObject("Face");
            head.SetActive(false); // so that nothing connects before it is set up
            var avatar = new GltfImport();
            var address = AvatarOf(server);
            if (!await avatar.Load(address) || !await avatar.InstantiateMainSceneAsync(head.transform))
            {
                line = "No avatar at " + address + ": is the server running (diffspeaker serve)?";
                return;
            }
            face = head.AddComponent<FaceStream>();
            face.server = server;
            face.stream = stream;
            face.role = role;
            face.Welcomed += welcome => line = "Speak. The face follows " + Math.Round(welcome.FaceDelayMs) + " ms later.";
            face.Faulted += error => line = error.Message + " " + error.Hint;
            if (role == FaceRole.Converse) head.AddComponent<MicrophoneSource>();
            head.SetActive(true);
        }

        void OnGUI()
        {
            GUI.Label(new Rect(16, 16, 900, 60), line);
        }

        /// <summary>Where a server keeps its avatar: http beside ws, https beside wss.</summary>
        static Uri AvatarOf(string server)
        {
            var address = new Uri(server);
            var scheme = address.Scheme == "wss" ? "https" : "http";
            return new Uri(scheme + "://" + address.Authority + "/avatar.glb");
        }

        static void PlaceCameraAndLight()
        {
            if (Camera.main == null)
            {
                var eye = new GameObject("Camera") { tag = "MainCamera" }.AddComponent<Camera>();
                eye.clearFlags = CameraClearFlags.SolidColor;
                eye.backgroundColor = new Color(0.09f, 0.1f, 0.13f);
                eye.fieldOfView = 26;
                eye.nearClipPlane = 0.05f;
                eye.transform.position = new Vector3(0, 0.01f, 0.75f); // importers of glTF turn +z to the front
                eye.transform.LookAt(Vector3.zero);
            }
            var sun = new GameObject("Light").AddComponent<Light>();
            sun.type = LightType.Directional;
            sun.transform.position = new Vector3(0.5f, 0.8f, 1);
            sun.transform.LookAt(Vector3.zero);
        }
    }
}
