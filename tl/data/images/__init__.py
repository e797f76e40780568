"""The fast path for images: files, cache, resident store, windows, augmentation."""
