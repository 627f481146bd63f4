"""The teacher's edition: no solution and no output is left, and nothing else is lost."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from teachers_edition import GUESS, teachers_edition, without_solutions, write

BOOK = Path(__file__).resolve().parent.parent / "book"
PAGES = "https://host/book"
BOTH = """Try it.

<details><summary>Hint</summary>

A hint.

</details>

<details><summary>Solution</summary>

```python
secret = 1
```

</details>

The end."""


def chapter(*cells):
    return new_notebook(cells=list(cells))


def test_a_solution_goes_and_hint_and_text_stay():
    left = without_solutions(BOTH)
    assert "secret" not in left and "Solution" not in left
    assert "A hint." in left and left.startswith("Try it.") and left.endswith("The end.")
    assert left.count("<details>") == left.count("</details>") == 1


def test_outputs_go_and_code_stays():
    cell = new_code_cell("print(1)", outputs=[new_output("stream", text="1")], execution_count=3)
    cell.metadata["tags"] = ["nbval-check-output"]
    edition = teachers_edition(chapter(cell), PAGES)
    assert edition.cells[0].source == "print(1)"
    assert edition.cells[0].outputs == [] and edition.cells[0].execution_count is None
    assert edition.cells[0].metadata == {}
    nbformat.validate(edition)


def test_a_cell_that_held_a_solution_alone_goes():
    only = "<details><summary>Solution</summary>\n\nx\n\n</details>"
    edition = teachers_edition(chapter(new_markdown_cell(only), new_markdown_cell("y")), PAGES)
    assert [cell.source for cell in edition.cells] == ["y"]


def test_a_solution_that_is_not_closed_is_refused():
    cell = new_markdown_cell("<details><summary>Solution</summary>\n\nx")
    with pytest.raises(ValueError, match="could not be taken out"):
        teachers_edition(chapter(cell), PAGES)


def test_pages_that_are_not_handed_out_are_linked_where_they_are():
    text = "[a](references.md#ha2017) [b](setup.md) [c](02_x.ipynb#eq-3) [d](https://x.y/z.md)"
    text += " [e](speed.ipynb)"
    cell = teachers_edition(chapter(new_markdown_cell(text)), PAGES).cells[0]
    assert cell.source == (
        f"[a]({PAGES}/references.md#ha2017) [b]({PAGES}/setup.md) "
        f"[c](02_x.ipynb#eq-3) [d](https://x.y/z.md) [e]({PAGES}/speed.ipynb)"
    )


def test_a_guess_has_its_room():
    cells = new_markdown_cell("> **Predict.** What?"), new_code_cell("1 + 1")
    edition = teachers_edition(chapter(*cells), PAGES)
    assert [cell.source for cell in edition.cells][::2] == [cell.source for cell in cells]
    assert edition.cells[1].source == GUESS
    assert len({cell.id for cell in edition.cells}) == 3


def test_the_book_itself_is_not_written_over(tmp_path):
    for folder in (BOOK, BOOK / "class"):
        with pytest.raises(ValueError, match="own folder"):
            write(folder, BOOK)
    with pytest.raises(ValueError, match="no chapters"):
        write(tmp_path / "out", tmp_path / "book")


def test_every_chapter_of_the_book(tmp_path):
    for path in write(tmp_path / "class", BOOK):
        given, source = nbformat.read(path, 4), nbformat.read(BOOK / path.name, 4)
        text = "\n".join(cell.source for cell in given.cells)
        assert "<summary>Solution" not in text
        code = [[c.source for c in nb.cells if c.cell_type == "code"] for nb in (given, source)]
        assert code[0] == code[1]
        assert not any(cell.get("outputs") for cell in given.cells)
        exercises = len(re.findall(r"^> \*\*Exercise", text, re.MULTILINE))
        assert text.count("<summary>Hint") == exercises >= 3
