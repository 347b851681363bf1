"""How the wheel is built: `templates` and `static` stand beside the packages, and travel inside `offloadsite`.

pyproject.toml names `BuildPy` as setuptools' command; `offloadsite/env.py` finds the folders in both places.
"""

from __future__ import annotations

import os
from pathlib import Path

from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ("templates", "static")
PACKAGE = "offloadsite"


class BuildPy(build_py):
    """Copies what setuptools copies, and the two folders."""

    def run(self) -> None:
        """Build the packages, then lay the folders into `offloadsite`."""
        super().run()
        if self.editable_mode:  # the checkout's own folders are used
            return
        for source, target in self._assets().items():
            self.mkpath(os.path.dirname(target))
            self.copy_file(source, target)

    def get_source_files(self) -> list[str]:
        """What an sdist must hold so that a wheel can be built from it."""
        return [*super().get_source_files(), *self._assets(), "tools/wheel.py", "manage.py"]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """What the build leaves."""
        return [*super().get_outputs(include_bytecode), *self._assets().values()]

    def _assets(self) -> dict[str, str]:
        """Every file of the two folders and where it goes, both relative to the project."""
        files = sorted(path for name in ASSETS for path in (ROOT / name).rglob("*") if path.is_file())
        names = [path.relative_to(ROOT).as_posix() for path in files]
        return {name: os.path.join(self.build_lib, PACKAGE, name) for name in names}
