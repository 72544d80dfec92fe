"""Adapt trained networks to detection and segmentation by architecture search and parameter remapping."""

__version__ = "0.1.0"
