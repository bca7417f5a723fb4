"""The commands of docs/tutorial.md run as they are written, with a tiny backbone in place of the fetched one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from serving import serving

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)


@pytest.mark.slow
def test_the_tutorial(toy_files: Path, tmp_path: Path) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "make_shop.py").write_text(script)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def printed(command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout

    start = next(place for place, command in enumerate(COMMANDS) if command.startswith("genrec serve "))
    answers = {}
    for command in COMMANDS[:start]:
        quick = command.replace(
            "--minutes 3", f"--model {toy_files / 'tiny'} --layers 2 --epochs 4 --lr 5e-3 --row-lr 2e-2"
        )
        answers[command] = printed(quick)
    (shown,) = (text for command, text in answers.items() if command.startswith("genrec data show"))
    assert "3,140 interactions, 300 users, 60 items" in shown and "tasks: next_item, rating" in shown
    (asked,) = (text for command, text in answers.items() if command.startswith("genrec ask"))
    assert len(re.findall(r"\d+ +The \w+ \(Mystery \d+\)", asked)) == 3
    (rating,) = (text for command, text in answers.items() if command.startswith("genrec predict"))
    assert re.match(r"rating: [1-5]\.\d\d", rating)
    assert COMMANDS[start].split()[2] == "runs/books"
    with serving(tmp_path / "runs" / "books", "--timeout", "600") as server:
        chat, lists = (
            json.loads(printed(c.replace("http://127.0.0.1:8000", server.url))) for c in COMMANDS[start + 1 :]
        )
    assert "choices" in chat and "items" in lists, (chat, lists)
    content = chat["choices"][0]["message"]["content"]
    assert len(re.findall(r"^\d\. \*\*The ", content, re.MULTILINE)) == 3, content
    assert len(lists["items"]) == 3
