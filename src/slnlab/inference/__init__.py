"""A finished run as a classifier: its weights, predictions on new images, and files for other programs."""
