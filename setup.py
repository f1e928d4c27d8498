"""Everything is in pyproject.toml but the name of the build folder.

Where file names ignore case, setuptools' `build` folder and the file `BUILD` are one name.
"""

from setuptools import setup

setup(options={"build": {"build_base": ".build"}})
