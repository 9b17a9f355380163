"""Images as feature vectors of a pretrained network."""
