"""x"""
import pathlib
WEIGHTS = pathlib.Path(__file__).parent / "weights"
