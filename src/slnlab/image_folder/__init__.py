"""A folder of images, read before anything is trained: its layout, its files, what cannot be used in it."""
