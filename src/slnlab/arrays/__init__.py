"""Files of arrays with images or feature vectors and their labels, read before training."""
