"""Rendered people: images of faces of no real person, with exact landmarks and masks.
`python -m data.synthetic OUTPUT_FOLDER --people 2 --count 200` writes some to a folder."""
from data.synthetic.people import Person, Pose, random_pose
from data.synthetic.renderer import Rendering, render
