"""Small notebooks and plans for the tests of runs."""

import csv

import yaml
from nbformat import write as write_notebook
from nbformat.v4 import new_code_cell, new_notebook

from dfsp.runs.batch import RESULTS

# What `dfsp.record` writes, without the seconds that importing dfsp costs a kernel.
KEEP = """
def keep(headline, **more):
    import json, os, pathlib
    found = dict(headline=headline, engine=None, seed=None, model=None, numbers={}, checks=[],
                 data={}, figures=[], tables=[], draws=None, appraisal=None)
    path = pathlib.Path(os.environ["DFSP_RUN_FOLDER"], "findings.json")
    path.write_text(json.dumps(found | more))
"""


def notebook(path, parameters, *cells, kernel="python3"):
    """Write a notebook; its first cell holds its parameters, if it has any."""
    made = [new_code_cell(text) for text in (parameters, *cells) if text is not None]
    if parameters is not None:
        made[0].metadata["tags"] = ["parameters"]
    spec = {"name": kernel, "display_name": kernel, "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"kernelspec": spec} if kernel else {}
    write_notebook(new_notebook(cells=made, metadata=metadata), path)
    return path


def plan(path, *entries):
    path.write_text(yaml.safe_dump({"notebooks": list(entries)}, sort_keys=False), "utf-8")
    return path


def results(where):
    with (where / RESULTS).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
