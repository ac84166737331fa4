"""The built-in world: 64x64 pictures of coloured shapes, and everything one can truthfully say about them.

It exists so that the whole system runs, learns and is measured on a bare machine. It is written to disk in the same
layouts as real sources (`world.py`), so nothing downstream knows that it is made up. See docs/shapes.md.
"""
