"""The project speaks the field's language: its old private words stay out of code, options and docs."""
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
SUFFIXES = (".py", ".md", ".html", ".cu", ".cuh", ".h")
TEXTS = [path for folder in ("nn", "gan", "data", "tests", "docs") for path in sorted((ROOT / folder).rglob("*"))
         if path.suffix in SUFFIXES and path != pathlib.Path(__file__).resolve()]
TEXTS += [ROOT / "README.md", ROOT / "train.py", ROOT / "swap.py"]
# The field's words for these are in docs/glossary.md.
BANNED = ["told right", "told rightly", "learned by heart", "pushed about", "anew", "whom", "workshop", "crowd",
          "ManyFaces", "Duel", "inert", "told apart", "listened to", "drawn as",
          "made (?:face|image|picture|score)s?", "what is made", "so many"]
WORDS = "|".join(word.replace(" ", r"[\s_]+(?:#\s*)?") for word in BANNED)  # a phrase may go over two lines
PATTERN = re.compile(rf"(?<![A-Za-z])(?:{WORDS})(?![a-z])", re.IGNORECASE)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_only_the_fields_words(path):
    text = path.read_text(encoding="utf-8")
    found = [f"line {text.count(chr(10), 0, match.start()) + 1}: {match.group()!r}" for match in PATTERN.finditer(text)]
    assert not PATTERN.search(path.name) and found == []


@pytest.mark.parametrize("text", ["faces told rightly", "made faces", "a made\n    image", "def told_apart(codes):",
                                  "Whom a run learns", "started anew", "so\n# many", "class ManyFaces:", "--crowd"])
def test_a_banned_word_is_found(text):
    assert PATTERN.search(text)


@pytest.mark.parametrize("text", ["inertia", "overcrowded", "the renewal", "a made-up name", "made by ffmpeg"])
def test_other_words_are_not(text):
    assert not PATTERN.search(text)
