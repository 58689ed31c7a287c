"""The frozen backbone and the cache of what it makes of a category's images."""
