"""Writes the .meta file of everything in this package, or says which are missing or stale (``--check``).

Unity names assets by the guid of their .meta file, and a package installed from a repository must bring them.
A guid here is the MD5 of the path within the package, so the same file has the same guid on every machine.
Folders whose name ends in ``~`` are not imported by Unity; of them the samples get theirs, because they are
copied into a project. The scene of the sample is written here too, because it names its script by that guid.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
SCENE = "Samples~/TalkingFace/TalkingFace.unity"
IMPORTERS = {
    ".cs": "MonoImporter:\n  externalObjects: {}\n  serializedVersion: 2\n  defaultReferences: []\n"
    "  executionOrder: 0\n  icon: {instanceID: 0}",
    ".asmdef": "AssemblyDefinitionImporter:\n  externalObjects: {}",
    ".json": "PackageManifestImporter:\n  externalObjects: {}",
    ".md": "TextScriptImporter:\n  externalObjects: {}",
    ".unity": "DefaultImporter:\n  externalObjects: {}",
}
TAIL = "\n  userData: \n  assetBundleName: \n  assetBundleVariant: \n"

SCENE_TEXT = """%YAML 1.1
%TAG !u! tag:unity3d.com,2011:
--- !u!1 &100
GameObject:
  m_ObjectHideFlags: 0
  serializedVersion: 6
  m_Component:
  - component: {{fileID: 101}}
  - component: {{fileID: 102}}
  m_Layer: 0
  m_Name: Talking Face
  m_TagString: Untagged
  m_IsActive: 1
--- !u!4 &101
Transform:
  m_ObjectHideFlags: 0
  m_GameObject: {{fileID: 100}}
  m_LocalRotation: {{x: 0, y: 0, z: 0, w: 1}}
  m_LocalPosition: {{x: 0, y: 0, z: 0}}
  m_LocalScale: {{x: 1, y: 1, z: 1}}
  m_Children: []
  m_Father: {{fileID: 0}}
--- !u!114 &102
MonoBehaviour:
  m_ObjectHideFlags: 0
  m_GameObject: {{fileID: 100}}
  m_Enabled: 1
  m_EditorHideFlags: 0
  m_Script: {{fileID: 11500000, guid: {guid}, type: 3}}
  m_Name: 
  server: ws://127.0.0.1:8600
  stream: unity
  role: 1
"""


def guid_of(path: str) -> str:
    """32 hexadecimal digits for a path within the package, with forward slashes."""
    return hashlib.md5(f"com.diffspeaker.live/{path}".encode(), usedforsecurity=False).hexdigest()


def meta_of(path: str, *, is_folder: bool) -> str:
    """The .meta file's text."""
    head = f"fileFormatVersion: 2\nguid: {guid_of(path)}\n"
    if is_folder:
        return f"{head}folderAsset: yes\nDefaultImporter:\n  externalObjects: {{}}{TAIL}"
    importer = IMPORTERS.get(Path(path).suffix, IMPORTERS[".unity"])
    if Path(path).suffix == ".json" and path != "package.json":
        importer = IMPORTERS[".md"]
    return head + importer + TAIL


def wanted() -> dict[str, str]:
    """Every file that this script owns, by its path within the package."""
    scene = SCENE_TEXT.format(guid=guid_of("Samples~/TalkingFace/TalkingFace.cs"))
    texts = {SCENE: scene, f"{SCENE}.meta": meta_of(SCENE, is_folder=False)}
    for file in sorted(PACKAGE.rglob("*")):
        path = file.relative_to(PACKAGE).as_posix()
        hidden = any(part.startswith(".") or part.endswith("~") for part in path.split("/"))
        in_sample = path.startswith("Samples~/") and "/" in path[len("Samples~/") :]
        if file.suffix != ".meta" and (not hidden or in_sample):
            texts[f"{path}.meta"] = meta_of(path, is_folder=file.is_dir())
    return texts


def main() -> int:
    """Writes, or checks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if a file is not up to date"
    )
    check = parser.parse_args().check
    texts = wanted()
    there = {p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.meta")}
    stale = sorted(there - texts.keys())
    changed = [
        path
        for path, text in texts.items()
        if not (PACKAGE / path).is_file() or (PACKAGE / path).read_text("utf-8") != text
    ]
    if check:
        for path in [*changed, *stale]:
            print(f"{path} is not up to date: python clients/unity/Tools~/write_meta.py", file=sys.stderr)
        return 1 if changed or stale else 0
    for path in changed:
        (PACKAGE / path).write_text(texts[path], "utf-8")
    for path in stale:
        (PACKAGE / path).unlink()
    print(f"{len(changed)} written, {len(stale)} removed, {len(texts)} in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
