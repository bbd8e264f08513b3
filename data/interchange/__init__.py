"""Files that other programs write, read as plain data,
and the project's own face PNG and landmarks CSV."""
