"""Pictures and films of the avatar without a browser, a graphics card or a display: numpy draws them.

Way of a picture: ``avatar`` reads the bundle's GLB, ``visibility`` bakes its soft shadows once, ``raster``
finds which triangle each sample of the picture sees, ``light`` colours it, ``renderer`` puts it together, and
``film`` writes pictures and sound as MP4. Off-screen OpenGL was tried first (VTK 9.7, pyrender 0.1.45): their
wheels bring no OpenGL, so what they draw, and whether, depends on the machine's Mesa. The extra ``preview``
brings what this needs: Pillow for textures, PyAV for films.
"""

try:
    import av as _av
    import PIL as _PIL
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"{missing.name} is not installed: pip install 'diffspeaker-live[preview]'", name=missing.name
    ) from None

del _av, _PIL
