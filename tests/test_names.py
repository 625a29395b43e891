"""One name, one meaning: constants of the numerics."""

import ast
from collections import defaultdict
from pathlib import Path

import dfsp

PACKAGE = Path(dfsp.__file__).parent


def constants(file):
    """Names in capitals that a module defines."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            for name in ast.walk(target) if target is not None else ():
                if isinstance(name, ast.Name) and name.id.isupper():
                    yield name.id


def test_no_two_modules_of_the_engine_name_a_constant_alike():
    where = defaultdict(list)
    for folder in ("engine", "model"):
        for file in sorted((PACKAGE / folder).glob("*.py")):
            for name in constants(file):
                where[name].append(file.name)
    assert len(where) > 100
    assert {name: files for name, files in where.items() if len(files) > 1} == {}
