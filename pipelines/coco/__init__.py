"""Training groups from COCO annotations."""
