"""Sets the name of the build directory; everything else is in pyproject.toml.

On file systems that ignore case, setuptools' default `build` would be the file `BUILD`.
"""

from setuptools import setup

setup(options={"build": {"build_base": ".build"}})
