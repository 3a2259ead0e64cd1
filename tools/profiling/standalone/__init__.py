"""Scripts that people run without us. They are copied as they are beside `settings.json`, `problem.py` and `candidate.py`; they import only torch and triton."""
