// Stand-ins for the engine's types that clients/unity names, so that it is compiled and its components are run
// without an editor. Signatures are Unity 2021.3's; bodies do as little as the tests need.

using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;

namespace UnityEngine
{
    public class Object
    {
        public string name;
    }

    public class Component : Object
    {
        public GameObject gameObject;

        public Transform transform
        {
            get { return gameObject.transform; }
        }

        public T GetComponent<T>() where T : class
        {
            return gameObject.components.OfType<T>().FirstOrDefault();
        }

        public T[] GetComponentsInChildren<T>() where T : class
        {
            return gameObject.components.OfType<T>().ToArray();
        }
    }

    public class Behaviour : Component { }

    public class MonoBehaviour : Behaviour { }

    public class GameObject : Object
    {
        public readonly List<Component> components = new List<Component>();
        public readonly Transform transform;
        public string tag { get; set; }

        public GameObject(string name)
        {
            this.name = name;
            transform = new Transform { gameObject = this };
        }

        public T AddComponent<T>() where T : Component, new()
        {
            var one = new T { gameObject = this };
            components.Add(one);
            return one;
        }

        public void SetActive(bool value) { }
    }

    public class Transform : Component
    {
        public Vector3 position { get; set; }

        public void LookAt(Vector3 point) { }
    }

    public struct Vector3
    {
        public float x, y, z;
        public static readonly Vector3 zero = new Vector3(0, 0, 0);

        public Vector3(float x, float y, float z)
        {
            this.x = x;
            this.y = y;
            this.z = z;
        }
    }

    public class Mesh : Object
    {
        public Vector3[] vertices = new Vector3[0];
        public string[] shapes = new string[0];
        public float fullWeight = 100;

        public int vertexCount
        {
            get { return vertices.Length; }
        }

        public int blendShapeCount
        {
            get { return shapes.Length; }
        }

        public string GetBlendShapeName(int shapeIndex)
        {
            return shapes[shapeIndex];
        }

        public int GetBlendShapeFrameCount(int shapeIndex)
        {
            return 1;
        }

        public float GetBlendShapeFrameWeight(int shapeIndex, int frameIndex)
        {
            return fullWeight;
        }

        public void MarkDynamic() { }

        public void SetVertices(Vector3[] inVertices)
        {
            vertices = (Vector3[])inVertices.Clone();
        }

        public void RecalculateNormals() { }

        public void RecalculateBounds() { }
    }

    public class MeshFilter : Component
    {
        public Mesh mesh { get; set; }
    }

    public class SkinnedMeshRenderer : Component
    {
        public readonly Dictionary<int, float> weights = new Dictionary<int, float>();
        public Mesh sharedMesh { get; set; }

        public void SetBlendShapeWeight(int index, float value)
        {
            weights[index] = value;
        }
    }

    public class AudioClip : Object
    {
        public float[] data = new float[0];
        public int frequency { get; set; }

        public int samples
        {
            get { return data.Length; }
        }

        public bool GetData(float[] data, int offsetSamples)
        {
            for (int i = 0; i < data.Length; i++) data[i] = this.data[(offsetSamples + i) % this.data.Length];
            return true;
        }
    }

    public static class Microphone
    {
        public static AudioClip clip;
        public static int position;
        public static string[] devices = { "a microphone" };

        public static AudioClip Start(string deviceName, bool loop, int lengthSec, int frequency)
        {
            return clip = new AudioClip { data = new float[lengthSec * frequency], frequency = frequency };
        }

        public static void End(string deviceName) { }

        public static int GetPosition(string deviceName)
        {
            return position;
        }
    }

    public static class Debug
    {
        public static readonly List<string> lines = new List<string>();

        public static void Log(object message, Object context)
        {
            lines.Add("log: " + message);
        }

        public static void LogWarning(object message, Object context)
        {
            lines.Add("warning: " + message);
        }
    }

    public static class Mathf
    {
        public static float Clamp01(float value)
        {
            return Math.Min(Math.Max(value, 0), 1);
        }

        public static float Sqrt(float f)
        {
            return (float)Math.Sqrt(f);
        }
    }

    public enum CameraClearFlags { Skybox = 1, SolidColor = 2 }

    public class Camera : Behaviour
    {
        public static Camera main;
        public CameraClearFlags clearFlags { get; set; }
        public Color backgroundColor { get; set; }
        public float fieldOfView { get; set; }
        public float nearClipPlane { get; set; }
    }

    public enum LightType { Spot, Directional }

    public class Light : Behaviour
    {
        public LightType type { get; set; }
    }

    public struct Color
    {
        public Color(float r, float g, float b) { }
    }

    public struct Rect
    {
        public Rect(float x, float y, float width, float height) { }
    }

    public static class GUI
    {
        public static void Label(Rect position, string text) { }
    }

    public class TooltipAttribute : Attribute
    {
        public TooltipAttribute(string tooltip) { }
    }

    public class RangeAttribute : Attribute
    {
        public RangeAttribute(float min, float max) { }
    }

    public class AddComponentMenuAttribute : Attribute
    {
        public AddComponentMenuAttribute(string menuName) { }
    }

    public class RequireComponentAttribute : Attribute
    {
        public RequireComponentAttribute(Type requiredComponent) { }
    }
}

namespace GLTFast
{
    using UnityEngine;

    public class GltfImport
    {
        public Task<bool> Load(Uri url)
        {
            return Task.FromResult(true);
        }

        public Task<bool> InstantiateMainSceneAsync(Transform parent)
        {
            return Task.FromResult(true);
        }
    }
}
