"""Who writes candidates: coders behind one Protocol."""
