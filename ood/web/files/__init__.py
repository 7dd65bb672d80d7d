"""The File Manager."""
