"""What others would have said on the same samples."""
