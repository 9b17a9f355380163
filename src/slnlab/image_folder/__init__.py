"""A folder of images, examined before training: its layout, its files, its faults."""
