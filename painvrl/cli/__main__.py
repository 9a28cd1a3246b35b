"""``python -m painvrl.cli`` is ``painvrl``, for where the script is not on the path."""

from __future__ import annotations

from painvrl.cli.root import main

main()
