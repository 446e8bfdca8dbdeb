"""Text that any file, digest or database takes."""

from __future__ import annotations


def clean_unicode(text: str) -> str:
    """The text with a question mark for each half of a surrogate pair that stands alone.

    JSON and YAML can spell such a half (``"\\ud83d"``), and Python reads it; UTF-8 has no way to write it.
    """
    return text.encode("utf-8", "replace").decode("utf-8")
