"""Files: written whole or not at all, read with one kind of error, hashed, checked."""
