"""Geometry and color of faces: alignment, masks, boxes, landmark checks, head pose,
color transfer."""
