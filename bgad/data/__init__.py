"""Data sets: their layouts, images, splits and downloads."""
