"""Files that are whole or not there, who may write them, and which of a stranger's are opened."""
