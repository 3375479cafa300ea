"""What models there are on disk, which versions are wanted, and what changed."""
