"""The command line: each command parses, makes one call, and prints.

Importing this package loads Typer and nothing heavier; a command imports what it needs when it runs.
"""

from __future__ import annotations

from painvrl.cli.root import app as app
from painvrl.cli.root import main as main
