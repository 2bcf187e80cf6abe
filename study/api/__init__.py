"""The Python API: run, resume and read studies from scripts and notebooks. `import study` gives its names."""
