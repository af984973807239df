"""The literal side: one module a stage, with pycaffe and its contemporaries (Python 3.9, in the container)."""
