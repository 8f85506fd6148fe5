"""Docstrings as this package writes them, made ready for the pages of the API.

The sections of a docstring follow each other without an empty line, and what a field is stands in a
comment behind it. griffe knows neither.
"""

import re
from typing import Any

import griffe

SECTION = re.compile(r"(?<=\S)\n(Args|Returns|Yields|Raises):\n")


class OurDocstrings(griffe.Extension):
    """Sets sections apart, and gives the fields of classes their comments."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if not obj.is_alias and obj.docstring:
            obj.docstring.value = SECTION.sub(r"\n\n\1:\n", obj.docstring.value)

    def on_attribute_instance(self, *, attr: griffe.Attribute, **kwargs: Any) -> None:
        # Said of every field, they say nothing.
        attr.labels -= {"class-attribute", "instance-attribute", "module-attribute"}
        parent = attr.parent
        if attr.docstring or not parent or not parent.is_class or attr.lineno is None:
            return
        lines = attr.lines_collection[attr.filepath][: attr.endlineno]
        text = comment(lines, attr.lineno - 1) or "\N{NO-BREAK SPACE}"
        attr.docstring = griffe.Docstring(text, parent=attr)


def comment(lines: list[str], first: int) -> str:
    """Reads the comment of a field: behind it, else on the lines before it.

    Args:
        lines: of the file, up to the field's last.
        first: number of the field's first line, from 0.
    """
    behind = re.search(r"\s\s# (?!type:|noqa)(.*)$", lines[-1])
    if behind:
        return behind[1]
    before: list[str] = []
    for line in reversed(lines[:first]):
        if not (found := re.match(r"\s*# (.*)$", line)):
            break
        before.insert(0, found[1])
    return "\n".join(before)
