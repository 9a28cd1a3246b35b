"""What MkDocs calls while it builds the site: it adds the pages that are made from the code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File


def _reference() -> Any:
    spec = importlib.util.spec_from_file_location("reference", Path(__file__).parent / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on_config(config: Any) -> Any:
    """Name the pages of the Python API in the navigation, one a part of the package."""
    for section in config["nav"]:
        for entry in section.get("Reference", ()):
            if "Python API" in entry:
                entry["Python API"] = [f"reference/api/{name}.md" for name in _reference().api()]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of reference, and those that lie at the repository's root."""
    for path, text in _reference().pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Roles of docstrings, such as ``:func:`run```, as the code that they name."""
    return re.sub(r":(?:mod|func|class|meth|data|attr|exc|ref):(?=<code)", "", html)
