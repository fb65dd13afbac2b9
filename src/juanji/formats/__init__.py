"""File formats as such: what lies in a file, as NumPy arrays and plain values, and nothing of it believed."""
