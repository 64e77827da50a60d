"""Copies the recipes into the wheel, so that `ddm run digits_convnet` works without a checkout."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Recipes lie beside the package in a checkout and inside it in a wheel."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for recipe in Path("recipes").rglob("*.yaml"):
            target = Path(self.build_lib, "ddm_framework", recipe)
            self.mkpath(str(target.parent))
            self.copy_file(str(recipe), str(target))


setup(cmdclass={"build_py": BuildWithRecipes})
