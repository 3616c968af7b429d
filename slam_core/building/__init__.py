"""How corpora, pair sets and preferences are made."""
