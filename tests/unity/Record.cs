// Watches a stream with the package's component and writes what it set on a mesh's blend shapes, sixty times a second:
// a line of seconds and ARKit weights (0 to 1) each. For the picture of docs/unity.md.
// Usage: Record.exe SERVER STREAM SECONDS NAME,NAME...

using System;
using System.Globalization;
using System.Linq;
using System.Reflection;
using System.Threading;
using DiffSpeaker.Unity;
using DiffSpeaker.Wire;
using UnityEngine;

static class Record
{
    static void Main(string[] arguments)
    {
        var names = arguments[3].Split(',');
        var avatar = new GameObject("Avatar");
        var renderer = avatar.AddComponent<SkinnedMeshRenderer>();
        renderer.sharedMesh = new Mesh { shapes = names };
        var face = avatar.AddComponent<FaceStream>();
        face.server = arguments[0];
        face.stream = arguments[1];
        Engine(face, "OnEnable");
        double seconds = double.Parse(arguments[2], CultureInfo.InvariantCulture);
        for (double endS = StreamConnection.NowS + seconds; StreamConnection.NowS < endS; Thread.Sleep(16))
        {
            Engine(face, "LateUpdate");
            if (renderer.weights.Count < names.Length) continue;
            var line = names.Select((name, i) => renderer.weights[i] / 100f);
            var time = DateTime.UtcNow.Subtract(new DateTime(1970, 1, 1)).TotalSeconds;
            var words = new[] { time.ToString("F4", CultureInfo.InvariantCulture) }
                .Concat(line.Select(one => one.ToString("F5", CultureInfo.InvariantCulture)));
            Console.WriteLine(string.Join(" ", words));
        }
        Engine(face, "OnDisable");
    }

    static void Engine(object component, string message)
    {
        component.GetType().GetMethod(message, BindingFlags.Instance | BindingFlags.NonPublic).Invoke(component, null);
    }
}
