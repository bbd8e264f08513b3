"""Where a face is in an image: alignment, masks, boxes, head pose.
And its colors."""
