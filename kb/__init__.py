"""What we know and how it is found: catalogue, vectors, retrieval, lessons and winners."""
