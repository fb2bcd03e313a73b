"""Running a model over the notes of a corpus version that have no current row yet."""
