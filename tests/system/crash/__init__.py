"""The crash campaign: the program dies, or a system call fails, at every boundary of a file's life; nothing is lost or twice."""
