"""Execute notebooks and keep their outputs: python notebooks/execute.py [--into FOLDER] [NOTEBOOK...]"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def execute(path: Path) -> nbformat.NotebookNode:
    """Run a notebook in a folder of its own; an error in a cell is raised, and so is a file that it leaves."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / HERE.name
        folder.mkdir()
        shutil.copytree(HERE.parent / "sample_data", Path(name) / "sample_data")
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, timeout=120, resources=resources, record_timing=False).execute()
        if left := sorted(one.name for one in folder.iterdir()):
            raise SystemExit(f"{path.name} leaves {', '.join(left)} beside itself")
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description="Execute notebooks and keep their outputs.")
    parser.add_argument("--into", type=Path, default=HERE, help="where to write them (default: in place)")
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(HERE.glob("*.ipynb")))
    arguments = parser.parse_args()
    for path in arguments.notebooks:
        nbformat.write(execute(path), arguments.into / path.name)


if __name__ == "__main__":
    main()
