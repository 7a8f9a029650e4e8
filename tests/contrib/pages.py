"""The examples of docs/WEB_FRAMEWORKS.md as files."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "WEB_FRAMEWORKS.md").read_text()
FILES: dict[str, str] = dict(re.findall(r"```python\n# ([\w/]+\.py)\n(.*?)```", PAGE, re.DOTALL))


def write(folder: Path, *names: str) -> None:
    """Write examples to a folder."""
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(FILES[name])
