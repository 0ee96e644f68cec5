"""Print, as constraints for pip, the oldest versions of the dependencies that pyproject.toml allows to users."""

import tomllib

from packaging.requirements import Requirement

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
for lines in (project["dependencies"], *(extras[name] for name in extras if name not in ("docs", "dev"))):
    for requirement in map(Requirement, lines):
        print(f"{requirement.name}=={next(bound.version for bound in requirement.specifier if bound.operator == '>=')}")
