"""How knowledge gets in: readers, chunking and the ingestion pipeline."""
