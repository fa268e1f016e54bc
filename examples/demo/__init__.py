"""The main job of Holdfast on real input: `make demo`."""
